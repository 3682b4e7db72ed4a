"""The share of a teacher's score that a student keeps, with its sampling error over documents.

Both models are scored on the same documents, so their errors are correlated: if each document has a
score, difference and share use pairs. Intervals are 90 % and cover the sampling of documents only,
not draws of the training data and seeds. If all documents have the same score (0 of 8 solved) there
is no interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from distill.stats.intervals import LEVEL, Estimate, mean_estimate


@dataclass(frozen=True)
class Score:
    """A score on one task.

    Attributes:
        value: The score.
        stderr: Its standard error over documents; None if it is unknown.
        documents: Scores of the documents whose mean it is, in the task's order; None for others.
    """

    value: float
    stderr: float | None
    documents: Sequence[float] | None


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean score of several students on the same documents.

    Without scores of documents the standard error is the mean of those given, because the students
    share the documents.
    """
    value = math.fsum(score.value for score in scores) / len(scores)
    errors = [score.stderr for score in scores if score.stderr is not None]
    stderr = math.fsum(errors) / len(errors) if len(errors) == len(scores) else None
    rows = [score.documents for score in scores if score.documents is not None]
    if len(rows) < len(scores):
        return Score(value, stderr, None)
    means = np.mean(np.array(rows, dtype=float), axis=0)
    if len(scores) > 1:
        stderr = mean_estimate(means).stderr
    return Score(value, stderr, means.tolist())


def against(score: Score, constant: float) -> Estimate:
    """A score minus a constant, such as the score of guessing."""
    return _normal(score.value - constant, score.stderr)


def difference(student: Score, teacher: Score) -> Estimate:
    """The student's score minus the teacher's.

    With the documents' differences d: mean(d) ± t · sd(d) / √n. Without them the two scores are
    taken as independent, which gives too wide an interval.
    """
    value, pairs = student.value - teacher.value, _pairs(student, teacher)
    if pairs is not None:
        gaps = pairs[0] - pairs[1]
        return mean_estimate(gaps) if np.ptp(gaps) else Estimate(value, None, None, None)
    if student.stderr is None or teacher.stderr is None:
        return Estimate(value, None, None, None)
    return _normal(value, math.hypot(student.stderr, teacher.stderr))


def share(student: Score, teacher: Score, floor: float = 0.0) -> Estimate | None:
    """The share (student − floor) / (teacher − floor).

    Its interval is Fieller's (1954, "Some problems in interval estimation"): all r for which
    s − r t is within its error of 0, with s and t the scores above the floor,

        (s − r t)² ≤ q² (V_ss − 2 r V_st + r² V_tt),

    V the covariance of the two means over documents, q Student's quantile. The standard error is
    that of the delta method.

    Returns:
        None if the teacher's score does not differ clearly from the floor: the share is unbounded.
    """
    pairs = _pairs(student, teacher)
    if pairs is not None:
        count = len(pairs[0])
        (ss, st), (_, tt) = np.cov(np.array(pairs)) / count
        q = float(stats.t.ppf((1 + LEVEL) / 2, count - 1))
    elif student.stderr is not None and teacher.stderr is not None:
        ss, st, tt = student.stderr**2, 0.0, teacher.stderr**2
        q = _NORMAL
    else:
        return None
    s, t = student.value - floor, teacher.value - floor
    a, b, c = t * t - q * q * tt, s * t - q * q * st, s * s - q * q * ss
    if a <= 0 or t <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    ratio = s / t
    stderr = math.sqrt(max(ss - 2 * ratio * st + ratio * ratio * tt, 0.0)) / t
    if stderr == 0:
        return Estimate(ratio, None, None, None)
    return Estimate(ratio, stderr, (b - root) / a, (b + root) / a)


_NORMAL = float(stats.norm.ppf((1 + LEVEL) / 2))


def _normal(value: float, stderr: float | None) -> Estimate:
    if not stderr:
        return Estimate(value, None, None, None)
    return Estimate(value, stderr, value - _NORMAL * stderr, value + _NORMAL * stderr)


def _pairs(student: Score, teacher: Score) -> tuple[Any, Any] | None:
    """Both models' scores per document, if both have them and there are two documents or more."""
    if student.documents is None or teacher.documents is None or len(student.documents) < 2:
        return None
    return np.asarray(student.documents), np.asarray(teacher.documents)
