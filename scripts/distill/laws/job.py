"""Fit a study's laws, from files to a file."""

from pathlib import Path

from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.table import law_table


def fit_study(runs: str | Path, references: str | Path, out: str | Path) -> None:
    """Fit scaling laws to a study's runs table.

    Args:
        runs: The runs table, Parquet.
        references: references.json.
        out: laws.json.
    """
    stated = read_json(references)
    settings = Settings(shared=not stated.get("own_table"))  # draws and a test set
    write_json(out, fit_laws(law_table(read_frame(runs), stated), settings))
