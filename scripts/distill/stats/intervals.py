"""Numbers with their spread: pooled standard deviations and 90 % intervals."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from distill.core.quantities import number, percent  # noqa: F401

LEVEL = 0.90
"""Coverage of the intervals (a share)."""


def sizes_text(sizes: Iterable[int]) -> str:
    """Write sample counts as n = 64, 128."""
    return "n = " + ", ".join(f"{n:,}" for n in sizes)


def span(values: Iterable[float]) -> str:
    """Write the lowest and highest of some values, or the one if they look the same."""
    values = list(values)
    low, high = number(min(values), 2), number(max(values), 2)
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Spread:
    """A standard deviation between runs and its degrees of freedom, pooled over `cells` cells."""

    sd: float
    df: float
    cells: int


def pooled_spread(groups: Iterable[Any]) -> Spread | None:
    """Pool the variance within groups of runs; None when no group has two runs.

    sd² = Σ_cells Σ_runs (x − mean of the cell)² / df, with df = Σ_cells (runs − 1).
    """
    arrays = [np.asarray(group, dtype=float) for group in groups]
    arrays = [array[np.isfinite(array)] for array in arrays]
    arrays = [array for array in arrays if len(array) >= 2]
    df = sum(len(array) - 1 for array in arrays)
    if df == 0:
        return None
    squares = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays)
    return Spread(math.sqrt(squares / df), df, len(arrays))


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error and 90 % interval; all but the value None without spread."""

    value: float
    stderr: float | None
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """+1 or −1 when the interval lies on one side of zero, else 0."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def tested(self) -> bool:
        """Whether there is an interval."""
        return self.stderr is not None

    def numbers(self, name: str) -> dict[str, float | None]:
        """Return the estimate as plain JSON numbers under `name`."""
        return {
            name: self.value,
            f"{name}_stderr": self.stderr,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
        }

    def text(self, unit: str = "") -> str:
        """Write the value with its interval."""
        end = f" {unit}" if unit else ""
        if self.low is None or self.high is None:
            return f"{number(self.value)}{end} (no error bar)"
        return (
            f"{number(self.value)}{end} (90 % interval {number(self.low)} to {number(self.high)})"
        )


def read_estimate(numbers: Mapping[str, Any], name: str) -> Estimate:
    """Return the estimate that `Estimate.numbers` wrote under `name`."""
    ends = (numbers[f"{name}_{end}"] for end in ("stderr", "low", "high"))
    return Estimate(numbers[name], *ends)


def estimate(value: float, variance_share: float, spread: Spread | None) -> Estimate:
    """Return value ± t · sd · √share, with t of the pooled degrees of freedom.

    Args:
        value: what was estimated, a function of means over runs.
        variance_share: Σ slope²/runs over these means (the delta method).
        spread: standard deviation of one run; None gives a value without error bar.
    """
    if spread is None:
        return Estimate(value, None, None, None)
    stderr = spread.sd * math.sqrt(variance_share)
    half = float(stats.t.ppf((1 + LEVEL) / 2, spread.df)) * stderr
    return Estimate(value, stderr, value - half, value + half)


def mean_estimate(values: Any) -> Estimate:
    """Return the mean of k independent values, ± t(k − 1) · sd / √k."""
    array = np.asarray(values, dtype=float)
    return estimate(float(array.mean()), 1 / len(array), pooled_spread([array]))


@dataclass(frozen=True)
class Interval:
    """A value with its 90 % interval; an end is None where it is unbounded."""

    value: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """+1 or -1 where the interval lies on one side of zero, else 0."""
        if self.low is not None and self.low > 0:
            return 1
        return -1 if self.high is not None and self.high < 0 else 0

    def scaled(self, factor: float) -> "Interval":
        """The interval of a positive multiple."""
        low, high = (None if end is None else factor * end for end in (self.low, self.high))
        return Interval(factor * self.value, low, high)

    def numbers(self, name: str = "") -> dict[str, float | None]:
        """Plain numbers: value, low and high, under `name`."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {f"{name}_{key}" if name else key: end for key, end in ends.items()}

    def text(self, unit: str = "") -> str:
        """The value with its interval, in words."""
        unit = f" {unit}" if unit else ""
        ends = f"{_end(self.low, 'below')} to {_end(self.high, 'above')}"
        return f"{number(self.value)}{unit} (90 % interval {ends})"


def _end(value: float | None, side: str) -> str:
    return f"{side} what can be told" if value is None else number(value)
