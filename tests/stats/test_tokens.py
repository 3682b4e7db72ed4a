import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from distill.stats.tokens import (
    expected_calibration_error,
    mcnemar,
    unigram_entropy,
    unigram_loss,
    wilson_interval,
)


def columns(found: dict[str, Any], name: str) -> list[float]:
    return [part[name] for part in found["bins"]]


def test_groups_of_equal_confidence_by_hand() -> None:
    confidence = [0.9] * 50 + [0.6] * 50
    correct = [True] * 25 + [False] * 25 + [True] * 45 + [False] * 5
    found = expected_calibration_error(confidence, correct)
    assert found["ece"] == pytest.approx(0.5 * 0.3 + 0.5 * 0.4)
    assert columns(found, "confidence") == pytest.approx([0.6, 0.9])
    assert columns(found, "accuracy") == pytest.approx([0.9, 0.5])
    assert columns(found, "count") == [50, 50]


def test_four_distinct_confidences_in_two_bins_by_hand() -> None:
    found = expected_calibration_error([0.8, 0.2, 0.6, 0.4], [True, False, False, True], bins=2)
    assert columns(found, "confidence") == pytest.approx([0.3, 0.7])
    assert columns(found, "accuracy") == [0.5, 0.5]
    assert found["ece"] == pytest.approx(0.2)


def test_one_bin_compares_the_means() -> None:
    found = expected_calibration_error([0.1, 0.5, 0.9], [True, True, False], bins=1)
    assert found["ece"] == pytest.approx(2 / 3 - 0.5)
    assert columns(found, "count") == [3]


def test_fewer_points_than_bins_stand_alone() -> None:
    found = expected_calibration_error([0.9, 0.3, 0.5], [True, False, True])
    assert columns(found, "confidence") == [0.3, 0.5, 0.9]
    assert columns(found, "count") == [1, 1, 1]
    assert found["ece"] == pytest.approx((0.3 + 0.5 + 0.1) / 3)


@pytest.mark.parametrize(("points", "bins"), [(300, 15), (307, 15), (1000, 7), (16, 15)])
def test_distinct_confidences_equal_brute_force(points: int, bins: int) -> None:
    noise = np.random.default_rng(points)
    confidence = noise.beta(8, 0.5, points)  # crowded near 1, as a model's are
    correct = noise.random(points) < confidence**2
    found = expected_calibration_error(confidence.tolist(), correct.tolist(), bins)
    pairs = sorted(zip(confidence.tolist(), correct.tolist(), strict=True))
    wanted = 0.0
    for number in range(bins):
        part = pairs[number * points // bins : (number + 1) * points // bins]
        chance, right = sum(pair[0] for pair in part), sum(pair[1] for pair in part)
        wanted += abs(right - chance) / points
        assert found["bins"][number] == pytest.approx(
            {
                "confidence": chance / len(part),
                "accuracy": right / len(part),
                "count": len(part),
            }
        )
    assert len(found["bins"]) == bins
    assert found["ece"] == pytest.approx(wanted)
    counts = columns(found, "count")
    assert max(counts) - min(counts) <= 1


def test_ties_share_a_bin_whatever_their_order() -> None:
    noise = np.random.default_rng(0)
    confidence = noise.integers(1, 21, 500) / 20
    confidence[:120] = 1.0
    correct = noise.random(500) < 0.7
    found = expected_calibration_error(confidence.tolist(), correct.tolist())
    for _ in range(5):
        order = noise.permutation(500)
        again = expected_calibration_error(confidence[order].tolist(), correct[order].tolist())
        assert again == found
    counts, sorted_confidence = columns(found, "count"), np.sort(confidence)
    ends = np.cumsum(counts).astype(int)
    assert ends[-1] == 500
    for end in ends[:-1]:
        assert sorted_confidence[end - 1] < sorted_confidence[end]
    assert 5 < len(counts) < 15  # 120 ties at 1 fill several shares of 33
    for mean, accuracy, start, end in zip(
        columns(found, "confidence"), columns(found, "accuracy"), [0, *ends[:-1]], ends, strict=True
    ):
        low, high = sorted_confidence[start], sorted_confidence[end - 1]
        inside = (confidence >= low) & (confidence <= high)
        assert mean == pytest.approx(confidence[inside].mean())
        assert accuracy == pytest.approx(correct[inside].mean())


def test_calibrated_draws_score_near_zero_and_overconfidence_its_size() -> None:
    noise = np.random.default_rng(2)
    chance = noise.uniform(0.3, 0.8, 40_000)
    correct = (noise.random(40_000) < chance).tolist()
    assert expected_calibration_error(chance.tolist(), correct)["ece"] < 0.02
    boast = expected_calibration_error((chance + 0.15).tolist(), correct)["ece"]
    assert boast == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize(("confidence", "correct"), [([], []), ([0.5], []), ([0.5], [True, False])])
def test_nothing_to_compare_is_an_error(confidence: list[float], correct: list[bool]) -> None:
    with pytest.raises(ValueError, match="confidences and"):
        expected_calibration_error(confidence, correct)


@pytest.mark.parametrize("passed", [0, 1, 7, 49, 50])
def test_wilson_interval_is_scipys(passed: int) -> None:
    expected = binomtest(passed, 50).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(passed, 50) == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_interval_at_the_ends() -> None:
    assert wilson_interval(0, 50)[0] == pytest.approx(0, abs=1e-12)
    assert wilson_interval(50, 50)[1] == pytest.approx(1, abs=1e-12)
    low, high = wilson_interval(7, 50, confidence=0.5)
    assert wilson_interval(7, 50)[0] < low < high < wilson_interval(7, 50)[1]


@pytest.mark.parametrize(("passed", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_impossible_counts(passed: int, total: int) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wilson_interval(passed, total)


@pytest.mark.parametrize(("b", "c"), [*combinations(range(9), 2), (5, 5), (12, 3)])
def test_mcnemar_matches_brute_force(b: int, c: int) -> None:
    first = [True] * b + [False] * c + [True, False]
    second = [False] * b + [True] * c + [True, False]
    n = b + c
    chance = [math.comb(n, k) / 2**n for k in range(n + 1)]
    expected = sum(q for q in chance if q <= chance[b] * (1 + 1e-9))
    result = mcnemar(first, second)
    assert (result["only_first"], result["only_second"]) == (b, c)
    assert result["p_value"] == pytest.approx(expected)
    assert mcnemar(second, first)["p_value"] == pytest.approx(expected)


def test_mcnemar_without_discordant_pairs() -> None:
    expected = {"only_first": 0, "only_second": 0, "p_value": 1.0}
    assert mcnemar([True, False], [True, False]) == expected
    assert mcnemar([], []) == expected


def test_mcnemar_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True, False], [True])


def test_a_unigram_model_is_additive_smoothing_with_the_weight_of_leaving_one_out() -> None:
    trained, held_out, size = {1: 5, 2: 2, 3: 1}, {1: 3, 2: 1, 9: 2}, 50

    def loss(counts: dict[int, int], scored: dict[int, int], weight: float) -> float:
        total = sum(counts.values()) + weight * size
        return -sum(n * math.log((counts.get(t, 0) + weight) / total) for t, n in scored.items())

    def left_out(weight: float) -> float:
        return sum(n * loss({**trained, t: n - 1}, {t: 1}, weight) for t, n in trained.items())

    weights = np.geomspace(1e-4, 10, 101)
    best = min(weights, key=left_out)
    assert weights[0] < best < weights[-1]
    assert unigram_loss(trained, held_out, size) == pytest.approx(loss(trained, held_out, best) / 6)


def test_without_text_all_tokens_are_equally_likely() -> None:
    assert unigram_loss({}, {4: 2}, 10) == pytest.approx(math.log(10))
    with pytest.raises(ValueError, match="no held-out tokens"):
        unigram_loss({1: 1}, {}, 10)


def test_with_much_text_the_unigram_loss_is_the_entropy_of_the_frequencies() -> None:
    counts = {1: 6000, 2: 3000, 3: 1000}
    assert unigram_loss(counts, counts, 4) == pytest.approx(
        unigram_entropy(list(counts.values())), abs=1e-3
    )
