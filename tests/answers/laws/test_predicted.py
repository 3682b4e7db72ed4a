"""Whether the laws predicted the largest runs."""

import pandas as pd
import pytest

from distill.answers.laws.predicted import KEY, predicted_answers
from distill.laws.fitted import FittedLaw
from law_worlds import answered, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows)


def test_the_largest_runs_are_predicted_with_skill(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    answer = only(predicted_answers(rows, laws, {"refused": []}), KEY)
    assert answered(answer)
    held = answer.numbers["holdout"]
    assert held["mean_relative_error"] < 0.01
    assert held["skill"] > 0.3
    assert answer.numbers["holdout_non_embedding"] == laws[1].record["holdout"]
    assert (answer.about["method"], answer.about["teacher"]) == ("kd", "t")


def test_a_law_that_was_not_judged_needs_a_larger_size_step(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    unjudged = FittedLaw({**laws[0].record, "holdout": None})
    answer = only(predicted_answers(rows, [unjudged], {"refused": []}), KEY)
    assert not answered(answer)
    assert answer.needs[0].what == "larger_data"
    assert answer.needs[0].wanted == answer.needs[0].present + 1 == 7


def test_without_a_law_the_refusals_are_reported(rows: pd.DataFrame) -> None:
    refused = [{"reason": "b"}, {"reason": "a"}, {"reason": "b"}]
    answer = only(predicted_answers(rows, [], {"refused": refused}), KEY)
    assert not answered(answer)
    assert answer.numbers["refused"] == ["a", "b"]
