"""Out-of-memory errors as one sentence that names the setting to change."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from distill.core.errors import UserError

_SIGNS = re.compile(
    "out of memory|can(no|')t allocate memory|MemoryError|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE
)
FEWER_JOBS = "give the job more memory, or run fewer at once (--resources device=1)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the type or text of an exception means that memory ran out.

    It may come from PyTorch, NumPy, Arrow, Python or a child process.
    """
    if isinstance(error, UserError):
        return False
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    return _SIGNS.search(f"{names}: {error}") is not None


SMALLER_TEACHER = "set the teacher's quantisation, spread it over GPUs (device_map: auto, gpus)"


def smaller_batch(teacher: str) -> str:
    """The remedy if memory runs out while a teacher generates text.

    A retry must not lower the batch size itself: rounding depends on it, so it is part
    of the text's spec.
    """
    return (
        f"lower teachers.{teacher}.batch_size (its text is then generated again) or set "
        f"teachers.{teacher}.quantisation"
    )


@contextmanager
def memory_hint(what: str, remedy: str = "") -> Iterator[None]:
    """Turn an out-of-memory error in the block into a UserError.

    Args:
        what: The work with the setting's value, such as `answering 128 prompts at once`.
        remedy: The setting to change; general remedies follow it.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        first = f"{remedy}, " if remedy else ""
        raise UserError(f"{what} ran out of memory; {first}{FEWER_JOBS}") from error
