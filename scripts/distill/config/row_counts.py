"""Rows of data sets as far as planning knows them, and what the parts of the prompts need.

Each part takes a slice of the data set, `surplus` times its size, from which near-duplicates are
dropped. A data set that is too small for whole slices is scarce: its parts continue where the last
one stopped, so that each distinct row can be used.
"""

from typing import NamedTuple

from distill.config.study import Study, raw_part_size, raw_rows_needed
from distill.config.text import Prompts
from distill.core.errors import UserError


class RowCount(NamedTuple):
    """Rows of a data set."""

    total: int
    """Those that are not left out; all, where only the number of rows is stated."""
    fitting: int
    """Those whose prompts are short enough."""
    distinct: int
    """Different prompts."""


def known_rows(study: Study, name: str, max_tokens: int) -> RowCount | None:
    """The rows of a data set of prompts: of local files, or as stated; None if neither is known.

    Args:
        study: The study.
        name: Name of the data set's source.
        max_tokens: Estimated tokens of the longest prompt, its context included.

    Raises:
        UserError: The files are malformed.
    """
    source = study.sources[name]
    there = source.path is not None and _exists(source.path, source.split)
    numbers = None
    if there:  # the reader of rows is imported only where there are rows
        from distill.core.rows.survey import survey

        numbers = survey(study.source_spec(name))
    if numbers is not None:
        return RowCount(numbers.usable, numbers.fitting(max_tokens), numbers.distinct)
    rows = source.known_rows
    return RowCount(*[rows] * 3) if rows is not None else None


def _exists(path: str, split: str) -> bool:
    """Whether local files are there; a plan without its data, as of copied results, has them not."""
    from distill.core.rows.files import data_files

    try:
        return bool(data_files(path, split))
    except UserError:
        return False


def least_rows(prompts: Prompts) -> int:
    """Rows that a data set must have: one for each prompt."""
    return prompts.test + prompts.validation + prompts.pool


def is_scarce(prompts: Prompts, rows: RowCount) -> bool:
    """Whether a data set is too small for a whole slice per part."""
    needed = raw_rows_needed(prompts)
    last_part = needed - raw_part_size(prompts)
    return rows.total < needed or rows.fitting < last_part + prompts.part_size
