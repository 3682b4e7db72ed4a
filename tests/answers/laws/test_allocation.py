"""How the best size grows with compute, by two ways."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws.allocation import KEY, allocation_answers
from distill.answers.wording import worded, wording_of
from distill.laws.fitted import FittedLaw
from distill.laws.isoflops import fit_isoflops
from law_worlds import CENTRE_D, CENTRE_N, TRUTH, chinchilla, fit, make_rows
from miniature import ROOT

pytestmark = pytest.mark.slow  # fits many laws
EXPONENT = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])


def best_size(flops: float) -> float:
    """The minimum of the truth under C = 6 N D."""
    a, b = TRUTH["alpha"], TRUTH["beta"]
    ratio = a * TRUTH["A"] * CENTRE_N**a / (b * TRUTH["B"] * CENTRE_D**b)
    return float(ratio ** (1 / (a + b)) * (flops / 6) ** EXPONENT)


def budgets(noise: float = 0.001, times: tuple[float, ...] = (0.3, 0.6, 1.2, 2.4, 4.0)) -> Any:
    """Runs of the truth at five budgets of equal FLOPs."""
    parts = []
    for k, flops in enumerate(1e12 * 6.0 ** np.arange(5)):
        for one in times:
            size = one * best_size(flops)
            parts.append(make_rows(sizes=(size,), tokens=(flops / 6 / size,), draws=1,
                                   noise=noise, seed=7 * k + round(10 * one)))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def answer_of(rows: pd.DataFrame, laws: list[FittedLaw]) -> Answer:
    (answer,) = allocation_answers(rows, laws, {"isoflops": fit_isoflops(rows)})
    (record,) = worded([answer], wording_of(ROOT / "report/answers"))
    assert record["key"] == KEY
    assert record["answer"].endswith(".")
    assert "None" not in record["answer"] + record["evidence"]
    return answer


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return budgets()


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows, sizes=("params",))


def test_both_ways_give_the_closed_form(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    numbers = answer_of(rows, laws).numbers
    assert numbers["isoflops"]["exponent"]["value"] == pytest.approx(EXPONENT, abs=0.03)
    law = numbers["law"]
    assert law["exponent"]["low"] < EXPONENT < law["exponent"]["high"]
    assert law["exponent"]["value"] == pytest.approx(EXPONENT, abs=0.02)
    best = best_size(numbers["flops"])
    assert law["params"]["value"] == pytest.approx(best, rel=0.1)
    tokens = numbers["flops"] / 6 / best
    assert law["tokens_per_parameter"]["value"] == pytest.approx(tokens / best, rel=0.2)
    assert law["tokens_per_parameter"]["low"] < tokens / best
    assert tokens / best < law["tokens_per_parameter"]["high"]
    assert numbers["agree"]


def test_the_intervals_are_those_of_the_two_exponents(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    """The delta method, against draws of the coefficients."""
    from distill.laws.curves import curve_of

    curve = curve_of(laws[0])
    drawn = [curve.law.natural(theta, curve.centre)[0] for theta in curve.samples(4000, 0)]
    places = [curve.law.names.index(name) for name in ("alpha", "beta")]
    alpha, beta = np.array(drawn)[:, places].T
    low, high = np.quantile(beta / (alpha + beta), [0.05, 0.95])
    entry = answer_of(rows, laws).numbers["law"]["exponent"]
    assert entry["high"] - entry["low"] == pytest.approx(high - low, rel=0.15)


def test_two_ways_that_disagree_are_said_to(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    other = rows.assign(loss=rows["loss"])
    size, flops = rows["params"], rows["flops"]
    best = 2e6 * (flops / 1e12) ** 0.2
    other["loss"] = 4 - 0.2 * np.log10(flops / 1e12) + 0.02 * np.log(size / best) ** 2
    answer = answer_of(other, laws)
    assert answer.numbers["isoflops"]["exponent"]["value"] == pytest.approx(0.2, abs=0.01)
    assert answer.numbers["agree"] is False


def test_a_best_size_that_was_not_measured_is_said_to(laws: list[FittedLaw]) -> None:
    inside = budgets()
    small = inside[inside["params"] < 0.9 * best_size(float(inside["flops"].max()))]
    refusal = {"reason": "few_levels", "levels": 0, "minima": 0, "levels_refused": []}
    (record,) = fit_isoflops(inside)["fitted"]
    refused = {"fitted": [], "refused": [{"selected": record["selected"], **refusal}]}
    for table, text in ((inside, False), (small, True)):
        answers = allocation_answers(table, laws, {"isoflops": refused})
        (worded_one,) = worded(answers, wording_of(ROOT / "report/answers"))
        numbers = worded_one["numbers"]
        assert (numbers["law"]["params"]["value"] > numbers["sizes_measured"][1]) is text
        assert ("outside the sizes measured" in worded_one["answer"]) is text


def test_one_way_alone_is_an_answer_and_none_a_refusal(laws: list[FittedLaw]) -> None:
    grid = make_rows(tokens=(2e5, 1e6, 5e6))  # at most two sizes share a budget
    alone = answer_of(grid, fit(grid, sizes=("params",)))
    assert alone.status == "answered"
    assert alone.numbers["isoflops"] is None
    assert alone.numbers["isoflops_refused"]["reason"] in ("few_levels", "few_minima")
    minima = answer_of(budgets(), [])
    assert minima.numbers["law_refused"] == "no_law"
    neither = answer_of(make_rows(sizes=(1e6, 2e6)), [])
    assert neither.status == "cannot_tell"
    assert neither.needs[0].what == "isoflops"
    one = allocation_answers(make_rows(sizes=(1e6,)), [], {})
    assert [(answer.status, answer.numbers["reason"]) for answer in one] == [
        ("cannot_tell", "one_size")
    ]


def test_sizes_too_near_give_no_exponent_of_a_law() -> None:
    near = make_rows(chinchilla, sizes=(1e6, 2e6, 4e6, 8e6))
    answer = answer_of(near, fit(near, sizes=("params",)))
    assert answer.numbers["law_refused"] == "size_span"
