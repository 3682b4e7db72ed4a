"""Leave out imports that a job does not need, and make the others faster."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = ("datasets", "pandas", "scipy", "sklearn")
"""What transformers imports wherever it is installed, for losses of images and other trainers."""


def leave_out(package: str) -> None:
    """Make an optional package of a library look absent, if nothing has imported it yet.

    transformers' Trainer imports peft wherever it is installed, and with it bitsandbytes and a
    compiler: four seconds, as long as everything else together, that only adapters need. Its
    tokenizers import torch, and are as good without.
    """
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that models need torch
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import the libraries of a model's job in the block, with less than they would take along.

    Packages that transformers only uses for what no job does look absent to it meanwhile. And the
    collector of reference cycles rests: it would walk through all that was imported again and
    again, and later has no reason to (`gc.freeze`).
    """
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
        gc.freeze()
        gc.enable()
