"""Averages over tokens with their sampling error over prompts; calibration."""

import math
from collections.abc import Sequence
from typing import Any

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


def expected_calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = 15
) -> dict[str, Any]:
    """How far confidence is from accuracy: ECE over bins of equal mass.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", with the adaptive bins of Nguyen
    and O'Connor 2015, "Posterior calibration and exploratory analysis for natural language
    processing models": bins of equal width would leave most of the interval [0, 1] nearly empty.

    Args:
        confidence: Per prediction, the probability of the likeliest outcome.
        correct: Per prediction, whether that outcome came about.
        bins: Bins of equal counts, as near as whole numbers allow. A cut among equal confidences
            moves behind the last of them, so the order of predictions never matters; that, and
            fewer predictions than bins, leaves fewer bins.

    Returns:
        ece: the mean of |accuracy - mean confidence| over bins, weighted by their counts; and
        bins, in rising confidence: confidence (mean), accuracy and count of each.

    Raises:
        ValueError: There is no prediction, or the lengths differ.
    """
    chance, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(chance) or chance.shape != hit.shape:
        raise ValueError(
            f"{len(chance)} confidences and {len(hit)} outcomes; need as many, above 0"
        )
    order = np.argsort(chance, kind="stable")
    chance, hit = chance[order], hit[order]
    even = np.arange(1, bins) * len(chance) // bins
    cuts = np.searchsorted(chance, chance[even[even > 0] - 1], side="right")
    edges = np.unique(np.concatenate([[0], cuts, [len(chance)]]))
    counts = np.diff(edges)
    means = np.add.reduceat(chance, edges[:-1]) / counts
    shares = np.add.reduceat(hit, edges[:-1]) / counts
    return {
        "ece": float((counts * np.abs(shares - means)).sum() / len(chance)),
        "bins": [
            {"confidence": float(mean), "accuracy": float(share), "count": int(count)}
            for mean, share, count in zip(means, shares, counts, strict=True)
        ],
    }
