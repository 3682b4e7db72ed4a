"""Rows of CSV and TSV files, in the dialects that programs write."""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TextIO

from distill.core.errors import UserError
from distill.core.rows.faults import Faults, Header, Place
from distill.core.rows.files import DataFile
from distill.core.rows.text import open_text, text_lines

_SAMPLE = 1 << 16
"""Characters that are searched for the header."""
_ESCAPED = re.compile(r'(?<!\\)((?:\\\\)*)\\"')
"""A quote after an odd number of backslashes."""
_PAIR = re.compile(r'\\([\\"])')
_SINGLE = re.compile(r'(?<!\\)(?:\\\\)*\\(?![\\"])')
"""An odd number of backslashes before another character than a quote."""


@dataclass(frozen=True)
class Dialect:
    """How cells are separated and quoted."""

    separator: str = ","
    stated: bool = False
    """Whether the first line is `sep=,`, as Excel writes it."""
    spaced: bool = False
    """Whether a space follows each separator."""
    quoting: str = "doubled"
    """doubled: a quote in a cell is written twice; escaped: with a backslash before it; paired:
    backslashes have one before them too; none: quotes have no meaning."""

    def reader(self, text: TextIO, file: DataFile) -> Any:
        """A `csv.reader` of a file's cells, the header first."""
        lines = text_lines(text, file)
        if self.stated:
            next(lines, None)
        if self.quoting == "escaped":
            lines = (_ESCAPED.sub(r'\1""', line) for line in lines)
        if self.quoting == "paired":
            lines = (_PAIR.sub(lambda pair: pair[1].replace('"', '""'), line) for line in lines)
        return csv.reader(
            lines,
            delimiter=self.separator,
            skipinitialspace=self.spaced,
            quoting=csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL,
            strict=True,
        )


def read_separated(
    file: DataFile,
    columns: Collection[str],
    encoding: str | None,
    faults: Faults,
    check: Header,
) -> Iterator[tuple[Place, dict[str, str]]]:
    """Rows of a CSV or TSV file, each with every column of the header.

    Args:
        file: The file.
        columns: Those that are needed, by which the separator is recognised.
        encoding: As of `open_text`.
        faults: Takes the rows with too few or too many cells.
        check: Checks the names of the columns.

    Raises:
        UserError: The quotes do not match, or two needed columns have one name.
    """
    dialect = _dialect(file, columns, encoding)
    with open_text(file, encoding, newline="") as text:
        yield from _read_cells(text, file, dialect, columns, faults, check)


def _read_cells(
    text: TextIO,
    file: DataFile,
    dialect: Dialect,
    columns: Collection[str],
    faults: Faults,
    check: Header,
) -> Iterator[tuple[Place, dict[str, str]]]:
    """Rows of an open file in a known dialect; as `read_separated`."""
    reader = dialect.reader(text, file)
    number = 0
    skipped = int(dialect.stated)
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for name in header if name in columns and header.count(name) > 1]:
            raise UserError(
                f"{file.path}: two columns have the name {twice[0]!r}; rename one of them"
            )
        if header:
            check(file.path, header)
        for cells in reader:
            if not cells:  # a blank line
                continue
            number += 1
            if len(cells) == len(header) or (
                len(cells) > len(header) and not any(cells[len(header) :])
            ):
                place = Place(file.path, f"row {number}")
                yield place, dict(zip(header, cells, strict=False))
                continue
            place = Place(file.path, f"row {number} (line {reader.line_num + skipped})")
            faults.add(place, *_uneven(cells, header))
    except csv.Error as error:
        place = Place(file.path, f"row {number + 1} (line {reader.line_num + skipped})")
        remedy = "put quotes around the entire cell and double the quotes inside it"
        faults.add(place, f"{error}; {remedy}")
        faults.check()


def _uneven(cells: list[str], header: list[str]) -> tuple[str, str]:
    """What is wrong with a row of another length, and the kind of it."""
    if len(cells) > len(header):
        return "more cells than columns; quote cells with commas", "more"
    return (
        f"{len(cells)} cells but {len(header)} columns; add the missing ones, or quote a cell with "
        "line breaks",
        "fewer",
    )


def _dialect(file: DataFile, columns: Collection[str], encoding: str | None) -> Dialect:
    """The dialect of a file: the first in which all rows have the header's number of cells.

    If there is none, that of the header, whose rows then are told as mistakes.
    """
    with open_text(file, encoding, newline="") as text:
        first = _of_header(text.read(_SAMPLE), columns, file.form)
    tried = [first]
    if file.form == "tsv" or first.separator == "\t":
        tried.append(Dialect(first.separator, first.stated, quoting="none"))
    for quoting in ("escaped", "paired"):
        tried.insert(1, Dialect(first.separator, first.stated, first.spaced, quoting))
    for dialect in tried:
        if _fits(file, dialect, encoding):
            return dialect
    return first


def _fits(file: DataFile, dialect: Dialect, encoding: str | None) -> bool:
    """Whether every row of a file has the header's number of cells."""
    if dialect.quoting == "paired":
        with open_text(file, encoding, newline="") as text:
            if any(_SINGLE.search(line) for line in text):
                return False
    with open_text(file, encoding, newline="") as text:
        reader = dialect.reader(text, file)
        try:
            width = len(next(reader, []))
            return all(
                len(cells) == width or not cells or (len(cells) > width and not any(cells[width:]))
                for cells in reader
            )
        except csv.Error:
            return False


def _of_header(sample: str, columns: Collection[str], form: str) -> Dialect:
    """The dialect of a file's first lines: its separator is the one that gives the columns."""
    separators = "\t,;|" if form == "tsv" else ",;\t|"
    if stated := re.match(r"sep=(.)\r?[\n\r]", sample):
        return _spaced(Dialect(stated[1], stated=True), sample[stated.end() :])
    tried = [_spaced(Dialect(separator), sample) for separator in separators]
    sizes = [_header(dialect, sample) for dialect in tried]
    count = [len({name.strip() for name in names} & set(columns)) for names in sizes]
    if max(count) > 0:
        return tried[count.index(max(count))]
    width = [len(names) for names in sizes]
    return tried[width.index(max(width))]


def _header(dialect: Dialect, sample: str) -> list[str]:
    """Cells of the first record of a sample."""
    lines = io.StringIO(sample, newline="")
    try:
        reader = csv.reader(
            chain(lines), delimiter=dialect.separator, skipinitialspace=dialect.spaced
        )
        return next(reader, [])
    except csv.Error:
        return []


def _spaced(dialect: Dialect, sample: str) -> Dialect:
    """The dialect with `spaced` if the header has a space after each separator."""
    cells = _header(dialect, sample)
    spaced = len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])
    return Dialect(dialect.separator, dialect.stated, spaced, dialect.quoting)
