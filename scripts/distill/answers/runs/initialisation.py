"""What an initialisation is worth in samples: where the random student's curve meets its loss."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from distill.answers.record import record
from distill.answers.runs.at_equal_flops import Curve
from distill.stats.intervals import LEVEL, Spread, number
from distill.table.lines import (
    STEADY,
    Line,
    Settings,
    alike,
    mean_of,
    same_method,
    sort_out,
    steady,
    trait,
)

INIT_WORTH = "What is an initialisation worth in samples?"
GIVEN = ("cut", "pretrained")
NEAR = 1.25
"""Largest ratio of sizes that still counts as the same architecture's neighbour."""
GRID = 401
"""Points of the grid on which a curve is searched."""


def worth_of_init(
    lines: list[Line], spread: Spread | None, settings: Settings
) -> list[dict[str, Any]]:
    """Answer how many more samples a random student needs for the loss of one that was given.

    Each student that was cut or pre-trained is compared with the random one of the nearest size,
    all else equal: teacher, method, cache, curation and epochs.

    Args:
        lines: lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
        settings: `methods`, the settings of each.
    """
    answers = []
    for group in sort_out(lines, "teacher", "group", "curation", "cache"):
        randoms = [line for line in group if trait(line, "init") == "random"]
        for line in group:
            if trait(line, "init") not in GIVEN:
                continue
            if other := _nearest(line, randoms, settings):
                answers.append(_worth(line, other, spread))
    if answers:
        return answers
    inits = sorted({trait(line, "init") or "unknown" for line in lines})
    return [
        record(
            INIT_WORTH,
            None,
            f"Cannot tell, because the students' initialisation is {' and '.join(inits)} "
            f"{'throughout' if len(inits) == 1 else 'without a random partner'}; needs a "
            "student that was cut or pre-trained and a random one of the same architecture (or "
            f"within {NEAR:g} × its size), by the same method on the same text.",
            f"{len(lines)} lines looked at.",
            {"inits": inits},
        )
    ]


def _nearest(line: Line, randoms: list[Line], settings: Settings) -> Line | None:
    size = mean_of(line.runs, "params")
    near: list[tuple[float, int, Line]] = []
    for other in randoms:
        theirs = mean_of(other.runs, "params")
        if not alike(line, other, "student", "init") or not same_method(line, other, settings):
            continue
        epochs = [steady(x, "epochs") for x in (line, other)]
        if (epochs[0] or 0) > STEADY * (epochs[1] or 0) or (epochs[1] or 0) > STEADY * (
            epochs[0] or 0
        ):
            continue
        if size and theirs and abs(math.log(theirs / size)) <= math.log(NEAR) + 1e-9:
            near.append((abs(math.log(theirs / size)), len(near), other))
    return min(near)[2] if near else None


def _worth(line: Line, other: Line, spread: Spread | None) -> dict[str, Any]:
    sizes = [mean_of(x.runs, "params") for x in (line, other)]
    mine, theirs = Curve.of(line, "samples"), Curve.of(other, "samples")
    numbers: dict[str, Any] = {
        "compared": [line.label, other.label],
        "inits": [trait(line, "init"), "random"],
        "params": sizes,
        "points": [],
    }
    if mine is None or theirs is None or len(theirs.flops) < 2:
        answer = f"Cannot tell: {other.label} has one size, and a curve needs two; add sizes."
        return record(INIT_WORTH, line, answer, "", numbers)
    table = Table.of(theirs)
    points = [_equivalent(mine, table, k, n, spread) for k, n in enumerate(line.sizes)]
    numbers["points"] = points
    whole = [p for p in points if p["equivalent"] is not None and p["high"] is not None]
    kind = {"cut": "being cut from the teacher", "pretrained": "pre-training"}[trait(line, "init")]
    reach = f"n = {other.sizes[0]:,} to {other.sizes[-1]:,}"
    if spread is None:
        answer = "Cannot tell: no size has two runs, so there is no error bar."
    elif whole:
        best = whole[-1]
        extra = best["equivalent"] - best["samples"]
        low, high = (best[end] - best["samples"] for end in ("low", "high"))
        if low <= 0 <= high:
            answer = (
                f"At n = {best['samples']:,} {kind} is worth {_count(extra)} samples (90 % "
                f"interval {_count(low)} to {_count(high)}): cannot tell it from nothing."
            )
        else:
            answer = (
                f"At n = {best['samples']:,} {kind} is worth {_count(extra)} samples (90 % "
                f"interval {_count(low)} to {_count(high)}): a random student reaches "
                "that loss at about "
                f"{_count(best['equivalent'])}."
            )
    elif above := [p for p in points if p["high"] is None and (p["low"] or 0) > p["samples"]]:
        first = above[0]
        answer = (
            f"At n = {first['samples']:,} {kind} is worth more than "
            f"{_count(first['low'] - first['samples'])} samples: no random student of "
            f"{reach} is clearly as good."
        )
    elif below := [p for p in points if p["low"] is None and 0 < (p["high"] or 0) < p["samples"]]:
        last = below[-1]
        answer = (
            f"At n = {last['samples']:,} {kind} costs at least "
            f"{_count(last['samples'] - last['high'])} samples: a random student is as good "
            "with so many fewer."
        )
    else:
        answer = f"Cannot tell: the noise hides where the curve of {reach} meets its loss."
    same = sizes[0] == sizes[1]
    evidence = (
        f"Each loss of {line.label} is looked up on the curve of {other.label} ({reach}), a "
        "straight line in log loss against log samples between measured sizes, never beyond them. "
        + "; ".join(_told(point) for point in points)
        + ". "
        + (
            "Both have the same number of parameters."
            if same
            else f"Their sizes differ: {number(sizes[0])} against {number(sizes[1])} parameters, "
            "which is part of the difference."
        )
    )
    found = record(INIT_WORTH, line, answer, evidence, numbers)
    return found | {"label": f"{line.label} or {other.label}"}


def _count(value: float) -> str:
    return number(round(value)) if abs(value) >= 100 else number(value, 2)


@dataclass(frozen=True)
class Table:
    """A curve on a fine grid of samples: loss, Σ slope² over its runs, and how far it may bend."""

    samples: np.ndarray
    loss: np.ndarray
    share: np.ndarray
    bend: np.ndarray

    @classmethod
    def of(cls, curve: Curve) -> "Table":
        """Tabulate a curve."""
        grid = np.geomspace(curve.flops[0], curve.flops[-1], GRID)
        read = [curve.read_off(float(m)) for m in grid]
        share = [math.fsum(slope**2 for slope in slopes.values()) for _, slopes in read]
        bend = [curve.bend(float(m)) for m in grid]
        return cls(grid, np.array([loss for loss, _ in read]), np.array(share), np.array(bend))


def _equivalent(
    mine: Curve, theirs: Table, place: int, samples: int, spread: Spread | None
) -> dict[str, Any]:
    """Return the samples at which the other curve meets the loss of this one, with an interval.

    The interval holds the sizes m at which L_theirs(m) − L_mine(n) is within its own 90 % interval
    of 0 (a test turned round, as Fieller's): its ends are null where it reaches the end of what
    was measured. Noise of the two curves is taken as independent; how far the other curve may bend
    between sizes is added.
    """
    value, runs, grid = mine.losses[place], len(mine.runs[place]), theirs.samples
    above = theirs.loss - value
    out: dict[str, Any] = {"samples": samples, "loss": value}
    out["equivalent"] = out["low"] = out["high"] = None
    crossed = np.flatnonzero((above[:-1] > 0) & (above[1:] <= 0))
    if len(crossed):
        k = int(crossed[0])
        part = above[k] / (above[k] - above[k + 1])
        out["equivalent"] = float(grid[k] * (grid[k + 1] / grid[k]) ** part)
    if spread is None:
        return out
    t = float(stats.t.ppf((1 + LEVEL) / 2, spread.df))
    half = t * spread.sd * np.sqrt(1 / runs + theirs.share) + theirs.bend
    inside = np.flatnonzero(np.abs(above) <= half)
    if len(inside):
        out["low"] = float(grid[inside[0]]) if inside[0] > 0 else None
        out["high"] = float(grid[inside[-1]]) if inside[-1] < GRID - 1 else None
    elif (above > 0).all():
        out["low"] = float(grid[-1])
    elif (above < 0).all():
        out["high"] = float(grid[0])
    return out


def _told(point: dict[str, Any]) -> str:
    ends = [point["low"], point["high"]]
    at = f"n = {point['samples']:,}"
    if point["equivalent"] is None and ends == [None, None]:
        return f"{at}: not met"
    if point["equivalent"] is None:
        word = "above" if ends[1] is None else "below"
        return f"{at}: {word} {_count(next(end for end in ends if end is not None))}"
    low, high = ("open" if end is None else _count(end) for end in ends)
    return f"{at}: as {_count(point['equivalent'])} ({low} to {high})"
