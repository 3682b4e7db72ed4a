"""Ids that have a token in a tokenizer.

They need not be the ids from 0 to len(tokenizer) - 1, because a tokenizer can skip ids; and the
tables of a model often have more rows, because embeddings are padded to a multiple (Qwen2.5:
151,936 rows, 151,665 tokens).
"""

from typing import Any


def full_width(tokenizer: Any, rows: int | None = None) -> int:
    """One more than the last id that has a token; at most `rows`, those of a model's tables."""
    last = max(tokenizer.get_vocab().values())
    return last + 1 if rows is None else min(last + 1, rows)


def ids_without_token(tokenizer: Any, rows: int) -> list[int]:
    """Ids below `rows` that have no token, ascending."""
    return sorted(set(range(rows)).difference(tokenizer.get_vocab().values()))
