"""Read rows of CSV and JSON files with the standard library, which suffices for planning.

Errors count rows from 1, without a CSV's header, and lines of the file from 1.
"""

import csv
import io
import json
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from distill.core.display import listed, short_name
from distill.core.errors import UserError

csv.field_size_limit(2**31 - 1)  # a cell may contain a document


FIELDS = ("prompt", "context", "response", "text")
"""Fields that a config can assign to columns of a data set."""


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


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object.

    Raises:
        ValueError: A name occurs twice.
    """
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r} twice; rename one of them")
    return entries


def _parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or has a duplicate name.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique_names)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_text_rows(path: Path) -> list[Any]:
    """Rows of a CSV, JSON or JSONL file.

    Raises:
        UserError: The file is missing or malformed; the sentence names the row or line.
    """
    if not path.is_file():
        raise UserError(f"the data file {path} does not exist")
    if path.suffix == ".csv":
        return read_csv_rows(path)
    if path.suffix == ".json":
        try:
            rows = _parse_json(_decode(path))
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(rows, list):
            raise UserError(f"{path} must hold a JSON list of objects, one per row")
        return rows
    if path.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(_decode(path).split("\n"), 1):
            if line.strip():
                try:
                    rows.append(_parse_json(line))
                except ValueError as error:
                    raise UserError(f"{path}, line {number}: {error}") from None
        return rows
    raise UserError(f"{path}: a data file must end in .csv, .json, .jsonl or .parquet")


def join_lines(lines: Iterable[str | None], begins: str) -> list[str]:
    """Join lines to documents: a line that fully matches `begins` starts a document.

    Blank lines stay inside a document; documents without text are dropped.
    """
    pattern, documents = re.compile(begins), list[list[str]]()
    for line in lines:
        text = (line or "").rstrip("\n")
        if not documents or pattern.fullmatch(text):
            documents.append([])
        documents[-1].append(text)
    joined = ("\n".join(parts).strip("\n") for parts in documents)
    return [text for text in joined if text.strip()]


def pick_fields(
    row: Any, number: int, fields: Mapping[Any, str], name: Any, filled: Container[str]
) -> dict[str, str | None]:
    """The configured fields of a row.

    Args:
        row: The row as read.
        number: Number of the row, from 1.
        fields: Column of each field.
        name: Name of the data set, for errors.
        filled: Fields that must not be empty.

    Raises:
        UserError: A field is missing, is not text, or is empty but must be filled.
    """
    if not isinstance(row, dict):
        raise UserError(f"{name}, row {number}: not an object with named fields")
    picked: dict[str, str | None] = dict.fromkeys(FIELDS)
    for field, column in fields.items():
        if column not in row:
            raise UserError(f"{name}, row {number}: no column {column!r}; there are {listed(row)}")
        value = row[column]
        if value is not None and not isinstance(value, str):
            raise UserError(f"{name}, row {number}: {short_name(column)} is not text")
        if not _is_unicode(value or ""):
            raise UserError(
                f"{name}, row {number}: {short_name(column)} has an unpaired surrogate; correct it"
            )
        if field in filled and not (value or "").strip():
            raise UserError(
                f"{name}, row {number}: {short_name(column)} is empty; fill it or remove the row"
            )
        picked[field] = value
    return picked


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded; JSON can contain unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def prompt_words(row: Any, fields: Mapping[Any, str]) -> int:
    """Number of words in a row's prompt and context, to drop long prompts."""
    columns = [fields[name] for name in ("prompt", "context") if name in fields]
    values = [row.get(column) for column in columns] if isinstance(row, dict) else []
    return sum(len(value.split()) for value in values if isinstance(value, str))
