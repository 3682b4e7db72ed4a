"""An answer holds what a regular expression finds."""

import re


def passes(answer: str, pattern: str) -> bool:
    """Whether the pattern is found in the answer without white space at its ends."""
    return re.search(pattern, answer.strip()) is not None
