"""Errors of a disk as one sentence: it is full, read-only, failing, or not accessible."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from distill.core.errors import UserError

_SENTENCES = {
    errno.ENOSPC: "no space is left on the disk that holds {place}; free some",
    errno.EDQUOT: "the quota of the disk that holds {place} is used up; free some space",
    errno.EROFS: "{place} cannot be written because its disk is read-only; mount it writable",
    errno.EACCES: "this user has no access to {place}; correct its permissions",
    errno.EPERM: "this user must not change {place}; correct its permissions or attributes",
    errno.EIO: "the disk that holds {place} fails (input/output error); replace it",
}
_BY_TEXT = {
    **{os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)},
    # torch's only messages for a failed write.
    **dict.fromkeys(("PytorchStreamWriter failed", ". unexpected pos "), errno.ENOSPC),
}
"""Error numbers by text, for libraries whose exceptions have the system's message but no errno."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(code: int, place: str | Path) -> str:
    remedy = "and run the workflow again; it resumes from existing results"
    return f"{_SENTENCES[code].format(place=place)} {remedy}"


def disk_error(error: BaseException, place: str | Path) -> str | None:
    """One sentence for an error with a disk as its cause; None for any other error.

    Args:
        error: The exception.
        place: Path that was being written, if the exception does not have it.
    """
    for cause in _chain(error):
        code = cause.errno if isinstance(cause, OSError) else None
        if code not in _SENTENCES:
            code = next((number for text, number in _BY_TEXT.items() if text in str(cause)), None)
        if code is not None:
            file = os.fsdecode(getattr(cause, "filename", None) or place)
            return _sentence(code, place if file.endswith(".tmp") else file)
    return None


def check_writable(folders: Iterable[str | Path]) -> None:
    """Write and remove a test file in each existing folder.

    Raises:
        UserError: A folder is not writable.
    """
    for folder in map(Path, folders):
        if not folder.is_dir():
            continue
        probe = folder / f".probe.{os.getpid()}.tmp"
        try:
            probe.write_bytes(b"x" * 4096)
        except OSError as error:
            raise UserError(disk_error(error, folder.resolve()) or str(error)) from None
        finally:
            with suppress(OSError):
                probe.unlink()
