"""Memory that ran out is one sentence with the setting to change."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from distill.core.errors import UserError
from distill.runtime.out_of_memory import is_out_of_memory, memory_hint, smaller_batch

REAL: dict[str, Callable[[], Any]] = {
    "torch": lambda: torch.empty(2**60),
    "numpy": lambda: np.zeros(2**50),
    "python": lambda: bytearray(2**62),
    "arrow": lambda: pa.allocate_buffer(2**60),
}


@pytest.mark.parametrize("name", REAL)
def test_every_library_that_runs_out_is_understood(name: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        REAL[name]()
    assert is_out_of_memory(caught.value)
    hint = memory_hint("answering 128 prompts at once", smaller_batch("big"))
    expected = (
        "answering 128 prompts at once ran out of memory; lower teachers.big.batch_size (its "
        "text is then generated again) or set teachers.big.quantisation, give the job more memory, "
        "or run fewer at once (--resources device=1)"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"), hint:
        REAL[name]()


def test_what_a_gpu_says_is_understood_and_nothing_else() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("OutOfMemoryError: CUDA out of memory."),  # of another process
        OSError(12, "Cannot allocate memory"),
    ):
        assert is_out_of_memory(error), error
    for other in (
        RuntimeError("shape mismatch"), OSError(28, "No space left on device"),
        UserError("what was out of memory"),
    ):  # fmt: skip
        assert not is_out_of_memory(other), other
    with pytest.raises(ZeroDivisionError), memory_hint("dividing"):
        _ = 1 / 0
