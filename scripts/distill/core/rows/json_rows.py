"""Rows of JSON and JSONL files, whichever of the two a file's name says."""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from distill.core.errors import UserError
from distill.core.rows.chats import is_chat
from distill.core.rows.faults import Faults, Place
from distill.core.rows.files import DataFile
from distill.core.rows.text import null_character, open_text, text_lines

_SAMPLE = 1 << 16
"""Characters that are searched for the end of the first line."""
_BLOCK = 1 << 20
"""Characters that are read at once, at least."""
_CUT = 16
"""An error this close to the end of what was read may be due to where the reading stopped."""


def read_json(
    file: DataFile, columns: Collection[str], split: str, encoding: str | None, faults: Faults
) -> Iterator[tuple[Place, Any]]:
    """Rows of a JSON or JSONL file.

    JSON is a list of objects, or an object that holds one (under any name, or under that of the
    split), columns of equal length, or rows by index, as pandas writes them. A list is read in
    blocks, so memory does not grow with its length.

    Args:
        file: The file.
        columns: Those that are needed, by which the form of an object is recognised.
        split: Split of the data set.
        encoding: As of `open_text`.
        faults: Takes the lines that are not JSON.

    Raises:
        UserError: The file is not JSON, or not of these forms.
    """
    if _has_lines(file, encoding):
        yield from _read_lines(file, encoding, faults)
        return
    with open_text(file, encoding, newline=None) as text:
        stream = _Values(text, file)
        if stream.take("["):
            rows: Iterator[Any] = stream.elements()
        elif stream.peek() == "":
            rows = iter(())
        else:
            rows = _rows_of_values(stream, columns, split, file)
        for number, row in enumerate(rows, 1):
            yield Place(file.path, f"row {number}"), row


def _has_lines(file: DataFile, encoding: str | None) -> bool:
    """Whether each line of a file is a row: its first is JSON, and more follow or it says so."""
    with open_text(file, encoding, newline=None) as text:
        sample = text.read(_SAMPLE).lstrip()
    if not sample.startswith("["):
        with open_text(file, encoding, newline=None) as text:
            lines = (line for line in text_lines(text, file) if line.strip())
            first, second = next(lines, ""), next(lines, "")
        return _are_rows(first, second, file.form == "jsonl")
    first, broken, rest = sample.partition("\n")
    if file.form == "json" or not broken:  # a list on one line may be as long as the file
        return False
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(rest.strip()) or not (row and isinstance(row[0], dict))


def _are_rows(first: str, second: str, named: bool) -> bool:
    """Whether two lines are rows, by themselves or, if there is but one, by the file's name."""
    try:
        json.loads(first)
    except RecursionError:
        return named
    except ValueError:
        # A first line with a mistake, if the second has none.
        with suppress(ValueError, RecursionError):
            return isinstance(json.loads(second), dict)
        return False
    return bool(second) or named


def _read_lines(
    file: DataFile, encoding: str | None, faults: Faults
) -> Iterator[tuple[Place, Any]]:
    """Rows of a JSONL file, one per line that is not blank."""
    with open_text(file, encoding, newline=None) as text:
        rows = 0
        for number, line in enumerate(text_lines(text, file), 1):
            if not line.strip():
                continue
            rows += 1
            try:
                row = _parse(line)
            except ValueError as error:
                faults.add(Place(file.path, f"line {number}"), str(error), "not JSON")
                continue
            yield Place(file.path, f"row {rows}"), row


def _rows_of_values(
    stream: "_Values", columns: Collection[str], split: str, file: DataFile
) -> Iterator[Any]:
    """Rows of a file with one object, or with one after the other over several lines."""
    document = stream.value()
    if stream.peek() == "":
        yield from _rows_of_document(document, columns, split, file)
        return
    yield document
    while stream.peek():
        yield stream.value()


def _rows_of_document(
    document: Any, columns: Collection[str], split: str, file: DataFile
) -> Iterator[Any]:
    """Rows of an object that holds a data set."""
    if isinstance(document, dict) and document:
        names = [name for name in columns if name in document]
        held = {name: value for name, value in document.items() if _holds_rows(value)}
        if not any(set(rows[0]) & set(columns) for rows in held.values()) and names:
            return _rows_of_columns(document, names, file)
        if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
            header = document["columns"]  # pandas: orient="split"
            return (dict(zip(header, cells, strict=False)) for cells in document["data"])
        if split in held or len(held) == 1:
            return iter(held[split] if split in held else next(iter(held.values())))
        if held:
            raise UserError(
                f"{file.path} holds several lists of rows ({', '.join(held)}); set the source's "
                "split to one of them"
            )
        if isinstance(document.get(split), dict):
            return _rows_of_document(document[split], columns, split, file)
        if all(isinstance(row, dict) for row in document.values()):
            return iter(document.values())  # pandas: orient="index"
        if not any(isinstance(value, (dict, list)) for value in document.values()):
            return iter([document])
    raise UserError(f"{file.path} must hold a JSON list of objects, one per row")


def _rows_of_columns(document: dict[str, Any], names: list[str], file: DataFile) -> Iterator[Any]:
    """Rows of an object whose names are columns; the object itself if it is a row."""
    values = [document[name] for name in names]
    if all(isinstance(value, list) and not is_chat(value) for value in values):
        sizes = {name: len(document[name]) for name in names}
        if len(set(sizes.values())) > 1:
            counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise UserError(f"{file.path}: the columns have different lengths ({counts})")
        alike = {
            name: value
            for name, value in document.items()
            if isinstance(value, list) and len(value) == len(values[0])
        }
        rows = zip(*alike.values(), strict=True)
        return (dict(zip(alike, cells, strict=True)) for cells in rows)
    if all(isinstance(value, dict) for value in values) and _same_keys(values):
        indexed = {name: value for name, value in document.items() if isinstance(value, dict)}
        return ({name: indexed[name].get(key) for name in indexed} for key in values[0])  # pandas
    return iter([document])


def _same_keys(values: list[dict[str, Any]]) -> bool:
    """Whether columns are indexed by the same numbers, as those of pandas."""
    keys = values[0].keys()
    return all(re.fullmatch(r"-?\d+", key) for key in keys) and all(
        value.keys() == keys for value in values
    )


def _holds_rows(value: Any) -> bool:
    """Whether a value is a list of rows."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


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


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_names)


def _parse(text: str) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or has a duplicate name.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _Values:
    """JSON values of a text, read in blocks.

    Args:
        text: The text.
        file: Its file, for errors.
    """

    def __init__(self, text: TextIO, file: DataFile) -> None:
        self._text, self._file = text, file
        self._buffer, self._at, self._line, self._ended = "", 0, 1, False

    def _more(self) -> None:
        """Read on, at least as much as is held, so that the work stays in proportion."""
        held = self._buffer[self._at :]
        self._line += self._buffer.count("\n", 0, self._at)
        block = self._text.read(max(_BLOCK, len(held)))
        if (null := block.find("\0")) >= 0:
            lines = held.count("\n") + block.count("\n", 0, null)
            raise null_character(self._file, self._line + lines)
        self._buffer, self._at, self._ended = held + block, 0, not block

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in " \t\n\r":
                self._at += 1
            if self._at < len(self._buffer) or self._ended:
                return self._buffer[self._at : self._at + 1]
            self._more()

    def take(self, character: str) -> bool:
        """Whether the next character is this one, which is then skipped."""
        there = self.peek() == character
        self._at += there
        return there

    def elements(self) -> Iterator[Any]:
        """Elements of a list whose bracket was taken."""
        if not self.take("]"):
            yield self.value()
            while self.take(","):
                yield self.value()
            if not self.take("]"):
                self._refuse("Expecting ',' delimiter", self._at)
        if self.peek():
            self._refuse("Extra data", self._at)

    def value(self) -> Any:
        """The next value.

        Raises:
            UserError: There is none.
        """
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self._buffer) - _CUT or error.msg.startswith("Unterminated")
                if self._ended or not cut:
                    self._refuse(error.msg, error.pos)
            except RecursionError:
                self._refuse("it is nested too deeply", self._at)
            except ValueError as error:
                self._refuse(str(error), self._at)
            else:
                if end < len(self._buffer) or self._ended:
                    self._at = end
                    return value
            self._more()

    def _refuse(self, what: str, place: int) -> NoReturn:
        line = self._line + self._buffer.count("\n", 0, place)
        raise UserError(f"{self._file.path} is not valid JSON: {what} (line {line})")
