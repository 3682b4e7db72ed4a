"""Size steps, and the simple forecasts that a law must beat."""

import numpy as np
import pytest

from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.points import Points, points_of
from distill.laws.size_steps import best_forecast, simple_forecasts, size_steps, skill_of
from law_simulations import chinchilla_rows, table_of


def grid(sizes: int = 5, amounts: int = 5, noise: float = 0.002) -> Points:
    rows = chinchilla_rows(
        [1e5 * 3.0**k for k in range(sizes)], [1e5 * 2.0**k for k in range(amounts)], noise
    )
    return points_of(table_of(rows), "loss", "params", False)


def test_the_last_step_of_a_grid_has_the_most_compute() -> None:
    points = grid()
    axis, ranks = size_steps(points, ("params", "tokens"))
    assert axis == "compute"
    for rank in range(1, int(ranks.max()) + 1):
        assert points.compute[ranks == rank].min() > points.compute[ranks == rank - 1].max()
        assert (ranks == rank).sum() >= 3
    assert size_steps(points, ("params",))[0] == "params"


def test_budgets_of_equal_compute_are_steps() -> None:
    rows = [
        {"params": size, "tokens": budget / size, "student": f"{size}", "loss": 2.0}
        for budget in (1e12, 1e13, 1e14)
        for size in (1e5, 1e6, 1e7)
    ]
    _, ranks = size_steps(points_of(table_of(rows), "loss", "params", False), ("params", "tokens"))
    assert ranks.tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_forecasts_by_hand() -> None:
    rows = [
        {"params": 1e6, "tokens": 10.0**k, "loss": loss}
        for k, loss in zip(range(3, 8), (9.0, 7.0, 4.0, 3.5, 3.2), strict=True)
    ]
    points = points_of(table_of(rows), "loss", "params", False)
    axis, ranks = size_steps(points, ("tokens",))
    found = simple_forecasts(points, axis, ranks, 4)
    assert found["constant"][0] == pytest.approx(5.5)
    assert found["nearest"][0] == pytest.approx(3.5)
    assert found["log-linear in tokens"][0] == pytest.approx(3.0)
    assert np.isnan(found["log-linear in params"][0])
    name, errors = best_forecast(points, axis, ranks, 4)
    assert name in ("log-linear in tokens", "log-linear in compute")
    assert errors[0] == pytest.approx(abs(3.0 / 3.2 - 1))


def test_skill_is_none_where_noise_explains_the_gain() -> None:
    simple = np.array([0.05, 0.05])
    assert skill_of(np.array([0.01, 0.01]), simple, 0.002) == pytest.approx(0.8)
    assert skill_of(np.array([0.045, 0.045]), simple, 0.01) == 0.0
    assert skill_of(np.array([0.2, 0.2]), simple, 0.01) == pytest.approx(-3.0)


@pytest.mark.slow
def test_pure_noise_has_no_skill() -> None:
    for seed in range(3):
        rows = chinchilla_rows()
        rng = np.random.default_rng(seed)
        for row in rows:
            row["loss"] = 3.0 * np.exp(0.02 * rng.normal())
        for law in fit_laws(table_of(rows), Settings(shared=False, starts=16))["laws"]:
            if law["holdout"] and law["target"] == "loss":
                assert law["holdout"]["skill"] <= 0.05
