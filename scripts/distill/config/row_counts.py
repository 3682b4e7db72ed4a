"""Rows of data sets as far as planning knows them, and what the parts of the prompts need.

Each part takes a slice of the data set, `surplus` times its size, from which near-duplicates are
dropped. A data set that is too small for whole slices is scarce: its parts continue where the last
one stopped, so that each distinct row can be used.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from distill.config.study import raw_part_size, raw_rows_needed
from distill.config.text import Prompts, Source
from distill.core.text_files import prompt_words, read_text_rows

LARGEST_COUNTED = 32 * 1024**2
"""Bytes of the largest local file that is read to count its rows, because every job plans anew."""


class RowCount(NamedTuple):
    """Rows of a data set."""

    total: int
    fitting: int
    """Those whose prompts are short enough; all, where only the number of rows is stated."""


def known_rows(source: Source, max_tokens: int) -> RowCount | None:
    """The rows of a data set of prompts: of a local file, or as stated; None if neither is known.

    Args:
        source: The data set.
        max_tokens: Words of the longest prompt, its context included.

    Raises:
        UserError: The file is malformed.
    """
    path = Path(source.path) if source.path is not None else None
    if path is not None and path.suffix != ".parquet" and path.is_file():
        status = path.stat()
        if status.st_size <= LARGEST_COUNTED:
            fields = tuple(sorted((source.fields or {}).items()))
            return _counted(
                path.absolute(), (status.st_mtime_ns, status.st_size), fields, max_tokens
            )
    return RowCount(source.rows, source.rows) if source.rows is not None else None


@lru_cache
def _counted(
    path: Path, version: tuple[int, int], fields: tuple[tuple[str, str], ...], max_tokens: int
) -> RowCount:
    """The rows of a file; `version` distinguishes what it held at different times."""
    words = [prompt_words(row, dict(fields)) for row in read_text_rows(path)]
    return RowCount(len(words), sum(number <= max_tokens for number in words))


def least_rows(prompts: Prompts) -> int:
    """Rows that a data set must have: one for each prompt."""
    return prompts.test + prompts.validation + prompts.pool


def is_scarce(prompts: Prompts, rows: RowCount) -> bool:
    """Whether a data set is too small for a whole slice per part."""
    needed = raw_rows_needed(prompts)
    last_part = needed - raw_part_size(prompts)
    return rows.total < needed or rows.fitting < last_part + prompts.part_size
