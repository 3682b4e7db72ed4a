import json
import math

import pandas as pd
import pytest
from scipy import stats

from distill.answers.runs.at_equal_flops import METHODS_FLOPS
from distill.answers.runs.at_equal_samples import METHODS
from distill.answers.runs.cache_costs import CACHES as COST_OF_CACHES
from distill.answers.runs.doubling import (
    DOUBLING,
    ERROR_BARS,
    FALLING,
    FORECAST,
    LARGEST,
    SUMMARY,
    SWEET_SPOT,
    diminishing_returns,
)
from distill.core.errors import UserError
from synthetic_runs import CACHES, make_references, make_runs

LOSSES = {100: [2.0, 2.1], 200: [1.7, 1.6], 400: [1.5]}


def small_table() -> pd.DataFrame:
    rows = [
        {"student": "s", "method": "sft", "samples": n, "draw": draw, "loss": loss}
        for n, losses in LOSSES.items()
        for draw, loss in enumerate(losses)
    ]
    return pd.DataFrame(rows)


def ask(runs: pd.DataFrame, question: str, cost: dict[str, float] | None = None) -> list[dict]:
    answers = diminishing_returns(runs, None, cost)["answers"]
    return [answer for answer in answers if answer["question"] == question]


def test_gain_per_doubling_by_hand() -> None:
    (answer,) = ask(small_table(), DOUBLING)
    first, last = answer["numbers"]["gains_per_doubling"]
    # Each pair of draws has variance 0.1²/2 on one degree of freedom; pooled over two cells.
    sd = math.sqrt((0.005 + 0.005) / 2)
    assert answer["numbers"]["pooled_sd"] == pytest.approx(sd)
    assert answer["numbers"]["pooled_df"] == 2
    assert first["loss_gain"] == pytest.approx(2.05 - 1.65)
    assert first["loss_gain_stderr"] == pytest.approx(sd * math.sqrt(1 / 2 + 1 / 2))
    assert last["loss_gain"] == pytest.approx(1.65 - 1.5)
    assert last["loss_gain_stderr"] == pytest.approx(sd * math.sqrt(1 / 2 + 1))
    assert last["perplexity_ratio"] == pytest.approx(math.exp(-0.15))
    half = stats.t.ppf(0.95, 2) * sd
    assert first["loss_gain_low"] == pytest.approx(0.4 - half)
    # Least squares over x = 0, 1, 2 doublings is (first − last)/2.
    assert answer["numbers"]["trend_per_doubling"] == pytest.approx((2.05 - 1.5) / 2)
    contrast = 2.05 - 2 * 1.65 + 1.5
    assert answer["numbers"]["first_minus_last_gain"] == pytest.approx(contrast)
    error = sd * math.sqrt(1 / 2 + 4 / 2 + 1)
    assert answer["numbers"]["first_minus_last_gain_stderr"] == pytest.approx(error)
    assert "do not differ by more than the noise" in answer["answer"]


def test_a_step_that_is_no_doubling_is_scaled() -> None:
    runs = pd.DataFrame({"student": "s", "method": "m", "samples": [500, 2000], "loss": [3.0, 2.0]})
    (answer,) = ask(runs, DOUBLING)
    (step,) = answer["numbers"]["gains_per_doubling"]
    assert step["doublings"] == 2
    assert step["loss_gain"] == pytest.approx(0.5)
    assert step["loss_gain_stderr"] is None
    assert "untested" in answer["answer"]


def test_forecast_by_hand() -> None:
    (answer,) = ask(small_table(), FORECAST)
    numbers = answer["numbers"]
    assert numbers["predicted_loss"] == pytest.approx(1.65**2 / 2.05)
    assert numbers["measured_loss"] == 1.5
    assert numbers["relative_error_loss"] == pytest.approx(1.65**2 / 2.05 / 1.5 - 1)
    assert numbers["relative_error_loss_no_change"] == pytest.approx(0.1)
    assert numbers["predicted_perplexity"] == pytest.approx(math.exp(1.65**2 / 2.05))


def test_a_power_law_is_forecast_exactly_in_the_gap() -> None:
    runs = make_runs(noise=0)
    runs["kl_teacher"] = runs["loss"] - runs["loss_teacher"]
    for answer in ask(runs, FORECAST):
        assert answer["numbers"]["relative_error_gap"] == pytest.approx(0, abs=1e-9)


def test_no_sweet_spot_without_a_cost() -> None:
    for answer in ask(make_runs(), SWEET_SPOT):
        assert answer["answer"].startswith("Not reached by n = 1,024")
        assert answer["numbers"]["samples"] is None


def test_no_sweet_spot_at_the_edge() -> None:
    for answer in ask(make_runs(), SWEET_SPOT, {"samples": 1e-7}):
        assert answer["answer"].startswith("Not reached by n = 1,024")
    for answer in ask(make_runs(), SWEET_SPOT, {"samples": 1.0}):
        assert answer["answer"].startswith("Not within the sizes measured")
        assert answer["numbers"]["samples"] is None


def test_a_cost_makes_a_sweet_spot() -> None:
    price = 7e-4
    for answer in ask(make_runs(), SWEET_SPOT, {"samples": price}):
        totals = {t["samples"]: t["total"] for t in answer["numbers"]["totals"]}
        assert answer["numbers"]["samples"] == min(totals, key=lambda n: totals[n])
        assert "7.00 × 10⁻⁴ nats" in answer["evidence"]
    summary = diminishing_returns(make_runs(), None, {"samples": price})["answers"][0]["answer"]
    assert "At the stated cost there is a sweet spot" in summary


def test_a_sweet_spot_within_the_noise_is_not_claimed() -> None:
    runs = small_table()
    runs["loss"] = [2.0, 2.4, 1.6, 1.9, 1.6]
    (answer,) = ask(runs, SWEET_SPOT, {"samples": 1e-3})
    assert answer["numbers"]["lowest_measured_at"] == 200
    assert answer["numbers"]["samples"] is None
    assert answer["answer"].startswith("Cannot tell")


def test_a_cost_of_a_missing_column_is_refused() -> None:
    with pytest.raises(UserError, match="energy"):
        diminishing_returns(make_runs(), None, {"energy": 1.0})


def test_a_rise_of_perplexity_is_a_warning() -> None:
    runs = small_table()
    runs.loc[runs["samples"] == 400, "loss"] = 2.6
    (answer,) = ask(runs, FALLING)
    assert answer["answer"] == "Warning: no."
    assert [(r["from"], r["to"]) for r in answer["numbers"]["rises"]] == [(200, 400)]
    assert "beyond the noise" in answer["evidence"]
    (answer,) = ask(small_table(), FALLING)
    assert answer["answer"] == "Yes."


def test_what_is_said_and_what_is_not() -> None:
    record = diminishing_returns(make_runs(), make_references())
    text = json.dumps(record, allow_nan=False)
    assert record["schema"] == 1
    assert record["answers"][0]["question"] == SUMMARY
    assert "asymptote" not in text
    assert "exponent" not in text
    (largest,) = [a for a in record["answers"] if a["question"] == LARGEST]
    assert largest["answer"] == "1,024 samples."
    (bars,) = [a for a in record["answers"] if a["question"] == ERROR_BARS]
    assert "pooled over the 12 cells" in bars["answer"]
    assert "draws" in bars["answer"]
    assert "shared by all runs" in bars["evidence"]


def test_one_size_cannot_tell() -> None:
    runs = small_table().query("samples == 100")
    assert ask(runs, DOUBLING)[0]["answer"].startswith("Cannot tell")
    assert ask(runs, FORECAST)[0]["answer"].startswith("Cannot tell")


def test_soft_targets_are_answered_for() -> None:
    record = diminishing_returns(make_runs(caches=tuple(CACHES)), make_references())
    asked = [answer["question"] for answer in record["answers"]]
    assert asked.count(METHODS) == 8
    assert asked.count(METHODS_FLOPS) == 20
    assert asked.count(COST_OF_CACHES) == 2
    json.dumps(record, allow_nan=False)
    summary = record["answers"][0]
    assert "Do soft targets beat plain text at equal samples?" in summary["answer"]
    assert summary["numbers"]["soft_targets"]["comparisons"] == 8
    assert "10 combinations of student, method and cache" in summary["answer"]


def test_a_table_without_the_new_columns_is_answered() -> None:
    runs = make_runs()[["student", "method", "samples", "draw", "loss"]]
    record = diminishing_returns(runs)
    (first, *_) = [a for a in record["answers"] if a["question"] == METHODS_FLOPS]
    assert "column total_flops is missing" in first["answer"]
    assert not [a for a in record["answers"] if a["question"] == COST_OF_CACHES]
    assert record["answers"][0]["numbers"]["soft_targets"] is None


def test_references_of_an_older_study_are_enough() -> None:
    references = make_references()
    for name in ("methods", "caches", "searches"):
        del references[name]
    record = diminishing_returns(make_runs(caches=tuple(CACHES)), references)
    assert any(a["question"] == COST_OF_CACHES for a in record["answers"])
