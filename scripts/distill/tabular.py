"""Read rows of text files; the standard library alone, so that planning can count them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from distill.files import UserError


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {row}: not UTF-8 text; save the file as UTF-8 and run again"
        ) from None


def read_text_rows(path: Path) -> list[Any]:
    """Rows of a CSV, JSON or JSONL file.

    Raises:
        UserError: The file is missing or malformed; the sentence names the line.
    """
    if not path.is_file():
        raise UserError(f"the data file {path} does not exist")
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(_decode(path), newline=""), strict=True)
        try:
            rows = list(reader)
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.reader.line_num}: {error}") from None
        for number, row in enumerate(rows, 1):
            if any(row.get(None) or ()):
                raise UserError(
                    f"{path}, row {number}: more cells than columns; quote cells that hold commas"
                )
        return rows
    if path.suffix == ".json":
        try:
            rows = json.loads(_decode(path))
        except ValueError as error:
            raise UserError(f"{path} is not readable JSON: {error}") from None
        if not isinstance(rows, list):
            raise UserError(f"{path} must hold a JSON list of objects, one per row")
        return rows
    if path.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(_decode(path).split("\n"), 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise UserError(f"{path}, line {number}: {error}") from None
        return rows
    raise UserError(f"{path}: a data file must end in .csv, .json, .jsonl or .parquet")
