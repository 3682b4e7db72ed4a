import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.paired import loss_differences
from distill.answers.runs import at_equal_flops
from distill.stats.intervals import pooled_spread
from distill.table.lines import lines_of, prepare_runs
from question_tables import ask

SIZES = (64, 128, 256, 512, 1024)


def only(runs: pd.DataFrame) -> Answer:
    (answer,) = ask(runs, at_equal_flops)
    return answer


def study(cost: float = 1.0, gain: float = 0.05, draws: int = 2, sizes: int = 4) -> pd.DataFrame:
    """Return sft and kd; kd costs `cost` times as much and has a loss lower by `gain` nats."""
    rng = np.random.default_rng(5)
    rows = []
    for size in SIZES[:sizes]:
        for draw in range(draws):
            common = 0.01 * rng.normal()
            for method in ("sft", "kd"):
                kd = method == "kd"
                loss = 3 * size**-0.1 - gain * kd + common + 0.001 * rng.normal()
                row: dict[str, Any] = {
                    "student": "s",
                    "method": method,
                    "samples": size,
                    "draw": draw,
                }
                row |= {"cache": "top64" if kd else "none", "loss": loss}
                row |= {"total_flops": 1e9 * size * (cost if kd else 1.0)}
                rows.append(row | {"total_flops_amortised": row["total_flops"] / 2})
    return pd.DataFrame(rows)


def test_better_at_equal_samples_can_be_worse_at_equal_flops() -> None:
    dear = only(study(cost=3.0))
    assert dear.numbers["totals"]["total_flops"]["better"] == "sft"
    assert dear.numbers["flops_ratio"]["total_flops"] == pytest.approx(3.0)
    assert dear.status == "answered"
    cheap = only(study(cost=1.03))
    assert cheap.numbers["totals"]["total_flops"]["better"] == "kd"
    assert cheap.numbers["flops_ratio"]["total_flops"] == pytest.approx(1.03)


def test_equal_costs_agree_with_equal_samples() -> None:
    runs = study()
    answer = only(runs)
    top = answer.numbers["totals"]["total_flops"]["points"][0]
    at = runs[runs["samples"] == 512].pivot_table(index="draw", columns="method", values="loss")
    assert top["loss_difference"] == pytest.approx((at["sft"] - at["kd"]).mean())
    lines = lines_of(prepare_runs(runs))
    spread = pooled_spread(loss_differences(*lines).values())
    assert spread is not None
    assert top["loss_difference_stderr"] == pytest.approx(spread.sd / math.sqrt(2))


def test_nothing_is_read_off_beyond_what_was_measured() -> None:
    numbers = only(study(cost=1.5)).numbers["totals"]["total_flops"]
    low, high = numbers["overlap"]
    assert (low, high) == (pytest.approx(1.5 * 64e9), pytest.approx(512e9))
    assert [p["flops"] for p in numbers["points"]] == [
        pytest.approx(high), pytest.approx(math.sqrt(low * high)), pytest.approx(low),
    ]  # fmt: skip
    apart = only(study(cost=100.0))
    total = apart.numbers["totals"]["total_flops"]
    assert (total["points"], total["verdict"]) == ([], "no_overlap")
    (need,) = apart.needs
    assert need.what == "larger_size"
    # sft reaches the least FLOPs of kd, those of 64 samples at a hundred times the cost.
    assert need.wanted == 6400


def test_ranges_that_touch_give_one_point() -> None:
    points = only(study(cost=8.0)).numbers["totals"]["total_flops"]["points"]
    assert [point["flops"] for point in points] == [pytest.approx(512e9)]


def test_one_run_a_size_has_no_error_bar() -> None:
    answer = only(study(draws=1))
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "repeats")
    assert answer.numbers["totals"]["total_flops"]["better"] is None


def test_missing_columns_are_named() -> None:
    answer = only(study().drop(columns="total_flops_amortised"))
    totals = answer.numbers["totals"]
    assert totals["total_flops"]["points"]
    assert totals["total_flops_amortised"]["verdict"] == "column_missing"
    nothing = only(study().drop(columns=["total_flops", "total_flops_amortised"]))
    assert [need.wanted for need in nothing.needs] == [["total_flops"], ["total_flops_amortised"]]
    assert nothing.numbers["flops_ratio"] is None


def test_flops_that_do_not_grow_are_refused() -> None:
    runs = study()
    runs.loc[runs["samples"] == 512, "total_flops"] = 1e9
    assert only(runs).numbers["totals"]["total_flops"]["verdict"] == "not_growing"
    runs.loc[runs["samples"] == 512, "total_flops"] = 0.0
    assert only(runs).numbers["totals"]["total_flops"]["verdict"] == "not_growing"


def test_every_two_lines_of_a_student_are_compared() -> None:
    runs = pd.concat([study(), study().query("method == 'kd'").assign(method="skew")])
    answers = ask(runs, at_equal_flops)
    assert [a.about["method"] for a in answers] == ["sft vs kd", "sft vs skew", "kd vs skew"]
