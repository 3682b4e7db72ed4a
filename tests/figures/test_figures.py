import io

import numpy as np
import pandas as pd
import pytest

from distill.answers.measured import Measured
from distill.answers.runs import cache_costs
from distill.contracts.figures import FIGURES
from distill.core.errors import UserError
from drawing import drawable, table_of
from synthetic_runs import CACHES, make_references, make_runs


def test_csv_is_the_aggregated_table() -> None:
    runs = make_runs()
    text = table_of("perplexity", runs, make_references()).to_csv(index=False)
    drawn = pd.read_csv(io.StringIO(text))
    means = drawn[drawn["kind"] == "mean"].set_index(["label", "samples"])
    trained = runs[runs["samples"] > 0]
    wanted = trained.assign(label=trained["student"] + " · " + trained["method"])
    cells = wanted.groupby(["label", "samples"])["perplexity"].agg(["mean", "std", "count"])
    means = means.loc[cells.index]
    np.testing.assert_allclose(means["y"], cells["mean"])
    np.testing.assert_allclose(means["high"], cells["mean"] + cells["std"])
    np.testing.assert_allclose(means["low"], cells["mean"] - cells["std"])
    assert (means["runs"] == cells["count"]).all()
    assert means["low"].isna().equals(cells["count"] == 1)
    singles = drawn[drawn["kind"] == "run"]
    repeated = wanted[wanted["samples"] <= 256]
    np.testing.assert_allclose(sorted(singles["y"]), sorted(repeated["perplexity"]))
    teacher = drawn.loc[drawn["kind"] == "teacher", "y"].item()
    assert teacher == make_references()["teachers"]["smol"]["perplexity"]
    before = drawn[drawn["kind"] == "before"]
    assert set(before["y"]) == set(runs.loc[runs["samples"] == 0, "perplexity"])


def test_the_floors_are_those_of_their_sets() -> None:
    drawn = table_of("pass_rate", make_runs(), make_references())
    floors = drawn[drawn["kind"] == "floor"].set_index("panel")["y"]
    assert floors.to_dict() == {"pass_rate": 0.08, "pass_rate_large": 0.07}


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("kl_gap", "kl_teacher"),
        ("pass_rate", "pass_rate"),
        ("combined", "combined_normalised"),
        ("training_time", "train_seconds"),
        ("flops", "total_flops"),
        ("calibration", "ece"),
        ("cache_cost", "cache"),
    ],
)
def test_a_missing_column_is_named(name: str, column: str) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    with pytest.raises(UserError, match=f"needs column {column}"):
        table_of(name, runs, None)
    assert not drawable(name, runs)


@pytest.mark.slow
def test_what_can_be_drawn() -> None:
    few = make_runs()[["student", "method", "samples", "loss"]]
    assert [name for name in FIGURES if drawable(name, few)] == ["perplexity"]
    runs, references = make_runs(caches=tuple(CACHES)), make_references()
    without = {name for name in FIGURES if not drawable(name, runs, references)}
    assert without == {
        "law_curves",
        "residuals",
        "exponents",
        "judged",
        "rollouts",
        "curation_effect",
    }
    assert not drawable("search", runs)
    assert not drawable("cache_cost", make_runs(), references)
    assert not drawable("kl_gap", runs.assign(kl_teacher=None))


def test_a_metric_that_does_not_apply_has_no_numbers() -> None:
    assert table_of("kl_gap", make_runs().assign(kl_teacher=None)).empty


def test_flops_are_those_of_the_runs() -> None:
    runs = make_runs()
    drawn = table_of("flops", runs, make_references())
    means = drawn[drawn["kind"] == "mean"].set_index(["label", "samples"])
    trained = runs[runs["samples"] > 0]
    cells = trained.groupby([trained["student"] + " · " + trained["method"], "samples"])
    np.testing.assert_allclose(means["x"], cells["total_flops"].mean().loc[means.index])
    np.testing.assert_allclose(means["y"], cells["loss"].mean().loc[means.index])
    assert drawn.loc[drawn["kind"] == "teacher", "y"].tolist() == [0.95]
    assert (drawn["kind"] != "before").all()


def test_calibration_has_the_teachers_own() -> None:
    drawn = table_of("calibration", make_runs(), make_references())
    assert drawn.loc[drawn["kind"] == "teacher", "y"].tolist() == [0.021]


def test_cache_costs_are_those_of_the_answers() -> None:
    runs, references = make_runs(caches=tuple(CACHES)), make_references()
    drawn = table_of("cache_cost", runs, references)
    answers = cache_costs.answer(Measured(runs, references))
    for panel in ("loss_percent", "kl_percent"):
        for answer in answers:
            mine = drawn[(drawn["panel"] == panel) & (drawn["label"] == answer.about["label"])]
            reference = mine[mine["kind"] == "reference"]
            assert (reference["mark"].item(), reference["y"].item()) == ("hidden", 0)
            assert reference["x"].item() == CACHES["hidden"]["bytes"]
            others = mine[mine["kind"] == "difference"].set_index("mark")
            assert len(others) == 3
            for cost in answer.numbers["caches"]:
                row = others.loc[cost["cache"]]
                assert row["y"] == cost[panel]
                assert (row["low"], row["high"]) == (cost[f"{panel}_low"], cost[f"{panel}_high"])
                assert (row["x"], row["runs"]) == (cost["bytes_per_token"], 8)


def test_caches_of_unknown_size_are_left_out() -> None:
    runs = make_runs(caches=tuple(CACHES)).assign(cache_bytes_per_token=None)
    assert table_of("cache_cost", runs, None).empty


def test_trials_are_drawn_as_they_went() -> None:
    references = make_references()
    trials = [(3.0, False), (2.0, True), (2.5, False), (float("nan"), True), (2.2, False)]
    references["searches"] = {
        "s": {
            "trials": [
                {"trial": k, "loss": loss, "pruned": pruned, "best": k == 4}
                for k, (loss, pruned) in enumerate(trials)
            ]
        }
    }
    drawn = table_of("search", make_runs(), references)
    found = dict(list(drawn.groupby("kind")))
    assert list(zip(found["trial"]["x"], found["trial"]["y"], strict=True)) == [(1, 3.0), (3, 2.5)]
    assert list(zip(found["pruned"]["x"], found["pruned"]["y"], strict=True)) == [(2, 2.0)]
    assert list(zip(found["best"]["x"], found["best"]["y"], strict=True)) == [(5, 2.2)]
    # A pruned trial never is the best so far, nor is one without a number drawn.
    best = found["best so far"]
    assert list(zip(best["x"], best["y"], strict=True)) == [(1, 3.0), (2, 3.0), (3, 2.5), (5, 2.2)]
