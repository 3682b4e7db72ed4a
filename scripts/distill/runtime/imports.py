"""Faster imports for jobs that run a model."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = ("datasets", "pandas", "scipy", "sklearn")
"""Packages that transformers imports if they are installed, but that no job needs."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import libraries in the block faster.

    Packages in `_OPTIONAL` look absent to transformers. The garbage collector is off during the
    imports and ignores the imported objects later (`gc.freeze`).
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
