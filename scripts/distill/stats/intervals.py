"""Pooled standard deviations and estimates with 90 % intervals."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from distill.core.quantities import number

LEVEL = 0.90
"""Coverage of the intervals (a share)."""


POWER = 0.80
"""Share of repeats in which a difference of `Estimate.least_shown` is found."""


def sizes_text(sizes: Iterable[int]) -> str:
    """Write sample counts as n = 64, 128."""
    return "n = " + ", ".join(f"{n:,}" for n in sizes)


def span(values: Iterable[float]) -> str:
    """Format the lowest and highest value, or one of them if they look the same."""
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
    """A value with its 90 % interval.

    Attributes:
        value: The value.
        stderr: Its standard error; None without one, as for an asymmetric interval.
        low: Lower end of the interval; None if it is unbounded or there is no interval.
        high: Upper end.
    """

    value: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def around(cls, value: float, half: float) -> "Estimate":
        """A value with an interval of this half width."""
        return cls(value, None, value - half, value + half)

    @classmethod
    def of_ends(cls, entry: Mapping[str, Any]) -> "Estimate":
        """The estimate that `ends` wrote, with `value`, `low` and `high`."""
        return cls(entry["value"], None, entry["low"], entry["high"])

    @property
    def sign(self) -> int:
        """+1 or −1 if the interval is on one side of zero, else 0."""
        if self.low is not None and self.low > 0:
            return 1
        return -1 if self.high is not None and self.high < 0 else 0

    @property
    def tested(self) -> bool:
        """Whether it has a standard error."""
        return self.stderr is not None

    @property
    def bounded(self) -> bool:
        """Whether the interval has both ends."""
        return self.low is not None and self.high is not None

    @property
    def least_shown(self) -> float | None:
        """The least true value that an interval of this width excludes 0 for, in 80 % of repeats.

        The half width times 1 + z(80 %) / z(95 %): the power of a two-sided test at the interval's
        level, by the normal approximation. None without an interval.
        """
        if self.low is None or self.high is None:
            return None
        ratio = stats.norm.ppf(POWER) / stats.norm.ppf((1 + LEVEL) / 2)
        return (self.high - self.low) / 2 * (1 + float(ratio))

    @property
    def negated(self) -> "Estimate":
        """The same of the negative value."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Estimate(-self.value, self.stderr, low, high)

    def scaled(self, factor: float) -> "Estimate":
        """The same of a positive multiple."""
        ends = (None if x is None else factor * x for x in (self.stderr, self.low, self.high))
        return Estimate(factor * self.value, *ends)

    def numbers(self, name: str) -> dict[str, float | None]:
        """Return the estimate as plain JSON numbers under `name`."""
        return {
            name: self.value,
            f"{name}_stderr": self.stderr,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
        }

    def ends(self, name: str = "") -> dict[str, float | None]:
        """Plain JSON numbers `value`, `low` and `high`, after `name` and `_` if one is given."""
        entry = {"value": self.value, "low": self.low, "high": self.high}
        return {f"{name}_{key}" if name else key: end for key, end in entry.items()}

    def text(self, unit: str = "") -> str:
        """Write the value with its interval."""
        end = f" {unit}" if unit else ""
        if self.low is None and self.high is None:
            return f"{number(self.value)}{end} (no error bar)"
        low = "unbounded" if self.low is None else number(self.low)
        high = "unbounded" if self.high is None else number(self.high)
        return f"{number(self.value)}{end} (90 % interval {low} to {high})"


def read_estimate(numbers: Mapping[str, Any], name: str) -> Estimate:
    """Return the estimate that `Estimate.numbers` wrote under `name`."""
    ends = (numbers[f"{name}_{end}"] for end in ("stderr", "low", "high"))
    return Estimate(numbers[name], *ends)


def estimate(value: float, variance_share: float, spread: Spread | None) -> Estimate:
    """Return value ± t · sd · √share, with t of the pooled degrees of freedom.

    Args:
        value: The estimate, a function of means over runs.
        variance_share: Σ slope²/runs over these means (the delta method).
        spread: Standard deviation of one run; None gives a value without error bar.
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
