"""Fit a study's laws, from files to a file."""

from collections.abc import Sequence
from pathlib import Path

from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows


def fit_study(
    runs: str | Path, references: str | Path, out: str | Path, corpus_methods: Sequence[str] = ()
) -> None:
    """Fit scaling laws to a study's runs table.

    Args:
        runs: The runs table, Parquet.
        references: references.json.
        out: laws.json.
        corpus_methods: Methods that train without a teacher.
    """
    stated = read_json(references)
    settings = Settings(shared=not stated.get("own_table"))  # draws and a test set
    rows = trained_rows(read_frame(runs), stated)
    methods = corpus_methods or stated.get("corpus_methods") or ()  # a user's own table names them
    write_json(out, fit_laws(rows, settings, methods, stated))
