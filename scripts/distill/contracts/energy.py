"""Energy of a piece of work in kWh, and the estimated part of it.

Energy is estimated if the machine has no readable counter (see `distill.runtime.meter`). Unknown
energy, such as a server's, is null and makes every sum that contains it null.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JOULES_PER_KWH = 3.6e6
WATTS_PER_CPU = 4.0
"""Estimated power of a busy hardware thread in W: a processor's thermal design power divided by its
threads. CodeCarbon uses 4 W for unknown processors; Cloud Carbon Footprint's methodology has 3.5 to
4.3 W for a busy virtual processor of the large clouds. Processors need 2 W (servers with 128
threads) to 10 W (desktops), so an estimate may be wrong by a factor of two."""


@dataclass(frozen=True)
class Energy:
    """Energy of some work.

    Attributes:
        kwh: Total energy in kWh; None if it is unknown.
        estimated: The estimated part of it in kWh.
    """

    kwh: float | None = 0.0
    estimated: float | None = 0.0

    def __add__(self, other: "Energy") -> "Energy":
        return sum_energy([self, other])

    def __sub__(self, other: "Energy") -> "Energy":
        return self + other / -1

    def __truediv__(self, number: float) -> "Energy":
        if self.kwh is None or self.estimated is None:
            return UNKNOWN
        return Energy(self.kwh / number, self.estimated / number)

    def columns(self, prefix: str = "") -> dict[str, float | None]:
        """The energy as two columns of a row."""
        return {f"{prefix}kwh": self.kwh, f"{prefix}kwh_estimated": self.estimated}

    def record(self) -> dict[str, Any]:
        """The energy as entries of a job's record.

        energy_from is `measured`, or `estimated` if any part is, at energy_watts_per_cpu; both are
        null if energy is unknown or 0.
        """
        source = None if not self.kwh else "estimated" if self.estimated else "measured"
        return {
            **self.columns("energy_"),
            "energy_from": source,
            "energy_watts_per_cpu": WATTS_PER_CPU if source == "estimated" else None,
        }


UNKNOWN = Energy(None, None)


def sum_energy(parts: Iterable[Energy]) -> Energy:
    """The sum of energies; it is unknown if a part is."""
    each = list(parts)
    known = [(part.kwh, part.estimated) for part in each if part.kwh is not None]
    if len(known) < len(each):
        return UNKNOWN
    return Energy(*(math.fsum(kwh or 0.0 for kwh in column) for column in zip(*known, strict=True)))


def energy_of(row: Mapping[str, Any], prefix: str = "") -> Energy:
    """The energy in a row or record; unknown without these columns (of an earlier version)."""
    kwh, estimated = row.get(f"{prefix}kwh"), row.get(f"{prefix}kwh_estimated")
    return UNKNOWN if kwh is None or estimated is None else Energy(kwh, estimated)
