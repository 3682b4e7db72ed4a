"""Averages over tokens with their sampling error over prompts."""

import math
from collections.abc import Sequence

import numpy as np


def token_mean(sums: Sequence[float], tokens: Sequence[int]) -> tuple[float, float]:
    """Token-weighted mean and its standard error over prompts.

    Args:
        sums: Per prompt, the sum over its tokens.
        tokens: Per prompt, its number of tokens.

    Returns:
        Sum of sums over sum of tokens (never a mean of means), and the standard error of this
        ratio by linearisation; prompts are independent, tokens within one are not.
    """
    total, count = np.asarray(sums, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    mean = total.sum() / count.sum()
    prompts = len(total)
    if prompts < 2:
        return float(mean), 0.0
    spread = ((total - mean * count) ** 2).sum() * prompts / (prompts - 1)
    return float(mean), float(math.sqrt(spread) / count.sum())


def unigram_entropy(counts: Sequence[int]) -> float:
    """Entropy in nats of the token frequencies `counts`."""
    frequency = np.asarray([count for count in counts if count], dtype=np.float64)
    frequency /= frequency.sum()
    return float(-(frequency * np.log(frequency)).sum())
