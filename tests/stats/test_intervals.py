import math

import numpy as np
import pytest
from scipy import stats

from distill.core.quantities import number, percent
from distill.stats.intervals import (
    LEVEL,
    POWER,
    Estimate,
    Spread,
    estimate,
    mean_estimate,
    pooled_spread,
    read_estimate,
    sizes_text,
    span,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (134515008, "134,515,008"),
        (12345.6, "12,300"),
        (0.034567, "0.0346"),
        (-2.0, "−2.00"),
        (3.7e13, "3.70 × 10¹³"),
        (2.6e-5, "2.60 × 10⁻⁵"),
        (0.9996, "1.00"),
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (True, "yes"),
    ],
)
def test_numbers_are_readable(value: float | None, text: str) -> None:
    assert number(value) == text


def test_pooling_needs_two_runs_in_a_cell() -> None:
    assert pooled_spread([[1.0], [2.0]]) is None
    spread = pooled_spread([[1.0, 3.0], [2.0, 2.0, 2.0], [9.0]])
    assert spread is not None
    assert (spread.sd, spread.df, spread.cells) == (pytest.approx(math.sqrt(2 / 3)), 3, 2)


def test_numbers_in_words() -> None:
    assert percent(0.0123) == "+1.2 %"
    assert span([0.0123, 0.2]) == "0.012 to 0.20"
    assert span([0.1, 0.1004]) == "0.10"
    assert sizes_text([64, 1024]) == "n = 64, 1,024"


def test_an_interval_by_hand() -> None:
    found = estimate(1.0, 0.25, Spread(0.2, 5, 3))
    half = stats.t.ppf(0.95, 5) * 0.1
    assert (found.stderr, found.low) == (pytest.approx(0.1), pytest.approx(1 - half))
    assert found.sign == 1
    assert estimate(1.0, 0.25, None).sign == 0
    assert not estimate(1.0, 0.25, None).tested
    assert read_estimate(found.numbers("x"), "x") == found


def test_the_mean_of_one_value_has_no_interval() -> None:
    assert mean_estimate([2.0]).low is None
    found = mean_estimate([1.0, 2.0, 4.5])
    interval = stats.ttest_1samp([1.0, 2.0, 4.5], 0).confidence_interval(0.90)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_the_least_difference_shown_is_found_in_four_of_five_repeats() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 200_000)
    half = stats.norm.ppf((1 + LEVEL) / 2)
    least = Estimate(0.0, 1.0, -half, half).least_shown
    assert least is not None
    found = np.abs(least + noise) > half
    assert found.mean() == pytest.approx(POWER, abs=0.005)
    assert Estimate(1.0).least_shown is None
