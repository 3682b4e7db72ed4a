"""Tables of so many runs that those of one cell enter a fit as one."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.laws import fitting
from distill.laws.choice import Settings, fit_points
from distill.laws.forms import LAWS
from distill.laws.intervals import coefficients
from distill.laws.points import Points, cells_of, points_of
from distill.table.own_points import own_points
from law_simulations import TRUTH

LAW = LAWS["loss"]["chinchilla"]
SETTINGS = Settings(starts=8, shared=False)


def scattered(runs: int, noise: float, seed: int = 0) -> Points:
    """Runs at random sizes and amounts of data over three decades of each."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"params": 1e7 * 1e3 ** rng.random(runs),
                          "tokens": 1e8 * 1e3 ** rng.random(runs),
                          "seed": range(runs)})  # fmt: skip
    table["loss"] = LAW.predict(TRUTH, table) * np.exp(noise * rng.normal(size=runs))
    columns = {name: name for name in table}
    return points_of(own_points(table, columns).points, "loss", "params", False)


def found(points: Points) -> dict[str, dict[str, Any]]:
    one = fit_points(LAW, points, SETTINGS)
    return coefficients(LAW, one.fit, one.uncertainty)


@pytest.mark.slow
def test_narrow_cells_change_no_coefficient_beyond_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = scattered(30_000, 0.01)
    binned = found(points)
    monkeypatch.setattr(fitting, "_SCATTERED", len(points))
    plain = found(points)
    for name, one in plain.items():
        half = (one["high"] - one["low"]) / 2
        assert abs(binned[name]["value"] - one["value"]) < half, name
        assert binned[name]["high"] - binned[name]["low"] == pytest.approx(2 * half, rel=0.05)


@pytest.mark.slow
def test_the_mean_of_a_cell_is_off_by_less_than_the_docstring_says() -> None:
    points = scattered(30_000, 0.0)
    fit = fit_points(LAW, points, SETTINGS).fit
    x = LAW.centred(points.values, fit.centre)
    x, logs, counts = fitting._merged(x, LAW.curve(fit.theta, x)[0])
    assert counts.sum() == len(points)
    assert len(logs) < len(points) / 1.5
    assert np.abs(LAW.curve(fit.theta, x)[0] - logs).max() < 3e-5


def test_cells_are_those_of_rows() -> None:
    points = scattered(500, 0.01)
    coarse = {name: np.exp(np.round(np.log(values))) for name, values in points.values.items()}
    rows = np.stack([coarse["params"], coarse["tokens"]], axis=1)
    expected = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    grid = Points(coarse, *(getattr(points, name) for name in list(vars(points))[1:]))
    assert np.array_equal(cells_of(grid, ("params", "tokens")), expected)
