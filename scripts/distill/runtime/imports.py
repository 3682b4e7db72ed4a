"""Import the libraries of a model's job faster."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = ("datasets", "pandas", "scipy", "sklearn")
"""What transformers imports wherever it is installed, for losses of images and other trainers."""


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
