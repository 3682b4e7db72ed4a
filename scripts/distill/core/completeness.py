"""Checks of a teacher's answers: how many are empty, and how many are cut by max_tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.core.errors import UserError

ENOUGH = 8
"""From this number of answers, it is not chance if all are empty."""
MANY_EMPTY, MANY_CUT = 0.05, 0.5
"""Shares of a training set's answers above which the report warns."""


def count_controls(
    rows: Sequence[Mapping[str, Any]], controls: Mapping[str, str]
) -> dict[str, int]:
    """Number of answers without an end that hold a control token, by that token.

    Args:
        rows: Of text.
        controls: The text of each control token by id, as a string.
    """
    cut = [set(row["response_ids"] or []) for row in rows if row["finish_reason"] != "stop"]
    counts = {text: sum(int(number) in ids for ids in cut) for number, text in controls.items()}
    return {text: count for text, count in counts.items() if count}


def count_empty(rows: Sequence[Mapping[str, Any]]) -> int:
    """Number of answers without text."""
    return sum(not (row["response"] or "").strip() for row in rows)


def check_some_text(rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Check that a part's answers are not all empty.

    Raises:
        UserError: All are empty, so students would learn to answer nothing.
    """
    if len(rows) >= ENOUGH and count_empty(rows) == len(rows):
        raise UserError(
            f"{name} answers each of the {len(rows)} prompts of a part with no text at all; check "
            "that it was trained with prompts.template (or the served model's template) and "
            "prompts.system, or name another teacher"
        )


def answer_warnings(teacher: str, record: Mapping[str, Any]) -> list[str]:
    """Warnings about a training set in which many answers are empty or cut.

    Args:
        teacher: Name of the teacher.
        record: Numbers of the training set's answers: rows, finished and empty; and with controls,
            of the cut ones by the control token that they hold.
    """
    rows, empty, cut = record["rows"], record["empty"], record["rows"] - record["finished"]
    warnings = []
    if empty > MANY_EMPTY * rows:
        warnings.append(
            f"{empty} of the {rows} answers of {teacher} in its largest training set are empty: "
            "check prompts.template, or drop them with a curation (length: min_tokens)"
        )
    controls: Mapping[str, int] = record.get("controls") or {}
    most = max(controls, key=lambda token: controls[token], default="")
    if cut > MANY_CUT * rows:
        where = f"{cut} of the {rows} answers of {teacher} in its largest training set"
        warnings.append(
            f"{where} reach max_tokens, {controls[most]} of them with the control token {most} "
            "inside: the teacher goes on behind its turn; name the token that ends its turns in "
            "eos_token_id of its generation_config.json"
            if controls.get(most, 0) > MANY_CUT * cut
            else f"{where} reach max_tokens: raise it, or use a teacher that ends its answers"
        )
    return warnings
