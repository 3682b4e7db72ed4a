import math

import pytest

from distill.answers.runs import extrapolation
from question_tables import ask, small_table
from synthetic_runs import make_runs


def test_forecast_by_hand() -> None:
    (answer,) = ask(small_table(), extrapolation)
    numbers = answer.numbers
    assert numbers["predicted_loss"] == pytest.approx(1.65**2 / 2.05)
    assert numbers["measured_loss"] == 1.5
    assert numbers["relative_error_loss"] == pytest.approx(1.65**2 / 2.05 / 1.5 - 1)
    assert numbers["relative_error_loss_no_change"] == pytest.approx(0.1)
    assert numbers["predicted_perplexity"] == pytest.approx(math.exp(1.65**2 / 2.05))


def test_a_power_law_is_forecast_exactly_in_the_gap() -> None:
    runs = make_runs(noise=0)
    runs["kl_teacher"] = runs["loss"] - runs["loss_teacher"]
    for answer in ask(runs, extrapolation):
        assert answer.numbers["relative_error_gap"] == pytest.approx(0, abs=1e-9)


def test_a_prediction_needs_three_sizes() -> None:
    (answer,) = ask(small_table().query("samples < 400"), extrapolation)
    (need,) = answer.needs
    assert (need.what, need.wanted, need.present) == ("sizes", 3, 2)
    assert need.change == {"runs[].samples": [50, 100, 200]}
