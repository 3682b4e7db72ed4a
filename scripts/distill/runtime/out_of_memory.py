"""Out of memory, told in one sentence that names the setting to change."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from distill.core.errors import UserError

_SIGNS = re.compile(
    "out of memory|can(no|')t allocate memory|MemoryError|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE
)
FEWER_JOBS = "give the job more memory, or run fewer at once (--resources device=1)"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: of PyTorch on a GPU or a CPU, of NumPy, Arrow,
    Python or the system, or of a process that was started, by its text."""
    if isinstance(error, UserError):
        return False
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    return _SIGNS.search(f"{names}: {error}") is not None


SMALLER_TEACHER = "set the teacher's quantisation, spread it over GPUs (device_map: auto, gpus)"


def smaller_batch(teacher: str) -> str:
    """What to set where a teacher writes; the batch's size is in its text's spec, because rounding
    in its products depends on it, so that no other try may change it by itself."""
    return (
        f"lower teachers.{teacher}.batch_size (what it wrote so far is then written anew) or set "
        f"teachers.{teacher}.quantisation"
    )


@contextmanager
def memory_hint(what: str, remedy: str = "") -> Iterator[None]:
    """Turn memory that ran out into a UserError; `what` says of what, with the setting's value.

    Args:
        what: The work, such as `answering 128 prompts at once`.
        remedy: What to set, before what always helps.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        first = f"{remedy}, " if remedy else ""
        raise UserError(f"{what} ran out of memory; {first}{FEWER_JOBS}") from error
