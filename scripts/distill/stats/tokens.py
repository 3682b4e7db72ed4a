"""Averages over tokens with their sampling error over prompts; calibration; pass rates."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
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


_WEIGHTS = np.geomspace(1e-4, 10, 101)
"""Additive weights among which `unigram_loss` chooses."""


def unigram_loss(trained: Mapping[int, int], held_out: Mapping[int, int], size: int) -> float:
    """Loss of a unigram model, the frequencies of the training text, on held-out text.

    Additive smoothing, p(t) = (n(t) + a) / (n + a V) (Chen and Goodman 1998, section 2.1). The
    weight a is the one with the highest likelihood of each training token given all others.

    Args:
        trained: Counts of token ids in the training text.
        held_out: Counts in the held-out text.
        size: Number V of the vocabulary's tokens.

    Returns:
        Nats per token. Without training text, log V.

    Raises:
        ValueError: There is no held-out token.
    """
    total = sum(held_out.values())
    if not total:
        raise ValueError("no held-out tokens")
    counts = np.asarray(list(trained.values()), dtype=np.float64)
    seen = counts.sum()
    if not seen:
        return math.log(size)
    left_out = np.log(counts[:, None] - 1 + _WEIGHTS) - np.log(seen - 1 + _WEIGHTS * size)
    weight = float(_WEIGHTS[np.argmax(counts @ left_out)])
    given = np.asarray([trained.get(token, 0) for token in held_out], dtype=np.float64)
    times = np.asarray(list(held_out.values()), dtype=np.float64)
    return float(times @ (math.log(seen + weight * size) - np.log(given + weight)) / total)


def expected_calibration_error(
    confidence: Sequence[float], correct: Sequence[bool], bins: int = 15
) -> dict[str, Any]:
    """Expected calibration error (ECE) over bins of equal mass.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", with the adaptive bins of Nguyen
    and O'Connor 2015, "Posterior calibration and exploratory analysis for natural language
    processing models": bins of equal width would leave most of the interval [0, 1] nearly empty.

    Args:
        confidence: Per prediction, the probability of the most likely outcome.
        correct: Per prediction, whether that outcome occurred.
        bins: Number of bins with equal counts, up to rounding. A boundary between equal confidences
            moves behind the last of them, so the order of predictions does not matter. There are
            fewer bins then, or with fewer predictions than bins.

    Returns:
        ece: the mean of |accuracy - mean confidence| over bins, weighted by their counts; and
        bins, in rising confidence: confidence (mean), accuracy and count of each.

    Raises:
        ValueError: There is no prediction, or the lengths differ.
    """
    chance, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(chance) or chance.shape != hit.shape:
        raise ValueError(
            f"{len(chance)} confidences and {len(hit)} outcomes; need equal numbers above 0"
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


def wilson_interval(passed: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a pass rate, as fractions (Wilson 1927).

    Raises:
        ValueError: `total` is not positive, `passed` is outside 0..`total`, or `confidence` is
            outside 0..1.
    """
    if total < 1:
        raise ValueError(f"a pass rate needs at least one trial, not {total}")
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total} trials cannot have passed")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = passed / total, z**2 / total
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> dict[str, int | float]:
    """Compare two lists of passes on the same items by the exact two-sided test (McNemar 1947).

    Returns:
        `only_first` and `only_second`, the numbers of items that only one list passed, and
        `p_value`, which is 1 if both numbers are 0.

    Raises:
        ValueError: the lists differ in length.
    """
    pairs = list(zip(first, second, strict=True))
    only_first = sum(bool(a) and not b for a, b in pairs)
    only_second = sum(bool(b) and not a for a, b in pairs)
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    p_value = min(1.0, 2 * tail / 2**discordant)
    return {"only_first": only_first, "only_second": only_second, "p_value": p_value}
