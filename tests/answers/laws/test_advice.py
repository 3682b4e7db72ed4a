"""What a user should do next."""

import numpy as np
import pytest

from distill.answers.answer import Answer, Need
from distill.answers.laws import claims
from distill.answers.laws.advice import KEY, MISSING, SURER, advice_answers
from distill.answers.laws.reach import reach_answer
from law_worlds import SIZES, answered, chinchilla, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


def advise(**changes: float) -> list[Answer]:
    def truth(params: float, tokens: float) -> float:
        return chinchilla(params, tokens, **changes)

    rows = make_rows(truth)
    return advice_answers(rows, fit(rows, sizes=("params",)), [])


def test_advice_follows_what_lowers_the_loss() -> None:
    data = only(advise(A=0.1, B=2.0), KEY)
    assert data.numbers["recommended"] == "tokens"
    assert data.numbers["data_used_up"]
    size = only(advise(A=2.0, B=0.1), KEY)
    assert size.numbers["recommended"] == "params"
    assert size.numbers["largest_student"]
    assert size.numbers["data_minus_size"]["high"] < 0
    # Per cent of the loss, against the fall of its log.
    gain, shown = size.numbers["params"]["value"], size.numbers["percent"]["params"]["value"]
    assert shown == pytest.approx(100 * (1 - np.exp(-gain)))


def test_two_draws_ask_for_a_third() -> None:
    surer = only(advise(), SURER)
    assert (surer.numbers["draws"], surer.numbers["seeds"], surer.numbers["laws"]) == (2, 1, 1)
    assert surer.numbers["unjudged"] == 0
    assert Need("draws", 3, 2, {"runs[].draws": [0, 1, 2]}) in surer.needs


def test_what_most_questions_wait_for_comes_first() -> None:
    corpus, draws = Need("corpus_method", 1, 0), Need("draws", 3, 2)
    answers = [
        Answer("a", {}, "cannot_tell", {}, (draws, corpus)),
        Answer("b", {}, "cannot_tell", {}, (corpus,)),
        Answer("b", {}, "cannot_tell", {}, (draws,)),
        Answer("c", {}, "cannot_tell", {}, (draws,)),
        Answer(claims.KEY, {}, "cannot_tell", {}, (corpus,)),
    ]
    missing = only(advice_answers(make_rows(), [], answers), MISSING)
    assert [(one["need"]["what"], one["questions"]) for one in missing.numbers["wanted"]] == [
        ("draws", ["a", "b", "c"]), ("corpus_method", ["a", "b"]),
    ]  # fmt: skip
    assert missing.needs == (draws, corpus)
    nothing = only(advice_answers(make_rows(), [], []), MISSING)
    assert nothing.numbers == {"wanted": []}


def test_without_a_law_there_is_no_advice() -> None:
    for question in (KEY, SURER):
        answer = only(advice_answers(make_rows(), [], []), question)
        assert not answered(answer)
        assert answer.needs[0].what == "amounts_of_data"


def test_the_reach_is_what_was_measured() -> None:
    numbers = reach_answer(make_rows()).numbers
    assert (numbers["largest_params"], numbers["smallest_params"]) == (SIZES[-1], SIZES[0])
    assert numbers["largest_tokens"] == 4e6
    unsized = reach_answer(make_rows().assign(params=np.nan, params_non_embedding=np.nan)).numbers
    assert unsized["largest_params"] is None
    assert "smallest_params" not in unsized
