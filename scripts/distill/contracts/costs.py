"""The cost of a piece of work: FLOPs, seconds and energy, stored in columns of rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.contracts.energy import UNKNOWN, Energy, energy_of, sum_energy


@dataclass(frozen=True)
class Cost:
    """FLOPs, seconds and energy of some work."""

    flops: float = 0.0
    seconds: float = 0.0
    energy: Energy = field(default_factory=Energy)

    def __add__(self, other: "Cost") -> "Cost":
        return sum_costs([self, other])

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops - other.flops, self.seconds - other.seconds, self.energy - other.energy
        )

    def __truediv__(self, number: float) -> "Cost":
        return Cost(self.flops / number, self.seconds / number, self.energy / number)

    def columns(self, prefix: str = "") -> dict[str, float | None]:
        """The cost as columns of a row."""
        work = {f"{prefix}flops": self.flops, f"{prefix}seconds": self.seconds}
        return {**work, **self.energy.columns(prefix)}


FREE = Cost()
UNITS = tuple(FREE.columns())
"""Columns of a cost, without a prefix."""


def sum_costs(parts: Iterable[Cost]) -> Cost:
    """The sum of costs; its energy is unknown if that of a part is."""
    each = list(parts)
    return Cost(
        sum(part.flops for part in each),
        sum(part.seconds for part in each),
        sum_energy(part.energy for part in each),
    )


def cost_of(row: Mapping[str, Any], prefix: str = "") -> Cost:
    """The cost in a row's columns; energy is unknown if an earlier version wrote the row."""
    return Cost(row[f"{prefix}flops"], row[f"{prefix}seconds"], energy_of(row, prefix))


def unmetered(flops: float, seconds: float) -> Cost:
    """The cost of work with unknown energy, such as a server's."""
    return Cost(flops, seconds, UNKNOWN)
