"""Roll a law out: predict each of the last size steps from the steps below it.

Tashman 2000, Out-of-sample tests of forecasting accuracy: rolling-origin evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from distill.laws.choice import Fitted, Fitter, Settings, fit_points, too_rich, widest
from distill.laws.extrapolation import (
    Extrapolation,
    Origin,
    effort_of,
    ranges_of,
    rate_of,
)
from distill.laws.intervals import half_widths, run_variance
from distill.laws.law import Array, Law
from distill.laws.points import Points
from distill.laws.size_steps import size_steps
from distill.stats.intervals import LEVEL

_MOST_ORIGINS = 5
_FEW_STARTS = 24
"""Starting points of a fit to an earlier size step, of which only the size of an error is asked."""
_MOST_RUNS = 100
"""Runs of one step that are recorded, evenly over its compute; all count in its summary."""


@dataclass(frozen=True)
class Rollout:
    """A law fitted to the lowest size steps, and what it predicts of those beyond.

    Attributes:
        axis: What the steps are steps of: compute, params or tokens.
        last: The largest step of the fit.
        compute: Largest compute of a run of the fit.
        beyond: The runs of the larger steps, m of them.
        log: Their predicted logs, shape (m,).
        half: Half widths of 90 % intervals of a new run by the noise and the law's uncertainty,
            log units, shape (m,).
        origin: What its errors say of extrapolation.
    """

    axis: str
    last: int
    compute: float
    beyond: Points
    log: Array
    half: Array
    origin: Origin


def roll_out(
    law: Law, laws: Sequence[Law], points: Points, settings: Settings, fitter: Fitter = fit_points
) -> list[Rollout]:
    """Predict the steps beyond each of the last size steps, from the earliest to the latest.

    Args:
        law: The law, determined by the points.
        laws: All that competed; they fix the axis.
        points: The points of the fit.
        settings: How to fit.
        fitter: Fits a law.
    """
    axis, ranks = size_steps(points, widest(laws))
    top = int(ranks.max())
    rollouts, quick = [], replace(settings, starts=min(settings.starts, _FEW_STARTS))
    for last in range(max(0, top - _MOST_ORIGINS), top):
        below, beyond = points.where(ranks <= last), points.where(ranks > last)
        if too_rich(law, below) is None:
            fitted = fitter(law, below, settings if last == top - 1 else quick)
            rollouts.append(_rollout(fitted, axis, last, below, beyond, ranks[ranks > last]))
    return rollouts


def _rollout(
    fitted: Fitted, axis: str, last: int, below: Points, beyond: Points, steps: np.ndarray
) -> Rollout:
    log, gradient = fitted.log_prediction(beyond)
    ranges = ranges_of(below, fitted.law)
    plain = Extrapolation(0.0, 1.0, 0, fitted.noise, (), ranges)
    ratio = fitted.noise.ratio(effort_of(beyond.values, ranges))
    origin = Origin(
        steps=steps,
        errors=np.log(beyond.target) - log,
        distances=plain.distance(beyond.values),
        variance=run_variance(gradient, fitted.uncertainty, ratio),
    )
    half = half_widths(gradient, fitted.uncertainty, test_set=False, ratio=ratio)[1]
    return Rollout(axis, last, float(below.compute.max()), beyond, log, half, origin)


def record_rollouts(
    rollouts: Sequence[Rollout], holdout: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The entry `rollouts` of a law's record, one per predicted step.

    Intervals of an earlier step know the errors of the steps before it alone, and not the spread of
    competing laws; the largest step is that of `holdout`, with both.

    Args:
        rollouts: Of `roll_out`.
        holdout: Of `evaluate_holdout`; None where the largest step was not evaluated.
    """
    records = []
    for place, one in enumerate(rollouts):
        next_step = one.origin.steps == one.last + 1
        if holdout and holdout["step"] == one.last + 1:
            continue
        rate, df, _ = rate_of([_known(other, one.last) for other in rollouts[:place]])
        quantile = student_t.ppf(0.5 + LEVEL / 2, df)
        half = np.hypot(one.half, quantile * rate * one.origin.distances)[next_step]
        there, log = one.beyond.where(next_step), one.log[next_step]
        with np.errstate(over="ignore"):  # an end far beyond a law that is hardly determined
            low, high, target = np.exp(log - half), np.exp(log + half), there.target
        runs = [
            {
                "student": str(there.student[row]),
                "tokens": float(there.values["tokens"][row]),
                "compute": float(there.compute[row]),
                "measured": float(target[row]),
                "predicted": float(np.exp(log[row])),
                "low": _plain(low[row]),
                "high": _plain(high[row]),
            }
            for row in np.argsort(there.compute, kind="stable")
        ]
        records.append(
            {
                "step": one.last + 1,
                "axis": one.axis,
                "runs": len(there),
                "compute_factor": float(there.compute.max() / one.compute),
                "mean_relative_error": float(np.abs(np.exp(log) / target - 1).mean()),
                "interval_coverage": float(((low <= target) & (target <= high)).mean()),
                "predicted": _thinned(runs),
            }
        )
    return [*records, _of_holdout(holdout)] if holdout else records


def _known(rollout: Rollout, last: int) -> Origin:
    """What a roll-out had shown when `last` was the largest step."""
    origin = rollout.origin
    seen = origin.steps <= last
    return Origin(
        origin.steps[seen], origin.errors[seen], origin.distances[seen], origin.variance[seen]
    )


def _of_holdout(holdout: Mapping[str, Any]) -> dict[str, Any]:
    """The largest step, as it was evaluated."""
    same = ("axis", "runs", "compute_factor", "mean_relative_error", "interval_coverage")
    names = ("student", "tokens", "compute", "measured", "predicted", "low", "high")
    runs = [{name: run[name] for name in names} for run in holdout["predicted"]]
    predicted = _thinned(sorted(runs, key=lambda run: run["compute"] or 0.0))
    numbers = {name: holdout[name] for name in same}
    return {"step": holdout["step"], **numbers, "predicted": predicted}


def _thinned(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(runs) <= _MOST_RUNS:
        return runs
    return [runs[place] for place in np.linspace(0, len(runs) - 1, _MOST_RUNS).astype(int)]


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
