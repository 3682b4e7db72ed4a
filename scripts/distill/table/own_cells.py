"""Cells of a user's own table as numbers, with the value as written in every error."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import SCORES
from distill.core.display import brief
from distill.core.errors import UserError

_SUFFIXES = {
    **dict.fromkeys(("k", "thousand"), 1e3),
    **dict.fromkeys(("m", "mn", "million"), 1e6),
    **dict.fromkeys(("b", "bn", "g", "billion"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion"), 1e12),
}
_SUFFIX = re.compile(rf"([\d.]+(?:e[+-]?\d+)?)\s*({'|'.join(_SUFFIXES)})", re.IGNORECASE)
_SPACED = re.compile(r"\d{1,3}(?:[ '’\u00a0\u2009\u202f]\d{3})+(?:\.\d+)?")
_COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_POINTS = re.compile(r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?")
_DECIMAL = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_TOTAL = re.compile(
    r"(?:grand )?(?:total|sum|mean|average|avg|median|count|std)s?\b", re.IGNORECASE
)
_NULLS = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-"}
NULLABLE = ("teacher", "teacher_loss", "teacher_params", "flops", "loss_stderr", *SCORES)
"""Columns that may be empty: a run without a teacher has no teacher's loss; FLOPs, errors and
further scores are not always known."""
_MOST_ROWS = 5


class Table:
    """The checked columns of a table, and errors that name rows of its file.

    Args:
        frame: One row per run; its index is the row's number in the file less 1.
        columns: Our name of a column to the frame's.
    """

    def __init__(self, frame: pd.DataFrame, columns: dict[str, str]) -> None:
        self.frame, self.columns = frame, columns
        self.rows = frame.index.to_numpy(dtype=np.int64) + 1

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, keep: np.ndarray) -> "Table":
        """The rows that `keep` selects."""
        return Table(self.frame[keep], self.columns)

    def cell(self, name: str, place: int) -> str:
        """A cell as written, for an error."""
        value = self.frame[self.columns[name]].iloc[place]
        return "empty" if _empty(value) else brief(value if isinstance(value, str) else f"{value}")

    def empty(self, name: str) -> np.ndarray:
        """Whether each cell of a column is empty, shape (rows,)."""
        nulls = name in NULLABLE
        cells = self.frame[self.columns[name]]
        return np.array([_empty(cell) or (nulls and _null(cell)) for cell in cells], dtype=bool)

    def fail_where(self, bad: Any, names: Sequence[str], why: str) -> None:
        """Raise for the first bad row.

        Raises:
            UserError: A row is bad.
        """
        places = np.flatnonzero(np.asarray(bad))
        if not len(places):
            return
        known = [name for name in names if name in self.columns]
        columns = " and ".join(repr(self.columns[name]) for name in known)
        many = len(places)
        count = f"{many} such row{'s' if many > 1 else ''}"
        raise UserError(
            f"runs_table: row {self.rows[places[0]]}, column {columns}: {why} ({count})"
        )

    def rows_text(self, places: Any) -> str:
        """Row numbers in words, such as `rows 1 to 10`."""
        return rows_text(self.rows[np.asarray(places)])

    def numbers(self, name: str, needed: str, suffixes: bool) -> np.ndarray:
        """A column as floats, NaN where empty.

        Args:
            name: Our name of the column.
            needed: What a value must be, for errors.
            suffixes: Whether 7B and 350M are numbers.

        Raises:
            UserError: A cell is not a number.
        """
        cells, empty = list(self.frame[self.columns[name]]), self.empty(name)
        values = [
            math.nan if is_empty else read_number(cell, suffixes)
            for cell, is_empty in zip(cells, empty, strict=True)
        ]
        no_numbers = np.array([value is None for value in values])
        numbers = np.array([math.nan if value is None else value for value in values])
        for bad in (no_numbers, ~np.isfinite(numbers) & ~empty):
            for place in np.flatnonzero(bad)[:1]:
                remedy = self._remedy(cells[place], int(place), suffixes)
                why = f"the value must be {needed}, but it is {self.cell(name, place)}; {remedy}"
                self.fail_where(bad, (name,), why)
        return numbers

    def _remedy(self, cell: Any, place: int, suffixes: bool) -> str:
        text = str(cell).strip()
        others = self.frame[[*dict.fromkeys(self.columns.values())]].iloc[place]
        numeric = [c for c in others if not _empty(c) and read_number(c, True) is not None]
        is_last = 0 < place == len(self) - 1
        if _TOTAL.match(text) or (is_last and not numeric and not isinstance(cell, bool)):
            return "the row looks like a total of the others, so drop it"
        return remedy_of(text, suffixes)


def rows_text(rows: Sequence[int] | np.ndarray) -> str:
    """Row numbers in words: `row 3`, `rows 1 to 10`, `rows 1, 4 and 9`, `rows 1, 4, 6, 7, 9 …`."""
    numbers = sorted(int(row) for row in rows)
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    if numbers[-1] - numbers[0] == len(numbers) - 1 and len(numbers) > 2:
        return f"rows {numbers[0]} to {numbers[-1]}"
    first = [str(number) for number in numbers[:_MOST_ROWS]]
    if len(numbers) > _MOST_ROWS:
        return f"rows {', '.join(first)} and {len(numbers) - _MOST_ROWS} more"
    return f"rows {', '.join(first[:-1])} and {first[-1]}"


def read_number(cell: Any, suffixes: bool) -> float | None:
    """A cell as a number; None if it is not the text of one.

    Args:
        cell: The cell.
        suffixes: Whether 7B and 350M are numbers.
    """
    if isinstance(cell, (bool, np.bool_)) or not isinstance(cell, (str, Real, Decimal)):
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        pass
    if suffixes and isinstance(cell, str) and (match := _SUFFIX.fullmatch(cell.strip())):
        try:
            return float(Decimal(match[1]) * Decimal(_SUFFIXES[match[2].lower()]))
        except (ArithmeticError, ValueError):
            return None
    return None


def remedy_of(text: str, suffixes: bool = False) -> str:
    """How to write a value that is not a number."""
    if _COMMAS.fullmatch(text):
        plain = text.replace(",", "")
        if text.count(",") == 1 and "." not in text:
            return f"write {plain}, or {text.replace(',', '.')} if the comma is a decimal one"
        return f"remove the separators of thousands (write {plain})"
    if _SPACED.fullmatch(text):
        return f"remove the separators of thousands (write {re.sub(r'[^0-9.]', '', text)})"
    if _POINTS.fullmatch(text):
        plain = text.replace(".", "").replace(",", ".")
        return f"remove the separators of thousands (write {plain})"
    if _DECIMAL.fullmatch(text):
        return f"write the decimal comma as a point ({text.replace(',', '.')})"
    if text.endswith("%"):
        return (
            "remove the '%', and set runs_table.units: {loss: hundredths} if the values are "
            "hundredths of nats"
        )
    if not suffixes and (match := _SUFFIX.fullmatch(text)):
        return f"remove the suffix {match[2]!r}, which has no place in this column's unit"
    return "correct or drop the row"


def _null(cell: Any) -> bool:
    """Whether a cell's text says that there is no value."""
    return isinstance(cell, str) and cell.strip().lower() in _NULLS


def _empty(cell: Any) -> bool:
    """Whether a cell holds nothing."""
    if cell is None or cell is pd.NA or (isinstance(cell, str) and not cell.strip()):
        return True
    return isinstance(cell, (float, np.floating)) and math.isnan(cell)
