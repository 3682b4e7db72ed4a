"""Two lines compared at equal samples, run by run.

Runs with the same draw and seed are subtracted from each other first, which takes out the noise
that they share.
"""

import math
from typing import Any

from distill.answers.answer import Answer
from distill.answers.needs import need_precision
from distill.stats.intervals import Estimate, estimate, pooled_spread, read_estimate
from distill.table.lines import Line, Run, mean_of, sort_out


def by_student(lines: list[Line]) -> list[tuple[list[Line], list[str]]]:
    """Return the lines of each student and their names, the line to compare with first.

    A line is named by its method, and by its cache where the method has several.
    """
    out = []
    for group in sort_out(lines, "teacher", "curation", "student"):
        first = next((line for line in group if not line.reads_cache), group[0])
        ordered = [first, *(line for line in group if line is not first)]
        methods = [line.method for line in ordered]
        names = [
            f"{line.method} · {line.cache}"
            if methods.count(line.method) > 1 and line.reads_cache
            else line.method
            for line in ordered
        ]
        out.append((ordered, names))
    return out


def paired(one: Line, other: Line, column: str) -> dict[Run, tuple[float, float]]:
    """Return a column of two lines side by side, for the runs with equal samples, draw and seed."""
    left, right = one.by_run(column), other.by_run(column)
    return {run: (left[run], right[run]) for run in left if run in right}


def loss_differences(one: Line, other: Line) -> dict[int, list[float]]:
    """Return loss(one) − loss(other) of paired runs by sample count, smallest first."""
    differences: dict[int, list[float]] = {}
    for run, (left, right) in paired(one, other, "loss").items():
        differences.setdefault(int(run[0]), []).append(left - right)
    return differences


def better_of(difference: Estimate, names: tuple[str, str]) -> str | None:
    """Return who has the clearly lower loss; None where the noise hides it."""
    return {-1: names[0], 1: names[1], 0: None}[difference.sign]


def about_pair(one: Line, other: Line, **differs: str) -> dict[str, Any]:
    """Whom an answer about two lines is about; `differs` replaces what they do not share."""
    shared = {"teacher": one.teacher, "student": one.student, "method": one.method}
    return {**shared, "label": f"{one.label} or {other.label}", **differs}


def compare_paired(
    key: str, one: Line, other: Line, names: tuple[str, str], about: dict[str, Any]
) -> Answer | None:
    """Compare the losses of two lines at each size, run by run where draw and seed agree.

    The difference d = loss(one) − loss(other) at a size has the interval mean(d) ± t · sd/√pairs,
    sd pooled over the sizes. A line leads from a size on if the interval says so there and at every
    larger size.

    Returns:
        None where no run of one has a partner among the other's.
    """
    differences = loss_differences(one, other)
    if not differences:
        return None
    spread = pooled_spread(differences.values())
    steps: list[dict[str, Any]] = []
    for size, values in differences.items():
        difference = estimate(math.fsum(values) / len(values), 1 / len(values), spread)
        steps.append(
            {"samples": size, "runs": len(values), "better": better_of(difference, names)}
            | difference.numbers("loss_difference")
            | {"least_shown": difference.least_shown}
        )
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "differences": steps,
        "better_from": _leads_from(steps),
        "params": [mean_of(one.runs, "params"), mean_of(other.runs, "params")],
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
        "pooled_sizes": spread.cells if spread else 0,
    }
    if any(step["better"] for step in steps):
        return Answer(key, about, "answered", numbers)
    last = read_estimate(steps[-1], "loss_difference")
    return Answer(key, about, "cannot_tell", numbers, (need_precision(last, steps[-1]["runs"]),))


def _leads_from(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return who is clearly better up to the largest size, and from which size on."""
    name, since = steps[-1]["better"], None
    for step in reversed(steps):
        if name is None or step["better"] != name:
            break
        since = step["samples"]
    return None if since is None else {"name": name, "samples": since}
