import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.core.quantities import data_size, duration, number, percent, short_count, whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (pd.NA, "–"), (math.nan, "–"), (np.float32("nan"), "–"),
        (math.inf, "∞"), (-math.inf, "−∞"), (True, "yes"), (np.False_, "no"),
        (-1234, "−1,234"), (np.int64(10**9), "1,000,000,000"), (0.0, "0"),
        (0.012345, "0.0123"), (-0.5, "−0.500"), (999.96, "1,000"), (np.float64(12345.6), "12,300"),
        (1e-5, "1.00 × 10⁻⁵"), (-2.5e12, "−2.50 × 10¹²"),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: str) -> None:
    assert number(value) == text


def test_shares_are_signed() -> None:
    assert [percent(share) for share in (0.123, -0.05, 0.0)] == ["+12 %", "−5.0 %", "0 %"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.0, "0 s"), (1.234, "1.23 s"), (119.0, "119 s"), (120.0, "2.00 min"),
        (7200.0, "2.00 h"), (3 * 86400.0, "3.00 days"), (1e9, "31.7 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "–"), (12.0, "12.0 B"), (1500.0, "1.50 kB"), (2.5e9, "2.50 GB"), (3e15, "3.00 PB")],
)
def test_sizes(size: float | None, text: str) -> None:
    assert data_size(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12.0"), (1234.0, "1.23 k"), (134_515_008.0, "135 M"), (7e9, "7.00 B")],
)
def test_short_counts(value: float, text: str) -> None:
    assert short_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.4, "0"), (1234.6, "1,235"), (9_999_999.0, "9,999,999"), (1e7, "1.00 × 10⁷")],
)
def test_computed_counts(value: float | None, text: str) -> None:
    assert whole(value) == text
