"""A floor is claimed only where a larger size step bore it out."""

from typing import Any

import pytest

from distill.laws.choice import Fitted, Settings, Standing, fit_points
from distill.laws.floors import floor_of
from distill.laws.forms import LAWS
from distill.laws.intervals import coefficients
from distill.laws.points import Points, points_of
from law_simulations import TRUTH, chinchilla_rows, table_of

GOOD = {"skill": 0.8, "interval_coverage": 1.0}


@pytest.fixture(scope="module")
def fitted() -> tuple[Fitted, Points]:
    points = points_of(table_of(chinchilla_rows(noise=0.001)), "loss", "params", False)
    return fit_points(LAWS["loss"]["chinchilla"], points, Settings(shared=False, starts=16)), points


def refused(one: Fitted, points: Points, held: Any, **change: Any) -> Any:
    values = coefficients(one.law, one.fit, one.uncertainty)
    values["E"] |= change
    found = floor_of(one, points, Standing({}, True, held), values)
    assert found is not None
    return found["refused"]


def test_the_conditions_one_by_one(fitted: tuple[Fitted, Points]) -> None:
    one, points = fitted
    assert refused(one, points, GOOD) is None
    assert refused(one, points, None) == "unjudged"
    assert refused(one, points, GOOD | {"skill": 0.0}) == "missed"
    assert refused(one, points, GOOD | {"interval_coverage": 0.2}) == "missed"
    assert refused(one, points, GOOD, identifiable=False) == "unbounded"
    assert refused(one, points, GOOD, value=9.0) == "above_lowest"
    few = points.where(points.values["tokens"] < 2e5)
    assert refused(one, few, GOOD) == "few_runs"


def test_slopes_are_those_of_the_law(fitted: tuple[Fitted, Points]) -> None:
    one, points = fitted
    values = coefficients(one.law, one.fit, one.uncertainty)
    found = floor_of(one, points, Standing({}, True, GOOD), values)
    assert found is not None
    size, tokens = 1e7, 4e6
    terms = TRUTH["A"] * size ** -TRUTH["alpha"], TRUTH["B"] * tokens ** -TRUTH["beta"]
    loss = TRUTH["E"] + sum(terms)
    for name, term, power in zip(("params", "tokens"), terms, ("alpha", "beta"), strict=True):
        wanted = 2 ** (-TRUTH[power] * term / loss) - 1
        slope = found["slopes"][name]
        assert slope["value"] == pytest.approx(wanted, rel=0.05)
        assert slope["low"] < wanted < slope["high"]
    gap = fit_points(LAWS["gap"]["chinchilla"], points, Settings(shared=False, starts=8))
    assert floor_of(gap, points, Standing({}, True, GOOD), {}) is None
