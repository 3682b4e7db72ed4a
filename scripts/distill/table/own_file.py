"""The rows of a user's own table, from a file of any format that data sets may have."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distill.core.display import listed
from distill.core.errors import UserError
from distill.core.rows.faults import Faults, Header, Place
from distill.core.rows.files import DataFile, data_files, describe, missing_packages
from distill.core.rows.json_rows import read_json
from distill.core.rows.separated import read_separated

_PATH = "config: runs_table.path"


def read_table(
    path: str | Path, columns: Mapping[str, str], encoding: str | None = None
) -> pd.DataFrame:
    """Read the named columns of a table.

    Args:
        path: One file, in a format of `distill.core.rows.files`.
        columns: Our name to the file's column, of those that are needed; separators and forms of
            JSON are recognised by them.
        encoding: Of a text file; default UTF-8, or as its byte-order mark says.

    Returns:
        One row per row of the file; cells of text formats as text, null where empty. The index is
        the row's number in the file less 1.

    Raises:
        UserError: The file is missing, of another kind, damaged, or lacks a column.
    """
    try:
        file = _one_file(path)
        names: list[str] = []

        def header(_: Path | str, found: Sequence[str]) -> None:
            names.extend(found)

        faults = Faults()
        wanted = list(columns.values())
        rows = [*_rows(file, wanted, encoding, faults, header)]
        faults.check()
    except UserError as error:
        raise UserError(f"{_PATH}: {error}") from None
    if not rows and not names:
        raise UserError(f"{_PATH}: {path} is empty; give a header and one row per run")
    for place, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{_PATH}: {path}, {place.label} is not an object; give one per run")
    names = names or list(dict.fromkeys(name for _, row in rows for name in row))
    for name, column in columns.items():
        if column not in names:
            raise UserError(
                f"config: runs_table.columns.{name}: the table has no column {column!r}; it has "
                f"{listed(names)} ({path})"
            )
    cells = {name: [_cell(row.get(name)) for _, row in rows] for name in wanted}
    numbers = [int(place.label.split()[1]) - 1 for place, _ in rows]
    return pd.DataFrame(cells, index=pd.Index(numbers, dtype="int64"), dtype=object)


def _one_file(path: str | Path) -> DataFile:
    """The file that a path names."""
    files = data_files(path)
    if len(files) != 1 or Path(path).expanduser().is_dir():
        raise UserError(f"{path} is {len(files)} files; name one file that holds all runs")
    file = describe(files[0])
    if file.form == "lines":
        file = file._replace(form="csv")
    if missing := missing_packages([file]):
        raise UserError(
            f"{path} needs {' and '.join(missing)}, which this Python does not have; save the "
            "table as CSV UTF-8, or run pip install -r envs/requirements.txt"
        )
    return file


def _rows(
    file: DataFile, columns: Collection[str], encoding: str | None, faults: Faults, header: Header
) -> Iterator[tuple[Place, Any]]:
    """The rows of a file as they are."""
    if file.form == "csv" or file.form == "tsv":
        return read_separated(file, columns, encoding, faults, header)
    if file.form in ("json", "jsonl"):
        return read_json(file, columns, "train", encoding, faults)
    if file.form == "sheet":
        from distill.core.rows.sheets import read_sheet

        return read_sheet(file.path, columns, header)
    from distill.core.rows.columns import read_columns

    return read_columns(file.path, file.form, columns, header)


def _cell(cell: Any) -> Any:
    """A cell, None where it is empty."""
    return None if isinstance(cell, str) and not cell.strip() else cell
