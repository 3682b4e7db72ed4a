"""Where compression collapses."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws import claims
from distill.answers.laws.collapse import KEY, collapse_answers
from law_worlds import answered, bent, fit_all, laws_of, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


GRID: dict[str, Any] = {
    "sizes": tuple(np.geomspace(4e5, 4e7, 8)), "tokens": (2e5, 4e5, 8e5, 1.6e6),
    "teacher_params": 6e7,
}  # fmt: skip


def ask(rows: pd.DataFrame) -> tuple[Answer, Answer]:
    """The answer, and the verdict on the claim that rests on it."""
    laws = laws_of(fit_all(rows))
    answers = collapse_answers(rows, laws)
    verdicts = claims.claim_answers(rows, [], [], answers)
    (claim,) = [one for one in verdicts if one.numbers["claim"] == claims.COLLAPSE.name]
    return only(answers, KEY), claim


def test_a_break_that_predicts_beyond_chance_is_placed() -> None:
    answer, claim = ask(make_rows(bent, **GRID))
    assert answered(answer)
    assert answer.numbers["p_value"] <= 0.05
    assert 2.5e6 < answer.numbers["break_low"] < answer.numbers["break_high"] < 3.6e6
    share = answer.numbers["share_of_teacher_value"]
    assert share == pytest.approx(answer.numbers["break_value"] / 6e7)
    assert claim.numbers["verdict"] == claims.SUPPORTED
    assert claim.numbers["intervals"]["share_of_teacher"]["value"] == share


def test_a_smooth_world_has_no_break() -> None:
    answer, claim = ask(make_rows(seed=1, **GRID))
    assert not answered(answer)
    assert answer.numbers["reason"] == "no_break"
    assert not answer.numbers["established"]
    assert claim.numbers["verdict"] == claims.NOT_TESTED


def test_few_sizes_show_no_break() -> None:
    rows = make_rows(bent, **GRID)
    answer, _ = ask(rows[rows["params"] < 3e6].reset_index(drop=True))
    assert not answered(answer)
    assert answer.numbers["reason"] == "few_sizes"
    need = answer.needs[0]
    assert (need.what, need.wanted, need.present) == ("student_sizes", 6, 4)
    sizes = need.change["students[].params"]
    assert len(sizes) == 6
    assert sizes[-1] == 2 * sizes[-2]


def test_a_break_without_the_teachers_size_cannot_test_the_claim() -> None:
    answer, claim = ask(make_rows(bent, **{**GRID, "teacher_params": np.nan}))
    assert answered(answer)
    assert "share_of_teacher_value" not in answer.numbers
    assert [need.what for need in claim.needs] == ["teacher_size"]
