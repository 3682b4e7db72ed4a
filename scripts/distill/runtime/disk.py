"""What a disk refuses, in one sentence: it is full, read-only, failing, or not the user's."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from distill.core.errors import UserError

_SENTENCES = {
    errno.ENOSPC: "no space is left on the disk that holds {place}; free some",
    errno.EDQUOT: "the quota of the disk that holds {place} is used up; free some space",
    errno.EROFS: "{place} cannot be written, as its disk is read-only; mount it writable",
    errno.EACCES: "{place} is not open to this user; correct its permissions",
    errno.EPERM: "{place} may not be changed by this user; correct its permissions or attributes",
    errno.EIO: "the disk that holds {place} fails (input/output error); replace it",
}
_BY_TEXT = {
    **{os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)},
    # All that torch says of a write that failed.
    **dict.fromkeys(("PytorchStreamWriter failed", ". unexpected pos "), errno.ENOSPC),
}
"""What libraries that are not Python's say of the same: no number, but the system's words."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(code: int, place: str | Path) -> str:
    remedy = "and run the workflow again, which goes on from what is there"
    return f"{_SENTENCES[code].format(place=place)} {remedy}"


def disk_error(error: BaseException, place: str | Path) -> str | None:
    """One sentence for an error that a disk is the reason of; None for any other.

    Args:
        error: As it was raised.
        place: What was being written, where the error does not say.
    """
    for cause in _chain(error):
        code = cause.errno if isinstance(cause, OSError) else None
        if code not in _SENTENCES:
            code = next((number for text, number in _BY_TEXT.items() if text in str(cause)), None)
        if code is not None:
            named = os.fsdecode(getattr(cause, "filename", None) or place)
            return _sentence(code, place if named.endswith(".tmp") else named)
    return None


def check_writable(folders: Iterable[str | Path]) -> None:
    """Write and remove a file in each folder that is there, so that a job need not find out.

    Raises:
        UserError: A folder cannot be written.
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
