"""The runs table as lines: the runs of one student by one method, over samples, draws and seeds."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.run import NO_CACHE
from distill.core.errors import UserError
from distill.stats.intervals import Spread, pooled_spread

GROUP = ["teacher", "student", "method", "curation", "cache"]
"""The columns that name one line of a figure; runs of a line differ by samples, draw and seed."""
Run = tuple[int, Any, Any]
"""Samples, draw and seed: what pairs the runs of two lines."""
_TEXT_ALONE = ("", NO_CACHE)
"""Names of the cache of a method that reads text alone."""


def prepare_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a checked copy of a runs table.

    Needed columns: student, method, samples and loss (nats per token). Names that are missing
    become empty, `draw` counts the runs of a cell, `perplexity` is exp(loss). A speed whose timing
    was disturbed is null.

    Raises:
        UserError: a needed column is missing or has an impossible value.
    """
    for name in ("student", "method", "samples", "loss"):
        if name not in runs:
            raise UserError(f"the runs table has no column {name}; add it")
    table = runs.copy().reset_index(drop=True)
    for name in GROUP:
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    for name in ("samples", "loss"):
        values = pd.to_numeric(table[name], errors="coerce")
        if not np.isfinite(values.to_numpy(float)).all() or (values < 0).any():
            raise UserError(
                f"column {name} of the runs table holds a value that is missing, negative or not "
                "a number; correct it or remove its row"
            )
        table[name] = values
    table["samples"] = table["samples"].astype(int)
    if table.empty or not (table["samples"] > 0).any():
        raise UserError("the runs table has no row with samples > 0; add at least one trained run")
    if "draw" not in table and "seed" not in table:
        table["draw"] = table.groupby([*GROUP, "samples"]).cumcount()
    for name in ("draw", "seed"):
        table[name] = table[name].fillna(0) if name in table else 0
    if not has_values(table, "perplexity"):
        table["perplexity"] = np.exp(table["loss"])
    if "speed_disturbed" in table and "tokens_per_second" in table:
        table["tokens_per_second"] = table["tokens_per_second"].mask(table["speed_disturbed"] == 1)
    return table


def has_values(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has a column with at least one number in it."""
    return column in table and bool(pd.to_numeric(table[column], errors="coerce").notna().any())


def mean_of(rows: pd.DataFrame, column: str) -> float | None:
    """Return the mean of a column, None if it is empty."""
    return float(pd.to_numeric(rows[column]).mean()) if has_values(rows, column) else None


@dataclass(frozen=True)
class Line:
    """The runs of one student by one method: a line of a figure.

    `runs` are its trained runs (samples > 0), `before` its student before training (samples = 0).
    """

    teacher: str
    student: str
    method: str
    curation: str
    cache: str
    label: str
    runs: pd.DataFrame
    before: pd.DataFrame

    @property
    def sizes(self) -> list[int]:
        """The sample counts measured, smallest first."""
        return sorted(int(n) for n in self.runs["samples"].unique())

    @property
    def reads_cache(self) -> bool:
        """Whether its method read soft targets from a cache, rather than text alone."""
        return self.cache not in _TEXT_ALONE

    def cells(self, column: str) -> pd.DataFrame:
        """Return mean, sd (null for one run) and count of a column, one row per sample count."""
        values = pd.to_numeric(self.runs[column], errors="coerce")
        grouped = values.groupby(self.runs["samples"]).agg(["mean", "std", "count"])
        return grouped[grouped["count"] > 0].rename(columns={"std": "sd"})

    def by_size(self, column: str) -> list[tuple[Any, pd.Series]]:
        """Return a column's values per sample count; nothing where there is no such column."""
        if column not in self.runs:
            return []
        values = pd.to_numeric(self.runs[column], errors="coerce")
        return list(values.groupby(self.runs["samples"]))

    def by_run(self, column: str) -> dict[Run, float]:
        """Return a column's values by run, smallest size first, nulls left out.

        Rows with equal samples, draw and seed are averaged.
        """
        keys = zip(*(self.runs[name].tolist() for name in ("samples", "draw", "seed")), strict=True)
        values = pd.to_numeric(self.runs[column], errors="coerce").tolist()
        values_of: dict[Run, list[float]] = {}
        for key, value in zip(keys, values, strict=True):
            if math.isfinite(value):
                values_of.setdefault(key, []).append(value)
        ordered = sorted(values_of, key=lambda key: key[0])
        return {key: math.fsum(values_of[key]) / len(values_of[key]) for key in ordered}


def lines_of(table: pd.DataFrame) -> list[Line]:
    """Split a prepared table into lines, in the table's order.

    A label names student and method, and teacher, curation or cache only to distinguish
    lines; a line without a cache is not labelled with one.
    """
    trained = table[table["samples"] > 0]
    groups = dict(list(trained.groupby(GROUP, sort=False)))
    keys = pd.DataFrame(list(groups), columns=GROUP)
    # A student named by itself is clearest; other parts only to distinguish two lines.
    label_parts = ["student", "method"]
    for name in ("teacher", "curation", "cache"):
        if (
            keys.duplicated(label_parts).any()
            and keys.groupby(label_parts)[name].nunique().gt(1).any()
        ):
            label_parts.append(name)
    starts = table[table["samples"] == 0]
    lines = []
    for values, runs in groups.items():
        key = dict(zip(GROUP, values, strict=True))
        parts = [key[name] for name in label_parts if key[name]]
        if "cache" in label_parts and key["cache"] in _TEXT_ALONE:
            parts = [key[name] for name in label_parts[:-1] if key[name]]
        start = (starts["student"] == key["student"]) & starts["teacher"].isin([key["teacher"], ""])
        lines.append(Line(**key, label=" · ".join(parts), runs=runs, before=starts[start]))
    return lines


def pooled_over(lines: Iterable[Line], column: str) -> Spread | None:
    """Pool a column's spread between runs over all cells of some lines."""
    return pooled_spread(group for line in lines for _, group in line.by_size(column))


def noise_sources(table: pd.DataFrame) -> list[str]:
    """Which of draw and seed the runs of a cell differ in."""
    return [name for name in ("draw", "seed") if table[name].nunique() > 1]


RAW = ("raw", "none", "")
"""Names of the curation that keeps every answer as it came."""
STEADY = 1.05
"""Largest over smallest value up to which a trait of a line counts as one value."""
Settings = Mapping[str, Any]
"""prices, pretraining_tokens, corpus_methods, methods and curations of a config; all optional."""


def question_lines(runs: pd.DataFrame) -> list[Line]:
    """Split a runs table into lines of one initialisation, one group and comparable epochs.

    Where `samples` is unknown, `tokens_unique` takes its place. A line is split by epochs only if
    two of its runs differ in nothing else.

    Args:
        runs: the runs table; see `distill.table.lines.prepare_runs`.

    Raises:
        UserError: the table lacks a needed column or holds an impossible value.
    """
    table = runs.copy().reset_index(drop=True)
    if has_values(table, "tokens_unique"):
        tokens = pd.to_numeric(table["tokens_unique"], errors="coerce")
        samples = table["samples"] if "samples" in table else pd.Series(index=table.index)
        table["samples"] = pd.to_numeric(samples, errors="coerce").fillna(tokens)
    table = prepare_runs(table)
    for name in ("init", "group"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    table["epochs"] = _epochs(table)
    return [part for line in lines_of(table) for part in _parts(line)]


def _epochs(table: pd.DataFrame) -> pd.Series:
    if not (has_values(table, "tokens_seen") and has_values(table, "tokens_unique")):
        return pd.Series(float("nan"), index=table.index)
    seen, unique = (
        pd.to_numeric(table[name], errors="coerce") for name in ("tokens_seen", "tokens_unique")
    )
    return seen / unique.where(unique > 0)


def _parts(line: Line) -> list[Line]:
    """Split a line by initialisation and group, and by epochs where only they distinguish runs."""
    if len(line.runs) == 1:
        return [line]
    runs = line.runs.assign(_epochs=line.runs["epochs"].round(2))
    keys = ["init", "group", "samples", "draw", "seed"]
    by = [name for name in ("init", "group") if runs[name].nunique() > 1]
    if runs.groupby(keys)["_epochs"].nunique().gt(1).any():
        by.append("_epochs")
    if not by:
        return [line]
    parts = []
    for values, part in runs.groupby(by, sort=False):
        words = [
            f"{value:g} epochs" if name == "_epochs" else str(value)
            for name, value in zip(by, values, strict=True)
        ]
        label = " · ".join([line.label, *(word for word in words if word)])
        before = line.before[line.before["init"] == part["init"].iloc[0]]
        parts.append(replace(line, label=label, runs=part.drop(columns="_epochs"), before=before))
    return parts


def trait(line: Line, column: str) -> str:
    """Return a line's init or group."""
    return str(line.runs[column].iloc[0])


def steady(line: Line, column: str) -> float | None:
    """Return the mean of a column that hardly differs between a line's runs, else None."""
    if not has_values(line.runs, column):
        return None
    values = pd.to_numeric(line.runs[column], errors="coerce")
    if values.isna().any() or values.min() <= 0 or values.max() > STEADY * values.min():
        return None
    return float(values.mean())


def alike(one: Line, other: Line, *besides: str) -> bool:
    """Whether two lines agree in teacher, student, curation, cache, init and group.

    Args:
        one: a line.
        other: another.
        besides: what they may differ in.
    """
    attributes = [x for x in ("teacher", "student", "curation", "cache") if x not in besides]
    columns = [x for x in ("init", "group") if x not in besides]
    return all(getattr(one, x) == getattr(other, x) for x in attributes) and all(
        trait(one, x) == trait(other, x) for x in columns
    )


def same_method(one: Line, other: Line, settings: Settings, *besides: str) -> bool:
    """Whether two lines' methods are known to differ at most in some training settings.

    Args:
        one: a line.
        other: another.
        settings: `methods` holds the settings of each.
        besides: keys of `train` that may differ, such as epochs.
    """
    if one.method == other.method:
        return True
    known = settings.get("methods") or {}
    if one.method not in known or other.method not in known:
        return False
    left, right = (_without(known[line.method], besides) for line in (one, other))
    return left == right


def _without(method: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    train = {k: v for k, v in (method.get("train") or {}).items() if k not in keys and v}
    rest = {k: v for k, v in method.items() if k != "train" and v is not None}
    return rest | {"train": train}


def train_setting(line: Line, settings: Settings, key: str) -> Any:
    """Return a method's own entry of `train`; None if it is absent or unknown."""
    method = (settings.get("methods") or {}).get(line.method) or {}
    return (method.get("train") or {}).get(key)


def sort_out(lines: list[Line], *names: str) -> list[list[Line]]:
    """Return the groups of lines that agree in some attributes, init or group among them."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        key = tuple(
            trait(line, name) if name in ("init", "group") else getattr(line, name)
            for name in names
        )
        groups.setdefault(key, []).append(line)
    return list(groups.values())
