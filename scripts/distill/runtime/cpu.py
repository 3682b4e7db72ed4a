"""How a job computes on the CPU: its threads, and the memory that libraries keep meanwhile."""

import ctypes
import os

import torch

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Options of mallopt, from glibc's malloc.h."""
_KERNELS = 32
"""More than a training or a decoding step has shapes of matrix products (about 20 and 10)."""


def keep_freed_memory() -> None:
    """Keep what large tensors leave behind for the next ones, as CUDA's allocator does.

    The C library hands blocks of many MB back to the system at once, and the page faults of getting
    them anew took about a twentieth of training and of a teacher's decoding on CPU. By glibc's
    mallopt(3); other C libraries are left as they are.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)):  # never map, never trim
            set_option(option, value)


def bound_kernels() -> None:
    """Keep the CPU's compiled matrix products of a few shapes, not of the last thousand.

    oneDNN compiles one for each shape, half a MB and more, and every batch has shapes of its own:
    60 MB an update of a bf16 training, which also lay between the blocks that tensors leave behind
    (github.com/pytorch/pytorch/issues/27971). Both caches read their size when first used.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_KERNELS))


def set_up_cpu(threads: int, keep_memory: bool = True) -> None:
    """Compute with a fixed number of CPU threads, as results depend on it slightly, in memory that
    is kept and bounded. Called before a job's first matrix product.

    Args:
        threads: Of matrix products and the like.
        keep_memory: Also keep memory that tensors leave behind (`keep_freed_memory`); False where
            the memory of one part of a process is measured.
    """
    torch.set_num_threads(threads)
    bound_kernels()
    if keep_memory:
        keep_freed_memory()
