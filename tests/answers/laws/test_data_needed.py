"""Data that a target loss needs."""

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws.data_needed import KEY, data_answers, data_for
from distill.laws.fitted import FittedLaw
from law_worlds import PLAIN, RANGES, SIZES, answered, chinchilla, exact, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows, sizes=("params",))


def test_data_for_a_target_meets_the_closed_form() -> None:
    curve = exact("chinchilla", RANGES, **PLAIN)
    needed = data_for(curve, float(np.log(chinchilla(3e6, 2e6))), {"params": 3e6})
    assert needed is not None
    assert needed.value == pytest.approx(2e6, rel=1e-3)
    assert data_for(curve, float(np.log(2.4)), {"params": 3e6}) is None


def test_a_target_is_reachable_near_the_data_or_refused(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    def ask(target: float) -> Answer:
        return only(data_answers(rows, laws, target), KEY)

    near = ask(chinchilla(SIZES[-1], 3e6))
    assert answered(near)
    assert near.numbers["low"] < 3e6 < near.numbers["high"]
    assert near.numbers["target_stated"]
    below, far = ask(1.9), ask(chinchilla(SIZES[-1], 4e7))
    assert [one.numbers["reason"] for one in (below, far)] == ["below_floor", "beyond_reach"]
    assert not answered(below)
    assert not answered(far)
    assert far.numbers["beyond_measured"] == pytest.approx(10, rel=0.3)


def test_without_a_target_half_of_the_gap_that_is_left_is_asked_for(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    answer = only(data_answers(rows, laws), KEY)
    numbers = answer.numbers
    assert not numbers["target_stated"]
    assert numbers["target"] == pytest.approx((numbers["reached"] + numbers["floor"]) / 2)
    assert not answered(only(data_answers(rows, []), KEY))
