"""When a law's floor may be claimed, and the local slope that is known without one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.laws.choice import Fitted, Standing
from distill.laws.intervals import half_widths
from distill.laws.points import Points, cells

FLOORS = ("E", "L0")
_CELLS_PER_COEFFICIENT = 2
_STEP = 1e-3
"""Step in log size or data of a numerical derivative."""


def floor_of(
    fitted: Fitted, points: Points, standing: Standing, values: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Whether a law's floor may be claimed.

    A floor is a claim about data that nobody has, so a larger size step must have borne it out.

    Args:
        fitted: The law.
        points: Its runs.
        standing: How it was chosen and evaluated.
        values: Its `coefficients`.

    Returns:
        name; refused: unbounded, above_lowest, few_runs, unjudged or missed, None if it may be
        claimed; slopes: per input (params, tokens) the change of the target with a doubling at the
        run with the most compute, as a share of the target: value, low, high. None for a law
        without a floor.
    """
    name = next((one for one in FLOORS if one in values), None)
    if name is None:
        return None
    held = standing.holdout
    if not values[name]["identifiable"]:
        refused = "unbounded"
    elif values[name]["value"] >= points.target.min():
        refused = "above_lowest"
    elif cells(points, fitted.law) < _CELLS_PER_COEFFICIENT * len(fitted.fit.theta):
        refused = "few_runs"
    elif held is None:
        refused = "unjudged"
    elif held["skill"] <= 0 or held["interval_coverage"] < 0.5:
        refused = "missed"
    else:
        refused = None
    return {"name": name, "refused": refused, "slopes": _slopes(fitted, points)}


def _slopes(fitted: Fitted, points: Points) -> dict[str, dict[str, float]]:
    """`slopes` of `floor_of`."""
    top = int(np.argmax(points.compute))
    out: dict[str, dict[str, float]] = {}
    for name in ("params", "tokens"):
        if name not in fitted.law.inputs:
            continue
        two = {key: np.repeat(points.values[key][top], 2) for key in fitted.law.inputs}
        two[name] = two[name] * np.exp([-_STEP, _STEP])
        x = fitted.law.centred(two, fitted.fit.centre)
        log, gradient = fitted.law.curve(fitted.fit.theta, x)
        slope = float(log[1] - log[0]) / (2 * _STEP)
        row = (gradient[:, 1] - gradient[:, 0])[:, None] / (2 * _STEP)
        half = float(half_widths(row, fitted.uncertainty, test_set=False)[0][0])
        low, value, high = np.exp2(np.clip([slope - half, slope, slope + half], -50, 50)) - 1
        out[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return out
