"""The best ratio of teacher to student."""

from collections.abc import Sequence

import pytest

from distill.answers.answer import Answer
from distill.answers.laws import claims
from distill.answers.laws.teacher_ratio import KEY, teacher_ratio_answers
from law_worlds import answered, only, ratio_world

pytestmark = pytest.mark.slow  # fits many laws


TEACHERS = (3e6, 9e6, 3e7, 1e8, 3e8)


def ask(best: float | None, teachers: Sequence[float] = TEACHERS) -> tuple[Answer, Answer]:
    """The answer, and the verdict on the claim that rests on it."""
    rows = ratio_world(best, teachers)
    answers = teacher_ratio_answers(rows)
    verdicts = claims.claim_answers(rows, [], [], answers)
    (claim,) = [one for one in verdicts if one.numbers["claim"] == claims.BEST_RATIO.name]
    return only(answers, KEY), claim


def test_the_best_ratio_is_found_where_it_shows() -> None:
    answer, claim = ask(15.0)
    assert answered(answer)
    assert answer.numbers["low"] < 15 < answer.numbers["high"] < 20
    assert claim.numbers["verdict"] == claims.SUPPORTED
    assert claim.numbers["intervals"]["value"]["value"] == answer.numbers["value"]
    assert ask(45.0)[1].numbers["verdict"] == claims.CONTRADICTED


def test_teachers_are_not_compared_on_their_own_texts() -> None:
    rows = ratio_world(15.0, TEACHERS).assign(task="instruction", reference=float("nan"))
    answer = only(teacher_ratio_answers(rows), KEY)
    assert answer.numbers["reason"] == "no_reference"
    assert [need.what for need in answer.needs] == ["reference_loss"]
    two = only(teacher_ratio_answers(rows[rows["teacher_params"] < 1e7]), KEY)
    assert two.numbers["reason"] == "few_teachers"


@pytest.mark.parametrize(
    ("best", "teachers", "reason", "need"),
    [
        (15.0, TEACHERS[:2], "few_teachers", ("teachers", 3, 2)),
        (None, TEACHERS, "no_curvature", ("draws", 3, 2)),
        (900.0, TEACHERS, "at_the_end", ("teachers", 6, 5)),
    ],
)
def test_it_is_not_told_where_it_does_not_show(
    best: float | None, teachers: Sequence[float], reason: str, need: tuple[str, int, int]
) -> None:
    answer, claim = ask(best, teachers)
    assert not answered(answer)
    assert answer.numbers["reason"] == reason
    assert answer.numbers["teachers"] == len(teachers)
    assert [(one.what, one.wanted, one.present) for one in answer.needs] == [need]
    assert claim.numbers["verdict"] == claims.NOT_TESTED
    assert not claim.numbers["measured"]
    assert claim.needs == answer.needs
