"""Whether curation changes an exponent, in the student's size or in the data.

An exponent here is the slope of log gap against log size on the sizes measured, the gap being
kl_teacher. Each draw gives one difference of slopes, from paired runs at equal tokens; draws are
the repeats that the interval comes from.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_line
from distill.answers.curated import EQUAL, curated_pairs, curations_of, tokens_equal
from distill.answers.measured import Measured
from distill.answers.needs import need_precision, need_sizes
from distill.answers.paired import about_pair
from distill.stats.intervals import mean_estimate
from distill.table.lines import Line, Run, has_values

KEY = "curation_exponent"
FEWEST_SIZES, FEWEST_DRAWS = 5, 3


def answer(study: Measured) -> list[Answer]:
    """For each curation and method, whether exponents in size and in data differ from raw."""
    pairs = curated_pairs(study.parts)
    if not pairs:
        curations = curations_of(study.parts)
        to_add = ["raw", next((name for name in curations if name != "raw"), None)]
        need = Need("curation_beside_raw", 2, len(curations), {"runs[].curations": to_add})
        limits = {"fewest_sizes": FEWEST_SIZES, "fewest_draws": FEWEST_DRAWS}
        numbers = {"pairs": 0, "curations": curations, **limits}
        return [Answer(KEY, {}, "cannot_tell", numbers, (need,))]
    answers = []
    groups: dict[tuple[str, ...], list[tuple[Line, Line]]] = {}
    for one, other in pairs:
        key = (one.teacher, one.method, one.cache, other.curation)
        groups.setdefault(key, []).append((one, other))
    for group in groups.values():
        answers.append(_exponent_in_size(group))
        answers += [_exponent_in_data(one, other) for one, other in group]
    return answers


def _log_ratios(one: Line, other: Line) -> dict[Run, float]:
    """Return log gap(curated) − log gap(raw) of paired runs at equal tokens."""
    if not all(has_values(line.runs, "kl_teacher") for line in (one, other)):
        return {}
    left, right = one.by_run("kl_teacher"), other.by_run("kl_teacher")
    return {
        run: math.log(right[run] / left[run])
        for run in tokens_equal(one, other)
        if run in left and run in right and min(left[run], right[run]) > 0
    }


def _exponent_in_size(pairs: list[tuple[Line, Line]]) -> Answer:
    """Compare exponents in the student's size at each number of samples; report the largest."""
    cells: dict[int, dict[Any, list[tuple[float, float]]]] = {}
    for one, other in pairs:
        if not has_values(one.runs, "params"):
            continue
        size = float(pd.to_numeric(one.runs["params"]).mean())
        for run, ratio in _log_ratios(one, other).items():
            cells.setdefault(int(run[0]), {}).setdefault(run[1:], []).append((size, ratio))
    slopes = {n: _slopes(draws) for n, draws in cells.items()}
    covered = {n: len({size for draw in cells[n].values() for size, _ in draw}) for n in cells}
    best = max((n for n in slopes if len(slopes[n]) >= FEWEST_DRAWS), default=None)
    have = (max(covered.values(), default=0), max((len(d) for d in cells.values()), default=0))
    other = pairs[0][1]
    about = about_line(other) | {"student": None, "label": f"{other.method} · {other.curation}"}
    return _shift(other, about, [] if best is None else slopes[best], "size", best, have)


def _exponent_in_data(one: Line, other: Line) -> Answer:
    tokens = tokens_equal(one, other)
    draws: dict[Any, list[tuple[float, float]]] = {}
    for run, ratio in _log_ratios(one, other).items():
        draws.setdefault(run[1:], []).append((tokens[run], ratio))
    have = (max((len(points) for points in draws.values()), default=0), len(draws))
    return _shift(other, about_pair(other, one), _slopes(draws), "data", None, have)


def _slopes(draws: dict[Any, list[tuple[float, float]]]) -> list[float]:
    """Return raw's exponent minus the curated one for each draw with enough distinct sizes.

    gap ∝ size^−α: the slope of log(gap curated / gap raw) against log size is α raw − α curated.
    Seeds of a draw are averaged: they are not repeats of the data.
    """
    by_draw: dict[Any, list[float]] = {}
    for key, points in draws.items():
        if len({size for size, _ in points}) >= FEWEST_SIZES:
            x, y = np.log([p[0] for p in points]), np.array([p[1] for p in points])
            x = x - x.mean()
            by_draw.setdefault(key[0], []).append(float((x * y).sum() / (x**2).sum()))
    return [math.fsum(values) / len(values) for values in by_draw.values()]


def _shift(
    curated: Line,
    about: dict[str, Any],
    slopes: list[float],
    axis: str,
    samples: int | None,
    have: tuple[int, int],
) -> Answer:
    """The curated exponent minus raw's, from one difference a draw.

    Args:
        curated: The curated line, or one of them.
        about: Whom the answer is about.
        slopes: Raw's exponent minus the curated one, for each draw.
        axis: What the exponent is in: size or data.
        samples: The samples at which sizes of student are compared.
        have: Most sizes, and most draws, at equal tokens.
    """
    numbers: dict[str, Any] = {
        "curation": curated.curation,
        "axis": axis,
        "samples": samples,
        "draws": len(slopes),
        "sizes": have[0],
        "draws_at_equal_tokens": have[1],
        "gap_known": has_values(curated.runs, "kl_teacher"),
        "largest_token_difference": EQUAL,
        "fewest_sizes": FEWEST_SIZES,
        "fewest_draws": FEWEST_DRAWS,
    }
    if len(slopes) < FEWEST_DRAWS:
        few = axis == "data" and len(curated.sizes) < FEWEST_SIZES
        needs = (
            need_sizes(FEWEST_SIZES, curated.sizes)
            if few
            else Need("equal_sizes" if axis == "data" else "students", FEWEST_SIZES, have[0]),
            Need("draws", FEWEST_DRAWS, have[1], {"runs[].draws": list(range(FEWEST_DRAWS))}),
        )
        return Answer(KEY, about, "cannot_tell", numbers, needs)
    shift = mean_estimate([-slope for slope in slopes])
    numbers |= shift.numbers("exponent_shift")
    if shift.sign:
        return Answer(KEY, about, "answered", numbers)
    return Answer(KEY, about, "cannot_tell", numbers, (need_precision(shift, len(slopes)),))
