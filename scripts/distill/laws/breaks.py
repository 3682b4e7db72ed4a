"""Whether a break in size predicts the largest size step better than chance would.

A law with one more break always fits better, and on a lucky step predicts better too. So the fall
of the error on the largest step, from the smooth law to the broken one, is compared with its falls
in studies simulated from the smooth law with the measured noise, refitted in the same way,
by least squares.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.laws.choice import Fitted, Fitter, Settings, fit_points, too_rich
from distill.laws.fitting import TOGETHER, descend
from distill.laws.intervals import coefficients, shared_data
from distill.laws.law import Array, Inputs, Law
from distill.laws.points import MOST_RUNS, Points, merged
from distill.laws.size_steps import size_steps


@dataclass(frozen=True)
class Break:
    """The test of a break in size.

    Attributes:
        gain: Log of the smooth law's root mean square log error on the largest size step over the
            broken law's: above 0 the broken law wins.
        p_value: Share of simulated smooth studies with at least that gain, the study's own counted.
        place: N_c with its interval, from all points: value, low, high.
        steeper: Extra exponent below it, likewise.
        errors: Mean relative errors on the largest size step: smooth, broken.
        replicates: Simulated studies.
    """

    gain: float
    p_value: float
    place: dict[str, Any]
    steeper: dict[str, Any]
    errors: tuple[float, float]
    replicates: int

    def record(self) -> dict[str, Any]:
        """Its entry in laws.json."""
        return {
            "p_value": self.p_value,
            "replicates": self.replicates,
            "gain": self.gain,
            "smooth_error": self.errors[0],
            "broken_error": self.errors[1],
            "break": self.place,
            "steeper": self.steeper,
        }


def break_test(
    points: Points, smooth: Law, broken: Law, settings: Settings, fitter: Fitter = fit_points
) -> Break | str:
    """Test a break in size on the largest size step against simulated smooth studies.

    Args:
        points: Runs of at least as many sizes as the broken law needs.
        smooth: The law without a break.
        broken: The same law with a break.
        settings: How to fit, and how many studies to simulate.
        fitter: Fits the smooth law.

    Returns:
        The test, or why it cannot be made.
    """
    points = merged(points, MOST_RUNS, settings.seed)
    _, ranks = size_steps(points, broken.inputs)
    top = int(ranks.max())
    below, largest = points.where(ranks < top), points.where(ranks == top)
    for name, part in (("the runs", points), ("the runs below the largest size step", below)):
        if (reason := too_rich(broken, part)) is not None:
            return f"of {name}, {reason}"
    smooth_fit = fitter(smooth, points, settings)
    starts = _broken_starts(broken, smooth_fit, points)
    full = fit_points(broken, points, settings, starts)
    centre = smooth_fit.fit.centre
    candidates = [
        (smooth, smooth_fit.fit.theta[None, :], smooth_fit.fit.bounds),
        (broken, starts, full.fit.bounds),
    ]
    inner = [law.centred(below.values, centre) for law, _, _ in candidates]
    outer = [law.centred(largest.values, centre) for law, _, _ in candidates]

    def misses(logs: Array) -> list[Array]:
        """Log errors on the largest step of both laws, fitted to the runs below it; a row each."""
        errors = []
        for (law, initial, bounds), x, beyond in zip(candidates, inner, outer, strict=True):
            theta = _least_squares(law, x, logs[:, ranks < top], initial, bounds)
            errors.append(law.curve(theta, beyond)[0] - logs[:, ranks == top])
        return errors

    errors = misses(np.log(points.target)[None, :])
    gain = float(_gain(*errors)[0])
    log_mean, rng = smooth_fit.log_prediction(points)[0], np.random.default_rng(settings.seed)
    larger, replicates = 0, settings.replicates
    for first in range(0, replicates, TOGETHER):
        simulated = log_mean + _noise(points, smooth_fit, min(TOGETHER, replicates - first), rng)
        larger += int((_gain(*misses(simulated)) >= gain).sum())
    values = coefficients(broken, full.fit, full.uncertainty)
    place, steeper = (
        {end: values[name][end] for end in ("value", "low", "high")} for name in ("N_c", "delta")
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
    variances = fitted.uncertainty.variances
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
