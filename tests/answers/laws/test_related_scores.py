"""What score goes with a loss and with twice the data."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws.related_scores import OTHER, TASK, score_answers
from distill.answers.wording import worded, wording_of
from distill.laws.fitted import FittedLaw
from distill.laws.related_scores import relate_scores
from law_worlds import chinchilla, fit, make_rows
from miniature import ROOT

pytestmark = pytest.mark.slow  # fits laws
ITEMS = 400
REFERENCES = {"items": {"large": ITEMS, "fixed": 50}, "floor": {"large": 0.05, "fixed": 0.05}}


def rate(loss: Any) -> Any:
    return 0.05 + 0.9 / (1 + np.exp(3.0 * (np.asarray(loss) - 3.0)))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    table = make_rows(draws=1, noise=0.002)
    rng = np.random.default_rng(4)
    loss = table["loss"].to_numpy()
    return table.assign(
        pass_rate_large=rng.binomial(ITEMS, rate(loss)) / ITEMS,
        pass_rate=rng.binomial(50, 0.05, len(loss)) / 50,
        reference_loss=(0.8 + 1.3 * (loss - 1.5) ** 0.9)
        * np.exp(0.003 * rng.normal(size=len(loss))),
    )


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows, sizes=("params",))


def answers_of(
    rows: pd.DataFrame, laws: list[FittedLaw], target: float | None = None, **keys: Any
) -> dict[str, Answer]:
    relations = relate_scores(rows, keys.get("references", REFERENCES), [], True)
    answers = score_answers(rows, laws, {"relations": relations}, target)
    for record in worded(answers, wording_of(ROOT / "report/answers", own_table=True)):
        text = record["answer"] + record["evidence"]
        assert record["answer"].endswith(".")
        assert not any(odd in text for odd in ("None", "nan", "  ", " .", "{", " ,", "[")), text
        if record["status"] == "cannot_tell":
            assert "Cannot tell" in record["answer"]
            assert "Needed: " in record["answer"]
    return {answer.numbers["of"]: answer for answer in answers}


def test_a_score_at_twice_the_data_is_that_of_the_predicted_loss(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    answer = answers_of(rows, laws)["pass_rate_large"]
    assert (answer.question, answer.status) == (TASK, "answered")
    by_loss = answer.numbers["by_loss"]
    best = rows.loc[rows["loss"].idxmin()]
    twice = by_loss["twice"]
    assert twice["student"] == best["student"]
    assert twice["tokens"] == 2 * best["tokens"]
    truth = chinchilla(best["params"], twice["tokens"])
    assert twice["loss"] == pytest.approx(truth, rel=0.01)
    assert twice["low"] < rate(truth) < twice["high"]
    assert twice["run_low"] < twice["low"]
    lowest = by_loss["at_lowest"]
    assert lowest["low"] < rate(best["loss"]) < lowest["high"]
    assert lowest["slope"] < 0
    by_data = answer.numbers["by_data"]
    assert by_data
    for one in by_data:
        assert one["twice"]["value"] > one["at_most"]["value"]


def test_a_target_is_answered_near_the_losses_measured_alone(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    near = answers_of(rows, laws, 3.1)["pass_rate_large"].numbers["by_loss"]["target"]
    assert near["value"] == pytest.approx(rate(3.1), abs=0.03)
    assert not near["beyond"]
    below = answers_of(rows, laws, float(rows["loss"].min()) - 0.2)["pass_rate_large"]
    assert below.numbers["by_loss"]["target"]["beyond"]
    far = answers_of(rows, laws, 0.1)["pass_rate_large"].numbers["by_loss"]["target"]
    assert far["too_far"]
    assert "value" not in far


def test_a_score_at_chance_is_no_answer(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    answer = answers_of(rows, laws)["pass_rate"]
    assert answer.status == "cannot_tell"
    assert answer.needs[0].what == "score_above_chance"
    assert answer.numbers["refused"][0]["reason"] == "at_floor"


def test_the_loss_on_another_text_is_answered(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    answer = answers_of(rows, laws, 2.5)["reference_loss"]
    assert (answer.question, answer.status) == (OTHER, "answered")
    target = answer.numbers["by_loss"]["target"]
    assert target["value"] == pytest.approx(0.8 + 1.3, rel=0.01)
    assert target["low"] < 2.1 < target["high"]
    assert answer.numbers["by_data"] == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda rows: rows.head(4), "score_levels"),
        (lambda rows: rows.assign(pass_rate_large=0.05 + 0.1 * rows["loss"]), "score_trend"),
        (lambda rows: rows.assign(pass_rate_large=0.5), "score_trend"),
    ],
    ids=["few", "wrong way", "no trend"],
)  # fmt: skip
def test_refusals_say_what_is_missing(rows: pd.DataFrame, change: Any, what: str) -> None:
    columns = rows.drop(columns=["pass_rate", "reference_loss"])
    answer = answers_of(change(columns), [])["pass_rate_large"]
    assert answer.status == "cannot_tell"
    assert answer.needs[0].what == what


def test_a_score_that_rises_and_falls_has_data_alone(rows: pd.DataFrame) -> None:
    bent = rows.drop(columns=["pass_rate", "reference_loss"])
    bent["pass_rate_large"] = 0.9 - 0.2 * abs(bent["loss"] - 3.2)
    numbers = answers_of(bent, [])["pass_rate_large"].numbers
    assert numbers["by_loss"] is None
    (refused,) = [one for one in numbers["refused"] if one["by"] == "loss"]
    assert refused["reason"] == "rises_and_falls"
    assert numbers["by_data"]  # a student above 3.2 nats only rises


def test_without_a_law_there_is_no_twice(rows: pd.DataFrame) -> None:
    by_loss = answers_of(rows, [])["pass_rate_large"].numbers["by_loss"]
    assert by_loss["twice"] is None
    assert by_loss["at_lowest"]["value"] > 0.5


def test_a_table_without_scores_is_not_asked(laws: list[FittedLaw]) -> None:
    assert answers_of(make_rows(draws=1), laws) == {}
    assert score_answers(make_rows(draws=1), laws, {}, None) == []
