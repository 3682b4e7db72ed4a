"""A fitted law as its record in laws.json, with what a reader must know before using it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import f as f_distribution

from distill.laws.choice import Fitted, Group, Settings, Standing, aicc
from distill.laws.extrapolation import Extrapolation
from distill.laws.floors import floor_of
from distill.laws.intervals import bounded, coefficients, state_of
from distill.laws.points import SIZE_RANGE, Points, levels, record_range
from distill.stats.intervals import LEVEL


def record_law(
    fitted: Fitted,
    group: Group,
    standing: Standing,
    settings: Settings,
    beyond: Extrapolation | None = None,
) -> dict[str, Any]:
    """The law's record in laws.json.

    Args:
        fitted: The law.
        group: The runs.
        standing: How it was chosen and evaluated.
        settings: How it was fitted.
        beyond: What its intervals need beyond its runs; None for a law that was not chosen.
    """
    law, fit, error, points = fitted.law, fitted.fit, fitted.uncertainty, group.points
    values = coefficients(law, fit, error)
    floor = floor_of(fitted, points, standing, values)
    if floor and floor["refused"] and standing.best:
        values[floor["name"]]["identifiable"] = False
    residual = float(np.sqrt((fit.residuals**2).mean()))
    return {
        "name": law.name,
        "formula": law.formula,
        "source": law.source,
        "target": group.target,
        "selected": dict(group.selected),
        "best": standing.best,
        "points": len(points),
        "dropped": list(group.dropped),
        "coefficients": values,
        "residual_rmse_log": residual,
        "holdout": standing.holdout,
        "rollouts": list(standing.rollouts),
        "choice": dict(standing.choice),
        "aicc": aicc(fit),
        "fit_seconds": fitted.seconds,
        "floor": floor,
        "outliers": outliers(fitted, points),
        "warnings": warnings(fitted, group, standing, values, floor),
        "range": record_range(points, law.inputs),
        "settings": {
            "objective": "sum of Huber losses of log residuals"
            + ("" if points.error is None else ", weighted by the runs' standard errors")
            + ("" if points.weight is None else ", weighted as the table states"),
            "optimiser": "L-BFGS-B (scipy), analytic gradients",
            "huber_delta": settings.huber_delta,
            "starts": fit.starts,
            "seed": settings.seed,
            "interval": "delta method, t quantiles, restricted likelihood for runs and draws"
            + ("" if points.stderr is None else ", test-set noise shared by all runs"),
            "level": LEVEL,
            "parameter_counts": {
                "params": "embeddings and output head counted, tied ones once",
                "params_non_embedding": "without embeddings and output head",
            }.get(str(group.selected["size"]), "not an input of this law"),
            "tokens": "unique training tokens",
            "held_out_error": "see holdout",
        },
        "state": state_of(fit, error),
        "extrapolation": beyond.record() if beyond else None,
    }


def outliers(fitted: Fitted, points: Points) -> list[dict[str, Any]]:
    """Runs that the law misses by far more than the others: row of the table (from 1) and miss."""
    residuals = fitted.fit.residuals
    odd = np.flatnonzero(np.abs(residuals - bounded(residuals, len(fitted.fit.theta))) > 0)
    return [
        {
            "row": int(points.rows[place]) + 1,
            "student": str(points.student[place]),
            "tokens": float(points.values["tokens"][place]),
            "miss": float(np.exp(-residuals[place]) - 1),
        }
        for place in odd[np.argsort(-np.abs(residuals[odd]))][:_MOST_OUTLIERS]
    ]


_MOST_OUTLIERS = 10


def warnings(
    fitted: Fitted,
    group: Group,
    standing: Standing,
    values: Mapping[str, Mapping[str, Any]],
    floor: Mapping[str, Any] | None,
) -> list[str]:
    """What a reader must know before using the law, one sentence each.

    Args:
        fitted: The law.
        group: The runs.
        standing: How it was chosen and evaluated.
        values: Its `coefficients`.
        floor: Of `floor_of`.
    """
    law, points, out = fitted.law, group.points, []
    choice, holdout = standing.choice, standing.holdout
    loose = [name for name, value in values.items() if not value["identifiable"]]
    if loose:
        out.append(f"not identifiable from these points: {', '.join(loose)}")
    if floor and floor["refused"] and standing.best:
        out.append(f"no floor is claimed: {WHY_NO_FLOOR[floor['refused']]}")
    for name in ("params", "tokens"):
        if name in law.inputs:
            low, high = points.values[name].min(), points.values[name].max()
            if name == "params" and high / low < SIZE_RANGE:
                out.append(
                    f"sizes span a factor of {high / low:.3g}: no claim about the exponent in N "
                    f"is made below {SIZE_RANGE:.0f}"
                )
    if choice["by"] == "aicc" and len(choice["errors"]) > 1:
        out.append("too few size steps to compare laws on one: chosen by AICc")
    errors = choice["errors"]
    simple, law_error = choice.get("simple"), errors.get(law.name)
    if simple and law_error is not None and simple["error"] < law_error:
        out.append(
            "on the second largest size step a simple forecast was better "
            f"({simple['name']}: {simple['error']:.2%} against {law_error:.2%})"
        )
    if choice["chosen"] != law.name:
        out.append(f"{choice['chosen']} was chosen instead; only that law is evaluated")
    elif holdout is None:
        out.append("not evaluated: too few cells without the largest size step")
    elif holdout["skill"] <= 0:
        out.append(
            "on the largest size step it predicted no better than a simple forecast "
            f"({holdout['simple']['name']})"
        )
    if holdout and holdout["interval_coverage"] < _LEAST_COVERED:
        out.append(
            f"its 90 % intervals held {holdout['interval_coverage']:.0%} of the largest size step, "
            "so they are widened by that miss; trust it no farther than they say"
        )
    if odd := outliers(fitted, group.points):
        first, many = odd[0], len(odd) > 1
        out.append(
            f"{len(odd)} {'runs are' if many else 'run is'} far from the curve, "
            f"{'the worst ' if many else ''}in row {first['row']} ({first['miss']:+.0%}); check "
            f"{'them' if many else 'it'}"
        )
    excess = lack_of_fit(fitted, points)
    if excess is not None:
        out.append(
            f"residuals are {excess:.1f} times as large as runs of one cell differ: the law "
            "misses structure in the points"
        )
    if points.draw is not None:
        if len(np.unique(points.draw)) < 2:
            out.append(
                "one draw only: noise between draws cannot be separated from the curve's shape"
            )
        if group.target == "gap" or points.stderr is None:
            out.append(
                "the test set's sampling noise of this target is not known: intervals are for "
                "this test set"
            )
    if law.note:
        out.append(law.note)
    if fitted.uncertainty.df < 5:
        out.append(
            f"{fitted.uncertainty.df:.1f} degrees of freedom: intervals are wide and rest on "
            "few points"
        )
    return out


WHY_NO_FLOOR = {
    "unbounded": "its interval reaches zero or is unbounded",
    "above_lowest": "it lies above the lowest loss that was measured",
    "few_runs": "there are too few cells for the number of coefficients",
    "unjudged": "no larger size step was predicted",
    "missed": "the law did not predict the largest size step better than a simple forecast does",
}
"""Why a floor is not claimed, by `refused` of `floor_of`."""
_LEAST_COVERED = 0.6


def lack_of_fit(fitted: Fitted, points: Points) -> float | None:
    """Residual sd over replicate sd where an F test at 1 % finds the law too stiff, else None.

    Replicates are runs of one student, teacher and level of each input.
    """
    r = fitted.fit.residuals
    ranks = [levels(points.values[name], name) for name in fitted.law.inputs]
    labels = ["|".join(map(str, row)) for row in zip(points.student, *ranks, strict=True)]
    _, place = np.unique(labels, return_inverse=True)
    counts = np.bincount(place)
    spread = counts.sum() - len(counts)
    rest = len(counts) - len(fitted.fit.theta)
    if spread < 3 or rest < 2:
        return None
    means = np.bincount(place, weights=r) / counts
    pure = float(((r - means[place]) ** 2).sum()) / spread
    lack = float((counts * means**2).sum()) / rest
    if pure <= 0 or f_distribution.sf(lack / pure, rest, spread) > 0.01:
        return None
    return float(np.sqrt(lack / pure))
