"""Memory of this process: PyTorch's on the GPU if there is one, else resident memory."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from distill.core.units import BYTES_PER_MB


def memory_now(device: str) -> int:
    """Bytes in use: resident memory, or PyTorch's memory on all CUDA devices."""
    if device == "cuda":
        return sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count())))
    return psutil.Process().memory_info().rss


def reset_peak(device: str) -> bool:
    """Reset the high-water mark of memory to the current use; return whether that worked."""
    if device == "cuda":
        for number in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(number)
        return True
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return high_water_mark() is not None
    return False


def peak_memory(device: str) -> int:
    """The highest number of bytes in use since the process began or `reset_peak` was called."""
    if device == "cuda":
        return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    peak = high_water_mark()
    if peak is None:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak


def high_water_mark() -> int | None:
    """Bytes of VmHWM, proc(5); None if the system has no such value.

    `ru_maxrss` is the second choice, because a process inherits the peak of its parent.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def job_peak() -> dict[str, Any]:
    """The peak memory of this process until now.

    Returns:
        peak_memory_mb (MB of 1024^2 bytes) and peak_memory_of: `gpu` for PyTorch's allocations on
        GPUs, or `process` for resident memory, including the Python and PyTorch runtimes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "peak_memory_mb": peak_memory(device) / BYTES_PER_MB,
        "peak_memory_of": "gpu" if device == "cuda" else "process",
    }
