"""Energy of this process, from the machine's counters or from an estimate.

Every process counts only its own share, so that the sum over parallel jobs and processes is the
energy of the machine:

- GPUs: the NVML counter of each GPU on which the process has memory. Jobs do not share a GPU (the
  resource `device`); otherwise both would count it. A GPU without a counter is estimated at its
  power limit. Without NVML the energy is unknown.
- Processors and memory: RAPL (powercap, usually readable by root only). The energy between two
  readings is multiplied by the process's share of the machine's busy processor time. A counter
  wraps around after 20 minutes or more; every batch and update reads it.
- Without RAPL: processor time of the process times `WATTS_PER_CPU`.

Fans, disks, network and power-supply losses are not counted; estimates also exclude memory and idle
power. Child processes are not counted, because none of them computes.
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
    """An energy counter of one part of the machine.

    Attributes:
        joules: Returns this process's energy since a fixed time; None if it is unknown.
        measured: Whether it reads a counter of the machine, rather than an estimate.
        used: Returns whether this process has used that part so far.
    """

    joules: Callable[[], float | None]
    measured: bool
    used: Callable[[], bool] = lambda: True


class Meter:
    """Seconds and energy since the meter was created.

    Args:
        counters: Counters to read; by default those of this machine.
    """

    def __init__(self, counters: Sequence[Counter] | None = None) -> None:
        self.counters = find_counters() if counters is None else list(counters)
        self._began = time.perf_counter()
        self._first = [counter.joules() for counter in self.counters]
        self._last = Cost()

    def total(self) -> Cost:
        """The cost since the meter was created; its FLOPs are 0."""
        return Cost(0.0, time.perf_counter() - self._began, self._energy())

    def lap(self) -> Cost:
        """The cost since the last call, or since the meter was created."""
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
    """The counters of this machine: its processors, and its GPUs if torch has any."""
    zones = readable_zones(POWERCAP)
    processor = Counter(Rapl(zones).joules, True) if zones else processor_time()
    return [processor, *_gpus()]


def processor_time(clock: Callable[[], float] = time.process_time) -> Counter:
    """An estimate from `clock`, the seconds of processor time of all threads."""
    return Counter(lambda: clock() * WATTS_PER_CPU, measured=False)


def readable_zones(folder: Path) -> list[Path]:
    """RAPL zones that cover all processors and their memory; none unless all are readable."""
    zones = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        name = (zone / "name").read_text(encoding="ascii").strip()
        if name.startswith("package") or name == "dram":
            zones.append(zone)
    readable = all(os.access(zone / "energy_uj", os.R_OK) for zone in zones)
    return zones if readable else []


def _busy_seconds() -> tuple[float, float]:
    """Processor seconds of this process and of the machine, without idle time."""
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq")
    return time.process_time(), sum(getattr(times, kind, 0.0) for kind in kinds)


class Rapl:
    """This process's share of the RAPL counters.

    Args:
        zones: Directories with energy_uj and max_energy_range_uj.
        busy: Returns busy seconds of this process and of the machine.
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
        """Joules since the object was created."""
        process, machine, counts = self._read()
        process_before, machine_before, counts_before = self.last
        if machine <= machine_before:  # the clock ticks every 10 ms: wait for the next tick
            return self.sum
        used = 0.0
        for now, before, span in zip(counts, counts_before, self.ranges, strict=True):
            used += (now - before if now >= before else now - before + span) / 1e6
        self.sum += used * min(1.0, (process - process_before) / (machine - machine_before))
        self.last = process, machine, counts
        return self.sum


def _microjoules(zone: Path, name: str) -> int:
    return int((zone / name).read_text(encoding="ascii"))


def _gpus() -> list[Counter]:
    """A counter per GPU that torch sees."""
    if not torch.cuda.is_available():
        return []
    import pynvml  # only useful with a GPU

    try:
        pynvml.nvmlInit()
        return [gpu_counter(pynvml, number) for number in range(torch.cuda.device_count())]
    except pynvml.NVMLError as error:
        logging.warning("energy is not recorded because NVML does not report it: %s", error)
        return [Counter(lambda: None, measured=True)]


def gpu_counter(
    nvml: Any, number: int, cuda: Any = torch.cuda, clock: Callable[[], float] = time.perf_counter
) -> Counter:
    """The counter of a GPU, or, if it has none, an estimate: power limit times time.

    Args:
        nvml: The module pynvml.
        number: Torch's number of the GPU among the visible ones.
        cuda: The module torch.cuda.
        clock: Returns seconds.
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
