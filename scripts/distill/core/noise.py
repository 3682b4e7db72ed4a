"""Random numbers of a row, from a hash of its id and a seed."""

import hashlib

import numpy as np


def row_uniforms(row_id: str, seed: int, steps: int) -> np.ndarray:
    """`steps` uniforms in [0, 1), float64, that depend only on the row's id and the seed."""
    digest = hashlib.sha256(f"{seed}\0{row_id}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big"))).random(
        steps
    )
