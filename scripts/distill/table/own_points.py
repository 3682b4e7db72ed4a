"""A user's own table of runs, checked and read as points of a law."""

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import COLUMNS, KEYS, OWN_COLUMNS
from distill.core.display import listed
from distill.core.errors import UserError


def own_table(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """The same from any table.

    Args:
        frame: One row per run.
        columns: Our name (`OWN_COLUMNS`) to the frame's column. `tokens` are tokens seen;
            `unique_tokens` defaults to tokens / epochs, `epochs` to 1 or tokens / unique_tokens.

    Returns:
        `COLUMNS` of `distill.contracts.points`; the student is its size written out, the gap is
        loss minus teacher_loss (null where that is not positive).

    Raises:
        UserError: A column is missing, a value is not a positive finite number, two rows with the
            same keys have different losses, or tokens, unique_tokens and epochs disagree.
    """
    values = _checked(frame, columns)
    rows = len(frame)
    tokens = values["tokens"]
    epochs, unique = values.get("epochs"), values.get("unique_tokens")
    if unique is None:
        unique = tokens if epochs is None else tokens / epochs
    if epochs is None:
        epochs = tokens / unique
    _fail_where(
        np.abs(unique * epochs - tokens) > 0.01 * tokens,
        columns,
        ("unique_tokens", "epochs", "tokens"),
        "unique tokens times epochs are not the tokens seen; correct one of them",
    )
    _fail_where(
        epochs < 1 - 1e-9,
        columns,
        ("epochs", "unique_tokens"),
        "fewer tokens were seen than there are unique ones; give the unique tokens seen",
    )
    out = pd.DataFrame(index=range(rows))
    for key in KEYS:
        out[key] = frame[columns[key]].astype(str).to_numpy() if key in columns else ""
    out["student"] = [f"{size:.0f}" for size in values["params"]]
    out["seed"] = values["seed"].astype("int64") if "seed" in values else 0
    out["draw"] = 0
    missing = np.full(rows, np.nan)
    out["params"], out["params_non_embedding"] = values["params"], missing
    out["tokens"], out["epochs"], out["updates"] = unique, epochs, missing
    out["flops"] = values.get("flops", missing)
    teacher = values.get("teacher_loss", missing)
    out["teacher_loss"], out["teacher_params"] = teacher, values.get("teacher_params", missing)
    out["teacher_params_non_embedding"] = missing
    out["loss"] = values["loss"]
    gap = out["loss"] - teacher
    out["gap"] = gap.where(gap > 0)
    out["loss_stderr"] = missing
    teacher_names = [
        "" if np.isnan(size) and np.isnan(loss) else f"{_shown(size)}, loss {_shown(loss)}"
        for size, loss in zip(out["teacher_params"], teacher, strict=True)
    ]
    out["teacher"] = teacher_names
    _check_repeats(out, columns)
    return out[list(COLUMNS)]


def _shown(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.6g}"


_MAY_BE_NULL = ("teacher_loss", "teacher_params", "flops")
"""A run without a teacher has no teacher's loss; FLOPs are not always counted."""


def _checked(frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, Any]:
    """The numeric columns as arrays, each value checked."""
    for name in columns:
        if name not in OWN_COLUMNS:
            raise UserError(
                f"runs_table.columns.{name} is not a column of the runs table; use one of "
                f"{', '.join(OWN_COLUMNS)}"
            )
    for name in OWN_COLUMNS[:3]:
        if name not in columns:
            raise UserError(f"runs_table.columns.{name} is missing; name the column that holds it")
    for name, column in columns.items():
        if column not in frame:
            raise UserError(
                f"runs_table.columns.{name}: the table has no column {column!r}; it has "
                f"{listed(frame.columns)}"
            )
    taken = list(columns.values())
    if twice := [name for name in columns if taken.count(columns[name]) > 1]:
        raise UserError(
            f"runs_table.columns: {' and '.join(twice)} name the same column "
            f"{columns[twice[0]]!r}; correct one of them"
        )
    if frame.empty:
        raise UserError("runs_table.path: the table has no rows; give one row per run")
    values = {}
    for name, column in columns.items():
        if name in ("method", "init", "group"):
            _fail_where(
                frame[column].isna().to_numpy(),
                columns,
                (name,),
                "the value is missing; fill it in",
            )
            continue
        array = _numbers(frame[column])
        empty = (
            frame[column].isna().to_numpy() if name in _MAY_BE_NULL else np.zeros(len(frame), bool)
        )
        is_integer = name == "seed"
        with np.errstate(invalid="ignore"):
            odd = (array % 1 != 0) | (abs(array) > LARGEST)
        least, most = REACH.get(name, OTHER_REACH)
        bad = ~np.isfinite(array) | (odd if is_integer else (array < least) | (array > most))
        needed = f"a positive finite number ({least:g} to {most:g})"
        needed = f"a whole number up to {LARGEST}" if is_integer else needed
        _fail_where(
            bad & ~empty, columns, (name,), f"the value must be {needed}; correct or drop the row"
        )
        values[name] = array
    return values


LARGEST = 2**53
"""Whole numbers up to here are exact as floats."""
REACH = {
    **dict.fromkeys(("params", "tokens", "unique_tokens", "teacher_params"), (1.0, 1e18)),
    **dict.fromkeys(("loss", "teacher_loss"), (1e-9, 1e6)),
}
OTHER_REACH = (1e-20, 1e40)
"""What a value can be: things are counted one by one, not in billions, and powers of all are
numbers."""


def _numbers(cells: pd.Series) -> np.ndarray:
    """Cells as floats: NaN for what is neither a number nor the text of one."""

    def number(cell: Any) -> float:
        if isinstance(cell, (bool, np.bool_)) or not isinstance(cell, (str, Real, Decimal)):
            return math.nan
        try:
            return float(cell)
        except (ValueError, OverflowError):
            return math.nan

    if pd.api.types.is_float_dtype(cells.dtype) or pd.api.types.is_integer_dtype(cells.dtype):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array([number(cell) for cell in cells], dtype=np.float64)


def _fail_where(bad: Any, columns: Mapping[str, str], names: tuple[str, ...], why: str) -> None:
    """Raise for the first bad row, counted from 1 without the header."""
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        column_names = " and ".join(repr(columns[name]) for name in names if name in columns)
        raise UserError(
            f"runs_table: row {rows[0] + 1}, column {column_names}: {why} ({len(rows)} such rows)"
        )


def _check_repeats(table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    """Two rows equal in all but the loss contradict each other."""
    keys = [*KEYS, "seed", "draw", "params", "tokens", "epochs"]
    grouped = table.groupby(keys, dropna=False, sort=False)
    first = grouped["loss"].transform("first").to_numpy()
    bad = np.flatnonzero(table["loss"].to_numpy() != first)
    if len(bad):
        place = grouped.ngroup().to_numpy()
        other = int(np.flatnonzero(place == place[bad[0]])[0])
        raise UserError(
            f"runs_table: rows {other + 1} and {bad[0] + 1} are the same run with two values of "
            f"{columns['loss']!r}; give a seed column or drop one"
        )
