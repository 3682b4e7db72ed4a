"""Read your own table from a CSV file: UTF-8 with commas, every cell as it is.

Errors count rows from 1, without the header, and lines of the file from 1. The rows of data sets,
in all their formats, are read by `distill.core.rows`.
"""

import csv
import io
from pathlib import Path

from distill.core.errors import UserError

csv.field_size_limit(2**31 - 1)  # a cell may contain a document


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")  # without a byte-order mark
        place = f"line {before.count(chr(10)) + 1}"
        if path.suffix == ".csv":  # a cell may contain line breaks
            rows = [row for row in csv.reader(io.StringIO(before + "?", newline="")) if row]
            place = f"row {len(rows) - 1} ({place})" if len(rows) > 1 else f"header ({place})"
        raise UserError(
            f"{path}, {place}: not UTF-8 text (perhaps Windows-1252 or UTF-16); save the file "
            "as UTF-8 (in Excel: CSV UTF-8) and run again"
        ) from None
    if (null := text.find("\0")) >= 0:
        raise UserError(
            f"{path}, line {text.count(chr(10), 0, null) + 1}: a null character, as in UTF-16 or a "
            "damaged file; save the file as UTF-8 (in Excel: CSV UTF-8) and run again"
        )
    return text


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, each with every column of the header.

    Raises:
        UserError: The file is malformed, has two columns with one name, or a row with too few or
            too many cells.
    """
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    rows: list[dict[str, str]] = []
    header: list[str] = []
    try:
        header = next(reader, [])
        if twice := [name for name in header if name and header.count(name) > 1]:
            raise UserError(f"{path}: two columns have the name {twice[0]!r}; rename one of them")
        if len(header) == 1 and (marks := [mark for mark in ";\t|" if mark in header[0]]):
            raise UserError(
                f"{path}: cells seem to be separated by {marks[0]!r}; save the file with commas"
            )
        for cells in reader:
            if not cells:  # a blank line
                continue
            place = f"{path}, row {len(rows) + 1} (line {reader.line_num})"
            if any(cells[len(header) :]):
                raise UserError(f"{place}: more cells than columns; quote cells with commas")
            if len(cells) < len(header):
                raise UserError(
                    f"{place}: {len(cells)} cells but {len(header)} columns; add the missing ones, "
                    "or quote a cell with line breaks"
                )
            rows.append(dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise UserError(
            f"{path}, row {len(rows) + 1} (line {reader.line_num}): {error}; put quotes around the "
            "entire cell and double the quotes inside it"
        ) from None
    return rows
