"""Memory of this process: PyTorch's on the GPU where there is one, else what is resident."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from distill.core.units import BYTES_PER_MB


def memory_now(device: str) -> int:
    """Bytes that the process holds: resident ones, or PyTorch's on all CUDA devices."""
    if device == "cuda":
        return sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count())))
    return psutil.Process().memory_info().rss


def reset_peak(device: str) -> bool:
    """Bring the high-water mark of memory down to what is held now; return whether that worked."""
    if device == "cuda":
        for number in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(number)
        return True
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return high_water_mark() is not None
    return False


def peak_memory(device: str) -> int:
    """The highest number of bytes held since the process began or the mark was reset."""
    if device == "cuda":
        return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))
    peak = high_water_mark()
    if peak is None:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return peak


def high_water_mark() -> int | None:
    """Bytes of VmHWM, proc(5), or None where the system does not tell it.

    `ru_maxrss` is the second choice because a process started by a larger one inherits its peak.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def job_peak() -> dict[str, Any]:
    """The most memory that this process held until now.

    Returns:
        peak_memory_mb (of 1024^2 bytes) and peak_memory_of: `gpu`, what PyTorch allocated there,
        or `process`, all that was resident, the Python and PyTorch runtimes included.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "peak_memory_mb": peak_memory(device) / BYTES_PER_MB,
        "peak_memory_of": "gpu" if device == "cuda" else "process",
    }
