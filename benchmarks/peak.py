"""The machine's own limit: matrix products as fast as this process can do them."""

import time

import torch

SIZES = (1024, 2048, 4096)
SECONDS = 0.3  # per size


def gemm_peak(dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of several large square products, with the threads that are set."""
    best = 0.0
    for size in SIZES:
        left, right = (torch.full((size, size), 0.5, dtype=dtype) for _ in range(2))
        out = torch.mm(left, right)
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            began = time.perf_counter()
            torch.mm(left, right, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
