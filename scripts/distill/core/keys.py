"""Names of files and folders: short digests of specs, and readable stems."""

import hashlib
import json
import re
from typing import Any


def digest(spec: Any) -> str:
    """Eight hexadecimal digits that name a spec."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]


def slug(text: str) -> str:
    """A text as part of a file name: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def chosen(length: int, share: float) -> int:
    """Number of masked tokens in a chunk of `length` tokens: the share, rounded, at least one."""
    return max(1, round(length * share))


def pool_order(draw: int, draw_pool: int, seed: int) -> list[int]:
    """The first `draw_pool` rows of the pool in the order of a draw.

    Draw 0 is the pool's order. Any other draw sorts the rows by a hash, so their relative order
    does not depend on the size of the pool.
    """
    if draw == 0:
        return list(range(draw_pool))
    return sorted(
        range(draw_pool), key=lambda row: hashlib.sha256(f"{seed}:{draw}:{row}".encode()).digest()
    )
