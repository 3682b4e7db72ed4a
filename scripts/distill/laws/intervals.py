"""Intervals of a fitted law: coefficients, mean curve and new runs.

Delta method with t quantiles. Three sources of error are distinguished:

- noise of a single run (its seed), independent between runs;
- noise of a draw: runs of one draw were trained on prefixes of one permutation, so they share it,
  the more, the more of their data they share (correlation sqrt(D_small / D_large));
- noise of the test set, one shift that all runs share in proportion to their standard errors.

The first two variances come from all residuals together, by restricted likelihood (Patterson and
Thompson 1971) averaged over a grid of shares, since a few draws cannot fix the share: its
uncertainty lowers the degrees of freedom of each interval (Satterthwaite 1946). The third is given.
Clustering by draws instead would rest on as many clusters as there are draws, mostly two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.laws.fitting import HUBER_DELTA, Fit
from distill.laws.law import Array, Law
from distill.stats.intervals import LEVEL

_FEWEST_BOUNDED = 8
OUTLIER = 6.0
"""A residual beyond this many robust standard deviations is an outlier."""
_AMPLITUDE_FACTOR = 100.0
"""An amplitude known to no better than this factor either way is as good as unbounded."""


@dataclass(frozen=True)
class Uncertainty:
    """Covariances and variances that intervals need in addition to the coefficients.

    Attributes:
        by_run: Covariance of internal parameters per unit of variance of single runs, (P, P).
        by_draw: The same per unit of variance of draws.
        variances: Variance of a run's own noise and of its draw's, log units, shape (2,).
        doubt: Covariance of these two estimates, shape (2, 2).
        shift: Change of internal parameters per standard error of the test set, shape (P,).
    """

    by_run: Array
    by_draw: Array
    variances: Array
    doubt: Array
    shift: Array

    @property
    def run_sd(self) -> float:
        """Standard deviation of a run about the curve, log units."""
        return float(np.sqrt(self.variances.sum()))

    @property
    def df(self) -> float:
        """Degrees of freedom of that deviation."""
        return float(_degrees(np.ones(2), self)[()])


def bounded(residuals: Array, parameters: int) -> Array:
    """Residuals with outliers moved to `OUTLIER` robust standard deviations.

    Args:
        residuals: Of a fit, shape (n,).
        parameters: Its number of parameters: a fit near the median passes through as many points.
    """
    sizes = np.sort(np.abs(residuals))[parameters:]
    if len(sizes) < _FEWEST_BOUNDED:
        return residuals
    spread = 1.4826 * float(np.median(sizes))
    held: Array = np.clip(residuals, -OUTLIER * spread, OUTLIER * spread)
    return held


def huber_inflation(ratio: float) -> float:
    """Variance of Huber's estimate over that of least squares under normal noise.

    Huber 1964, Robust estimation of a location parameter: E[psi^2] / (E[psi'])^2.

    Args:
        ratio: Huber's delta over the noise's standard deviation. 0 gives pi/2, the median's.
    """
    if ratio < 1e-6:
        return float(np.pi / 2)
    inside = 2 * norm.cdf(ratio) - 1
    square = inside - 2 * ratio * norm.pdf(ratio) + 2 * ratio**2 * norm.sf(ratio)
    return float(square / inside**2)


def shared_data(tokens: Array, pools: Array, draws: Array) -> Array:
    """Correlation of the data noise of two runs, shape (n, n): sqrt(D_small / D_large) in a draw.

    Args:
        tokens: Unique training tokens per run.
        pools: Whose text each learned (any label).
        draws: Which permutation of it.
    """
    log = np.log(tokens)
    overlap = np.exp(-0.5 * np.abs(log[:, None] - log[None, :]))
    same = (pools[:, None] == pools[None, :]) & (draws[:, None] == draws[None, :])
    return np.where(same, overlap, 0.0)


def uncertainty(
    fit: Fit,
    stderr: Array | None,
    sharing: Array | None,
    delta: float = HUBER_DELTA,
    ratio: Array | None = None,
) -> Uncertainty:
    """Estimate the uncertainty of a fit.

    Args:
        fit: The fit, n points and P parameters.
        stderr: Relative standard error of each target over the shared test set, shape (n,).
        sharing: `shared_data` of the runs; None for independent runs.
        delta: Huber's width in the fit.
        ratio: Variance of each run over the mean of all, shape (n,); equal by default. The
            covariance is then White's (1980), A heteroskedasticity-consistent covariance matrix.

    Raises:
        ValueError: There are no degrees of freedom, n <= P.
    """
    n, count = fit.jacobian.shape
    if n <= count:
        raise ValueError(f"{n} points leave no degrees of freedom to {count} parameters")
    scale = np.linalg.norm(fit.jacobian, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    left, singular, right = np.linalg.svd(fit.jacobian / scale, full_matrices=False)
    # A direction that the points do not determine keeps a huge variance, not 0.
    singular = np.maximum(singular, 1e-7 * singular[0])
    hat = (right.T / singular) @ left.T / scale[:, None]
    # Residuals outside the parameters' span: the same noise for either estimate.
    residuals = bounded(fit.residuals, count)
    free = residuals - left @ (left.T @ residuals)
    variances, doubt = _variances(free, left, sharing)
    inflation = huber_inflation(delta / np.sqrt(variances.sum()))
    plain = hat @ hat.T if ratio is None else (hat * ratio) @ hat.T
    # Near the median, correlations of residuals enter by their arcsine, nearly as they are, while
    # the variance itself is inflated.
    drawn = plain if sharing is None else hat @ sharing @ hat.T
    return Uncertainty(
        by_run=inflation * plain,
        by_draw=(inflation - 1) * plain + drawn,
        variances=variances,
        doubt=doubt,
        shift=np.zeros(count) if stderr is None else hat @ stderr,
    )


_SHARES = np.linspace(0.0, 0.95, 20)
"""Shares of the draw in a run's variance."""
_PRIOR = 3.0
"""A share s weighs (1 - s)^3 beforehand. Simulated intervals of a nominal .90 covered .96 with
equal weights, .84 with the most likely share alone, .91 to .92 so."""
_LEAST_VARIANCE = 1e-20


def _shared_directions(sharing: Array, left: Array) -> tuple[Array, Array]:
    """Directions of the draws' noise outside the parameters' span.

    Runs of one draw and size share all of it, so there are at most as many directions as such
    cells, for any number of seeds.

    Returns:
        Variance along each, shape (g,), and the directions, orthonormal, shape (n, g).
    """
    cells, cell = np.unique((sharing == 1.0).argmax(axis=1), return_inverse=True)
    values, axes = np.linalg.eigh(sharing[np.ix_(cells, cells)])
    root = (axes * np.sqrt(np.maximum(values, 0.0)))[cell]
    root = root - left @ (left.T @ root)
    directions, size, _ = np.linalg.svd(root, full_matrices=False)
    return size**2, directions


def _variances(free: Array, left: Array, sharing: Array | None) -> tuple[Array, Array]:
    """Variances of runs and draws, and the covariance of these estimates.

    Args:
        free: Residuals without what a parameter can take up, shape (n,).
        left: The directions of the parameters, orthonormal, shape (n, P).
        sharing: Correlation of the draws' noise, None without.
    """
    df = len(free) - left.shape[1]
    if sharing is None:
        total = max(float(free @ free) / df, _LEAST_VARIANCE)
        return np.array([total, 0.0]), np.diag([2 * total**2 / df, 0.0])
    weights, axes = _shared_directions(sharing, left)
    weights, axes = weights[:df], axes[:, :df]  # the others are the parameters' own
    square = (axes.T @ free) ** 2
    alone = max(float(free @ free - square.sum()), 0.0)  # along all other directions
    spread = (1 - _SHARES[:, None]) + _SHARES[:, None] * weights
    total = (square / spread).sum(axis=1) + alone / (1 - _SHARES)
    total = np.maximum(total / df, _LEAST_VARIANCE)
    logs = np.log(spread).sum(axis=1) + (df - len(weights)) * np.log(1 - _SHARES)
    likelihood = -0.5 * logs - 0.5 * df * np.log(total)
    weight = (1 - _SHARES) ** _PRIOR * np.exp(likelihood - likelihood.max())
    weight /= weight.sum()
    parts = np.stack([total * (1 - _SHARES), total * _SHARES])
    mean = parts @ weight
    away = parts - mean[:, None]
    # Between shares, and for each share that of a variance on df degrees of freedom.
    doubt = (away * weight) @ away.T + (parts * (weight * 2 / df)) @ parts.T
    return mean, doubt


def _degrees(parts: Array, uncertain: Uncertainty) -> Array:
    """Degrees of freedom of parts[0] * run variance + parts[1] * draw variance."""
    value = parts[0] * uncertain.variances[0] + parts[1] * uncertain.variances[1]
    doubt = np.einsum("i...,ij,j...->...", parts, uncertain.doubt, parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2 * value**2 / doubt
    return np.maximum(np.where(np.isfinite(df), df, 1.0), 1.0)


def _half(parts: Array, shift: Array, uncertain: Uncertainty, level: float) -> Array:
    """Half width from multiples of the two variances and a shift by the test set."""
    variance = parts[0] * uncertain.variances[0] + parts[1] * uncertain.variances[1]
    t = student_t.ppf(0.5 + level / 2, _degrees(parts, uncertain))
    return np.sqrt(np.maximum(variance, 0.0) * t**2 + (shift * norm.ppf(0.5 + level / 2)) ** 2)


def _parts(rows: Array, uncertain: Uncertainty) -> Array:
    """Multiples of the two variances for linear combinations of parameters (m, P): (2, m)."""
    return np.stack(
        [((rows @ base) * rows).sum(axis=1) for base in (uncertain.by_run, uncertain.by_draw)]
    )


def half_widths(
    gradient: Array,
    uncertain: Uncertainty,
    level: float = LEVEL,
    test_set: bool = True,
    ratio: Array | float = 1.0,
) -> tuple[Array, Array]:
    """Half widths in log units of the intervals of the mean curve and of a new run.

    Args:
        gradient: Of the log prediction by internal parameters, shape (P, m).
        uncertain: The fit's uncertainty.
        level: Coverage.
        test_set: Count the test set's sampling noise. Without it the intervals are for a
            measurement on the test set of the fitted runs, which shares their shift.
        ratio: Variance of the new run over the mean of the fitted ones, shape (m,).

    Returns:
        Shapes (m,) and (m,). A new run adds its own noise to the curve's.
    """
    parts = _parts(gradient.T, uncertain)
    shift = uncertain.shift @ gradient if test_set else np.zeros(gradient.shape[1])
    return _half(parts, shift, uncertain, level), _half(parts + ratio, shift, uncertain, level)


def run_variance(gradient: Array, uncertain: Uncertainty, ratio: Array | float = 1.0) -> Array:
    """Variance of a new run about its prediction by noise alone, log units, shape (m,).

    Args:
        gradient: Of the log prediction by internal parameters, shape (P, m).
        uncertain: The fit's uncertainty.
        ratio: As of `half_widths`.
    """
    variance: Array = uncertain.variances @ (_parts(gradient.T, uncertain) + ratio)
    return variance


def coefficients(
    law: Law, fit: Fit, uncertain: Uncertainty, level: float = LEVEL, test_set: bool = True
) -> dict[str, dict[str, Any]]:
    """Coefficients with intervals: `value`, `low`, `high`, `identifiable`.

    An amplitude's interval is multiplicative, that of an exponent or floor additive. An interval
    that reaches zero, or a factor of 100 for an amplitude, or a value at its bound is unbounded:
    that end is null and the coefficient is not identifiable.
    """
    values, jacobian = law.natural(fit.theta, fit.centre)
    shift = jacobian @ uncertain.shift if test_set else np.zeros(len(values))
    half = _half(_parts(jacobian, uncertain), shift, uncertain, level)
    edge = np.minimum(fit.theta - fit.bounds[:, 0], fit.bounds[:, 1] - fit.theta) < 1e-6
    records = {}
    for row, parameter in enumerate(law.parameters):
        value, width = float(values[row]), float(half[row])
        known = parameter.name not in law.unidentifiable and not edge[row]
        low: float | None = value - width
        high: float | None = value + width
        if parameter.kind == "amplitude":
            bounded = width < np.log(_AMPLITUDE_FACTOR)
            low, high = (np.exp(value - width), np.exp(value + width)) if bounded else (None, None)
            value, known = float(np.exp(min(value, 700.0))), known and bounded
        elif parameter.kind != "signed":
            bounded = value - width > 0
            low = value - width if bounded else None
            high = value + width if parameter.kind == "floor" or width < 10 * value else None
            known = known and bounded
        record: dict[str, Any] = {"value": value}
        for side, end in (("low", low), ("high", high)):
            record[side] = None if end is None or not np.isfinite(end) else float(end)
        records[parameter.name] = {**record, "identifiable": bool(known)}
    return records


def state_of(fit: Fit, uncertain: Uncertainty) -> dict[str, Any]:
    """Plain numbers from which `fitted` predicts."""
    return {
        "theta": fit.theta.tolist(),
        "centre": dict(fit.centre),
        "covariance_by_run": uncertain.by_run.tolist(),
        "covariance_by_draw": uncertain.by_draw.tolist(),
        "variances": uncertain.variances.tolist(),
        "doubt": uncertain.doubt.tolist(),
        "shift": uncertain.shift.tolist(),
        "run_sd_log": uncertain.run_sd,
        "df": uncertain.df,
        "level": LEVEL,
    }


def uncertainty_of(state: Mapping[str, Any]) -> Uncertainty:
    """The inverse of `state_of`."""
    names = ("covariance_by_run", "covariance_by_draw", "variances", "doubt", "shift")
    return Uncertainty(*(np.array(state[name], dtype=np.float64) for name in names))
