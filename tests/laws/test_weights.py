"""Runs with standard errors: each weighs by them and by the spread that they leave."""

from dataclasses import replace

import numpy as np
import pytest

from distill.laws.choice import Settings, fit_points
from distill.laws.forms import LAWS
from distill.laws.intervals import coefficients
from distill.laws.points import Points, points_of
from distill.table.own_points import own_table
from own_tables import NAMES, TRUTH, grid

CHINCHILLA = LAWS["loss"]["chinchilla"]
SETTINGS = Settings(starts=8, shared=False)


def points(seed: int, **errors: np.ndarray) -> Points:
    """The grid, every third run with a noise of 5 %, the others with one of 0.2 %."""
    rng = np.random.default_rng(seed)
    table = grid(noise=0.0)
    noise = np.where(np.arange(len(table)) % 3 == 0, 0.05, 0.002)
    loss = table["L"] * np.exp(noise * rng.normal(size=len(table)))
    table = table.assign(L=loss, se=errors.get("se", noise) * loss)
    return points_of(own_table(table, {**NAMES, "loss_stderr": "se"}), "loss", "params", False)


@pytest.mark.slow
def test_runs_with_large_errors_weigh_less() -> None:
    misses: dict[str, list[float]] = {"weighted": [], "equal": []}
    covered = 0
    for seed in range(12):
        given = points(seed)
        fitted = fit_points(CHINCHILLA, given, SETTINGS)
        entry = coefficients(CHINCHILLA, fitted.fit, fitted.uncertainty)["alpha"]
        covered += entry["low"] <= TRUTH["alpha"] <= entry["high"]
        misses["weighted"].append(entry["value"] - TRUTH["alpha"])
        equal = fit_points(CHINCHILLA, points(seed, se=np.array(0.01)), SETTINGS)
        entry = coefficients(CHINCHILLA, equal.fit, equal.uncertainty)["alpha"]
        misses["equal"].append(entry["value"] - TRUTH["alpha"])
    errors = {name: float(np.sqrt(np.mean(np.square(m)))) for name, m in misses.items()}
    assert errors["weighted"] < errors["equal"], (errors, covered)
    assert covered >= 8, covered


@pytest.mark.slow
def test_equal_errors_change_nothing() -> None:
    given = points(0, se=np.array(0.01))
    plain = fit_points(CHINCHILLA, replace(given, error=None), SETTINGS)
    equal = fit_points(CHINCHILLA, given, SETTINGS)
    np.testing.assert_array_equal(equal.fit.theta, plain.fit.theta)


def test_a_study_has_a_shared_error_and_a_table_of_runs_its_own() -> None:
    table = own_table(grid().assign(se=0.01), {**NAMES, "loss_stderr": "se"})
    own, study = (points_of(table, "loss", "params", shared) for shared in (False, True))
    assert own.stderr is None
    assert study.error is None
    for error in (own.error, study.stderr):
        assert error is not None
        np.testing.assert_allclose(error, 0.01 / grid()["L"])
    assert points_of(own_table(grid(), NAMES), "loss", "params", False).error is None
    kept = own.where(np.arange(30) < 4)
    assert kept.error is not None
    assert len(kept.error) == 4


@pytest.mark.slow
def test_a_weight_is_as_many_runs() -> None:
    """A fit with weights w is that of a table that holds each run w times."""
    table = grid(noise=0.01)
    times = np.where(np.arange(len(table)) % 3 == 0, 1, 4)
    weighed = own_table(table.assign(w=times), {**NAMES, "weight": "w"})
    repeated = weighed.loc[np.repeat(weighed.index, times)].drop(columns="weight")
    law = replace(CHINCHILLA)
    # Beyond Huber's width residuals count linearly, so squares are compared.
    settings = replace(SETTINGS, huber_delta=10.0)
    found = [
        fit_points(law, points_of(one.reset_index(drop=True), "loss", "params", False), settings)
        for one in (weighed, repeated, weighed.drop(columns="weight"))
    ]
    values = [coefficients(law, one.fit, one.uncertainty) for one in found]
    for name in TRUTH:
        assert values[0][name]["value"] == pytest.approx(values[1][name]["value"], rel=1e-3)
    assert values[0]["alpha"]["value"] != pytest.approx(values[2]["alpha"]["value"], rel=1e-3)


@pytest.mark.slow
def test_equal_weights_change_nothing() -> None:
    table = own_table(grid().assign(w=3.0), {**NAMES, "weight": "w"})
    given = points_of(table, "loss", "params", False)
    assert given.weight is not None
    plain = fit_points(CHINCHILLA, replace(given, weight=None), SETTINGS)
    equal = fit_points(CHINCHILLA, given, SETTINGS)
    np.testing.assert_array_equal(equal.fit.theta, plain.fit.theta)
    some = given.where(np.arange(30) < 4)
    assert some.weight is not None
    assert len(some.weight) == 4
