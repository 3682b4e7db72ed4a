"""Evaluate a chosen law on the largest size step, and learn how far it is off beyond its runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.laws.choice import Fitter, Settings, fit_points, mean_error, too_rich, widest
from distill.laws.extrapolation import Extrapolation, Rival, ranges_of, rate_of, weights_of
from distill.laws.intervals import half_widths
from distill.laws.law import Law
from distill.laws.points import Points
from distill.laws.rollouts import Rollout, roll_out
from distill.laws.size_steps import best_forecast, size_steps, skill_of


def extrapolation_of(
    law: Law,
    laws: Sequence[Law],
    points: Points,
    settings: Settings,
    fitter: Fitter = fit_points,
    rollouts: Sequence[Rollout] | None = None,
) -> Extrapolation:
    """What a law's intervals need beyond its own uncertainty, from the points that it is fitted to.

    Each of the last size steps is predicted from those below it.

    Args:
        law: The law, determined by the points.
        laws: All that competed.
        points: The points of the fit.
        settings: How to fit.
        fitter: Fits a law.
        rollouts: Of `roll_out` with the same arguments, where they are known.
    """
    _, ranks = size_steps(points, widest(laws))
    if rollouts is None:
        rollouts = roll_out(law, laws, points, settings, fitter)
    rate, df, steps = rate_of([one.origin for one in rollouts])
    fitted = fitter(law, points, settings)
    rivals = _rivals(law, laws, points, ranks, settings, fitter)
    return Extrapolation(rate, df, steps, fitted.noise, rivals, ranges_of(points, law))


def _rivals(
    law: Law,
    laws: Sequence[Law],
    points: Points,
    ranks: np.ndarray,
    settings: Settings,
    fitter: Fitter,
) -> tuple[Rival, ...]:
    """The other laws, weighted by their errors on the last size step of the points."""
    top = int(ranks.max())
    below, there = points.where(ranks < top), points.where(ranks == top)
    others = [one for one in laws if one.repeats == law.repeats and not one.first_stage]
    if law not in others or len(others) < 2 or top < 1:
        return ()
    errors = [
        mean_error(fitter(one, below, settings).log_prediction(there)[0], there)
        if too_rich(one, below) is None
        else None
        for one in others
    ]
    rivals = []
    for one, weight in zip(others, weights_of(errors), strict=True):
        if one is not law and weight > 0:
            fit = fitter(one, points, settings).fit
            rivals.append(Rival(one, fit.theta, fit.centre, weight))
    return tuple(rivals)


def evaluate_holdout(
    law: Law, laws: Sequence[Law], points: Points, settings: Settings, fitter: Fitter = fit_points
) -> dict[str, Any] | None:
    """How well a law, fitted to all but the largest size step, predicts that step.

    Intervals are of a new run measured on the same test set.

    Args:
        law: The law to evaluate.
        laws: All that competed (they fix the axis).
        points: All points.
        settings: How to fit.
        fitter: Fits a law.

    Returns:
        The record `holdout`, None where the law is not determined without that step.
    """
    axis, ranks = size_steps(points, widest(laws))
    top = int(ranks.max())
    below, there = points.where(ranks < top), points.where(ranks == top)
    if top < 1 or too_rich(law, below) is not None:
        return None
    fitted = fitter(law, below, settings)
    log, gradient = fitted.log_prediction(there)
    beyond = extrapolation_of(law, laws, below, settings, fitter)
    ratio = beyond.noise_ratio(there.values)
    curve, half = half_widths(gradient, fitted.uncertainty, test_set=False, ratio=ratio)
    half = np.sqrt(half**2 + beyond.variance(log, there.values, curve))
    low, high = np.exp(log - half), np.exp(log + half)
    value, target = np.exp(log), there.target
    errors = np.abs(value / target - 1)
    name, simple = best_forecast(points, axis, ranks, top)
    gaps = np.isfinite(there.gap) & (there.gap > 0)
    return {
        "axis": axis,
        "step": top,
        "runs": len(there),
        "compute_factor": float(there.compute.max() / below.compute.max()),
        "mean_relative_error": float(errors.mean()),
        "max_relative_error": float(errors.max()),
        "mean_error_over_gap": float((np.abs(value - target) / there.gap)[gaps].mean())
        if gaps.any()
        else None,
        "simple": {"name": name, "error": float(simple.mean())},
        "skill": skill_of(errors, simple, fitted.uncertainty.run_sd),
        "interval_coverage": float(((low <= target) & (target <= high)).mean()),
        "interval_score": _interval_score(np.log(target), log, half),
        "predicted": [
            {
                "student": str(there.student[row]),
                "teacher": str(there.teacher[row]),
                "tokens": float(there.values["tokens"][row]),
                "params": _plain(there.values["params"][row]),
                "compute": _plain(there.compute[row]),
                "measured": float(target[row]),
                "predicted": float(value[row]),
                "low": _plain(low[row]),
                "high": _plain(high[row]),
            }
            for row in range(len(there))
        ],
    }


def _interval_score(measured: np.ndarray, log: np.ndarray, half: np.ndarray) -> float | None:
    """Mean interval score at 90 %, log units (Gneiting and Raftery 2007): width and misses."""
    miss = np.maximum(np.abs(measured - log) - half, 0.0)
    return _plain(float((2 * half + 20 * miss).mean()))


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
