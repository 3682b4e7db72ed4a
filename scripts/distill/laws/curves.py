"""Fitted laws as curves that can be compared: differences with intervals, groups, and words.

Two laws of one study are compared by the delta method. Their runs are assumed to be independent,
which is conservative if both used the same draws of the data; the test set, which all share,
moves both laws together, so only the difference of its two shifts counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.contracts.points import GROUP_KEYS
from distill.laws.fitted import FittedLaw
from distill.laws.forms import FORMS
from distill.laws.intervals import Uncertainty, uncertainty_of
from distill.laws.law import Array, Law
from distill.stats.intervals import LEVEL, Estimate

NO_NAMES = ("", "none", "raw")
REACH = 4.0
"""Beyond this factor outside what was fitted, a law's prediction is not offered as an answer."""


@dataclass(frozen=True)
class Curve:
    """A fitted law with its uncertainty.

    Attributes:
        law: Which.
        theta: Internal parameters, shape (P,).
        centre: Mean logs of its inputs.
        uncertainty: Its uncertainty.
        range: Lowest and highest value of each input that was fitted.
    """

    law: Law
    theta: Array
    centre: Mapping[str, float]
    uncertainty: Uncertainty
    range: Mapping[str, Sequence[float]]

    def log(self, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
        """Log prediction, shape (m,), and its gradient as rows, shape (m, P)."""
        value, gradient = self.law.curve(self.theta, self.law.centred(inputs, self.centre))
        return value, gradient.T

    def samples(self, count: int, seed: int) -> Array:
        """Internal parameters drawn from their multivariate t distribution, shape (count, P)."""
        rng = np.random.default_rng(seed)
        uncertain = self.uncertainty
        covariance = (
            uncertain.variances[0] * uncertain.by_run + uncertain.variances[1] * uncertain.by_draw
        )
        values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        noise = rng.normal(size=(count, len(values))) * np.sqrt(np.maximum(values, 0.0)) @ axes.T
        noise *= np.sqrt(uncertain.df / rng.chisquare(uncertain.df, size=(count, 1)))
        return self.theta + noise + rng.normal(size=(count, 1)) * uncertain.shift


def curve_of(law: FittedLaw) -> Curve:
    """The curve of a law of laws.json."""
    state = law.record["state"]
    theta = np.array(state["theta"], dtype=np.float64)
    return Curve(law.law, theta, state["centre"], uncertainty_of(state), law.range)


def differences(
    first: Curve, first_rows: Array, second: Curve | None = None, second_rows: Array | None = None
) -> Array:
    """Half widths of 90 % intervals of linear functions of one law's parameters, or two laws'.

    Args:
        first: A law.
        first_rows: Gradients by its internal parameters, shape (m, P).
        second: Another law, subtracted; None for one law alone.
        second_rows: The same of the other, shape (m, P').

    Returns:
        Shape (m,). Degrees of freedom by Satterthwaite 1946.
    """
    variance, doubt, shift = _spread(first, first_rows)
    if second is not None and second_rows is not None:
        more, unsure, moved = _spread(second, second_rows)
        variance, doubt, shift = variance + more, doubt + unsure, shift - moved
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2 * variance**2 / doubt
    df = np.maximum(np.where(np.isfinite(df), df, 1.0), 1.0)
    t, z = student_t.ppf(0.5 + LEVEL / 2, df), norm.ppf(0.5 + LEVEL / 2)
    return np.sqrt(np.maximum(variance, 0.0) * t**2 + (shift * z) ** 2)


def _spread(curve: Curve, rows: Array) -> tuple[Array, Array, Array]:
    """Variance, its own variance, and shift by the test set, of linear functions of parameters."""
    uncertain = curve.uncertainty
    parts = np.stack(
        [((rows @ base) * rows).sum(axis=1) for base in (uncertain.by_run, uncertain.by_draw)]
    )
    doubt = np.einsum("im,ij,jm->m", parts, uncertain.doubt, parts)
    return uncertain.variances @ parts, doubt, rows @ uncertain.shift


def coefficient_difference(first: Curve, second: Curve, name: str) -> Estimate:
    """A coefficient of the first law minus the same of the second."""
    values, rows = [], []
    for curve in (first, second):
        natural, jacobian = curve.law.natural(curve.theta, curve.centre)
        place = curve.law.names.index(name)
        values.append(float(natural[place]))
        rows.append(jacobian[place][None, :])
    half = float(differences(first, rows[0], second, rows[1])[0])
    gap = values[0] - values[1]
    return Estimate.around(gap, half)


def group_of(law: FittedLaw) -> tuple[str, ...]:
    """The values of `GROUP_KEYS` of a law."""
    return tuple(str(law.selected.get(key) or "") for key in GROUP_KEYS)


def grid_laws(
    laws: Sequence[FittedLaw], target: str, size: str
) -> dict[tuple[str, ...], FittedLaw]:
    """Per group, the smooth law over size whose exponents are reported.

    A law of size and data before one of size alone; among those the best, else the first of
    `FORMS`. A law with repeats counts only if it is the best.
    """
    chosen: dict[tuple[str, ...], FittedLaw] = {}
    for law in laws:
        if (
            law.target != target
            or law.selected.get("size") != size
            or law.law.over not in ("size", "joint")
            or not law.law.smooth
            or not law.law.exponents
            or (law.law.repeats and not law.best)
        ):
            continue
        key = group_of(law)
        if key not in chosen or _rank(law) > _rank(chosen[key]):
            chosen[key] = law
    return chosen


def _rank(law: FittedLaw) -> tuple[bool, bool, int]:
    place = [form.name for form in FORMS].index(law.name)
    return law.law.over == "joint", law.best, -place


def label_of(selected: Mapping[str, Any]) -> str:
    """Name a group of runs by its non-empty keys."""
    parts = []
    for key, pattern in (
        ("student", "student {}"),
        ("method", "{}"),
        ("cache", "cache {}"),
        ("init", "{} start"),
        ("curation", "curation {}"),
        ("group", "{}"),
        ("teacher", "teacher {}"),
    ):
        value = selected.get(key)
        if value is not None and str(value) not in NO_NAMES:
            # A model of a user's own table is named by its size.
            is_size = key == "student" and str(value).isdigit()
            parts.append(str(value) if is_size else pattern.format(value))
    return " · ".join(parts) or "all runs"
