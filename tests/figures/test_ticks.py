import math

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from distill.figures.ticks import round_ticks, set_ticks, tick_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (-2, "−2"), (1e13, "10¹³"), (2e12, "2·10¹²"), (1500, "1,500"),
     (2e6, "2 M"), (12_000, "12 k"), (3.5e6, "3.5 M"), (1.555e-6, "1.555·10⁻⁶"), (1e-5, "10⁻⁵"),
     (0.0002, "2·10⁻⁴"), (0.002, "0.002")],
)  # fmt: skip
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(1.0, 1e4, [1, 10, 100, 1000, 10000]), (30, 40, [30, 32.5, 35, 37.5, 40]),
     (5.831, 5.862, [5.84, 5.85, 5.86]), (20, 1100, [30, 100, 300, 1000])],
)  # fmt: skip
def test_ticks_are_few_and_round(low: float, high: float, wanted: list[float]) -> None:
    assert round_ticks(low, high, 5) == pytest.approx(wanted)


def test_ticks_of_any_range_are_within_it_and_apart() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = 10 ** rng.uniform(-8, 8)
        high = low * 10 ** rng.uniform(0.002, 9)
        most = int(rng.integers(3, 7))
        ticks = round_ticks(low, high, most)
        assert 1 <= len(ticks) <= most + 1
        assert all(low <= tick <= high for tick in ticks)
        gaps = np.diff(np.log(ticks))
        assert (gaps > math.log(high / low) / (1.5 * most)).all()


def test_ticks_of_samples_are_sizes_with_room_between_them() -> None:
    axes = Canvas().subplots()
    sizes = [0.0, 64, 70, 128, 256, 512, 1000, 1024]
    axes.set_xscale("symlog", linthresh=64, linscale=0.2)
    axes.set_xlim(-5, 1100)
    set_ticks(axes.xaxis, "samples", sizes)
    ticks = sorted(axes.xaxis.get_majorticklocs())
    assert ticks[0] == 0
    assert ticks[-1] == 1024
    assert 1000 not in ticks
    assert set(ticks) <= set(sizes)
