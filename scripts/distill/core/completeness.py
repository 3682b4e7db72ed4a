"""What a teacher's answers look like as a whole: with text or without, ended or cut."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.core.errors import UserError

ENOUGH = 8
"""Answers from which on it is no accident that none has text."""
MANY_EMPTY, MANY_CUT = 0.05, 0.5
"""Shares of a training set's answers above which the report warns."""


def count_empty(rows: Sequence[Mapping[str, Any]]) -> int:
    """Answers without text."""
    return sum(not (row["response"] or "").strip() for row in rows)


def check_some_text(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Check that a part's answers are not all empty.

    Raises:
        UserError: They are, and students would learn to say nothing.
    """
    if len(rows) >= ENOUGH and count_empty(rows) == len(rows):
        raise UserError(
            f"{name} answers each of the {len(rows)} prompts of a part with no text at all; check "
            "that prompts.template (or the served model's own) and prompts.system are what it was "
            "trained with, or name another teacher"
        )


def answer_warnings(teacher: str, record: Mapping[str, Any]) -> list[str]:
    """Sentences on a training set in which many answers are empty or cut.

    Args:
        teacher: Who wrote it.
        record: Of the training set: rows, finished and empty.
    """
    rows, empty, cut = record["rows"], record["empty"], record["rows"] - record["finished"]
    found = []
    if empty > MANY_EMPTY * rows:
        found.append(
            f"{empty} of the {rows} answers of {teacher} in its largest training set are empty: "
            "check prompts.template, or leave them out with a curation (length: min_tokens)"
        )
    if cut > MANY_CUT * rows:
        found.append(
            f"{cut} of the {rows} answers of {teacher} in its largest training set do not end by "
            "themselves: raise its max_tokens, or take a teacher that ends its answers"
        )
    return found
