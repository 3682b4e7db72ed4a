"""An answer contains none of some words or phrases."""

from collections.abc import Sequence

from distill.evaluation.checkers.contains import occurs


def passes(answer: str, phrases: Sequence[str]) -> bool:
    """Whether no phrase occurs; an empty answer does not pass."""
    return bool(answer.strip()) and not any(occurs(phrase, answer) for phrase in phrases)
