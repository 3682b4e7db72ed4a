import os
import platform
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow  # each process spends seconds on imports


_TAKE_TURNS = """
import resource, sys
sys.path[:0] = {path!r}
import torch
from distill.runtime.cpu import set_up_cpu
set_up_cpu(1, keep_memory={kept})
for turn in range(20):
    block = torch.ones(50_000_000)
    del block
    if turn == 9:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
def test_a_jobs_large_tensors_use_the_same_memory_in_turn() -> None:
    """Ten times 200 MB; the heap may take a few turns to be in order."""
    faults = {}
    for kept in (True, False):
        code = _TAKE_TURNS.format(path=sys.path, kept=kept)
        done = subprocess.run([sys.executable, "-c", code], stdout=-1, text=True, check=True)
        faults[kept] = int(done.stdout)
    assert 10 * faults[True] < faults[False]


_MANY_SHAPES = """
import sys
sys.path[:0] = {path!r}
import torch
from distill.runtime.memory import memory_now
from distill.runtime.cpu import set_up_cpu
if {bound}:
    set_up_cpu(1)
weight = torch.zeros(256, 256, dtype=torch.bfloat16)
for rows in range(64, 464):
    torch.nn.functional.linear(torch.zeros(rows, 256, dtype=torch.bfloat16), weight)
    if rows == 128:
        before = memory_now("cpu")
print((memory_now("cpu") - before) / 2**20)
"""


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="the CPU has no bf16 products"
)
def test_products_of_many_shapes_leave_little_memory_behind() -> None:
    """Of 335 shapes: unbounded, their compiled products take 67 MB or more."""
    grown = {}
    for bound in (True, False):
        code = _MANY_SHAPES.format(path=sys.path, bound=bound)
        free = {name: value for name, value in os.environ.items() if "_CACHE_CAPACITY" not in name}
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=-1, text=True, check=True, env=free
        )
        grown[bound] = float(done.stdout)
    assert 2 * grown[True] < grown[False]
