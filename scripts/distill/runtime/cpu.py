"""Settings of a job on the CPU: threads, and caches of memory and kernels."""

import ctypes
import os

import torch

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Options of mallopt, from glibc's malloc.h."""
_KERNELS = 32
"""More than the shapes of matrix products in a training or decoding step (about 20 and 10)."""


def keep_freed_memory() -> None:
    """Let the C library reuse the memory of freed tensors, as CUDA's allocator does.

    By default glibc returns large blocks to the system at once; the page faults of new blocks took
    about 5 % of training and decoding time on CPU. Uses glibc's mallopt(3) and does nothing with
    other C libraries.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):  # never map, never trim
            set_option(option, value)


def bound_kernels() -> None:
    """Limit oneDNN's cache of compiled matrix products, whose default is a thousand.

    oneDNN compiles a kernel of at least 0.5 MB for each shape, and every batch has new shapes:
    60 MB per update of bf16 training, which also fragmented the freed memory
    (github.com/pytorch/pytorch/issues/27971). Both caches read their size when first used.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KERNELS))


def set_up_cpu(threads: int, keep_memory: bool = True) -> None:
    """Set CPU threads, on which results depend slightly, and the caches of memory and kernels.

    Call it before a job's first matrix product.

    Args:
        threads: Number of CPU threads.
        keep_memory: Whether to reuse freed memory (`keep_freed_memory`); False to measure the
            memory of one part of a process.
    """
    torch.set_num_threads(threads)
    bound_kernels()
    if keep_memory:
        keep_freed_memory()
