import numpy as np
import pandas as pd
import pytest

from distill.answers.interpolated import compare_total
from distill.answers.runs import at_equal_seconds
from distill.answers.total_costs import log_spread
from distill.stats.intervals import Spread
from distill.table.lines import pooled_over, question_lines
from question_tables import ask, gap, power_law, runs_of, slow_kd


def test_seconds_turn_the_order_of_methods() -> None:
    (found,) = ask(slow_kd(), at_equal_seconds)
    totals = found.numbers["totals"]
    assert totals["train_seconds"]["better"] == "sft"
    point = totals["train_seconds"]["points"][0]
    # SFT affords four times the samples in these seconds.
    at = point["seconds"]
    truth = gap(at / 0.2) - gap(at / 0.8, scale=0.95)
    assert point["loss_difference_low"] <= truth <= point["loss_difference_high"]
    assert point["loss_difference"] == pytest.approx(truth, abs=0.02)
    assert totals["total_seconds"]["better"] == "sft"


def test_equal_seconds_are_not_told_beyond_what_was_measured() -> None:
    apart = [
        row | ({"train_seconds": 1e6 * row["samples"]} if row["method"] == "kd" else {})
        for row in slow_kd()
    ]
    (found,) = ask(apart, at_equal_seconds)
    assert found.numbers["totals"]["train_seconds"]["verdict"] == "no_overlap"
    assert found.status == "cannot_tell"
    (alone,) = ask(runs_of(lambda n: 1 + gap(n)), at_equal_seconds)
    assert [(need.what, need.wanted, need.present) for need in alone.needs] == [("methods", 2, 1)]
    three = runs_of(lambda n: 2.0, sizes=(64,))
    for k, method in enumerate("ab", start=1):
        three += runs_of(lambda n: 2.0, sizes=(64,), method=method, train_seconds=100.0 * 7**k)
    (none,) = ask(three, at_equal_seconds)
    assert none.status == "cannot_tell"
    assert len(none.numbers["pairs"]) == 3
    (reason,) = none.numbers["reasons"]
    assert reason["verdict"] == "no_overlap"
    assert reason["pairs"] == ["sft vs a", "sft vs b", "a vs b"]
    (need,) = none.needs
    # The smallest size that makes the ranges of two methods meet: a's 700 s over 0.1 to 0.7 s.
    assert need.what == "larger_size"
    assert need.change == {"runs[].samples": [64, need.wanted]}


@pytest.mark.slow
def test_intervals_cover_where_seconds_are_noisy() -> None:
    rng = np.random.default_rng(11)
    covered = {True: 0, False: 0}
    repeats = 80
    for _ in range(repeats):
        rows = []
        for method, scale in (("sft", 1.0), ("kd", 0.97)):
            new = runs_of(
                power_law(scale), draws=2,
                rng=rng, method=method, sizes=(64, 256, 1024),
            )  # fmt: skip
            rows += [r | {"train_seconds": r["samples"] * rng.lognormal(0, 0.15)} for r in new]
        one, other = question_lines(pd.DataFrame(rows))
        spread = pooled_over([one, other], "loss")
        blur = log_spread([one, other], "train_seconds")
        for wide in covered:
            names = ("sft", "kd")
            found = compare_total(
                one, other, names, "train_seconds", spread, blur if wide else None
            )
            at = found["points"][1]
            truth = (at["flops"] / 64) ** -0.3 * (1 - 0.97**-0.3)
            covered[wide] += at["loss_difference_low"] <= truth <= at["loss_difference_high"]
    assert covered[True] / repeats > 0.8
    assert covered[False] / repeats < 0.75


def test_spread_without_degrees_is_not_needed() -> None:
    """A blur without spread leaves intervals as they are."""
    one, other = question_lines(pd.DataFrame(slow_kd()))
    names = ("sft", "kd")
    spread = pooled_over([one, other], "loss")
    plain = compare_total(one, other, names, "train_seconds", spread)
    still = compare_total(one, other, names, "train_seconds", spread, Spread(0.0, 3, 1))
    for left, right in zip(plain["points"], still["points"], strict=True):
        assert left["loss_difference_low"] == pytest.approx(right["loss_difference_low"])
