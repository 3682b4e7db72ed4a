"""Cells of the report's tables: numbers as a reader sees them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.wording import plural
from distill.contracts.columns import COLUMNS, Column
from distill.core.quantities import number, percent
from distill.stats.intervals import Estimate

MISSING = "–"
Row = Mapping[str, Any]
Form = int | str | Mapping[str, str] | Callable[[Row], str] | None


def mean_text(values: np.ndarray | None, digits: int) -> str:
    """Write the mean of a cell's runs, with its standard deviation where they differ.

    Args:
        values: of the runs, shape (runs,), without nulls; None or empty for none.
        digits: significant digits of the mean.
    """
    if values is None or not len(values):
        return MISSING
    mean = float(values.mean())
    whole = bool((values % 1 == 0).all()) and mean % 1 == 0 and abs(mean) < 1e9
    text = number(int(mean)) if whole else number(mean, digits)
    if np.ptp(values) == 0:
        return text
    sd = float(values.std(ddof=1))
    if whole or "×" in text:
        return f"{text} ± {number(sd, 2)}"
    return f"{text} ± {sd:,.{len(text.partition('.')[2])}f}"


def share(value: Any, digits: int = 1) -> str:
    """Write a share as per cent with so many decimals; a dash where it is null."""
    return MISSING if pd.isna(value) else f"{100 * float(value):.{digits}f} %"


def interval(row: Row, key: str) -> str:
    """Write the interval in `<key>_low` and `<key>_high`; a dash without both ends."""
    ends = number(row.get(f"{key}_low")), number(row.get(f"{key}_high"))
    return MISSING if MISSING in ends else " to ".join(ends)


def span_of(row: Row, key: str) -> str:
    """Write the ends in `<key>_low` and `<key>_high`, equal ones once; a dash without both."""
    first, last = number(row.get(f"{key}_low")), number(row.get(f"{key}_high"))
    return first if first == last else interval(row, key)


def score(entry: Row | None) -> str:
    """Write a score with its standard error."""
    if not entry:
        return MISSING
    error = f" ± {number(entry['stderr'], 2)}" if entry["stderr"] else ""
    return f"{number(entry['value'])}{error}"


def plain(value: Any) -> str:
    """Write a setting as it stands in the config."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:g}"


def assigned(pairs: Iterable[tuple[str, Any]], form: str) -> str:
    """Write settings as `a = 1, b = 2`, values as `plain` or as `number` writes them."""
    write = plain if form == "plain" else number
    return ", ".join(f"{name} = {write(value)}" for name, value in pairs)


def estimate(value: Estimate | None, unit: str = "") -> str:
    """Write an estimate for a table whose caption says what the interval is."""
    if value is None:
        return MISSING
    ends = "no error bar"
    if value.low is not None and value.high is not None:
        ends = f"{number(value.low)} to {number(value.high)}"
    return f"{number(value.value)}{unit} ({ends})"


def unsigned(value: float | None) -> str:
    """Write a share as per cent without its plus."""
    return MISSING if value is None else percent(value).lstrip("+")


FORMS: Mapping[str, Callable[[Any], str]] = {
    "text": lambda value: str(value) if value not in (None, "") else MISSING,
    "percent": lambda value: MISSING if value is None else percent(value),
    "unsigned": unsigned,
    "share": share,
    "mass": lambda value: share(value, 2),
    "times": lambda value: MISSING if value is None else f"× {number(value)}",
    "score": score,
    "estimate": estimate,
    "estimate %": lambda value: estimate(value, " %"),
}
"""How a column writes its values, by the name that a template uses."""


def cell(row: Row, key: str, form: Form = None) -> str:
    """Write one value of a row.

    Args:
        row: values by key.
        key: which value.
        form: significant digits; a name in `FORMS`; `interval`, whose ends are values of their
            own; words by value; or a macro of the whole row. None for three digits.
    """
    value = row.get(key)
    if form == "interval":
        return interval(row, key)
    if isinstance(form, Mapping):
        text = FORMS["text"](value)
        return form.get(text, text)
    if callable(form):
        return form(row).strip()
    if isinstance(form, str):
        return FORMS[form](value)
    return FORMS["text"](value) if isinstance(value, str) else number(value, form or 3)


def filled(rows: Iterable[Row], columns: Sequence[Column | Sequence[Any]]) -> dict[str, Any]:
    """Lay out a table, without columns that are empty in every row.

    Args:
        rows: values by key; the values of a `Column` are those of its runs.
        columns: of the runs table, or (key, heading), with the form and `wide` behind.

    Returns:
        columns: name, measured, text, wide; rows: their texts.
    """
    heads, texts = [], []
    rows = list(rows)
    for k, column in enumerate(columns):
        if isinstance(column, Column):
            digits = column.digits
            words = [
                value
                if isinstance(value := row.get(column.name), str)
                else mean_text(value, digits)
                for row in rows
            ]
            head = {"name": column.name, "measured": column.measured, "text": False, "wide": False}
        else:
            key, name, form, wide = (*column, None, None)[:4]
            words = [cell(row, key, form) for row in rows]
            worded = form == "text" or isinstance(form, Mapping) or callable(form)
            head = {"name": name, "measured": False, "text": worded, "wide": bool(wide)}
        if k == 0 or any(word != MISSING for word in words):
            heads.append(head)
            texts.append(words)
    return {"columns": heads, "rows": list(zip(*texts, strict=True))}


FILTERS = {
    "number": number,
    "percent": percent,
    "unsigned": unsigned,
    "share": share,
    "plain": plain,
    "assigned": assigned,
    "plural": plural,
    "span_of": span_of,
    "filled": filled,
    "named": lambda names: [COLUMNS[name] for name in names],
}
"""Filters of the report's templates."""
