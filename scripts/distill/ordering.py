"""The order of a draw: a permutation that more rows leave as it is."""

import hashlib


def pool_order(draw: int, draw_pool: int, seed: int) -> list[int]:
    """Rows of the pool in the order of a draw.

    Draw 0 is the pool's own order (and reaches beyond `draw_pool`); another draw permutes the
    first `draw_pool` rows by a hash of the row, so a larger study leaves it as it is.
    """
    if draw == 0:
        return list(range(draw_pool))
    return sorted(
        range(draw_pool), key=lambda row: hashlib.sha256(f"{seed}:{draw}:{row}".encode()).digest()
    )
