"""Read a user's own table, from a file to files."""

from pathlib import Path
from typing import Any

from distill.core.files import write_json
from distill.table.collect import write_runs
from distill.table.own_table import runs_of_table, table_study


def take_runs_table(
    spec: dict[str, Any], runs: str | Path, csv: str | Path, references: str | Path
) -> None:
    """Make a runs table of a user's own table.

    Args:
        spec: The study's config, which names the table.
        runs: Output, the runs table as Parquet.
        csv: Output, the same as CSV.
        references: Output, references.json.
    """
    table, stated = runs_of_table(table_study(spec))
    write_runs(table, runs, csv)
    write_json(references, stated)
