"""Variances of runs and draws from few directions, against all of them."""

import numpy as np
import pytest

from distill.laws.intervals import _shared_directions, shared_data


@pytest.mark.parametrize(("runs", "parameters"), [(40, 4), (200, 5), (9, 5)])
def test_draws_have_the_same_variance_in_few_directions_as_in_all(
    runs: int, parameters: int
) -> None:
    rng = np.random.default_rng(runs)
    tokens, draws = rng.choice([1e3, 2e3, 4e3], runs), rng.integers(0, 4, runs).astype(float)
    sharing = shared_data(tokens, np.array(["a"] * runs), draws)
    whole = np.linalg.svd(rng.normal(size=(runs, parameters)), full_matrices=True)[0]
    left, rest = whole[:, :parameters], whole[:, parameters:]
    weights, directions = _shared_directions(sharing, left)
    assert len(weights) <= 3 * 4
    dense = rest @ (rest.T @ sharing @ rest) @ rest.T
    assert np.allclose((directions * weights) @ directions.T, dense, atol=1e-12)
    assert np.allclose(left.T @ directions[:, weights > 1e-9], 0.0, atol=1e-7)
