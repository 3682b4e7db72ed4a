"""The questions of a runs table as a whole."""

import json

import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs.questions import OF_ALL, OF_SAMPLES, answer_runs
from distill.core.errors import UserError
from distill.table.lines import question_lines
from question_tables import runs_of
from synthetic_runs import CACHES, make_references, make_runs


@pytest.mark.slow
def test_every_question_is_answered_in_plain_json() -> None:
    study = Measured(make_runs(caches=tuple(CACHES)), make_references())
    records = [answer.record() for answer in answer_runs(study, [*OF_SAMPLES, *OF_ALL])]
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    keys = [record["key"] for record in records]
    # This study has no benchmarks.
    assert {question.KEY for question in (*OF_SAMPLES, *OF_ALL)} - set(keys) == {"benchmarks"}
    assert [keys.count(key) for key in ("at_equal_samples", "at_equal_flops", "cache_costs")] == [
        8,
        20,
        2,
    ]
    assert keys[:2] == ["learned", "summary"]


@pytest.mark.slow
def test_references_of_an_older_study_are_enough() -> None:
    references = make_references()
    for name in ("methods", "caches", "searches"):
        del references[name]
    study = Measured(make_runs(caches=tuple(CACHES)), references)
    assert any(answer.question == "cache_costs" for answer in answer_runs(study, OF_SAMPLES))


def test_a_table_without_the_new_columns_is_answered() -> None:
    study = Measured(make_runs()[["student", "method", "samples", "draw", "loss"]])
    keys = {answer.question for answer in answer_runs(study, OF_SAMPLES)}
    assert "cache_costs" not in keys
    assert "at_equal_flops" in keys


def test_a_users_own_table_needs_few_columns() -> None:
    rows = pd.DataFrame(
        {"student": f"{n}", "method": "sft", "loss": 2 - 0.1 * k, "tokens_unique": 1e5, "params": n}
        for k, n in enumerate((10, 100, 1000))
    )
    study = Measured(rows)
    assert not study.trained_here
    answers = answer_runs(study, OF_ALL)
    (front, *_) = [a for a in answers if a.question == "pareto" and a.numbers["models"]]
    assert [model["status"] for model in front.numbers["models"]] == ["front"] * 3
    assert front.status == "cannot_tell"
    # Its runs come from no config, so none can be changed.
    assert not [need for answer in answers for need in answer.needs if need.change]
    with pytest.raises(UserError, match="no column loss"):
        answer_runs(Measured(rows.drop(columns="loss")), OF_ALL)


def test_a_question_is_computed_once() -> None:
    asked = []

    def question(study: Measured) -> list[Answer]:
        asked.append(study)
        return [Answer("odd")]

    study = Measured(make_runs())
    assert study.ask(question) == study.ask(question) == [Answer("odd")]
    assert len(asked) == 1


def test_lines_split_where_initialisation_or_epochs_differ() -> None:
    one = runs_of(lambda n: 2.0, draws=1, init="cut")
    other = runs_of(lambda n: 2.1, draws=1, init="random")
    assert len(question_lines(pd.DataFrame(one + other))) == 2
    many = runs_of(lambda n: 1.9, draws=1, epochs=4)
    lines = question_lines(pd.DataFrame(one + many))
    assert [line.label for line in lines] == ["s · sft · 2 epochs", "s · sft · 4 epochs"]
    # Early stopping makes epochs differ between draws of a cell: these are one line.
    stopped = [row | {"draw": 1} for row in runs_of(lambda n: 2.0, draws=1, epochs=1.4)]
    assert len(question_lines(pd.DataFrame(one + stopped))) == 1
