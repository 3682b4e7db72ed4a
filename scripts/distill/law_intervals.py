"""Intervals of a fitted law: coefficients, mean curve and new runs.

Delta method with t quantiles. Three sources of error are told apart:

- noise of a single run (its seed), independent between runs;
- noise of a draw: runs of one draw were trained on prefixes of one permutation, so they share it,
  the more, the more of their data they share (correlation sqrt(D_small / D_large));
- noise of the test set, one shift that all runs share in proportion to their standard errors.

The first two variances are estimated by moments from all residuals together (Searle, Casella and
McCulloch 1992, Variance components, ch. 5), the third is given. Clustering by draws instead would
rest on as many clusters as there are draws, mostly two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.fitting import HUBER_DELTA, Fit
from distill.laws import Array, Law

LEVEL = 0.90
_AMPLITUDE_FACTOR = 100.0
"""An amplitude known to no better than this factor either way is as good as unbounded."""


@dataclass(frozen=True)
class Uncertainty:
    """What prediction with intervals needs beside the coefficients.

    Attributes:
        covariance: Of internal parameters, from runs' and draws' noise; shape (P, P).
        shift: Change of internal parameters per standard error of the test set, shape (P,).
        run_sd: Standard deviation of a run about the curve, log units.
        draw_share: Share of that variance that belongs to the draw.
        df: Degrees of freedom of these variances.
    """

    covariance: Array
    shift: Array
    run_sd: float
    draw_share: float
    df: float


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
) -> Uncertainty:
    """Estimate the uncertainty of a fit.

    Args:
        fit: The fit, n points and P parameters.
        stderr: Relative standard error of each target over the shared test set, shape (n,).
        sharing: `shared_data` of the runs; None for independent runs.
        delta: Huber's width in the fit.

    Raises:
        ValueError: There are no degrees of freedom, n <= P.
    """
    n, count = fit.jacobian.shape
    if n <= count:
        raise ValueError(f"{n} points leave no degrees of freedom to {count} parameters")
    scale = np.linalg.norm(fit.jacobian, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    left, singular, right = np.linalg.svd(fit.jacobian / scale, full_matrices=False)
    # A direction that the points do not see at all keeps a huge variance, not none.
    singular = np.maximum(singular, 1e-7 * singular[0])
    hat = (right.T / singular) @ left.T / scale[:, None]
    r = fit.residuals
    square = float(r @ r)
    sd = max(np.sqrt(square / (n - count)), 1e-12)
    for _ in range(3):
        inflation = huber_inflation(delta / sd)
        # Of n residual variances, this estimate takes up (2 - inflation) per parameter.
        sd = max(float(np.sqrt(square / (n - (2 - inflation) * count))), 1e-12)
    own, drawn, df = sd**2, 0.0, float(n - count)
    if sharing is not None:
        own, drawn, df = _components(r, left, sharing, own, count)
    middle = hat @ hat.T * own
    if sharing is not None and drawn > 0:
        middle = middle + drawn * (hat @ sharing @ hat.T)
    shift = np.zeros(count) if stderr is None else hat @ stderr
    total = own + drawn
    return Uncertainty(
        covariance=inflation * middle,
        shift=shift,
        run_sd=float(np.sqrt(total)),
        draw_share=drawn / total,
        df=max(df, 1.0),
    )


def _components(
    r: Array, left: Array, sharing: Array, alone: float, count: int
) -> tuple[float, float, float]:
    """Variances of runs and draws from two quadratic forms, with their degrees of freedom.

    E r'r and E r'Gr under residuals M e, M = I - hat matrix, cov e = v_run I + v_draw G.
    """
    n = len(r)
    maker = np.eye(n) - left @ left.T
    mixed = maker @ sharing
    one, two = float(np.trace(mixed)), float((mixed * mixed.T).sum())
    matrix = np.array([[n - count, one], [one, two]])
    moments = np.array([float(r @ r), float(r @ sharing @ r)])
    if abs(np.linalg.det(matrix)) < 1e-9 * matrix[0, 0] * max(two, 1e-12):
        return alone, 0.0, float(n - count)
    own, drawn = np.linalg.solve(matrix, moments)
    if drawn <= 0:
        return alone, 0.0, float(n - count)
    if own <= 0:
        own, drawn = 1e-3 * alone, float(moments[0] / one)
    # Satterthwaite: degrees of freedom of r'r under these variances.
    inner = own * maker + drawn * mixed
    df = float(np.trace(inner) ** 2 / (inner * inner.T).sum())
    return float(own), float(drawn), min(df, float(n - count))


def half_widths(
    gradient: Array, found: Uncertainty, level: float = LEVEL, test_set: bool = True
) -> tuple[Array, Array]:
    """Half widths in log units of the intervals of the mean curve and of a new run.

    Args:
        gradient: Of the log prediction by internal parameters, shape (P, m).
        found: The fit's uncertainty.
        level: Coverage.
        test_set: Count the test set's sampling noise. Without it the intervals are for a
            measurement on the test set of the fitted runs, which shares their shift.

    Returns:
        Shapes (m,) and (m,). A new run adds its own noise to the curve's.
    """
    mean = np.einsum("pm,pq,qm->m", gradient, found.covariance, gradient)
    shift = (found.shift @ gradient) ** 2 if test_set else np.zeros_like(mean)
    t, z = student_t.ppf(0.5 + level / 2, found.df), norm.ppf(0.5 + level / 2)
    curve = np.sqrt(np.maximum(mean, 0) * t**2 + shift * z**2)
    run = np.sqrt((np.maximum(mean, 0) + found.run_sd**2) * t**2 + shift * z**2)
    return curve, run


def coefficients(
    law: Law, fit: Fit, found: Uncertainty, level: float = LEVEL, test_set: bool = True
) -> dict[str, dict[str, Any]]:
    """Coefficients with intervals: `value`, `low`, `high`, `identifiable`.

    An amplitude's interval is multiplicative, that of an exponent or floor additive. An interval
    that reaches zero, or a factor of 100 for an amplitude, or a value at its bound is unbounded:
    that end is null and the coefficient is not identifiable.
    """
    values, jacobian = law.natural(fit.theta, fit.centre)
    variance = np.diag(jacobian @ found.covariance @ jacobian.T)
    shift = jacobian @ found.shift if test_set else np.zeros(len(values))
    t, z = student_t.ppf(0.5 + level / 2, found.df), norm.ppf(0.5 + level / 2)
    half = np.sqrt(np.maximum(variance, 0) * t**2 + shift**2 * z**2)
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


def state_of(fit: Fit, found: Uncertainty) -> dict[str, Any]:
    """Plain numbers from which `fitted` predicts."""
    return {
        "theta": fit.theta.tolist(),
        "centre": dict(fit.centre),
        "covariance": found.covariance.tolist(),
        "shift": found.shift.tolist(),
        "run_sd_log": found.run_sd,
        "draw_share": found.draw_share,
        "df": found.df,
        "level": LEVEL,
        "t": float(student_t.ppf(0.5 + LEVEL / 2, found.df)),
        "z": float(norm.ppf(0.5 + LEVEL / 2)),
    }


def uncertainty_of(state: Mapping[str, Any]) -> Uncertainty:
    """The inverse of `state_of`."""
    return Uncertainty(
        covariance=np.array(state["covariance"], dtype=np.float64),
        shift=np.array(state["shift"], dtype=np.float64),
        run_sd=state["run_sd_log"],
        draw_share=state["draw_share"],
        df=state["df"],
    )
