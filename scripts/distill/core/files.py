"""Write files atomically, and detect altered ones by their checksums."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.core.errors import UserError

CHECKSUM = "checksum"
"""Key of a JSON record with the checksum of its other values."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block succeeds, and only then."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if they are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, record: Any) -> None:
    """Write `record` as plain JSON, atomically; an object gets a `checksum` of its values.

    Raises:
        ValueError: `record` contains NaN or infinity, which JSON does not have.
    """
    if isinstance(record, dict):
        record = record | {CHECKSUM: checksum(record)}
    write_text(path, json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file, and compare and remove the checksum that `write_json` added.

    Raises:
        UserError: The file is missing, is not JSON, or was altered.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the workflow again to make it") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not readable JSON ({error}); delete it and run the workflow again"
        ) from None
    written = record.pop(CHECKSUM, None) if isinstance(record, dict) else None
    if written is not None and written != checksum(record):
        raise altered(path)
    return record


def checksum(value: Any) -> str:
    """SHA-256 of a JSON value in hexadecimal, independent of layout."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def altered(path: str | Path, delete: str | Path | None = None) -> UserError:
    """The error for a file with a wrong checksum.

    Args:
        path: The file.
        delete: What to delete so that a job rewrites it; by default the file itself.
    """
    return UserError(
        f"{path} is not as it was written (its checksum differs): it was altered or damaged; "
        f"delete {delete or 'it'} and run the workflow again"
    )
