"""What planning needs to know of a data set in local files: how many rows, how long, how alike.

Reading a large file takes a while, and Snakemake reads the study again in every job's process; so
the numbers are stored, with what they depend on.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import write_text
from distill.core.rows.lengths import prompt_tokens, whole_prompt
from distill.core.rows.reading import DataSet, check_count

STORE = Path(".snakemake/data_surveys.json")
"""File of stored numbers; written only where the folder exists."""
_MOST = 100
"""Stored surveys."""


@dataclass
class Survey:
    """Numbers of a data set."""

    read: int = 0
    """Rows, those left out included."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows left out, by the column that they lack."""
    lengths: dict[int, int] = field(default_factory=dict)
    """Usable rows by the estimated tokens of their prompts; all at 0 without prompts."""
    distinct: int = 0
    """Different prompts among the usable rows."""
    systems: int = 0
    """Usable rows with their own system text."""
    chats: int = 0
    """Usable rows with earlier turns."""
    bytes: int = 0
    """Bytes of UTF-8 of the usable rows' texts, and one for the end of each."""
    bytes_before: int = 0
    """The same of the first `before` rows."""

    @property
    def usable(self) -> int:
        """Rows that are not left out."""
        return sum(self.lengths.values())

    def fitting(self, most: int) -> int:
        """Usable rows whose prompts have at most `most` estimated tokens."""
        return sum(count for length, count in self.lengths.items() if length <= most)


@contextmanager
def named(source: str) -> Iterator[None]:
    """Put the config's key of a source before the sentences on its files."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config: sources.{source}.path: {error}") from None


_seen: dict[str, Survey | None] = {}


def survey(spec: Mapping[str, Any], before: int = 0) -> Survey | None:
    """Read a data set and count; every row is checked.

    Args:
        spec: As of `DataSet`.
        before: Number of first rows whose text is counted apart.

    Returns:
        None if this Python lacks a package that reads the files; the job that fetches them has it.

    Raises:
        UserError: The files are missing or damaged, or rows have mistakes.
    """
    data = DataSet(spec)
    if data.missing:
        return None
    key = _key(data, before)
    if key not in _seen:
        stored = _stored()
        if key not in stored:
            stored[key] = asdict(_count(data, before))
            _store(stored)
        entry = stored[key]
        lengths = {int(length): count for length, count in entry["lengths"].items()}
        _seen[key] = Survey(**(entry | {"lengths": lengths}))
    return _seen[key]


def _count(data: DataSet, before: int) -> Survey:
    """Read a data set."""
    asks = "prompt" in data.spec["fields"]
    result, lengths, prompts = Survey(), Counter[int](), set[int]()
    for number, row in enumerate(data.rows()):
        if asks:
            prompts.add(hash(whole_prompt(row)))
        lengths[prompt_tokens(row) if asks else 0] += 1
        result.systems += row["system"] is not None
        result.chats += row["turns"] is not None
        size = len((row["text"] or "").encode()) + 1
        result.bytes += size
        result.bytes_before += size if number < before else 0
    check_count(data.spec, data.picker.read, data.name)
    result.read, result.left_out = data.picker.read, data.picker.record["left_out"]
    result.lengths, result.distinct = dict(lengths), len(prompts)
    return result


def _key(data: DataSet, before: int) -> str:
    """A digest of all that a survey depends on."""
    files = [(str(file.path.absolute()), *_mark(file.path)) for file in data.files]
    parts = [dict(data.spec), before, files, _code()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@cache
def _code() -> str:
    """A digest of the code that reads."""
    code = [file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join(code)).hexdigest()


def _stored() -> dict[str, Any]:
    """All stored surveys by their keys."""
    with suppress(OSError, ValueError):  # without the store it only takes longer
        entries = json.loads(STORE.read_text(encoding="utf-8"))
        return entries if isinstance(entries, dict) else {}
    return {}


def _store(entries: dict[str, Any]) -> None:
    """Write the surveys, the newest ones if there are many."""
    if STORE.parent.is_dir():
        with suppress(OSError):
            write_text(STORE, json.dumps(dict(list(entries.items())[-_MOST:])))
