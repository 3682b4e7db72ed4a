import subprocess
import sys

import pytest
import torch

from distill.runtime import memory
from distill.runtime.memory import job_peak, peak_memory

pytestmark = pytest.mark.slow  # each process spends seconds on imports

MB = 1024**2


_HOLD = """
import sys
sys.path[:0] = {path!r}
import torch
from distill.runtime.memory import job_peak, memory_now, peak_memory, reset_peak
MB = 1024**2
before = job_peak()
assert before["peak_memory_of"] == "process"
block = torch.ones(200 * MB // 4 + int(before["peak_memory_mb"] * MB / 4))
held = memory_now("cpu")
del block
after = job_peak()["peak_memory_mb"]
assert after >= before["peak_memory_mb"] + 199
assert after * MB >= held * 0.99
if reset_peak("cpu"):
    assert peak_memory("cpu") < after * MB - 199 * MB
"""


def test_a_jobs_peak_outlives_what_it_held() -> None:
    """In a process of its own: in this one, a job's code may have memory kept that is freed."""
    subprocess.run([sys.executable, "-c", _HOLD.format(path=sys.path)], check=True)


def test_a_gpus_memory_is_what_pytorch_allocated_on_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda number: (3 + number) * MB)
    assert job_peak() == {"peak_memory_mb": 7.0, "peak_memory_of": "gpu"}


def test_a_child_does_not_inherit_its_parents_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom distill.runtime.memory import *\n"
    code += "print(job_peak()['peak_memory_mb'])"

    def of_a_child() -> float:
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)

    before = of_a_child()
    block = torch.ones(600 * MB // 4)
    assert abs(of_a_child() - before) < block.nbytes / MB / 4
    monkeypatch.setattr(memory, "high_water_mark", lambda: None)
    assert peak_memory("cpu") > block.nbytes
