"""Which method is better at equal FLOPs, the teacher's share counted."""

from itertools import combinations
from typing import Any

from distill.answers.answer import Answer
from distill.answers.interpolated import compare_total, needs_of
from distill.answers.measured import Measured
from distill.answers.paired import about_pair, by_student
from distill.stats.intervals import Spread
from distill.table.lines import Line, has_values

KEY = "at_equal_flops"
TOTALS = ("total_flops", "total_flops_amortised")
"""Columns that methods are compared at: with all of the teacher's work, and with a run's share."""


def answer(study: Measured) -> list[Answer]:
    """Compare every two methods (and caches) of a student at equal total FLOPs."""
    return compare_at_equal_flops(study.lines, study.spread)


def compare_at_equal_flops(lines: list[Line], spread: Spread | None) -> list[Answer]:
    """Compare every two methods (and caches) of a student among some lines.

    Args:
        lines: Lines of the runs table.
        spread: Standard deviation of a run's loss, pooled over all cells of the table.
    """
    answers = []
    for group, names in by_student(lines):
        for (one, first), (other, second) in combinations(zip(group, names, strict=True), 2):
            answers.append(_at_equal_flops(one, other, (first, second), spread))
    return answers


def _at_equal_flops(
    one: Line, other: Line, names: tuple[str, str], spread: Spread | None
) -> Answer:
    totals = {name: compare_total(one, other, names, name, spread) for name in TOTALS}
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "totals": totals,
        "flops_ratio": _flops_ratio(one, other),
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    about = about_pair(one, other, method=f"{names[0]} vs {names[1]}")
    if any(total["better"] for total in totals.values()):
        return Answer(KEY, about, "answered", numbers)
    return Answer(KEY, about, "cannot_tell", numbers, needs_of(totals.values(), one, other))


def _flops_ratio(one: Line, other: Line) -> dict[str, Any] | None:
    """Return FLOPs of the second line over those of the first at the largest size of both."""
    common = sorted(set(one.sizes) & set(other.sizes))
    ratio: dict[str, Any] = {}
    for column in TOTALS:
        if not common or not all(has_values(line.runs, column) for line in (one, other)):
            continue
        costs = [line.cells(column)["mean"].get(common[-1]) for line in (one, other)]
        if costs[0] and costs[1]:
            ratio |= {"samples": common[-1], column: float(costs[1] / costs[0])}
    return ratio or None
