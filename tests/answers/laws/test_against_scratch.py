"""Distilled students against students from scratch."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws import claims
from distill.answers.laws.against_scratch import (
    BREAK_EVEN,
    DATA,
    EFFICIENCY,
    QUESTIONS,
    scratch_answers,
)
from distill.answers.laws.common_text import AGAINST_SCRATCH, CommonText, scratch_differences
from distill.answers.laws.compute_optimal import Cost
from distill.laws.choice import Settings, fit_points
from distill.laws.common_text import fit_on_common_text
from law_worlds import CENTRE_D, SIZES, answered, chinchilla, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


COSTS = {"t": Cost(np.array([]), np.array([]), 6e6, "2N")}


def scratch_world(share: float, **changes: float) -> pd.DataFrame:
    """Distilled students need a share of the data of those from a corpus."""

    def distilled(params: float, tokens: float) -> float:
        return chinchilla(params, tokens / share, **changes)

    kinds: list[dict[str, Any]] = [{"truth": distilled}, {"method": "corpus", "seed": 9}]
    return pd.concat(
        [make_rows(reference=True, sizes=SIZES[1:], **kind) for kind in kinds], ignore_index=True
    )


def text_of(rows: pd.DataFrame) -> CommonText:
    return CommonText(fit_on_common_text(rows, ["corpus"], Settings(starts=8), fit_points))


def ask(rows: pd.DataFrame) -> list[Answer]:
    return scratch_answers(rows, ["corpus"], COSTS, text_of(rows))


def test_a_teachers_own_text_does_not_decide_against_scratch() -> None:
    rows = scratch_world(0.15).drop(columns="reference").assign(task="instruction")
    text = text_of(rows)
    assert text.column is None
    for answer in (*ask(rows), *scratch_differences(rows, ["corpus"], text)):
        assert answer.status == "cannot_tell"
        assert [need.what for need in answer.needs] == ["reference_loss"]
        assert "evaluate.reference" in answer.numbers["of"]["refused"]
    corpus = scratch_world(0.15).drop(columns="reference").assign(task="causal-lm")
    assert text_of(corpus).column == "loss"


def test_data_and_compute_are_compared_on_the_reference_text() -> None:
    rows = scratch_world(0.15)
    answers = ask(rows)
    share = only(answers, DATA)
    assert answered(share)
    assert share.numbers["judged_on"] == "reference"
    assert 0.1 < share.numbers["low"] < 0.15 < share.numbers["high"] < 0.2
    even = only(answers, BREAK_EVEN).numbers
    assert (even["reached"], even["below"]) == (False, "distillation")
    efficiency = only(answers, EFFICIENCY).numbers
    # 3 F(N_S) with F = 2 N at 24M, against the teacher's 6e6 on top of it.
    assert efficiency["best_case_value"] == pytest.approx(1 / share.numbers["value"])
    assert efficiency["teacher_inference_value"] == pytest.approx(
        1 / share.numbers["value"] / (1 + 6e6 / (6 * SIZES[-1]))
    )
    verdicts = {
        one.numbers["claim"]: one.numbers["verdict"]
        for one in claims.claim_answers(rows, [], ["corpus"], answers)
    }
    assert verdicts[claims.DATA_SHARE.name] == claims.SUPPORTED
    assert verdicts[claims.EFFICIENT.name] == claims.SUPPORTED


def test_without_a_corpus_nothing_is_compared() -> None:
    rows = scratch_world(0.15)
    text = CommonText(fit_on_common_text(rows, [], Settings(starts=8), fit_points))
    for question in QUESTIONS:
        answer = only(scratch_answers(rows, [], COSTS, text), question)
        assert not answered(answer)
        (need,) = answer.needs
        assert need.what == "corpus_method"
        assert "corpus" in need.change["methods.scratch"]


def test_a_group_without_a_law_names_what_it_lacks() -> None:
    rows = scratch_world(0.15)
    few = rows[(rows["method"] == "kd") | (rows["params"] < 3e6)].reset_index(drop=True)
    for answer in ask(few):
        assert not answered(answer)
        assert answer.numbers["reason"] == "no_common_law"
        assert answer.numbers["of"]["group"].startswith("corpus")
        assert "there are 2 over a factor of" in answer.numbers["of"]["refused"]


def test_break_even_lies_where_the_laws_cross() -> None:
    rows = scratch_world(1.0, beta=0.15)
    even = only(ask(rows), BREAK_EVEN)
    assert answered(even)
    assert (even.numbers["below"], even.numbers["above"]) == ("distillation", "scratch")
    assert even.numbers["low"] < CENTRE_D < even.numbers["high"]
    apart = only(scratch_differences(rows, ["corpus"], text_of(rows)), AGAINST_SCRATCH)
    assert apart.numbers["beta"]["high"] < 0
    assert apart.numbers["judged_on"] == "reference"
