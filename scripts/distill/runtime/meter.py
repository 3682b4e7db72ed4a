"""Read the energy that this process uses: by the machine's counters, or else by an estimate.

Every process counts its own share alone, so that jobs side by side, and the processes of one job,
add up to what the machine used, not to a multiple of it:

- a GPU's own counter (NVML), of each GPU that the process holds memory of. Jobs do not share a GPU
  here (the resource `device`); two that did would both count it. A GPU without the counter is
  estimated at its power limit; one that NVML does not know makes the energy unknown.
- processors and memory by RAPL (powercap, for the most part readable by root alone): of what was
  used between two readings, the process's share of the machine's busy processor time. A counter
  wraps around after 20 minutes or more, so it must be read as often: every batch and update does.
- where RAPL cannot be read, estimated: processor time of the process times `WATTS_PER_CPU`.

Neither counts fans, disks, network and the losses of a power supply; an estimate leaves out memory
and idle power too. Child processes are not counted: none computes.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from distill.contracts.costs import Cost
from distill.contracts.energy import JOULES_PER_KWH, UNKNOWN, WATTS_PER_CPU, Energy

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """A part of the machine.

    Attributes:
        joules: Used since some moment, this process's share; None where that cannot be told.
        measured: Whether a counter of the machine says so.
        used: Whether this process has used that part so far.
    """

    joules: Callable[[], float | None]
    measured: bool
    used: Callable[[], bool] = lambda: True


class Meter:
    """Seconds and energy since the meter was made.

    Args:
        counters: What to read; by default what this machine has.
    """

    def __init__(self, counters: Sequence[Counter] | None = None) -> None:
        self.counters = find_counters() if counters is None else list(counters)
        self._began = time.perf_counter()
        self._first = [counter.joules() for counter in self.counters]
        self._last = Cost()

    def total(self) -> Cost:
        """All since the meter was made; it counts no FLOPs."""
        return Cost(0.0, time.perf_counter() - self._began, self._energy())

    def lap(self) -> Cost:
        """What came since the last lap, or since the meter was made."""
        last, self._last = self._last, self.total()
        return self._last - last

    def _energy(self) -> Energy:
        joules, estimated = 0.0, 0.0
        for counter, first in zip(self.counters, self._first, strict=True):
            now = counter.joules()
            if not counter.used():
                continue
            if now is None or first is None:
                return UNKNOWN
            joules += now - first
            estimated += 0.0 if counter.measured else now - first
        return Energy(joules / JOULES_PER_KWH, estimated / JOULES_PER_KWH)


def find_counters() -> list[Counter]:
    """What this machine can tell: its processors, and its GPUs if torch has any."""
    zones = readable_zones(POWERCAP)
    processor = Counter(Rapl(zones).joules, True) if zones else processor_time()
    return [processor, *_gpus()]


def processor_time(clock: Callable[[], float] = time.process_time) -> Counter:
    """An estimate by the seconds of processor time, of all threads, that `clock` tells."""
    return Counter(lambda: clock() * WATTS_PER_CPU, measured=False)


def readable_zones(folder: Path) -> list[Path]:
    """Zones of RAPL that add up to all processors and their memory; none unless all can be read."""
    zones = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        name = (zone / "name").read_text(encoding="ascii").strip()
        if name.startswith("package") or name == "dram":
            zones.append(zone)
    readable = all(os.access(zone / "energy_uj", os.R_OK) for zone in zones)
    return zones if readable else []


def _busy_seconds() -> tuple[float, float]:
    """Processor time of this process and of the whole machine, idle time left out."""
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq")
    return time.process_time(), sum(getattr(times, kind, 0.0) for kind in kinds)


class Rapl:
    """This process's share of what RAPL counts.

    Args:
        zones: Directories with energy_uj and max_energy_range_uj.
        busy: Tells busy seconds of this process and of the machine.
    """

    def __init__(
        self, zones: Sequence[Path], busy: Callable[[], tuple[float, float]] = _busy_seconds
    ) -> None:
        self.zones, self.busy, self.sum = list(zones), busy, 0.0
        self.ranges = [_microjoules(zone, "max_energy_range_uj") for zone in self.zones]
        self.last = self._read()

    def _read(self) -> tuple[float, float, list[int]]:
        return *self.busy(), [_microjoules(zone, "energy_uj") for zone in self.zones]

    def joules(self) -> float:
        """Joules since the object was made."""
        own, machine, counts = self._read()
        own_before, machine_before, counts_before = self.last
        if machine <= machine_before:  # it ticks every 10 ms: what is here comes with the next tick
            return self.sum
        used = 0.0
        for now, before, span in zip(counts, counts_before, self.ranges, strict=True):
            used += (now - before if now >= before else now - before + span) / 1e6
        self.sum += used * min(1.0, (own - own_before) / (machine - machine_before))
        self.last = own, machine, counts
        return self.sum


def _microjoules(zone: Path, name: str) -> int:
    return int((zone / name).read_text(encoding="ascii"))


def _gpus() -> list[Counter]:
    """A counter per GPU that torch sees."""
    if not torch.cuda.is_available():
        return []
    import pynvml  # of no use without a GPU

    try:
        pynvml.nvmlInit()
        return [gpu_counter(pynvml, number) for number in range(torch.cuda.device_count())]
    except pynvml.NVMLError as error:
        logging.warning("energy is not recorded, as NVML does not tell the GPU's: %s", error)
        return [Counter(lambda: None, measured=True)]


def gpu_counter(
    nvml: Any, number: int, cuda: Any = torch.cuda, clock: Callable[[], float] = time.perf_counter
) -> Counter:
    """The counter of torch's GPU of a number, or its power limit times the time where it has none.

    Args:
        nvml: The module pynvml.
        number: As torch counts those that are visible.
        cuda: The module torch.cuda.
        clock: Tells seconds.
    """
    handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{cuda.get_device_properties(number).uuid}")

    def used() -> bool:
        return bool(cuda.max_memory_reserved(number) > 0)

    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError_NotSupported:
        watts = nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
        return Counter(lambda: clock() * watts, False, used)
    return Counter(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000, True, used)
