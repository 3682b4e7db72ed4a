import math

import pandas as pd
import pytest
from scipy import stats

from distill.answers.runs import doubling
from question_tables import ask, small_table


def test_gain_per_doubling_by_hand() -> None:
    (answer,) = ask(small_table(), doubling)
    first, last = answer.numbers["gains_per_doubling"]
    # Each pair of draws has variance 0.1²/2 on one degree of freedom; pooled over two cells.
    sd = math.sqrt((0.005 + 0.005) / 2)
    assert answer.numbers["pooled_sd"] == pytest.approx(sd)
    assert answer.numbers["pooled_df"] == 2
    assert first["loss_gain"] == pytest.approx(2.05 - 1.65)
    assert first["loss_gain_stderr"] == pytest.approx(sd * math.sqrt(1 / 2 + 1 / 2))
    assert last["loss_gain"] == pytest.approx(1.65 - 1.5)
    assert last["loss_gain_stderr"] == pytest.approx(sd * math.sqrt(1 / 2 + 1))
    assert last["perplexity_ratio"] == pytest.approx(math.exp(-0.15))
    half = stats.t.ppf(0.95, 2) * sd
    assert first["loss_gain_low"] == pytest.approx(0.4 - half)
    # Least squares over x = 0, 1, 2 doublings is (first − last)/2.
    assert answer.numbers["trend_per_doubling"] == pytest.approx((2.05 - 1.5) / 2)
    contrast = 2.05 - 2 * 1.65 + 1.5
    assert answer.numbers["first_minus_last_gain"] == pytest.approx(contrast)
    error = sd * math.sqrt(1 / 2 + 4 / 2 + 1)
    assert answer.numbers["first_minus_last_gain_stderr"] == pytest.approx(error)
    low, high = (answer.numbers[f"first_minus_last_gain_{end}"] for end in ("low", "high"))
    assert low < 0 < high
    assert answer.status == "cannot_tell"
    assert answer.needs[0].what == "precision"


def test_a_step_that_is_no_doubling_is_scaled() -> None:
    runs = pd.DataFrame({"student": "s", "method": "m", "samples": [500, 2000], "loss": [3.0, 2.0]})
    (answer,) = ask(runs, doubling)
    (step,) = answer.numbers["gains_per_doubling"]
    assert step["doublings"] == 2
    assert step["loss_gain"] == pytest.approx(0.5)
    assert step["loss_gain_stderr"] is None
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "repeats")


def test_one_size_has_no_gain() -> None:
    (answer,) = ask(small_table().query("samples == 100"), doubling)
    assert answer.status == "cannot_tell"
    assert [(n.what, n.change) for n in answer.needs] == [("sizes", {"runs[].samples": [50, 100]})]


def test_the_draws_that_a_gain_needs_would_clear_it() -> None:
    """A gain at 0.7 of its half width needs about twice the runs."""
    runs = small_table()
    runs.loc[runs["samples"] == 400, "loss"] = 1.6
    (answer,) = ask(runs, doubling)
    step = answer.numbers["gains_per_doubling"][-1]
    half = step["loss_gain_high"] - step["loss_gain"]
    (need,) = answer.needs
    assert need.wanted == math.ceil((half / step["loss_gain"]) ** 2)
    assert need.present == 1
