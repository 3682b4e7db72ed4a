"""Where compression collapses: a break in size that predicts the judged rung better than chance.

A law with one more break always fits better, and on a lucky rung predicts better too. So the fall
of the judged rung's error, from the smooth law to the broken one, is compared with its falls in
studies simulated from the smooth law with the measured noise, refitted in the same way,
by least squares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import cannot_tell, law_record
from distill.laws.choice import Fitted, Settings, fit_points, too_rich
from distill.laws.curves import SIZE_NAMES, epochs_of, rows_of
from distill.laws.fitted import FittedLaw
from distill.laws.fitting import TOGETHER, descend
from distill.laws.forms import LAWS
from distill.laws.intervals import coefficients, shared_data
from distill.laws.law import Array, Inputs, Law
from distill.laws.points import Points, distinct, points_of, rungs
from distill.stats.intervals import Interval, number

COLLAPSE = "Where does compression collapse?"
LEAST_SIZES = 6
REPLICATES = 999
SIGNIFICANCE = 0.05
NEEDS = (
    f"at least {LEAST_SIZES} sizes of student, several of them well below and above the break, "
    "and a broken law that predicts the dearest rung better than a smooth one by more than chance"
)


@dataclass(frozen=True)
class Break:
    """The test of a break in size.

    Attributes:
        gain: Log of the smooth law's root mean square log error on the judged rung over the broken
            law's: above 0 the broken law wins.
        p_value: Share of simulated smooth studies with at least that gain, the study's own counted.
        place: N_c with its interval, from all points.
        steeper: Extra exponent below it.
        errors: Mean relative errors on the judged rung: smooth, broken.
        replicates: Simulated studies.
    """

    gain: float
    p_value: float
    place: Interval
    steeper: Interval
    errors: tuple[float, float]
    replicates: int


def collapse_answers(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    settings: Settings,
    replicates: int = REPLICATES,
) -> list[dict[str, Any]]:
    """One answer per group of students with a law over size, judged on the loss."""
    answers = []
    for law in laws:
        if (
            law.name != "chinchilla"
            or law.target != "loss"
            or law.selected.get("size") != "params"
            or law.selected.get("student") is not None
        ):
            continue
        mine = rows_of(rows, law.selected)
        mine = mine[np.isclose(mine["epochs"].to_numpy(dtype=float), epochs_of(mine), rtol=0.01)]
        answers.append(_answer(mine, law.selected, settings, replicates))
    if answers:
        return answers
    return [cannot_tell(COLLAPSE, None, "there is no law over size", NEEDS)]


def _answer(
    rows: pd.DataFrame, selected: Mapping[str, Any], settings: Settings, replicates: int
) -> dict[str, Any]:
    points = points_of(rows, "loss", "params", settings.shared)
    sizes = distinct(points, "params")
    numbers: dict[str, Any] = {"sizes": sizes, "established": False}
    if sizes < LEAST_SIZES:
        return cannot_tell(COLLAPSE, selected, f"there are {sizes} sizes of student", NEEDS, "",
                           numbers)  # fmt: skip
    found = break_test(points, settings, replicates)
    if isinstance(found, str):
        return cannot_tell(COLLAPSE, selected, found, NEEDS, "", numbers)
    numbers |= {
        "p_value": found.p_value,
        "replicates": found.replicates,
        "gain": found.gain,
        "smooth_error": found.errors[0],
        "broken_error": found.errors[1],
        **found.place.numbers("break"),
        **found.steeper.numbers("steeper"),
        "smallest": float(points.values["params"].min()),
        "largest": float(points.values["params"].max()),
    }
    evidence = (
        f"{len(points)} runs of {sizes} sizes, dearest rung held out: mean error "
        f"{number(100 * found.errors[0])} % by the smooth law, {number(100 * found.errors[1])} % "
        f"by the broken one; p = {number(found.p_value, 2)} from {found.replicates} studies "
        "simulated without a break."
    )
    if found.gain <= 0 or found.p_value > SIGNIFICANCE:
        because = "no break beyond chance shows between the sizes measured" + (
            "" if found.gain > 0 else " (the smooth law predicted the dearest rung better)"
        )
        return cannot_tell(COLLAPSE, selected, because, NEEDS, evidence, numbers)
    place = found.place
    low, high = numbers["smallest"], numbers["largest"]
    if place.low is None or place.high is None or place.high < low or place.low > high:
        because = "there is a break beyond chance, but its place is not determined"
        return cannot_tell(COLLAPSE, selected, because, NEEDS, evidence, numbers)
    numbers["established"] = True
    ratio = ""
    teacher = np.unique(rows["teacher_params"].to_numpy(dtype=float))
    if len(teacher) == 1 and np.isfinite(teacher[0]):
        share = place.scaled(1 / float(teacher[0]))
        numbers |= share.numbers("share_of_teacher")
        ratio = f", {share.text()} of the teacher"
    answer = (
        f"Below {place.text()} in {SIZE_NAMES['params']}{ratio}: there the loss rises faster as "
        f"students shrink, by {number(found.steeper.value)} in the exponent."
    )
    return law_record(COLLAPSE, selected, answer, evidence, numbers)


def break_test(points: Points, settings: Settings, replicates: int) -> Break | str:
    """Test a break in size on the judged rung against simulated smooth studies.

    Args:
        points: Runs of at least `LEAST_SIZES` sizes.
        settings: How to fit.
        replicates: Number of simulated studies.

    Returns:
        The test, or why it cannot be made.
    """
    several = distinct(points, "tokens") > 1
    suffix = "chinchilla" if several else "size"
    smooth = LAWS["loss"]["chinchilla" if several else "size_power"]
    broken = LAWS["loss"][f"broken_{suffix}"]
    _, ranks = rungs(points, broken.inputs)
    top = int(ranks.max())
    below, there = points.where(ranks < top), points.where(ranks == top)
    for name, part in (("the runs", points), ("the runs below the dearest rung", below)):
        if (reason := too_rich(broken, part)) is not None:
            return f"of {name}, {reason}"
    whole = fit_points(smooth, points, settings)
    starts = _broken_starts(broken, whole, points)
    full = fit_points(broken, points, settings, starts)
    centre = whole.fit.centre
    fitted = [
        (smooth, whole.fit.theta[None, :], whole.fit.bounds),
        (broken, starts, full.fit.bounds),
    ]
    inner = [law.centred(below.values, centre) for law, _, _ in fitted]
    outer = [law.centred(there.values, centre) for law, _, _ in fitted]

    def misses(logs: Array) -> list[Array]:
        """Log errors on the judged rung of both laws, fitted to the runs below it; a row each."""
        found = []
        for (law, initial, bounds), x, beyond in zip(fitted, inner, outer, strict=True):
            theta = _least_squares(law, x, logs[:, ranks < top], initial, bounds)
            found.append(law.curve(theta, beyond)[0] - logs[:, ranks == top])
        return found

    errors = misses(np.log(points.target)[None, :])
    gain = float(_gain(*errors)[0])
    log_mean, rng = whole.log_prediction(points)[0], np.random.default_rng(settings.seed)
    larger = 0
    for first in range(0, replicates, TOGETHER):
        simulated = log_mean + _noise(points, whole, min(TOGETHER, replicates - first), rng)
        larger += int((_gain(*misses(simulated)) >= gain).sum())
    values = coefficients(broken, full.fit, full.found)
    place, steeper = (
        Interval(values[n]["value"], values[n]["low"], values[n]["high"]) for n in ("N_c", "delta")
    )
    relative = [float(np.abs(np.exp(error) - 1).mean()) for error in errors]
    p_value = (larger + 1) / (replicates + 1)
    return Break(gain, p_value, place, steeper, (relative[0], relative[1]), replicates)


def _least_squares(law: Law, x: Inputs, logs: Array, starts: Array, bounds: Array) -> Array:
    """Fit a law to each row of logs by least squares from some starts; shape (rows, P)."""
    best, least = np.tile(starts[0], (len(logs), 1)), np.full(len(logs), np.inf)
    # A few steps from each start, the rest from the best.
    for start in starts:
        theta, cost = descend(law, x, logs, np.tile(start, (len(logs), 1)), bounds, np.inf, 6)
        best = np.where((cost < least)[:, None], theta, best)
        least = np.minimum(cost, least)
    return descend(law, x, logs, best, bounds, np.inf, 40)[0]


def _gain(smooth: Array, broken: Array) -> Array:
    """Log of the ratio of root mean square errors, row by row."""
    squares = [(errors**2).sum(axis=-1) + 1e-24 for errors in (smooth, broken)]
    return np.asarray(0.5 * np.log(squares[0] / squares[1]))


def _noise(points: Points, fitted: Fitted, replicates: int, rng: np.random.Generator) -> Array:
    """Noise of simulated studies, (replicates, n): each run's own, and what runs of a draw share.

    Runs of one draw and size share all of the latter, so it is drawn per such cell.
    """
    variances = fitted.found.variances
    noise = np.sqrt(variances[0]) * rng.normal(size=(replicates, len(points)))
    if points.draw is None:
        return noise
    names = [np.unique(labels, return_inverse=True)[1] for labels in (points.teacher, points.draw)]
    cells, cell = np.unique(
        np.column_stack([points.values["tokens"], *names]), axis=0, return_inverse=True
    )
    values, axes = np.linalg.eigh(shared_data(*cells.T))
    mixing = axes * np.sqrt(np.maximum(variances[1] * values, 0.0))
    shared = rng.normal(size=(replicates, len(cells))) @ mixing.T
    return noise + shared[:, cell.ravel()]


def _broken_starts(law: Law, smooth: Fitted, points: Points) -> Array:
    """Starts of a broken law: the smooth one with a slight or a strong break at inner sizes."""
    sizes = np.unique(points.values["params"])[1:-1]
    starts = []
    for size in sizes[:: max(1, len(sizes) // 3)]:
        for delta in (0.05, 0.5):
            theta = np.zeros(len(law.names))
            for name, value in zip(smooth.law.names, smooth.fit.theta, strict=True):
                theta[law.names.index(name)] = value
            theta[law.names.index("N_c")] = np.log(size) - smooth.fit.centre["params"]
            theta[law.names.index("delta")] = np.log(delta)
            starts.append(theta)
    return np.array(starts)
