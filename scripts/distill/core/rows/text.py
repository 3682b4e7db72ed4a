"""Text of a file: its encoding, and where it is not text."""

import codecs
import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from distill.core.errors import UserError
from distill.core.rows.files import DataFile, open_bytes

csv.field_size_limit(2**31 - 1)  # a cell may contain a document

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte-order mark at the start of a file; UTF-32's begins with UTF-16's."""


@contextmanager
def open_text(file: DataFile, encoding: str | None, newline: str | None) -> Iterator[TextIO]:
    """The text of a file, without a byte-order mark.

    Args:
        file: The file.
        encoding: By default that of the byte-order mark, or else UTF-8.
        newline: As of `open`: with None every line ends in a line feed, with "" lines stay as
            they are.

    Raises:
        UserError: The bytes are not text in this encoding, or the file cannot be read.
    """
    with open_bytes(file) as stream:
        head = stream.read(4)
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    used = marked or encoding or "utf-8"
    with open_bytes(file) as stream, io.TextIOWrapper(stream, used, newline=newline) as text:
        try:
            yield text
        except UnicodeError:
            raise _not_text(file, used) from None


def text_lines(text: TextIO, file: DataFile) -> Iterator[str]:
    """The lines of a text.

    Raises:
        UserError: One has a null character.
    """
    for number, line in enumerate(text, 1):
        if "\0" in line:
            raise null_character(file, number)
        yield line


def null_character(file: DataFile, line: int) -> UserError:
    """The error for a null character in a text."""
    return UserError(
        f"{file.path}, line {line}: a null character, as in UTF-16 or a damaged file; save the "
        "file as UTF-8 (in Excel: CSV UTF-8), or set its encoding in the config, such as utf-16-le"
    )


def _not_text(file: DataFile, encoding: str) -> UserError:
    """The error for bytes that are not text: the first line that is none, and for CSV its row."""
    place, guess, example = "its end", "Windows-1252", "cp1252"
    before: list[str] = []
    with open_bytes(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                before.append(line.decode("utf-8" if encoding == "utf-8-sig" else encoding))
            except UnicodeError:
                place = f"line {number}"
                if b"\0" in line:
                    guess, example = "UTF-16", "utf-16-le"
                break
    if file.form in ("csv", "tsv") and encoding.startswith("utf-8"):
        rows = 0
        with suppress(csv.Error):  # the row is only a help to find the line
            rows = sum(map(bool, csv.reader([*before, "?"])))
        place = f"row {rows - 1} ({place})" if rows > 1 else f"header ({place})"
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    return UserError(
        f"{file.path}, {place}: not {name} text (perhaps {guess}); save the file as UTF-8 (in "
        f"Excel: CSV UTF-8), or set its encoding in the config, such as {example}"
    )
