"""A user's own table of runs, checked and read as points of a law."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from distill.contracts.points import (
    COLUMNS,
    FURTHER,
    KEYS,
    OWN_COLUMNS,
    OWN_NAMES,
    size_name,
)
from distill.core.display import listed
from distill.core.errors import UserError
from distill.table.own_cells import NULLABLE, Table
from distill.table.own_notes import Note, note_of_rows
from distill.table.own_repeats import best_rates, check_names, check_near, drop_duplicates
from distill.table.own_shapes import shape_notes
from distill.table.own_units import COUNTS, check_units, convert, unit_of

REQUIRED = ("params", "tokens", "loss")
KINDS = {
    "distilled": ("distilled", "distill", "distillation", "kd", "student", "soft", "seqkd"),
    "supervised": (
        "supervised", "sft", "pretrained", "pretrain", "pretraining", "scratch", "fromscratch",
        "baseline", "ce", "teacherless", "none",
    ),
}  # fmt: skip
"""Spellings of what a run is, in lower case without blanks and signs."""


@dataclass(frozen=True)
class OwnPoints:
    """A table as it was read.

    Attributes:
        points: `COLUMNS` of `distill.contracts.points`, and of `FURTHER` those that it has.
        notes: What a reader must know of the reading.
        distils: Whether the table says which runs have a teacher.
        supervised: Methods whose runs have no teacher; empty unless the table says so.
    """

    points: pd.DataFrame
    notes: tuple[Note, ...]
    distils: bool
    supervised: tuple[str, ...]


def own_table(
    frame: pd.DataFrame, columns: Mapping[str, str], units: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The points of any table; see `own_points`."""
    return own_points(frame, columns, units).points


def own_points(
    frame: pd.DataFrame, columns: Mapping[str, str], units: Mapping[str, str] | None = None
) -> OwnPoints:
    """Read any table of runs.

    Args:
        frame: One row per run; its index is the row's number in the file less 1.
        columns: Our name (`OWN_COLUMNS`) to the frame's column. `tokens` are tokens seen, by
            default flops / (6 params); `unique_tokens` defaults to tokens / epochs, `epochs` to 1
            or tokens / unique_tokens.
        units: Unit of columns, where it is not ones or nats per token.

    Returns:
        The points: the student is its size written out, the gap is loss minus teacher_loss (null
        where that is not positive). Exact duplicates, and runs of a learning rate that is not the
        best one, are left out.

    Raises:
        UserError: A column is missing, a value is not a number of its range or implausible in its
            unit, two rows with the same keys have different losses, or tokens, unique_tokens and
            epochs disagree.
    """
    units = units or {}
    for name in units:
        if name not in columns:
            raise UserError(
                f"runs_table.units.{name}: runs_table.columns names no column of {name}; name it, "
                "or remove the unit"
            )
    table = _checked_columns(frame, columns)
    _check_total(table)
    table, notes = _without_untrained(table, units)
    values = _values(table, units)
    if "tokens" not in values:
        table.fail_where(
            np.isnan(values["flops"]),
            ("flops",),
            "the value is missing, from which tokens would be computed; fill it in",
        )
    check_units(table, values, units)
    if "tokens" not in values:
        values["tokens"] = values["flops"] / (6.0 * values["params"])
        notes += [Note("tokens_from_flops")]
        check_units(table, values, {**units, "params": unit_of("params", units) or "ones"})
    _check_ranges(table, values)
    out, distils, supervised = _points(table, values)
    rates = values.get("learning_rate")
    rows = table.rows
    out, rows, kept = drop_duplicates(out, rows, rates)
    notes += kept
    if rates is not None:
        rates = rates[np.isin(table.rows, rows)]
        out, rows, kept = best_rates(out, rows, rates)
        notes += kept
    notes += check_near(out, rows, table.columns)
    if len(out) > 2 and np.ptp(out["loss"].to_numpy()) == 0:
        raise UserError(
            f"runs_table: column {table.columns['loss']!r}: all {len(out)} losses are "
            f"{out['loss'].iloc[0]:.6g}, so there is nothing to fit; name the column of the "
            "held-out loss"
        )
    notes += shape_notes(out, rows)
    return OwnPoints(out, tuple(notes), distils, supervised)


def _checked_columns(frame: pd.DataFrame, columns: Mapping[str, str]) -> Table:
    """The table, without rows that hold nothing.

    Raises:
        UserError: A column is unknown, missing, or named twice; or there are no rows.
    """
    for name in columns:
        if name not in OWN_COLUMNS:
            raise UserError(
                f"runs_table.columns.{name} is not a column of the runs table; use one of "
                f"{', '.join(OWN_COLUMNS)}"
            )
    for name in REQUIRED:
        if name not in columns and not (name == "tokens" and "flops" in columns):
            raise UserError(f"runs_table.columns.{name} is missing; name the column that holds it")
    for name, column in columns.items():
        if column not in frame:
            raise UserError(
                f"runs_table.columns.{name}: the table has no column {column!r}; it has "
                f"{listed(frame.columns)}"
            )
    taken = list(columns.values())
    alike = {name: column for name, column in columns.items() if name != "kind"}
    if columns.get("kind") == columns.get("method"):
        taken = list(alike.values())  # a method may say what a run is
    if twice := [name for name in columns if taken.count(columns[name]) > 1]:
        raise UserError(
            f"runs_table.columns: {' and '.join(twice)} name the same column "
            f"{columns[twice[0]]!r}; correct one of them"
        )
    table = Table(frame, dict(columns))
    blank = np.all([table.empty(name) for name in columns], axis=0)
    table = table.where(~blank)
    if not len(table):
        raise UserError("runs_table.path: the table has no rows; give one row per run")
    return table


def _check_total(table: Table) -> None:
    """Check that the last row is not the sum of the others.

    Raises:
        UserError: It is.
    """
    names = [name for name in ("params", "tokens", "flops") if name in table.columns]
    if len(table) < 5:
        return
    columns = [table.numbers(name, _needed(name), True) for name in names]
    if all(np.isclose(values[-1], values[:-1].sum(), rtol=1e-9) for values in columns):
        last = np.arange(len(table)) == len(table) - 1
        table.fail_where(last, names, "the sums of the rows above; drop the row")


def _without_untrained(table: Table, units: Mapping[str, str]) -> tuple[Table, list[Note]]:
    """Leave out models before training (0 tokens), which no law is fitted to.

    Raises:
        UserError: There are such rows, and no column says how models are initialised.
    """
    if "tokens" not in table.columns or (unit_of("tokens", units) or "ones").startswith("l"):
        return table, []
    untrained = table.numbers("tokens", _needed("tokens"), True) == 0
    if "init" not in table.columns:
        table.fail_where(
            untrained,
            ("tokens",),
            "a model trained on 0 tokens is no point of a law of data; drop the row, or name the "
            "column of how models start as runs_table.columns.init",
        )
    if untrained.all():
        raise UserError("runs_table.path: no row has trained tokens; give one row per run")
    return table.where(~untrained), note_of_rows("untrained", table.rows[untrained])


LARGEST = 2**53
"""Whole numbers up to here are exact as floats."""
REACH = {
    **dict.fromkeys(COUNTS, (1.0, 1e18)),
    **dict.fromkeys(("loss", "teacher_loss"), (1e-9, 1e6)),
    "loss_stderr": (1e-12, 1e3),
    "reference_loss": (1e-9, 1e6),
    "accuracy": (0.0, 1.0),
    "items": (1.0, 1e9),
    "weight": (1e-6, 1e9),
}
OTHER_REACH = (1e-20, 1e40)
"""What a value can be: things are counted one by one, not in billions, and powers of all are
numbers."""


def _needed(name: str) -> str:
    if name == "seed":
        return f"a whole number up to {LARGEST}"
    if name == "accuracy":
        return "a share from 0 to 1; divide percentages by 100"
    least, most = REACH.get(name, OTHER_REACH)
    return f"a positive finite number ({least:g} to {most:g})"


def _values(table: Table, units: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The columns of numbers, in ones and nats per token."""
    values = {}
    for name in table.columns:
        if name in OWN_NAMES:
            continue
        suffixes = name in COUNTS and (unit_of(name, units) or "ones") == "ones"
        array = table.numbers(name, _needed(name), suffixes)
        if name not in NULLABLE:
            why = f"the value must be {_needed(name)}, but the cell is empty; fill it in or drop"
            table.fail_where(table.empty(name), (name,), f"{why} the row")
        with np.errstate(invalid="ignore"):
            bad = (array % 1 != 0) | (abs(array) > LARGEST) if name == "seed" else array <= 0
            if name == "accuracy":
                bad = (array < 0) | (array > 1)
        _fail_value(table, name, bad & ~np.isnan(array))
        values[name] = array
    return convert(values, units)


def _check_ranges(table: Table, values: Mapping[str, np.ndarray]) -> None:
    for name, array in values.items():
        least, most = REACH.get(name, OTHER_REACH)
        if name != "seed" and name in table.columns:
            with np.errstate(invalid="ignore"):
                bad = (array < least) | (array > most) | np.isinf(array)
            _fail_value(table, name, bad)
    if "params_non_embedding" in values:
        table.fail_where(
            values["params_non_embedding"] > values["params"],
            ("params_non_embedding", "params"),
            "more parameters without embeddings than in total; correct or swap the columns",
        )
    if "loss_stderr" in values:
        with np.errstate(invalid="ignore"):
            bad = values["loss_stderr"] > 0.5 * values["loss"]
        table.fail_where(
            bad,
            ("loss_stderr",),
            "a standard error of more than half the loss; name the column of the loss's standard "
            "error, in the loss's unit",
        )


def _fail_value(table: Table, name: str, bad: np.ndarray) -> None:
    remedy = "correct or drop the row"
    if name == "loss" and len(bad) > 1 and bad.all():
        remedy = "losses are positive, so write log-likelihoods with the opposite sign"
    for place in np.flatnonzero(bad)[:1]:
        cell = table.cell(name, int(place))
        why = f"the value must be {_needed(name)}, but it is {cell}; {remedy}"
        table.fail_where(bad, (name,), why)


def _points(
    table: Table, values: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, bool, tuple[str, ...]]:
    """Points of all rows; whether the table tells distilled runs; its supervised methods."""
    tokens = values["tokens"]
    epochs, unique = values.get("epochs"), values.get("unique_tokens")
    if unique is None:
        unique = tokens if epochs is None else tokens / epochs
    if epochs is None:
        epochs = tokens / unique
    table.fail_where(
        np.abs(unique * epochs - tokens) > 0.01 * tokens,
        ("unique_tokens", "epochs", "tokens"),
        "unique tokens times epochs are not the tokens seen; correct one of them",
    )
    table.fail_where(
        epochs < 1 - 1e-9,
        ("epochs", "unique_tokens"),
        "fewer tokens were seen than there are unique ones; give the unique tokens seen",
    )
    names = {name: _names(table, name) for name in OWN_NAMES if name in table.columns}
    rows = len(table)
    out = pd.DataFrame(index=range(rows))
    for key in KEYS:
        out[key] = names.get(key, "")
    missing = np.full(rows, np.nan)
    out["student"] = [size_name(size) for size in values["params"]]
    out["seed"] = values["seed"].astype("int64") if "seed" in values else 0
    out["draw"] = 0
    for name in ("params", "params_non_embedding", "flops", "teacher_loss", "teacher_params"):
        out[name] = values.get(name, missing)
    out["tokens"], out["epochs"], out["updates"] = unique, epochs, missing
    out["teacher_params_non_embedding"] = missing
    out["loss"], out["loss_stderr"] = values["loss"], values.get("loss_stderr", missing)
    gap = out["loss"] - out["teacher_loss"]
    out["gap"] = gap.where(gap > 0)
    described = [
        _teacher_name(size, loss)
        for size, loss in zip(out["teacher_params"], out["teacher_loss"], strict=True)
    ]
    out["teacher"] = names.get("teacher", described)
    distils, supervised = _kinds(table, out, names.get("kind"), described)
    further = [name for name in FURTHER if name in values]
    for name in further:
        out[name] = values[name]
    return out[[*COLUMNS, *further]], distils, supervised


def _teacher_name(size: float, loss: float) -> str:
    """A teacher by its size and loss, as far as they are known."""
    parts = [] if np.isnan(size) else [size_name(size)]
    return ", ".join(parts if np.isnan(loss) else [*parts, f"loss {loss:.6g}"])


def _names(table: Table, name: str) -> np.ndarray:
    """A column of text.

    Raises:
        UserError: A cell is empty that must not be, or two names differ by case or blanks alone.
    """
    empty = table.empty(name)
    if name != "teacher":
        table.fail_where(empty, (name,), "the value is missing; fill it in")
    cells = table.frame[table.columns[name]]
    texts = ["" if no else str(cell) for cell, no in zip(cells, empty, strict=True)]
    check_names(table, name, texts)
    return np.array(texts, dtype=object)


def _kinds(
    table: Table, out: pd.DataFrame, kinds: np.ndarray | None, described: list[str]
) -> tuple[bool, tuple[str, ...]]:
    """Whether the table tells distilled runs, and the methods of runs without a teacher.

    A table with kinds and no methods gets its kinds as methods: a law never mixes the two.
    """
    has_teacher = (out["teacher"] != "").to_numpy() | np.array([text != "" for text in described])
    columns = ("teacher", "teacher_loss", "teacher_params")
    if kinds is None:
        if not any(name in table.columns for name in columns):
            return False, ()
        distilled = has_teacher
    else:
        known = [_kind(text) for text in kinds]
        table.fail_where(
            [kind is None for kind in known],
            ("kind",),
            "the kind of a run must be distilled or supervised; write one of them",
        )
        distilled = np.array([kind == "distilled" for kind in known])
        table.fail_where(
            ~distilled & has_teacher,
            ("kind", *columns),
            "a supervised run has no teacher; empty its teacher's cells or correct the kind",
        )
        if "method" not in table.columns:
            out["method"] = known
        else:
            mixed = {m for m in out["method"] if len(set(distilled[out["method"] == m])) > 1}
            out["method"] = [
                f"{method} ({kind})" if method in mixed else method
                for method, kind in zip(out["method"], known, strict=True)
            ]
    methods = dict.fromkeys(out["method"])
    alone = tuple(m for m in methods if not distilled[(out["method"] == m).to_numpy()].any())
    return True, alone


def _kind(text: str) -> str | None:
    """distilled or supervised; None for another word."""
    plain = "".join(letter for letter in text.lower() if letter.isalnum())
    return next((kind for kind, words in KINDS.items() if plain in words), None)
