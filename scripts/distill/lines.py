"""The runs table as lines: the runs of one student by one method, over samples, draws and seeds."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.estimates import Spread, pooled_spread
from distill.files import UserError

GROUP = ["teacher", "student", "method", "curation", "cache"]
"""The columns that name one line of a figure; runs of a line differ by samples, draw and seed."""

Run = tuple[int, Any, Any]
"""Samples, draw and seed: what pairs the runs of two lines."""

NO_CACHE = ("", "none")
"""Names of the cache of a method that reads text alone."""


def prepare_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a checked copy of a runs table, whoever made it.

    Needed columns: student, method, samples and loss (nats per token). Names that are missing
    become empty, `draw` counts the runs of a cell, `perplexity` is exp(loss).

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
    return table


def has_values(table: pd.DataFrame, column: str) -> bool:
    """Tell whether a table has a column with at least one number in it."""
    return column in table and bool(pd.to_numeric(table[column], errors="coerce").notna().any())


def mean_of(rows: pd.DataFrame, column: str) -> float | None:
    """Return the mean of a column, None where it holds nothing."""
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
        return self.cache not in NO_CACHE

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

        Rows that samples, draw and seed do not tell apart are averaged.
        """
        keys = zip(*(self.runs[name].tolist() for name in ("samples", "draw", "seed")), strict=True)
        values = pd.to_numeric(self.runs[column], errors="coerce").tolist()
        found: dict[Run, list[float]] = {}
        for key, value in zip(keys, values, strict=True):
            if math.isfinite(value):
                found.setdefault(key, []).append(value)
        ordered = sorted(found, key=lambda key: key[0])
        return {key: math.fsum(found[key]) / len(found[key]) for key in ordered}


def lines_of(table: pd.DataFrame) -> list[Line]:
    """Split a prepared table into lines, in the table's order.

    A label names student and method, and teacher, curation or cache only where needed to tell two
    lines apart; a line without a cache is not labelled with one.
    """
    trained = table[table["samples"] > 0]
    groups = dict(list(trained.groupby(GROUP, sort=False)))
    keys = pd.DataFrame(list(groups), columns=GROUP)
    # A student named by itself is clearest; other parts only where they tell two lines apart.
    shown = ["student", "method"]
    for name in ("teacher", "curation", "cache"):
        if keys.duplicated(shown).any() and keys.groupby(shown)[name].nunique().gt(1).any():
            shown.append(name)
    starts = table[table["samples"] == 0]
    lines = []
    for values, runs in groups.items():
        key = dict(zip(GROUP, values, strict=True))
        parts = [key[name] for name in shown if key[name]]
        if "cache" in shown and key["cache"] in NO_CACHE:
            parts = [key[name] for name in shown[:-1] if key[name]]
        start = (starts["student"] == key["student"]) & starts["teacher"].isin([key["teacher"], ""])
        lines.append(Line(**key, label=" · ".join(parts), runs=runs, before=starts[start]))
    return lines


def pooled_over(lines: Iterable[Line], column: str) -> Spread | None:
    """Pool a column's spread between runs over all cells of some lines."""
    return pooled_spread(group for line in lines for _, group in line.by_size(column))


def noise_sources(table: pd.DataFrame) -> str:
    """Name what the runs of a cell differ in: draws, seeds, or both."""
    found = [f"{name}s" for name in ("draw", "seed") if table[name].nunique() > 1]
    return " and ".join(found) or "repeated runs"


def record(
    question: str, line: Line | None, answer: str, evidence: str, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Return an entry of answers.json; `line` is whom it is about, None for the whole study."""
    return {
        "question": question,
        "teacher": line.teacher if line else None,
        "student": line.student if line else None,
        "method": line.method if line else None,
        "label": line.label if line else None,
        "answer": answer,
        "evidence": evidence,
        "numbers": numbers,
    }
