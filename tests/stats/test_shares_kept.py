"""Difference and share of two scores on the same documents."""

import math

import numpy as np
import pytest
from scipy import stats

from distill.stats.shares_kept import Score, against, difference, mean_score, share


def score(documents: list[float]) -> Score:
    array = np.array(documents)
    return Score(float(array.mean()), float(array.std(ddof=1) / len(array) ** 0.5), documents)


def test_a_difference_is_paired_document_by_document() -> None:
    student, teacher = score([1, 0, 0, 1, 0, 1]), score([1, 1, 0, 1, 1, 1])
    found = difference(student, teacher)
    expected = stats.ttest_rel(student.documents, teacher.documents).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    apart = difference(
        Score(student.value, student.stderr, None), Score(teacher.value, teacher.stderr, None)
    )
    assert apart.value == pytest.approx(found.value)
    assert apart.stderr == pytest.approx(math.hypot(student.stderr or 0, teacher.stderr or 0))


def test_a_score_without_an_error_is_not_tested() -> None:
    bare = Score(0.5, None, None)
    assert not difference(bare, score([0, 1])).tested
    assert not against(bare, 0.25).tested
    assert share(bare, score([1, 1, 0, 1])) is None


def test_documents_that_are_all_equal_have_no_interval() -> None:
    none, some, all_of_them = score([0, 0, 0]), score([0, 1, 1]), score([1, 1, 1])
    assert not difference(none, all_of_them).tested
    assert not difference(some, some).tested
    assert difference(none, some).tested
    assert not against(none, 0.25).tested
    found = share(none, all_of_them)
    assert found is not None
    assert (found.value, found.low) == (0, None)


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_the_ends_of_a_share_are_where_fiellers_test_just_rejects(floor: float) -> None:
    rng = np.random.default_rng(0)
    teacher = (rng.random(300) < 0.7).astype(float)
    student = np.where(rng.random(300) < 0.6, teacher, rng.random(300) < 0.3)
    found = share(score(student.tolist()), score(teacher.tolist()), floor)
    assert found is not None
    assert found.value == pytest.approx((student.mean() - floor) / (teacher.mean() - floor))
    for end in (found.low, found.high):
        assert end is not None
        # The one-sample test that the mean of (student - floor) - end (teacher - floor) is 0.
        rest = (student - floor) - end * (teacher - floor)
        assert stats.ttest_1samp(rest, 0).pvalue == pytest.approx(0.1)


@pytest.mark.slow
def test_the_interval_of_a_share_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits, trials = 0, 1000
    for _ in range(trials):
        teacher = (rng.random(120) < 0.6).astype(float)
        student = np.where(rng.random(120) < 0.5, teacher, rng.random(120) < 0.4)
        found = share(score(student.tolist()), score(teacher.tolist()))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 / 0.6 <= found.high
    assert abs(hits / trials - 0.9) < 3 * (0.9 * 0.1 / trials) ** 0.5


def test_no_share_of_a_teacher_that_is_not_clear_of_the_floor() -> None:
    teacher = score([1, 0, 0, 0, 1, 0, 0, 0])
    student = score([1, 0, 1, 0, 1, 0, 0, 0])
    assert share(student, teacher, 0.25) is None
    assert share(student, teacher, 0.5) is None
    sure = score([1, 1, 1, 1, 1, 0, 1, 1])
    assert share(student, sure, 0.25) is not None


def test_unpaired_scores_give_a_wider_share_than_the_same_ones_paired() -> None:
    rng = np.random.default_rng(2)
    teacher = (rng.random(200) < 0.7).astype(float)
    student = np.where(rng.random(200) < 0.8, teacher, 0.0)
    one, two = score(student.tolist()), score(teacher.tolist())
    paired = share(one, two)
    apart = share(Score(one.value, one.stderr, None), Score(two.value, two.stderr, None))
    assert paired is not None
    assert apart is not None
    assert apart.value == pytest.approx(paired.value)
    assert apart.stderr > paired.stderr  # type: ignore[operator]


def test_the_mean_of_several_students_keeps_the_documents() -> None:
    found = mean_score([score([1, 0, 1, 1]), score([0, 0, 1, 0])])
    assert found.documents == [0.5, 0, 1, 0.5]
    assert found.value == 0.5
    assert found.stderr == pytest.approx(stats.sem([0.5, 0, 1, 0.5]))
    plain = mean_score([Score(0.4, 0.1, None), Score(0.6, 0.2, None)])
    assert (plain.value, plain.documents) == (0.5, None)
    assert plain.stderr == pytest.approx(0.15)
