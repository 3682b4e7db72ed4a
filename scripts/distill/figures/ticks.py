"""Ticks of the figures: round numbers, in few characters, as many as there is room for."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from distill.core.quantities import power_of_ten

MOST = 6
"""Most labelled ticks of an axis."""
STEPS = [1, 2, 2.5, 5, 10]


def tick_text(value: float) -> str:
    """Write a tick without trailing zeros: 12 k, 3.5 M, 2·10¹²."""
    if abs(value) >= 1e9 or 0 < abs(value) < 1e-3:
        mantissa, power = f"{value:.{2 if abs(value) >= 1 else 3}e}".split("e")
        mantissa, raised = mantissa.rstrip("0").rstrip("."), power_of_ten(int(power))
        return raised if mantissa == "1" else f"{mantissa}·{raised}"
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e4):
            return f"{value / unit:,g} {name}"
    text = f"{value:,.10f}".rstrip("0").rstrip(".") if value else "0"
    return text.replace("-", "−")


class RoundLogLocator(LogLocator):
    """Round numbers on a logarithmic axis, however short or long it is."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return a few round ticks between two values."""
        return round_ticks(
            vmin, vmax, int(np.clip(cast(Axis, self.axis).get_tick_space() - 2, 3, MOST))
        )


@cache
def round_ticks(low: float, high: float, most: int) -> list[float]:
    """Return three to `most` round ticks in a range of a logarithmic axis, if there are."""
    room = math.log(high / low) / (1.5 * most)
    powers = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = np.outer(powers, digits).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        ticks = ticks[:: math.ceil(max(1, len(ticks)) / most)]
        if len(ticks) >= 3 and np.diff(np.log(ticks)).min() > room:
            return ticks.tolist()
    chosen: list[float] = []
    for tick in reversed(MaxNLocator(most - 1, steps=STEPS).tick_values(low, high)):
        if low <= tick <= high and (not chosen or math.log(chosen[-1] / tick) > 1.5 * room):
            chosen.append(float(tick))
    return chosen[::-1]


def set_ticks(axis: Any, scale: str, places: Sequence[float] = (), bound: float = 1.0) -> None:
    """Set the ticks of one axis of a panel.

    Args:
        axis: The axis.
        scale: log, linear, count (whole numbers), samples (ticks at places) or bounded (linear
            within ± bound and logarithmic beyond).
        places: Where ticks of scale `samples` may be.
        bound: See scale.
    """
    if scale == "log":
        axis.set_major_locator(RoundLogLocator())
    elif scale == "samples":
        axis.set_major_locator(FixedLocator(_apart(axis, places)))
    elif scale == "bounded":
        ends = [bound * step * 10**power for power in range(6) for step in (1, 4)]
        axis.set_major_locator(FixedLocator([*(-end for end in ends), 0.0, *ends]))
    else:
        axis.set_major_locator(MaxNLocator(MOST - 1, steps=STEPS, integer=scale == "count"))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))


def _apart(axis: Axis, places: Sequence[float]) -> list[float]:
    """Return those of some places that are an eighth of the axis apart, the last one first."""
    scale = axis.get_transform().transform
    low, high = scale(np.array(axis.get_view_interval()))
    shares = [(float(scale(np.array([place]))[0] - low) / (high - low), place) for place in places]
    chosen: list[tuple[float, float]] = []
    for share, place in sorted(shares, reverse=True):
        if all(abs(share - other) > 0.125 for other, _ in chosen):
            chosen.append((share, place))
    return [place for _, place in chosen]
