"""The rows of a data set in local files, whatever their format, one after the other."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.rows.faults import Faults, Place
from distill.core.rows.fields import Picker, Row, needed_columns
from distill.core.rows.files import (
    DataFile,
    data_files,
    describe,
    missing_packages,
)
from distill.core.rows.json_rows import read_json
from distill.core.rows.limits import MOST_LEFT_OUT
from distill.core.rows.separated import read_separated
from distill.core.rows.text import open_text, text_lines


class DataSet:
    """The rows of a data set.

    Args:
        spec: The source as in the config: path, fields and, if they are not the defaults, split,
            begins, encoding, turns and max_left_out; `answered` if a row needs an answer.
        files: Its files; by default those that its path names.

    Raises:
        UserError: There is no such file, or it has no format that is read.
    """

    def __init__(self, spec: Mapping[str, Any], files: Sequence[Path] | None = None) -> None:
        self.spec = spec
        split = spec.get("split", "train")
        paths = data_files(spec["path"], split) if files is None else files
        self.files = [describe(path) for path in paths]
        self.name = spec["path"] if len(self.files) != 1 else self.files[0].path
        self.faults = Faults()
        self.picker = picker_of(spec, self.name, self.faults)

    @property
    def missing(self) -> list[str]:
        """Packages that the files need and this Python does not have."""
        return missing_packages(self.files)

    def rows(self) -> Iterator[Row]:
        """The usable rows, with all of `fields.COLUMNS`.

        Raises:
            UserError: A file is damaged, or rows have mistakes; all of these are told together.
        """
        yield from self.picker.rows(self._raw())

    def _raw(self) -> Iterator[tuple[Place, Any]]:
        """The rows of all files as they are."""
        for file in self.files:
            yield from self._read(file)

    def _read(self, file: DataFile) -> Iterator[tuple[Place, Any]]:
        """The rows of one file as they are."""
        spec, faults, check = self.spec, self.faults, self.picker.check_header
        columns, encoding = needed_columns(spec["fields"]), spec.get("encoding")
        if file.form in ("csv", "tsv"):
            return read_separated(file, columns, encoding, faults, check)
        if file.form in ("json", "jsonl"):
            return read_json(file, columns, spec.get("split", "train"), encoding, faults)
        if file.form == "lines":
            return _read_lines(file, encoding, "begins" in spec)
        if file.form == "sheet":
            from distill.core.rows.sheets import read_sheet

            return read_sheet(file.path, columns, check)
        from distill.core.rows.columns import read_columns

        return read_columns(file.path, file.form, columns, check)


def picker_of(spec: Mapping[str, Any], name: Any, faults: Faults) -> Picker:
    """The picker of a source's fields.

    Args:
        spec: As of `DataSet`.
        name: The data set's name, for errors.
        faults: Takes the mistakes.
    """
    filled = {"prompt"} | (set() if "begins" in spec else {"text"})
    filled |= {"response"} if spec.get("answered") else set()
    fields = spec["fields"]
    needed = {field for field in filled if field in fields}
    # The answer may be in the chat that the prompt names.
    needed |= {"response"} & filled
    most = spec.get("max_left_out", MOST_LEFT_OUT)
    return Picker(name, fields, needed, most, faults, all_turns=spec.get("turns") == "all")


def _read_lines(
    file: DataFile, encoding: str | None, blank: bool
) -> Iterator[tuple[Place, dict[str, str]]]:
    """Lines of a text file, each a row with the column `text`.

    Args:
        file: The file.
        encoding: As of `open_text`.
        blank: Whether blank lines are rows too, as lines that are joined to documents.
    """
    with open_text(file, encoding, newline=None) as text:
        for number, line in enumerate(text_lines(text, file), 1):
            if blank or line.strip():
                yield Place(file.path, f"line {number}"), {"text": line.rstrip("\n")}


def join_lines(lines: Iterable[str | None], begins: str) -> Iterator[str]:
    """Join lines to documents: a line that fully matches `begins` starts a document.

    Blank lines stay inside a document; documents without text are dropped.
    """
    pattern, parts = re.compile(begins), list[str]()
    for line in lines:
        text = (line or "").rstrip("\n")
        if parts and pattern.fullmatch(text):
            if document := _joined(parts):
                yield document
            parts = []
        parts.append(text)
    if document := _joined(parts):
        yield document


def _joined(parts: Sequence[str]) -> str:
    """Lines as one text; empty if there is nothing but white space."""
    text = "\n".join(parts).strip("\n")
    return text if text.strip() else ""


def check_count(spec: Mapping[str, Any], read: int, name: Any) -> None:
    """Check that a data set has as many rows as the config says.

    Raises:
        UserError: It has not.
    """
    if "rows" in spec and read != spec["rows"]:
        raise UserError(
            f"{name} has {read} rows but the config's source says rows: {spec['rows']}; "
            "correct that number (which plans the study) or pin the right revision"
        )
