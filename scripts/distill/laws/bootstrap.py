"""Covariance of coefficients by resampling pairs of inputs and target, where noise is not normal.

Efron 1979, Bootstrap methods: another look at the jackknife. Pairs rather than residuals: a run's
noise may depend on where it is (Besiroglu et al. 2024, Chinchilla scaling: a replication attempt).
"""

import numpy as np
from scipy.stats import jarque_bera

from distill.laws.fitting import HUBER_DELTA, TOGETHER, Fit, descend
from distill.laws.law import Array, Law
from distill.laws.points import Points

REPLICATES = 400
FEWEST, MOST = 30, 4_000
"""Numbers of runs between which pairs are resampled."""
_DOUBT = 0.01
_STEPS = 40


def is_odd(residuals: Array) -> bool:
    """Whether residuals differ from normal noise, by Jarque and Bera's test (1987) at 1 %."""
    if not FEWEST <= len(residuals) <= MOST:
        return False
    return bool(jarque_bera(residuals).pvalue < _DOUBT)


def pair_covariance(law: Law, points: Points, fit: Fit, seed: int = 0) -> Array:
    """Covariance of internal parameters over resampled runs, shape (P, P).

    Args:
        law: What was fitted.
        points: The runs, n of them.
        fit: Its fit, from which each resample descends.
        seed: Chooses the resamples.
    """
    rng, n = np.random.default_rng(seed), len(points)
    x, y = law.centred(points.values, fit.centre), np.log(points.target)
    found = []
    for first in range(0, REPLICATES, TOGETHER):
        count = min(TOGETHER, REPLICATES - first)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)
        start = np.tile(fit.theta, (count, 1))
        for width in (10 * HUBER_DELTA, HUBER_DELTA):
            start = descend(law, x, y, start, fit.bounds, width, _STEPS, weights=weights)[0]
        found.append(start)
    # Spreads of the middle: a resample without the runs that fix a coefficient goes anywhere.
    samples = np.concatenate(found)
    low, high = np.quantile(samples, [0.02, 0.98], axis=0)
    kept = samples[((samples >= low) & (samples <= high)).all(axis=1)]
    covariance: Array = np.atleast_2d(np.cov(kept, rowvar=False))
    inner = np.quantile(samples, [0.05, 0.95], axis=0)
    scale = (inner[1] - inner[0]) / 3.29 / np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    return covariance * np.outer(scale, scale)
