import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs import at_equal_flops, at_equal_samples, summary
from distill.answers.runs.summary import soft_against_plain
from question_tables import ask, planted
from synthetic_runs import CACHES, make_references, make_runs


def compared(runs: pd.DataFrame) -> list[Answer]:
    return at_equal_samples.answer(Measured(runs))


@pytest.mark.slow
def test_soft_targets_are_counted() -> None:
    (answer,) = ask(make_runs(caches=tuple(CACHES)), summary, make_references())
    assert answer.numbers["soft_targets"]["comparisons"] == 8
    assert (answer.numbers["lines"], answer.numbers["several_caches"]) == (10, True)
    assert answer.numbers["best"][0]["teacher_perplexity"] == pytest.approx(np.exp(0.95))


def test_a_table_without_caches_has_no_soft_targets() -> None:
    runs = make_runs()[["student", "method", "samples", "draw", "loss"]]
    (answer,) = ask(runs, summary)
    assert answer.numbers["soft_targets"] is None


@pytest.mark.slow
def test_sweet_spots_are_listed() -> None:
    (answer,) = ask(make_runs(), summary, cost={"samples": 7e-4})
    assert answer.numbers["cost_stated"]
    assert answer.numbers["sweet_spots"]
    (answer,) = ask(make_runs(), summary)
    assert (answer.numbers["cost_stated"], answer.numbers["sweet_spots"]) == (False, [])


def test_a_lead_from_a_size_on_is_reported() -> None:
    gains = {64: [-0.02, -0.021], 128: [0.001, -0.001], 256: [0.02, 0.022], 512: [0.03]}
    counts = soft_against_plain(compared(planted(gains)), [], ["draw"])
    assert counts is not None
    assert counts["better_at_largest"] == 1
    (one,) = counts["each"]
    assert one["better_from"] == {"name": "kd", "samples": 256}
    assert one["loss_difference"] == pytest.approx(0.03)
    assert counts["better_from"] == [256, 256]
    assert counts["difference_sd"] == [pytest.approx(1e-3 * math.sqrt((0.5 + 2 + 2) / 3))] * 2


def test_soft_targets_that_hurt_are_called_worse() -> None:
    counts = soft_against_plain(compared(planted({64: [-0.02, -0.021]})), [], ["seed"])
    assert counts is not None
    assert (counts["better_at_largest"], counts["worse_at_largest"]) == (0, 1)


def test_nothing_is_counted_as_better_without_an_error_bar() -> None:
    counts = soft_against_plain(compared(planted({64: [0.5], 128: [0.6]})), [], ["draw"])
    assert counts is not None
    assert (counts["better_at_largest"], counts["untested"]) == (0, 1)


def test_many_comparisons_are_counted() -> None:
    gains: list[list[float]] = [[0.02, 0.021], [0.04, 0.042], [-0.03, -0.032], [0.01, -0.01]]
    runs = pd.concat([planted({64: g}, f"s{k}") for k, g in enumerate(gains)])
    counts = soft_against_plain(compared(runs), [], ["draw"])
    assert counts is not None
    assert counts["comparisons"] == 4
    assert (counts["better_at_largest"], counts["worse_at_largest"]) == (2, 1)
    assert sorted(counts["gains"]) == pytest.approx([-0.031, 0, 0.0205, 0.041])


def test_without_soft_targets_nothing_is_counted() -> None:
    assert soft_against_plain(compared(make_runs().query("method != 'kd'")), [], ["draw"]) is None


def test_work_is_counted() -> None:
    study = Measured(make_runs())
    counts = soft_against_plain(
        at_equal_samples.answer(study), at_equal_flops.answer(study), ["draw"]
    )
    assert counts is not None
    equal: Any = counts["equal_flops"]
    assert equal["comparisons"] == 2


def test_a_corpus_is_no_plain_text_of_the_teacher() -> None:
    references = make_references()
    references["methods"]["sft"]["corpus"] = "text"
    (answer,) = ask(make_runs(), summary, references)
    assert answer.numbers["soft_targets"] is None
