"""Value of an initialisation in samples: where the random student's curve reaches its loss."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from distill.answers.answer import Answer, Need
from distill.answers.interpolated import Interpolated
from distill.answers.measured import Measured
from distill.answers.needs import need_repeats, need_sizes
from distill.answers.paired import about_pair
from distill.stats.intervals import LEVEL, Spread
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

KEY = "initialisation"
GIVEN = ("cut", "pretrained")
NEAR = 1.25
"""Largest ratio of sizes that still counts as the same architecture's neighbour."""
GRID = 401
"""Points of the grid on which a curve is searched."""


def answer(study: Measured) -> list[Answer]:
    """How many more samples a random student needs for the loss of one cut or pre-trained.

    Each such student is compared with the random one of the nearest size, all else equal: teacher,
    method, cache, curation and epochs.
    """
    answers = []
    for group in sort_out(study.parts, "teacher", "group", "curation", "cache"):
        randoms = [line for line in group if trait(line, "init") == "random"]
        for line in group:
            if trait(line, "init") not in GIVEN:
                continue
            if other := _nearest(line, randoms, study.settings):
                answers.append(_worth(line, other, study.part_spread))
    if answers:
        return answers
    inits = sorted({trait(line, "init") or "unknown" for line in study.parts})
    numbers = {"inits": inits, "lines": len(study.parts), "largest_size_ratio": NEAR}
    return [Answer(KEY, {}, "cannot_tell", numbers, (_partner(study.parts, inits),))]


def _partner(lines: list[Line], inits: list[str]) -> Need:
    """The initialisation that is missing beside the first student of another kind."""
    random = [line.student for line in lines if trait(line, "init") == "random"]
    others = [line.student for line in lines if trait(line, "init") in GIVEN]
    partner_init, student = ("random", others) if others else ("pretrained", random)
    change = {f"students.{student[0]}-{partner_init}.init": partner_init} if student else {}
    return Need("initialisation", partner_init, inits, change)


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


def _worth(line: Line, other: Line, spread: Spread | None) -> Answer:
    mine, theirs = Interpolated.of(line, "samples"), Interpolated.of(other, "samples")
    numbers: dict[str, Any] = {
        "compared": [line.label, other.label],
        "inits": [trait(line, "init"), "random"],
        "params": [mean_of(x.runs, "params") for x in (line, other)],
        "range": [other.sizes[0], other.sizes[-1]],
        "points": [],
        "outcome": "one_size",
    }
    about = about_pair(line, other)
    if mine is None or theirs is None or len(theirs.flops) < 2:
        return Answer(KEY, about, "cannot_tell", numbers, (need_sizes(2, other.sizes),))
    table = Table.of(theirs)
    points = [_equivalent(mine, table, k, n, spread) for k, n in enumerate(line.sizes)]
    outcome, worth = _outcome(points) if spread else ("no_error_bar", {})
    numbers |= {"points": points, "outcome": outcome, **worth}
    if outcome in ("more", "less", "above", "below"):
        return Answer(KEY, about, "answered", numbers)
    need = need_repeats() if spread is None else Need("precision")
    return Answer(KEY, about, "cannot_tell", numbers, (need,))


def _outcome(points: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """What the points say together, and the worth in samples at the size that shows it.

    more or less: an interval without 0; nothing: an interval with 0; above: only a lower bound;
    below: only an upper bound; hidden: the noise hides where the curves meet.
    """
    bounded = [p for p in points if None not in (p["equivalent"], p["low"], p["high"])]
    if bounded:
        worth = _worth_numbers(bounded[-1])
        sign = 1 if worth["worth_low"] > 0 else -1 if worth["worth_high"] < 0 else 0
        return {1: "more", -1: "less", 0: "nothing"}[sign], worth
    if above := [p for p in points if p["high"] is None and (p["low"] or 0) > p["samples"]]:
        return "above", _worth_numbers(above[0])
    if below := [p for p in points if p["low"] is None and 0 < (p["high"] or 0) < p["samples"]]:
        return "below", _worth_numbers(below[-1])
    return "hidden", {}


def _worth_numbers(point: dict[str, Any]) -> dict[str, Any]:
    """The samples of a point, and what its initialisation is worth there with its interval."""
    ends = {"worth": "equivalent", "worth_low": "low", "worth_high": "high"}
    worth = {
        name: None if point[end] is None else point[end] - point["samples"]
        for name, end in ends.items()
    }
    return {"samples": point["samples"], **worth}


@dataclass(frozen=True)
class Table:
    """A curve on a fine grid of samples: loss, Σ slope² over its runs, and how far it may bend."""

    samples: np.ndarray
    loss: np.ndarray
    share: np.ndarray
    bend: np.ndarray

    @classmethod
    def of(cls, curve: Interpolated) -> "Table":
        """Tabulate a curve."""
        grid = np.geomspace(curve.flops[0], curve.flops[-1], GRID)
        read = [curve.read_off(float(m)) for m in grid]
        share = [math.fsum(slope**2 for slope in slopes.values()) for _, slopes in read]
        bend = [curve.bend(float(m)) for m in grid]
        return cls(grid, np.array([loss for loss, _ in read]), np.array(share), np.array(bend))


def _equivalent(
    mine: Interpolated, theirs: Table, place: int, samples: int, spread: Spread | None
) -> dict[str, Any]:
    """Return the samples at which the other curve meets the loss of this one, with an interval.

    The interval holds the sizes m at which L_theirs(m) − L_mine(n) is within its own 90 % interval
    of 0 (an inverted test, as Fieller's): its ends are null where it reaches the end of what
    was measured. Noise of the two curves is assumed independent; how far the other curve may bend
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
