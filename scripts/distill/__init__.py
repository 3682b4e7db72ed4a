"""Measure scaling laws of knowledge distillation: the library behind the workflow's rules."""

import gc
import sys
from types import TracebackType

# Imports make a million objects that stay: looking for rubbish meanwhile is a tenth of their time.
gc.set_threshold(100_000)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ctrl-C while a job still imports needs no traceback."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _told
