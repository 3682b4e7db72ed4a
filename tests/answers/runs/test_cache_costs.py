from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distill.answers.answer import Answer
from distill.answers.runs import cache_costs
from distill.answers.runs.cache_costs import CacheCost, cache_groups
from distill.stats.intervals import Estimate
from distill.table.lines import Line, lines_of, prepare_runs
from question_tables import ask
from synthetic_runs import CACHES, make_references, make_runs


def lines_from(runs: pd.DataFrame) -> list[Line]:
    return lines_of(prepare_runs(runs))


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return make_runs(noise=0.001, caches=tuple(CACHES))


@pytest.fixture(scope="module")
def lines(runs: pd.DataFrame) -> list[Line]:
    return lines_from(runs)


def cost_of(name: str, answer: Answer) -> dict[str, Any]:
    return next(cost for cost in answer.numbers["caches"] if cost["cache"] == name)


def test_one_cache_is_no_comparison() -> None:
    assert ask(make_runs(), cache_costs, make_references()) == []


@pytest.mark.slow
def test_the_reference_is_the_most_exact_cache(lines: list[Line]) -> None:
    known = make_references()

    def reference(references: dict[str, Any] | None) -> str:
        return cache_groups(lines, references)[0].reference.cache

    assert reference(known) == "hidden"
    known["caches"]["top4"]["manifest"]["scheme"] = "dense"
    assert reference(known) == "hidden"
    known["caches"]["hidden"]["manifest"]["scheme"] = "top_k"
    assert reference(known) == "top4"
    known["caches"]["top4"]["manifest"] = None
    assert reference(known) == "hidden"  # the one with most bytes
    assert reference(None) == "hidden"
    assert reference({}) == "hidden"


@pytest.mark.slow
def test_intervals_are_those_of_a_paired_t_test(runs: pd.DataFrame) -> None:
    (answer, _) = ask(runs, cache_costs, make_references())
    cost = cost_of("drawn50", answer)
    mine = {line.cache: line.runs for line in lines_from(runs) if line.student == "layers-2"}
    keys = ["samples", "draw"]
    both = mine["drawn50"].merge(mine["hidden"], on=keys)
    assert cost["pairs"] == len(both) == 8
    test = stats.ttest_rel(both["loss_x"], both["loss_y"])
    interval = test.confidence_interval(0.90)
    assert cost["loss_difference"] == pytest.approx((both["loss_x"] - both["loss_y"]).mean())
    assert cost["loss_difference_low"] == pytest.approx(interval.low)
    assert cost["loss_difference_high"] == pytest.approx(interval.high)
    share = 100 * (both["kl_teacher_x"] / both["kl_teacher_y"] - 1)
    interval = stats.ttest_1samp(share, 0).confidence_interval(0.90)
    assert cost["kl_percent"] == pytest.approx(share.mean())
    assert cost["kl_percent_low"] == pytest.approx(interval.low)
    assert cost["kl_percent_high"] == pytest.approx(interval.high)
    assert cost["ece_difference"] == pytest.approx((both["ece_x"] - both["ece_y"]).mean())
    sizes = {step["samples"]: step["loss_percent"] for step in cost["by_samples"]}
    largest = both[both["samples"] == 1024]
    assert sizes[1024] == pytest.approx(100 * (largest["loss_x"] / largest["loss_y"] - 1).item())


def test_planted_costs_are_found(runs: pd.DataFrame) -> None:
    for answer in ask(runs, cache_costs, make_references()):
        verdicts = {cost["cache"]: cost["equivalent"] for cost in answer.numbers["caches"]}
        assert verdicts == {"top64": "yes", "drawn50": "yes", "top4": "no"}
        assert answer.numbers["cheapest_equivalent"] == "drawn50"
        assert cost_of("drawn50", answer)["bytes_per_token"] == 96.5
        assert cost_of("top4", answer)["equivalent_because"] == "loss_worse"
        # Each cache's gap is its factor times that of the reference.
        share = cost_of("top4", answer)["kl_percent"]
        assert share == pytest.approx(100 * (CACHES["top4"]["gap"] - 1), abs=0.5)


def test_the_lowest_are_named_with_their_intervals() -> None:
    runs = make_runs(noise=1e-4, caches=("hidden", "top64", "top4"))
    better = runs["cache"] == "top4"
    runs.loc[better, "loss"] -= 0.5 * (runs.loc[better, "loss"] - 0.95)
    (answer, _) = ask(runs, cache_costs, make_references())
    assert answer.numbers["lowest_loss"] == "top4"
    assert cost_of("top4", answer)["loss_percent_high"] < 0
    assert cost_of("top4", answer)["equivalent_because"] == "loss_better"
    assert answer.numbers["cheapest_equivalent"] == "top64"
    assert answer.numbers["lowest_kl"] in ("hidden", "top64")


def around(value: float, half: float) -> Estimate:
    return Estimate(value, half / 2, value - half, value + half)


@pytest.mark.parametrize(
    ("loss", "kl", "pairs", "verdict"),
    [
        (around(0, 0.4), around(0, 1.9), 3, ("yes", "inside")),
        (around(0, 0.5), around(0, 2.0), 3, ("yes", "inside")),
        (around(0, 0.51), around(0, 1.9), 3, ("cannot_tell", "wide")),
        (around(0, 0.4), around(1, 1.1), 3, ("cannot_tell", "wide")),
        (around(1, 0.4), around(0, 1.9), 3, ("no", "loss_worse")),
        (around(0, 0.4), around(9, 1.9), 3, ("no", "kl_worse")),
        (around(-1, 0.4), around(0, 9), 3, ("no", "loss_better")),
        (around(0, 0.1), around(0, 0.1), 2, ("cannot_tell", "few_pairs")),
        (around(0, 0.1), None, 9, ("cannot_tell", "no_kl")),
        (around(1, 0.1), None, 9, ("no", "loss_worse")),
    ],
)
def test_equivalence(
    lines: list[Line], loss: Estimate, kl: Estimate | None, pairs: int, verdict: tuple[str, str]
) -> None:
    cost = CacheCost(
        line=lines[0], pairs=pairs, by_size={}, size=1.0, kept_mass=None, same_targets=True,
        loss=loss, loss_percent=loss, kl_percent=kl, ece=None,
    )  # fmt: skip
    assert cost.equivalent == verdict
    assert replace(cost, pairs=0).equivalent == ("cannot_tell", "few_pairs")


def test_two_pairs_cannot_tell() -> None:
    runs = make_runs(noise=0, caches=("hidden", "top64")).query("samples in (0, 64)")
    (answer, _) = ask(runs, cache_costs, make_references())
    assert cost_of("top64", answer)["equivalent_because"] == "few_pairs"
    assert answer.numbers["cheapest_equivalent"] == "hidden"


def test_caches_that_share_no_run_are_told() -> None:
    runs = make_runs(caches=("hidden", "top64"))
    runs.loc[runs["cache"] == "top64", "draw"] += 5
    (answer, _) = ask(runs, cache_costs, make_references())
    cost = cost_of("top64", answer)
    assert (cost["pairs"], cost["loss_difference"]) == (0, None)


def test_missing_columns_are_told() -> None:
    runs = make_runs(caches=("hidden", "top64"))
    (answer, _) = ask(runs.drop(columns=["kl_teacher", "ece"]), cache_costs, None)
    assert cost_of("top64", answer)["kl_percent"] is None
    assert cost_of("top64", answer)["equivalent_because"] == "no_kl"
    (answer, _) = ask(runs.drop(columns="cache_bytes_per_token"), cache_costs, None)
    assert (answer.status, answer.needs[0].wanted) == ("cannot_tell", ["cache_bytes_per_token"])


def test_other_teachers_targets_are_not_recommended(runs: pd.DataFrame) -> None:
    known = make_references()
    known["caches"]["drawn50"]["manifest"]["teachers"][0]["distribution"] = {"temperature": 1.0}
    (answer, _) = ask(runs, cache_costs, known)
    assert cost_of("drawn50", answer)["same_targets"] is False
    assert cost_of("top64", answer)["same_targets"] is True
    assert answer.numbers["cheapest_equivalent"] == "top64"


def test_stored_layers_count(runs: pd.DataFrame) -> None:
    known = make_references()
    known["caches"]["drawn50"]["layer_bytes_per_token"] = 500.0
    (answer, _) = ask(runs, cache_costs, known)
    assert cost_of("drawn50", answer)["bytes_per_token"] == pytest.approx(596.5)
    assert answer.numbers["cheapest_equivalent"] == "top64"


def test_a_gap_of_zero_has_no_share() -> None:
    runs = make_runs(caches=("hidden", "top64"))
    runs.loc[(runs["cache"] == "hidden") & (runs["samples"] > 64), "kl_teacher"] = 0.0
    (answer, _) = ask(runs, cache_costs, make_references())
    assert np.isfinite(cost_of("top64", answer)["kl_percent"])
