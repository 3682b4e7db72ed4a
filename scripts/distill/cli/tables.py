"""A table of runs that is named on the command line."""

import argparse
import re
from pathlib import Path
from typing import Any

from distill.contracts.points import OWN_COLUMNS

_REQUIRED = OWN_COLUMNS[:3]


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add an option for each column of a user's own table; `spec_of` reads them."""
    columns = parser.add_argument_group(
        "columns of the table", "COLUMN is a name in its first row; docs/guide/own_table.md says "
        "what each must hold",
    )  # fmt: skip
    for name in OWN_COLUMNS:
        default = name if name in _REQUIRED else None
        text = f"column of {name.replace('_', ' ')}" + (
            " (default: %(default)s)" if default else ""
        )
        columns.add_argument(
            f"--{name.replace('_', '-')}", metavar="COLUMN", default=default, help=text
        )


def spec_of(table: str, options: argparse.Namespace) -> dict[str, Any]:
    """The config of a study of this table.

    Args:
        table: Path of the table.
        options: Those of `add_columns`.
    """
    columns = {name: getattr(options, name) for name in OWN_COLUMNS if getattr(options, name)}
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(table).stem).strip("_")[:40]
    return {"study": name or "table", "runs_table": {"path": table, "columns": columns}}
