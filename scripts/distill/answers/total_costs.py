"""Every two methods of a student compared at equal costs: seconds or money.

As at equal FLOPs, losses are interpolated between measured sizes, never beyond them. Seconds are
measured, so their spread between runs of a cell widens the intervals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need
from distill.answers.interpolated import compare_total, needs_of
from distill.answers.needs import smallest
from distill.answers.paired import about_pair, by_student
from distill.stats.intervals import Spread, pooled_spread
from distill.table.lines import Line, has_values, sort_out


@dataclass(frozen=True)
class Total:
    """A column that methods are compared at, and the columns that it adds up."""

    column: str
    needs: tuple[str, ...]


def numbers_of(line: Line, name: str) -> pd.Series:
    """Return a column as numbers; without a cache, the cost of soft targets is 0."""
    if name not in line.runs:
        values = pd.Series(np.nan, index=line.runs.index)
    else:
        values = pd.to_numeric(line.runs[name], errors="coerce").astype(float)
    return values if line.reads_cache or not name.startswith("target_") else values.fillna(0.0)


def log_spread(lines: Iterable[Line], column: str) -> Spread | None:
    """Pool the spread of a column's logarithm between runs of a cell; None without repeats."""
    groups = []
    for line in lines:
        for _, cell in line.by_size(column):
            values = cell.dropna().to_numpy(float)
            if (values > 0).all():
                groups.append(np.log(values))
    return pooled_spread(groups)


def compare_all(
    key: str, lines: list[Line], totals: Sequence[Total], spread: Spread | None, unit: str
) -> list[Answer]:
    """Compare every two methods (and caches) of each student, but not two caches of one method.

    Args:
        key: The question.
        lines: Lines of the runs table that hold the totals.
        totals: What to compare at.
        spread: Standard deviation of a run's loss, pooled over all cells of the table.
        unit: The key of a point's total: seconds or money.
    """
    blurs = {total.column: log_spread(lines, total.column) for total in totals}
    answers: list[Answer] = []
    for part in sort_out(lines, "init", "group"):
        for group, names in by_student(part):
            if len(set(names)) < len(names):
                names = [line.label for line in group]
            nowhere: list[Answer] = []
            for (one, first), (other, second) in combinations(zip(group, names, strict=True), 2):
                if one.method == other.method and one.cache != other.cache:
                    continue
                compared = {
                    total.column: _total(
                        total, one, other, (first, second), spread, blurs[total.column]
                    )
                    for total in totals
                }
                pair = _pair(key, one, other, (first, second), compared, unit)
                logs = {name: blur.sd if blur else None for name, blur in blurs.items()}
                pooled = {
                    "log_sd": logs,
                    "pooled_sd": spread.sd if spread else None,
                    "pooled_df": spread.df if spread else 0,
                }
                pair = replace(pair, numbers={**pair.numbers, **pooled})
                measured = any(total["points"] for total in compared.values())
                (answers if measured else nowhere).append(pair)
            answers += nowhere if len(nowhere) < 2 else [_nowhere(key, nowhere)]
    if answers:
        return answers
    need = Need("methods", 2, 1, {"runs[].methods": None})
    return [Answer(key, {}, "cannot_tell", {"compared": [], "lines": len(lines)}, (need,))]


def _pair(
    key: str,
    one: Line,
    other: Line,
    names: tuple[str, str],
    compared: dict[str, dict[str, Any]],
    unit: str,
) -> Answer:
    for total in compared.values():
        for point in total["points"]:
            point[unit] = point.pop("flops")
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "totals": compared,
    }
    about = about_pair(one, other, method=f"{names[0]} vs {names[1]}")
    if any(total["better"] for total in compared.values()):
        return Answer(key, about, "answered", numbers)
    return Answer(key, about, "cannot_tell", numbers, needs_of(compared.values(), one, other))


def _total(
    total: Total,
    one: Line,
    other: Line,
    names: tuple[str, str],
    spread: Spread | None,
    blur: Spread | None,
) -> dict[str, Any]:
    lacking = [
        {"column": name, "label": line.label}
        for line in (one, other)
        for name in total.needs
        if not has_values(line.runs, name) and (line.reads_cache or "target_" not in name)
    ]
    if lacking:
        nothing: dict[str, Any] = {"better": None, "overlap": None, "points": []}
        return {"verdict": "column_missing", **nothing, "lacking": lacking}
    return compare_total(one, other, names, total.column, spread, blur)


def _nowhere(key: str, pairs: list[Answer]) -> Answer:
    """One answer for all pairs of a student's methods that cannot be compared at all."""
    reasons: list[dict[str, Any]] = []
    for pair in pairs:
        for total in pair.numbers["totals"].values():
            reason = {"verdict": total["verdict"], "lacking": total["lacking"]}
            known = next((r for r in reasons if r.items() >= reason.items()), None)
            if known is None:
                known = reason | {"pairs": []}
                reasons.append(known)
            if pair.about["method"] not in known["pairs"]:
                known["pairs"].append(pair.about["method"])
    numbers = {
        "compared": [],
        "pairs": [dict(pair.numbers) for pair in pairs],
        "reasons": reasons,
    }
    about = {name: pairs[0].about[name] for name in ("teacher", "student")}
    about["label"] = about["student"]
    needs = smallest(need for pair in pairs for need in pair.needs)
    return Answer(key, about, "cannot_tell", numbers, needs)
