"""Energy of a piece of work in kWh, and the part of it that no counter read.

A part is estimated where no counter of the machine can be read (see `distill.runtime.meter`).
Unknown energy, such as a server's, is null and makes every sum that contains it null.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JOULES_PER_KWH = 3.6e6
WATTS_PER_CPU = 4.0
"""Watts of a busy hardware thread where no counter can be read: a processor's thermal design power
over its threads. CodeCarbon takes 4 W for processors that it does not know; the methodology of
Cloud Carbon Footprint has 3.5 to 4.3 W for a busy virtual processor of the large clouds. Real ones
take 2 W (servers of 128 threads) to 10 W (desktops): an estimate may be off by a factor of two."""


@dataclass(frozen=True)
class Energy:
    """Energy of some work.

    Attributes:
        kwh: All of it; None where that is unknown.
        estimated: The part of it that is an estimate.
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
        """The two columns of a row that hold it."""
        return {f"{prefix}kwh": self.kwh, f"{prefix}kwh_estimated": self.estimated}

    def record(self) -> dict[str, Any]:
        """As a job's record tells it: energy_from is `measured`, or `estimated` if any part is, at
        energy_watts_per_cpu; null where energy is unknown or none was used."""
        source = None if not self.kwh else "estimated" if self.estimated else "measured"
        return {
            **self.columns("energy_"),
            "energy_from": source,
            "energy_watts_per_cpu": WATTS_PER_CPU if source == "estimated" else None,
        }


UNKNOWN = Energy(None, None)


def sum_energy(parts: Iterable[Energy]) -> Energy:
    """The sum, unknown where a part is."""
    each = list(parts)
    known = [(part.kwh, part.estimated) for part in each if part.kwh is not None]
    if len(known) < len(each):
        return UNKNOWN
    return Energy(*(math.fsum(part or 0.0 for part in own) for own in zip(*known, strict=True)))


def energy_of(row: Mapping[str, Any], prefix: str = "") -> Energy:
    """What a row or record says; unknown where it has no such columns (an earlier version's)."""
    kwh, estimated = row.get(f"{prefix}kwh"), row.get(f"{prefix}kwh_estimated")
    return UNKNOWN if kwh is None or estimated is None else Energy(kwh, estimated)
