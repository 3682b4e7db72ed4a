"""The interval of beta under heavy-tailed noise, against a pair bootstrap by scipy alone."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.table.own_points import own_points

TRUTH = {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658}
"""Besiroglu et al. 2024, Chinchilla scaling: a replication attempt."""
DELTA = 1e-3
REFITS = 2_000
Array = np.ndarray


def scattered(seed: int) -> pd.DataFrame:
    """240 runs around 20 tokens per parameter, over three decades of compute.

    The noise is Student's t with 2.5 degrees of freedom, as of points that were read off a figure.
    """
    rng = np.random.default_rng(seed)
    compute = 6e18 * 500 ** rng.random(240)
    tokens_each = 20 * np.exp(rng.normal(size=240))
    params = np.sqrt(compute / 6 / tokens_each)
    table = pd.DataFrame({"params": params, "tokens": compute / 6 / params, "seed": range(240)})
    loss = TRUTH["E"] + TRUTH["A"] / params ** TRUTH["alpha"]
    loss = loss + TRUTH["B"] / table["tokens"] ** TRUTH["beta"]
    return table.assign(loss=loss * np.exp(0.006 * rng.standard_t(2.5, size=240)))


def objective(theta: Array, x: Array, y: Array, log: Array) -> tuple[float, Array]:
    """Sum of Huber losses over delta, and its gradient; theta is a, alpha, b, beta, e."""
    terms = np.stack([theta[0] - theta[1] * x, theta[2] - theta[3] * y, np.full(len(x), theta[4])])
    total = np.logaddexp.reduce(terms)
    residuals, shares = total - log, np.exp(terms - total)
    inside = np.clip(residuals, -DELTA, DELTA)
    pulls = shares * inside
    gradient = [pulls[0].sum(), -pulls[0] @ x, pulls[1].sum(), -pulls[1] @ y, pulls[2].sum()]
    value = (np.abs(inside) * (np.abs(residuals) - np.abs(inside) / 2)).sum()
    return float(value) / DELTA, np.array(gradient) / DELTA


def bootstrapped(table: pd.DataFrame) -> tuple[float, Array]:
    """Beta, and beta of each resample of pairs."""
    x, y, log = (np.log(table[name].to_numpy()) for name in ("params", "tokens", "loss"))
    start = np.array([np.log(TRUTH["A"]) - TRUTH["alpha"] * x.mean(), TRUTH["alpha"],
                      np.log(TRUTH["B"]) - TRUTH["beta"] * y.mean(), TRUTH["beta"],
                      np.log(TRUTH["E"])])  # fmt: skip
    x, y = x - x.mean(), y - y.mean()

    def fitted(rows: Array, first: Array) -> Array:
        data = (x[rows], y[rows], log[rows])
        return np.asarray(minimize(objective, first, data, jac=True, method="L-BFGS-B").x)

    best = fitted(np.arange(len(x)), start)
    rng = np.random.default_rng(0)
    refits = [fitted(rng.integers(0, len(x), len(x)), best)[3] for _ in range(REFITS)]
    return float(best[3]), np.array(refits)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(0, marks=pytest.mark.slow),
        *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3, 4)),
    ],
)
def test_the_interval_of_beta_is_as_wide_as_a_pair_bootstraps(seed: int) -> None:
    table = scattered(seed)
    columns = {name: name for name in table}
    document = fit_laws(own_points(table, columns).points, Settings(shared=False))
    ours = next(
        law["coefficients"]["beta"]
        for law in document["laws"]
        if law["name"] == "chinchilla" and law["selected"]["size"] == "params"
    )
    beta, refits = bootstrapped(table)
    low, high = np.quantile(refits, [0.05, 0.95])
    assert ours["value"] == pytest.approx(beta, abs=0.1 * (high - low))
    assert 0.85 < (ours["high"] - ours["low"]) / (high - low) < 1.15
