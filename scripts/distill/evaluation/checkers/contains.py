"""An answer contains, or does not contain, words or phrases."""

import re
from collections.abc import Sequence


def occurs(phrase: str, answer: str) -> bool:
    """Whether a phrase stands in an answer, in any case and not inside longer words."""
    inner = r"\s+".join(map(re.escape, phrase.split()))
    return re.search(rf"(?<!\w){inner}(?!\w)", answer, re.IGNORECASE) is not None


def passes(answer: str, phrases: Sequence[str]) -> bool:
    """Whether all phrases occur."""
    return all(occurs(phrase, answer) for phrase in phrases)
