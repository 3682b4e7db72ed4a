"""Each question both ways: a truth that must be claimed, and a table that cannot tell."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distill.answers.runs import all as questions
from distill.answers.runs import at_equal_costs
from distill.answers.runs.at_equal_costs import (
    METHODS_MONEY,
    METHODS_SECONDS,
    compare_at_equal_money,
    compare_at_equal_seconds,
)
from distill.answers.runs.at_equal_flops import Curve, compare_total
from distill.answers.runs.controls import CONTROLS, controls
from distill.answers.runs.curation_effect import CURATION, CURATION_EXPONENT, curation_effect
from distill.answers.runs.energy_quality import KWH, QUALITY_PER_KWH, quality_per_kwh
from distill.answers.runs.flops_split import SPLIT, SPLIT_SCALES, flops_split
from distill.answers.runs.forgetting import FORGOTTEN, what_was_forgotten
from distill.answers.runs.initialisation import INIT_WORTH, worth_of_init
from distill.answers.runs.pareto import PARETO, pareto_fronts
from distill.answers.runs.prompts_or_epochs import (
    MORE_RESPONSES,
    PROMPTS_OR_EPOCHS,
    prompts_or_epochs,
)
from distill.answers.runs.task_metric import TASK_METRIC, rank_correlation, task_metric
from distill.core.errors import UserError
from distill.stats.intervals import Spread
from distill.table.lines import pooled_over, question_lines
from synthetic_runs import make_references, make_runs

pytestmark = pytest.mark.slow  # fits many laws

SIZES = (64, 128, 256, 512, 1024)
TOKENS = 80
"""Unique answer tokens per sample."""


def gap(samples: float, params: float = 1e6, scale: float = 1.0) -> float:
    """A power law in samples and size; the floor of the loss is 1."""
    return scale * (64 / samples) ** 0.4 * (1e6 / params) ** 0.2


def steady_loss(loss: float) -> Callable[[int], float]:
    """The same loss at every size."""
    return lambda n: loss


def shifted(level: float) -> Callable[[int], float]:
    """A small gain of data above a level of one's own."""
    return lambda n: level + gap(n, scale=0.1)


def power_law(scale: float) -> Callable[[int], float]:
    """A straight line in log loss against log samples."""
    return lambda n: (scale * n / 64) ** -0.3


def runs_of(
    loss: Callable[[int], float],
    sizes: tuple[int, ...] = SIZES,
    draws: int = 3,
    noise: float = 0.004,
    rng: np.random.Generator | None = None,
    epochs: float | Callable[[int], float] = 2.0,
    **columns: Any,
) -> list[dict[str, Any]]:
    """Rows of one line: loss(n) + noise; other columns by value, or by a function of n."""
    rng = rng or np.random.default_rng(7)
    rows = []
    for n in sizes:
        times = epochs(n) if callable(epochs) else epochs
        for draw in range(draws):
            found = loss(n) + noise * rng.normal()
            params = float(columns.get("params", 1e6))
            row: dict[str, Any] = {
                "teacher": "t", "student": "s", "init": "cut", "method": "sft",
                "curation": "raw", "cache": "none", "samples": n, "draw": draw, "seed": 0,
                "params": params, "size_mb": params * 4 / 1024**2,
                "flops_per_token": 2 * params, "tokens_per_second": 100.0,
                "peak_memory_mb": 500.0, "updates": round(n * times / 8),
                "tokens_unique": TOKENS * n, "tokens_seen": TOKENS * n * times,
                "loss": found, "kl_teacher": max(found - 1, 1e-6), "reference_loss": found + 1,
                "loss_teacher": 1.0,
                "train_flops": 6 * params * TOKENS * n * times, "teacher_flops": 1e8 * n,
                "teacher_flops_amortised": 1e7 * n, "target_flops": 0.0,
                "target_flops_amortised": 0.0, "train_seconds": 0.1 * n * times,
                "teacher_seconds": 0.5 * n, "teacher_seconds_amortised": 0.1 * n,
                "target_seconds": 0.0, "target_seconds_amortised": 0.0,
            }  # fmt: skip
            row |= {name: value(n) if callable(value) else value for name, value in columns.items()}
            row["total_flops"] = row["train_flops"] + row["teacher_flops"] + row["target_flops"]
            rows.append(row)
    return rows


def ask(
    rows: list[dict[str, Any]],
    question: str,
    references: dict[str, Any] | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Answers to one question, from the function that answers it."""
    lines = question_lines(pd.DataFrame(rows))
    spread = pooled_over(lines, "loss")
    answers = {
        PARETO: lambda: pareto_fronts(lines),
        QUALITY_PER_KWH: lambda: quality_per_kwh(lines, references),
        SPLIT: lambda: flops_split(lines, settings),
        METHODS_SECONDS: lambda: compare_at_equal_seconds(lines, spread),
        METHODS_MONEY: lambda: compare_at_equal_money(lines, spread, settings),
        PROMPTS_OR_EPOCHS: lambda: prompts_or_epochs(lines, spread, settings),
        INIT_WORTH: lambda: worth_of_init(lines, spread, settings),
        FORGOTTEN: lambda: what_was_forgotten(lines),
        TASK_METRIC: lambda: task_metric(lines, references, settings),
        CURATION: lambda: curation_effect(lines),
        CONTROLS: lambda: controls(lines, spread, settings),
    }
    same = {
        SPLIT_SCALES: SPLIT,
        MORE_RESPONSES: PROMPTS_OR_EPOCHS,
        CURATION_EXPONENT: CURATION,
    }
    found = answers[same.get(question, question)]()
    json.dumps(found, allow_nan=False)
    return [answer for answer in found if answer["question"] == question]


def test_every_question_is_answered_in_plain_json() -> None:
    answers = questions.answer_table_questions(make_runs(), make_references(), {})
    assert json.loads(json.dumps(answers, allow_nan=False)) == answers
    asked = {answer["question"] for answer in answers}
    assert asked == {
        PARETO, QUALITY_PER_KWH, SPLIT, SPLIT_SCALES, METHODS_SECONDS, METHODS_MONEY,
        PROMPTS_OR_EPOCHS, MORE_RESPONSES, INIT_WORTH, FORGOTTEN, TASK_METRIC, CURATION,
        CURATION_EXPONENT, CONTROLS,
    }  # fmt: skip
    for answer in answers:
        assert answer["answer"].endswith(".")
        if "because" in answer["answer"] and answer["answer"].startswith("Cannot tell"):
            assert "needs" in answer["answer"]


def test_a_table_of_ones_own_needs_few_columns() -> None:
    rows = [
        {"student": f"{n}", "method": "sft", "loss": 2 - 0.1 * k, "tokens_unique": 1e5, "params": n}
        for k, n in enumerate((10, 100, 1000))
    ]
    answers = questions.answer_table_questions(pd.DataFrame(rows), None, {})
    json.dumps(answers, allow_nan=False)
    told = [a for a in answers if a["question"] == PARETO and a["numbers"]["models"]]
    assert [model["status"] for model in told[0]["numbers"]["models"]] == ["front"] * 3
    assert "no error bar" in told[0]["answer"]
    with pytest.raises(UserError, match="no column loss"):
        questions.answer_table_questions(pd.DataFrame(rows).drop(columns="loss"), None, {})


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


# Pareto front.


def test_pareto_front_agrees_with_brute_force() -> None:
    rng = np.random.default_rng(3)
    rows = []
    for k in range(8):
        params, speed = rng.uniform(1e6, 5e6), rng.uniform(50, 200)
        level = 1.5 + rng.uniform(0, 0.4)
        rows += runs_of(
            shifted(level), sizes=(64, 256), noise=0.06, rng=rng,
            student=f"s{k}", params=params, tokens_per_second=speed,
        )  # fmt: skip
    table = pd.DataFrame(rows)
    cells = table.groupby(["student", "samples"])["loss"].agg(["mean", "var", "count"])
    df = int((cells["count"] - 1).sum())
    sd = math.sqrt(float(((cells["count"] - 1) * cells["var"]).sum() / df))
    margin = stats.t.ppf(0.95, df) * sd * math.sqrt(2 / 3)
    seen = set()
    for column, sign in (("params", 1), ("tokens_per_second", -1)):
        cost = table.groupby(["student", "samples"])[column].mean() * sign
        found = next(
            a for a in ask(rows, PARETO) if a["numbers"]["costs"] == [column]
        )["numbers"]["models"]  # fmt: skip
        for model in found:
            me = (model["student"], model["samples"])
            others = [key for key in cells.index if key != me and cost[key] <= cost[me]]
            beaten = any(cells["mean"][key] < cells["mean"][me] - margin for key in others)
            front = all(cells["mean"][key] > cells["mean"][me] for key in others)
            assert model["status"] == ("beaten" if beaten else "front" if front else "undecided")
            seen.add(model["status"])
    assert seen == {"beaten", "front", "undecided"}


def test_noise_does_not_beat() -> None:
    small = runs_of(lambda n: 1.500, sizes=(64,), student="small", params=1e6)
    large = runs_of(lambda n: 1.501, sizes=(64,), student="large", params=2e6)
    status = {m["student"]: m["status"] for m in ask(small + large, PARETO)[0]["numbers"]["models"]}
    assert status == {"small": "front", "large": "undecided"}
    worse = runs_of(lambda n: 1.6, sizes=(64,), student="large", params=2e6)
    found = ask(small + worse, PARETO)[0]
    assert found["numbers"]["models"][1]["beaten_by"] == ["small · sft at n = 64"]
    assert "1 of 2 are beaten" in found["answer"]


def test_a_front_needs_its_columns() -> None:
    rows = [row | {"size_mb": None} for row in runs_of(lambda n: 1 + gap(n))]
    told = [a["answer"] for a in ask(rows, PARETO) if "size_mb" in a["numbers"]["costs"]]
    assert len(told) == 1
    assert told[0].startswith("Cannot tell for loss and size in MB")
    assert any("all cost the same" in a["answer"] for a in ask(rows, PARETO))


# Energy.


def pooled_sd(table: pd.DataFrame, column: str) -> tuple[float, int]:
    """Standard deviation between runs of a cell and its degrees of freedom."""
    cells = table.groupby(["method", "samples"])[column].agg(["var", "count"])
    df = int((cells["count"] - 1).sum())
    return math.sqrt(float(((cells["count"] - 1) * cells["var"]).sum() / df)), df


def test_a_front_over_energy_compares_beyond_the_noise_of_loss_and_energy() -> None:
    """Against brute force; all are one student, whose energy differs by method and size."""
    rng = np.random.default_rng(5)
    rows = []
    for k in range(8):
        level, factor = 1.5 + rng.uniform(0, 0.4), rng.uniform(0.8, 1.25)
        rows += runs_of(shifted(level), sizes=(64, 256), noise=0.04, rng=rng, method=f"m{k}")
        for row in rows[-6:]:
            row |= {KWH: 1e-6 * row["samples"] * factor * math.exp(0.1 * rng.normal())}
            row |= {"kwh_estimated": 1.0}
    table = pd.DataFrame(rows).assign(log=lambda all: np.log(all[KWH]))
    cells = table.groupby(["method", "samples"])[["loss", KWH]].mean()
    margins = [
        stats.t.ppf(0.95, df) * sd * math.sqrt(2 / 3)
        for sd, df in (pooled_sd(table, name) for name in ("loss", "log"))
    ]
    (found,) = [a for a in ask(rows, PARETO) if KWH in a["numbers"]["costs"]]  # alone: not of use
    assert found["numbers"]["costs"] == [KWH]
    seen = set()
    for model in found["numbers"]["models"]:
        me = cells.loc[(model["method"], model["samples"])]
        others = cells.drop((model["method"], model["samples"]))
        sure = np.log(me[KWH] / others[KWH]) >= margins[1]
        beaten = bool((sure & (others["loss"] < me["loss"] - margins[0])).any())
        front = not bool(((others[KWH] <= me[KWH]) & (others["loss"] <= me["loss"])).any())
        assert model["status"] == ("beaten" if beaten else "front" if front else "undecided")
        seen.add(model["status"])
    assert seen == {"beaten", "front", "undecided"}
    assert "is an estimate from assumed watts (4.0 W" in found["evidence"]
    assert "kWh)" in found["answer"]


def test_quality_per_kwh_by_hand() -> None:
    """Unigram entropy 5, teacher 1 nat: at loss 2 quality is .75, at 3 it is .5."""
    entropies = {"unigram_entropy": {"t": 5.0}}
    rows = runs_of(lambda n: 2.0, sizes=(64,), draws=2, noise=0.0, total_kwh_amortised=0.001)
    rows += runs_of(
        lambda n: 3.0, sizes=(64,), draws=2, noise=0.0, method="b", total_kwh_amortised=0.002
    )
    # Runs of a cell differ in energy by a factor of 1.1: the spread of the ratio's logarithm.
    rows[1] |= {KWH: 0.0011}
    rows[3] |= {KWH: 0.0022}
    (found,) = ask(rows, QUALITY_PER_KWH, entropies)
    first, second = found["numbers"]["cells"]
    assert first["quality"] == 0.75
    assert second["quality"] == 0.5
    assert first["per_kwh"] == pytest.approx(0.75 / 0.001 / math.sqrt(1.1))
    assert second["per_kwh"] == pytest.approx(0.5 / 0.002 / math.sqrt(1.1))
    half = stats.t.ppf(0.95, 2) * math.log(1.1) / math.sqrt(2) / math.sqrt(2)
    assert math.log(first["per_kwh_high"] / first["per_kwh"]) == pytest.approx(half)
    assert first["not_clearly_less"]
    assert not second["not_clearly_less"]
    assert "clearly more than for every other" in found["answer"]
    assert "Energy was measured" in found["evidence"]
    (found,) = ask([row | {"kwh_estimated": 1.0} for row in rows], QUALITY_PER_KWH, entropies)
    assert "Energy is an estimate from assumed watts" in found["evidence"]


def test_quality_per_kwh_claims_nothing_it_cannot_tell() -> None:
    entropies = {"unigram_entropy": {"t": 5.0}}
    one = runs_of(lambda n: 2.0, sizes=(64,), draws=1, total_kwh_amortised=0.001)
    two = runs_of(lambda n: 2.0, sizes=(64,), draws=1, method="b", total_kwh_amortised=0.002)
    (found,) = ask(one + two, QUALITY_PER_KWH, entropies)
    assert "nothing tells it from the others" in found["answer"]
    for rows, known in ((one, {}), (runs_of(lambda n: 2.0), entropies)):
        (found,) = ask(rows, QUALITY_PER_KWH, known)
        assert found["answer"].startswith("Cannot tell, because")
        assert found["numbers"]["cells"] == []
    (found,) = ask([row | {"loss": 6.0} for row in one], QUALITY_PER_KWH, entropies)
    assert "no run is better than knowing only how frequent tokens are" in found["answer"]


# FLOPs.


def test_flops_split_is_counted_both_ways() -> None:
    soft: dict[str, Any] = {
        "target_flops": lambda n: 5e7 * n,
        "target_flops_amortised": lambda n: 2e7 * n,
    }
    rows = runs_of(lambda n: 1 + gap(n)) + runs_of(
        lambda n: 1 + gap(n), method="kd", cache="c", **soft
    )
    sft, kd = ask(rows, SPLIT)
    train = 6e6 * TOKENS * 2
    assert sft["numbers"]["teacher_share_marginal"] == pytest.approx([1e8 / (1e8 + train)] * 2)
    assert sft["numbers"]["teacher_share_amortised"] == pytest.approx([1e7 / (1e7 + train)] * 2)
    assert kd["numbers"]["teacher_share_marginal"] == pytest.approx([1.5e8 / (1.5e8 + train)] * 2)
    assert kd["numbers"]["teacher_share_amortised"] == pytest.approx([3e7 / (3e7 + train)] * 2)
    assert kd["label"] == "kd · c"
    corpus = ask(runs_of(lambda n: 2.0), SPLIT, corpus_methods=["sft"])[0]
    assert corpus["answer"].startswith("No teacher works")
    lacking = ask([row | {"teacher_flops": None} for row in rows], SPLIT)[0]
    assert lacking["answer"].startswith("Cannot tell")


def test_a_split_across_scales_needs_tokens_and_epochs_varied() -> None:
    fixed = runs_of(lambda n: 1 + gap(n))
    found = ask(fixed, SPLIT_SCALES)[0]
    assert found["answer"].startswith("Cannot tell, because epochs did not vary")
    assert found["numbers"]["by_tokens"][0]["factor"] == 16
    one_size = runs_of(lambda n: 2.0, sizes=(64,))
    one_size += runs_of(lambda n: 2.0, sizes=(64,), method="long", epochs=8.0)
    assert "because unique tokens did not vary" in ask(one_size, SPLIT_SCALES)[0]["answer"]
    both = fixed + runs_of(lambda n: 1 + gap(n), method="long", epochs=8.0)
    found = ask(both, SPLIT_SCALES)[0]
    assert "no one split holds" in found["answer"]
    change = found["numbers"]["by_epochs"][0]
    assert (change["from"], change["to"]) == (2, 8)
    assert change["to_share"] == pytest.approx(1e8 / (1e8 + 6e6 * TOKENS * 8))


# Equal seconds and money.


def slow_kd() -> list[dict[str, Any]]:
    """KD is 5 % closer to the floor at equal samples, at four times the seconds of training."""
    kd: dict[str, Any] = {"train_seconds": lambda n: 0.8 * n, "target_seconds": lambda n: 0.1 * n}
    kd |= {"target_seconds_amortised": lambda n: 0.1 * n}
    rng = np.random.default_rng(5)
    return runs_of(lambda n: 1 + gap(n), rng=rng) + runs_of(
        lambda n: 1 + gap(n, scale=0.95), method="kd", cache="c", rng=rng, **kd
    )


def test_seconds_turn_the_order_of_methods() -> None:
    (found,) = ask(slow_kd(), METHODS_SECONDS)
    totals = found["numbers"]["totals"]
    assert totals["train_seconds"]["better"] == "sft"
    point = totals["train_seconds"]["points"][0]
    # SFT affords four times the samples in these seconds.
    at = point["seconds"]
    truth = gap(at / 0.2) - gap(at / 0.8, scale=0.95)
    assert point["loss_difference_low"] <= truth <= point["loss_difference_high"]
    assert point["loss_difference"] == pytest.approx(truth, abs=0.02)
    assert totals["total_seconds"]["better"] == "sft"


def test_prices_decide_at_equal_money() -> None:
    dear_text = {"teacher_million_tokens": 1000.0, "hour": 0.001}
    dear_hours = {"teacher_million_tokens": 0.001, "hour": 1000.0}
    better = []
    for prices in (dear_text, dear_hours):
        (found,) = ask(slow_kd(), METHODS_MONEY, prices=prices)
        assert found["numbers"]["prices"] == prices
        better.append(found["numbers"]["totals"]["money"]["better"])
        assert "Prices:" in found["evidence"]
    assert better == ["kd", "sft"]
    money = TOKENS * 1024 / 1e6 * 1000 + 0.001 / 3600 * 0.2 * 1024
    (found,) = ask(slow_kd(), METHODS_MONEY, prices=dear_text)
    assert found["numbers"]["totals"]["money"]["overlap"][1] == pytest.approx(money)
    # Text is shared among ten runs, as its FLOPs are.
    shared = found["numbers"]["totals"]["money_amortised"]["overlap"][1]
    assert shared == pytest.approx(money / 10, rel=1e-4)
    (told,) = ask(slow_kd(), METHODS_MONEY)
    assert "evaluate.prices" in told["answer"]


def test_equal_seconds_are_not_told_beyond_what_was_measured() -> None:
    apart = [
        row | ({"train_seconds": 1e6 * row["samples"]} if row["method"] == "kd" else {})
        for row in slow_kd()
    ]
    (found,) = ask(apart, METHODS_SECONDS)
    assert found["numbers"]["totals"]["train_seconds"]["verdict"] == (
        "cannot tell, the ranges of seconds do not overlap"
    )
    (alone,) = ask(runs_of(lambda n: 1 + gap(n)), METHODS_SECONDS)
    assert "every student has one method" in alone["answer"]
    three = runs_of(lambda n: 2.0, sizes=(64,))
    for k, method in enumerate("ab", start=1):
        three += runs_of(lambda n: 2.0, sizes=(64,), method=method, train_seconds=100.0 * 7**k)
    (none,) = ask(three, METHODS_SECONDS)
    assert none["answer"].startswith("Cannot tell for 3 pairs of methods")


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
        blur = at_equal_costs.log_spread([one, other], "train_seconds")
        for wide in covered:
            names = ("sft", "kd")
            found = compare_total(
                one, other, names, "train_seconds", spread, "s", blur if wide else None
            )
            at = found["points"][1]
            truth = (at["flops"] / 64) ** -0.3 * (1 - 0.97**-0.3)
            covered[wide] += at["loss_difference_low"] <= truth <= at["loss_difference_high"]
    assert covered[True] / repeats > 0.8
    assert covered[False] / repeats < 0.75


def test_shift_variance_is_the_slope_in_log_flops() -> None:
    flops, losses = (1e3, 4e3, 9e3), (3.0, 2.0, 1.5)
    runs = tuple(((n, 0, 0), (n, 1, 0)) for n in (1, 2, 3))
    for at in (1.5e3, 4.5e3, 8e3):
        curve = Curve(flops, losses, runs)
        numeric = 0.0
        for place in range(3):
            moved = [f * (math.exp(1e-6) if k == place else 1) for k, f in enumerate(flops)]
            change = Curve(tuple(moved), losses, runs).read_off(at)[0] - curve.read_off(at)[0]
            numeric += (change / 1e-6) ** 2 / 2
        assert curve.shift_variance(at) == pytest.approx(numeric, rel=1e-4)


# Prompts or epochs.

EPOCHS = {"sft": {"ce": 1.0}, "long": {"ce": 1.0, "train": {"epochs": 8}}}


def epochs_study(worth: float) -> list[dict[str, Any]]:
    """Two lines, 2 and 8 epochs; eight epochs are worth `worth` × the prompts of two."""
    rng = np.random.default_rng(2)
    return runs_of(lambda n: 1 + gap(n), rng=rng) + runs_of(
        lambda n: 1 + gap(n * worth), method="long", epochs=8.0, rng=rng
    )


def test_more_prompts_or_more_epochs() -> None:
    found = ask(epochs_study(1.5), PROMPTS_OR_EPOCHS, methods=EPOCHS)[0]
    totals = found["numbers"]["totals"]
    # Eight epochs cost the training of four times the prompts and are worth 1.5 times.
    assert totals["train_flops"]["better"] == "2.00 epochs"
    assert "more prompts" in found["answer"].split(";")[0]
    # Repeats that are worth nearly as much win once the teacher's text is dear.
    dear = [row | {"total_flops": row["train_flops"] + 1e11 * row["samples"]} for row in
            epochs_study(3.0)]  # fmt: skip
    found = ask(dear, PROMPTS_OR_EPOCHS, methods=EPOCHS)[0]
    assert found["numbers"]["totals"]["total_flops"]["better"] == "8.00 epochs"
    assert "more epochs" in found["answer"].split(";")[1]


def test_epochs_are_compared_only_where_nothing_else_differs() -> None:
    unknown = ask(epochs_study(1.5), PROMPTS_OR_EPOCHS)[0]
    assert unknown["answer"].startswith("Cannot tell, because no two runs differ in epochs alone")
    other = EPOCHS | {"long": {"ce": 0.5, "forward_kl": 0.5, "train": {"epochs": 8}}}
    found = ask(epochs_study(1.5), PROMPTS_OR_EPOCHS, methods=other)[0]
    assert found["answer"].startswith("Cannot tell, because")
    # In a table of one's own the method is the same, and only the epochs tell runs apart.
    own = [row | {"method": "sft"} for row in epochs_study(1.5)]
    found = ask(own, PROMPTS_OR_EPOCHS)[0]
    assert found["numbers"]["totals"]["train_flops"]["better"] == "2.00 epochs"
    (responses,) = ask(own, MORE_RESPONSES)
    assert responses["answer"].startswith("Cannot tell")


def test_equal_updates_show_prompts_against_epochs() -> None:
    rows = runs_of(lambda n: 1 + gap(n), epochs=lambda n: 2048 / n)
    found = ask(rows, PROMPTS_OR_EPOCHS)[0]
    assert found["answer"] == "At equal FLOPs of training: more prompts."
    assert found["numbers"]["epochs"] == [32, 2]
    low, high = (found["numbers"][f"loss_gain_{end}"] for end in ("low", "high"))
    assert low <= gap(64) - gap(1024) <= high
    flat = ask(runs_of(lambda n: 1.5, epochs=lambda n: 2048 / n), PROMPTS_OR_EPOCHS)[0]
    assert flat["answer"].startswith("Cannot tell at equal FLOPs")


# Initialisation.


def starts(factor: float, seed: int = 4, **columns: Any) -> list[dict[str, Any]]:
    """A random student, and a cut one whose n samples are worth factor · n of the random one."""
    rng = np.random.default_rng(seed)
    rows = runs_of(lambda n: 1 + gap(n), rng=rng, student="fresh", init="random")
    return rows + runs_of(lambda n: 1 + gap(factor * n), rng=rng, init="cut", **columns)


def test_an_initialisation_is_worth_samples() -> None:
    (found,) = ask(starts(3.0), INIT_WORTH)
    points = {point["samples"]: point for point in found["numbers"]["points"]}
    assert points[256]["equivalent"] == pytest.approx(768, rel=0.05)
    assert points[256]["low"] < 768 < points[256]["high"]
    assert points[1024]["equivalent"] is None
    assert points[1024]["low"] == pytest.approx(1024)
    assert "At n = 256 being cut from the teacher is worth 5" in found["answer"]
    assert "same number of parameters" in found["evidence"]


def test_the_worth_of_an_initialisation_is_covered() -> None:
    inside = 0
    repeats = 12
    for seed in range(repeats):
        (found,) = ask(starts(3.0, seed), INIT_WORTH)
        point = found["numbers"]["points"][1]
        inside += point["low"] <= 384 <= point["high"]
    assert inside >= stats.binom.ppf(0.001, repeats, 0.9)


def test_the_worth_of_an_initialisation_may_be_open_or_unknown() -> None:
    (far,) = ask(starts(100.0), INIT_WORTH)
    assert "is worth more than 960 samples" in far["answer"]
    (same,) = ask(starts(1.0), INIT_WORTH)
    assert "cannot tell it from nothing" in same["answer"]
    (worse,) = ask(starts(0.05), INIT_WORTH)
    assert "costs at least 9" in worse["answer"]
    (near,) = ask(starts(3.0, params=1.2e6), INIT_WORTH)
    assert "Their sizes differ" in near["evidence"]
    for lacking in (starts(3.0, params=2e6), runs_of(lambda n: 1 + gap(n))):
        (found,) = ask(lacking, INIT_WORTH)
        assert found["answer"].startswith("Cannot tell, because")
    single = [row for row in starts(3.0) if row["draw"] == 0]
    (found,) = ask(single, INIT_WORTH)
    assert "no error bar" in found["answer"]


# Forgetting.


def forgetting(change: float, init: str = "pretrained") -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    rows = [
        row | {"reference_loss": 3.0 + change + 0.01 * rng.normal()}
        for row in runs_of(lambda n: 1 + gap(n), init=init)
    ]
    start = rows[0] | {"samples": 0, "method": "none", "loss": 4.0, "reference_loss": 3.0}
    return [start | {"tokens_unique": 0, "tokens_seen": 0, "updates": 0}, *rows]


@pytest.mark.parametrize(
    ("change", "init", "words"),
    [
        (0.2, "pretrained", "it forgot: the reference loss rose by 0.20"),
        (-0.2, "pretrained", "nothing on balance: the reference loss fell by 0."),
        (-0.2, "cut", "nothing since the cut"),
        (0.0, "pretrained", "Cannot tell: at n = 1,024"),
        (-0.2, "random", "Nothing to forget"),
    ],
)
def test_what_was_forgotten(change: float, init: str, words: str) -> None:
    (found,) = ask(forgetting(change, init), FORGOTTEN)
    assert words in found["answer"]
    last = found["numbers"]["steps"][-1]
    assert last["reference_rise_low"] <= change <= last["reference_rise_high"]


def test_forgetting_needs_the_student_before_training_and_noise() -> None:
    (found,) = ask(forgetting(0.2)[1:], FORGOTTEN)
    assert "no run of the student before training" in found["answer"]
    once = [row for row in forgetting(0.2) if row["draw"] == 0]
    (found,) = ask(once, FORGOTTEN)
    assert found["answer"].startswith("Cannot tell, because there is no error bar")


# Task metric.


def rated(rate: Callable[[int], float]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(9)
    rows = []
    for method in ("sft", "kd"):
        for row in runs_of(lambda n: 1 + gap(n), method=method):
            found = rng.binomial(200, rate(row["samples"])) / 200
            rows.append(row | {"pass_rate_large": found, "pass_rate": round(found * 50) / 50})
    return rows


def test_loss_moves_the_task_metric() -> None:
    floors = {"floor": {"fixed": 0.06, "large": 0.06}}
    rows = rated(lambda n: 0.1 + 0.08 * math.log2(n / 64))
    found = {a["label"]: a for a in ask(rows, TASK_METRIC, floors)}
    assert found["pass_rate_large"]["answer"].startswith("Yes (pass_rate_large)")
    assert found["pass_rate_large"]["numbers"]["rank_correlation_high"] < 0
    worse = ask(rated(lambda n: 0.5 - 0.08 * math.log2(n / 64)), TASK_METRIC, floors)
    assert worse[1]["answer"].startswith("No (pass_rate_large)")


def test_the_task_metric_at_its_floor_tells_nothing() -> None:
    floors = {"floor": {"fixed": 0.1, "large": 0.1}}
    # A slight trend below the sampling error of each rate: all within noise of the floor.
    rows = rated(lambda n: 0.09 + 0.005 * math.log2(n / 64))
    for found in ask(rows, TASK_METRIC, floors):
        assert "within the sampling error of the floor" in found["answer"]
        assert found["numbers"]["clear_of_floor"] == 0
    high = rated(lambda n: 0.5)
    assert (
        "floor, the rate of a fixed dummy answer, is not known"
        in (ask(high, TASK_METRIC)[0]["answer"])
    )
    few = [row for row in high if row["samples"] <= 128]
    assert "only 4 trained cells" in ask(few, TASK_METRIC, floors)[0]["answer"]
    flat = [row | {"pass_rate": 0.5, "pass_rate_large": 0.5} for row in high]
    assert "all cells are equal" in ask(flat, TASK_METRIC, floors)[0]["answer"]
    noise = [row | {"pass_rate_large": 0.5 + 0.01 * ((k * 7) % 5)} for k, row in enumerate(high)]
    assert ask(noise, TASK_METRIC, floors)[1]["answer"].startswith("Cannot tell (pass_rate_large):")


def test_rank_correlation_covers() -> None:
    rng = np.random.default_rng(1)
    rho = 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a bivariate normal
    inside = 0
    for _ in range(400):
        x = rng.normal(size=20)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=20)
        found = rank_correlation(x, y)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert 0.86 < inside / 400 < 0.95


# Curation.


def curated(
    shift: float = 0.0,
    better: float = 0.0,
    students: int = 5,
    draws: int = 3,
    longer: float = 1.0,
    seed: int = 6,
) -> list[dict[str, Any]]:
    """Raw and curated runs; log gap(curated) = log gap(raw) − shift · log N − better."""
    rows = []
    for k in range(students):
        params = 1e6 * 2**k
        for draw in range(draws):
            common = np.random.default_rng([seed, k, draw]).normal(size=3)
            for name in ("raw", "clean"):
                own = np.random.default_rng([seed, k, draw, len(name)]).normal(size=3)
                for place, n in enumerate((128, 256, 512)):
                    clean = name == "clean"
                    tokens = TOKENS * n * (longer if clean else 1)
                    found = math.log(gap(tokens / TOKENS, params))
                    found -= clean * (shift * math.log(params / 1e6) + better)
                    found += 0.02 * common[place] + 0.003 * own[place]
                    loss = 1 + math.exp(found)
                    (row,) = runs_of(
                        steady_loss(loss), sizes=(n,), draws=1, noise=0.0,
                        student=f"s{k}", params=params, curation=name, tokens_unique=tokens,
                        tokens_seen=2 * tokens,
                        reference_loss=2 + 0.05 * clean + 0.01 * common[place]
                        + 0.001 * own[place],
                    )  # fmt: skip
                    rows.append(row | {"draw": draw})
    return rows


def test_curation_is_judged_on_both_texts() -> None:
    answers = ask(curated(better=0.1), CURATION)
    assert len(answers) == 5
    for found in answers:
        texts = found["numbers"]["texts"]
        assert found["answer"] == "Held-out text: clean is better; reference text: raw is better."
        top = texts["reference_loss"]["points"][0]
        assert top["loss_difference"] == pytest.approx(-0.05, abs=0.005)
        assert found["numbers"]["pairs"] == 9
    flat = ask(curated(), CURATION)
    assert sum("Held-out text: cannot tell" in found["answer"] for found in flat) >= 3
    (none,) = ask(runs_of(lambda n: 1 + gap(n)), CURATION)
    assert none["answer"].startswith("Cannot tell, because every run trained on raw")


def test_curation_is_compared_at_equal_tokens() -> None:
    # Longer answers: at equal samples a lower loss, at equal tokens none.
    for found in ask(curated(longer=1.5), CURATION):
        assert found["numbers"]["pairs"] == 0
        point = found["numbers"]["texts"]["loss"]["points"][1]
        assert point["loss_difference_low"] <= 0 <= point["loss_difference_high"]


def test_an_exponent_needs_sizes_and_draws() -> None:
    found = ask(curated(shift=0.15), CURATION_EXPONENT)[0]
    assert found["answer"].startswith("Yes: with clean the exponent in the student's size")
    numbers = found["numbers"]
    assert numbers["exponent_shift_low"] <= 0.15 <= numbers["exponent_shift_high"]
    assert numbers["draws"] == 3
    for lacking in (curated(shift=0.15, students=4), curated(shift=0.15, draws=2)):
        found = ask(lacking, CURATION_EXPONENT)[0]
        assert found["answer"].startswith("Cannot tell for the exponent in the student's size")
        assert "needs 5 or more sizes" in found["answer"]
    # Three sizes of data are too few for the exponent in data.
    told = [a["answer"] for a in ask(curated(shift=0.15), CURATION_EXPONENT)]
    assert sum("the unique tokens, because" in answer for answer in told) == 5
    longer = ask(curated(shift=0.15, longer=1.5), CURATION_EXPONENT)[0]
    assert "at equal tokens" in longer["answer"]
    assert longer["numbers"]["draws"] == 0


def test_an_exponent_that_does_not_shift_is_covered() -> None:
    inside = 0
    for seed in range(8):
        numbers = ask(curated(seed=seed), CURATION_EXPONENT)[0]["numbers"]
        inside += numbers["exponent_shift_low"] <= 0 <= numbers["exponent_shift_high"]
    assert inside >= stats.binom.ppf(0.001, 8, 0.9)


# Controls.

METHODS = {
    "sft": {"ce": 1.0},
    "fixed": {"ce": 1.0, "train": {"max_updates": 256}},
    "early": {"ce": 1.0, "train": {"early_stopping": {"patience": 2}}},
}


def controlled(share: float, seed: int = 10) -> list[dict[str, Any]]:
    """At equal updates, and with early stopping, `share` of the gain of data stays."""
    rng = np.random.default_rng(seed)

    def control(n: int) -> float:
        return 1 + gap(1024) + share * (gap(n) - gap(1024))

    rows = runs_of(lambda n: 1 + gap(n), rng=rng)
    rows += runs_of(control, method="fixed", epochs=lambda n: 2048 / n, rng=rng)
    return rows + runs_of(control, method="early", epochs=lambda n: 1 + n % 3, rng=rng)


def test_controls_show_what_the_data_alone_bought() -> None:
    answers = ask(controlled(0.4), CONTROLS, methods=METHODS)
    gain = gap(64) - gap(1024)
    assert [a["numbers"]["control"] for a in answers] == ["updates", "stopping"]
    for found in answers:
        numbers = found["numbers"]
        assert numbers["gain_in_control"] == pytest.approx(0.4 * gain, abs=0.015)
        assert numbers["gain_lost"] == pytest.approx(0.6 * gain, abs=0.015)
        assert numbers["share_that_stays"] == pytest.approx(0.4, abs=0.05)
    assert "the rest came with more updates" in answers[0]["answer"]
    none = [ask(controlled(0.0, seed), CONTROLS, methods=METHODS)[0] for seed in range(8)]
    told = sum(found["answer"].startswith("Cannot tell (equal updates)") for found in none)
    assert told >= stats.binom.ppf(0.001, 8, 0.9)
    whole = ask(controlled(1.0, 7), CONTROLS, methods=METHODS)[0]
    assert "do not differ by more than the noise" in whole["answer"]


def test_gains_in_controls_are_covered() -> None:
    gain, inside, repeats = gap(64) - gap(1024), [0, 0], 25
    for seed in range(repeats):
        for found in ask(controlled(0.4, seed), CONTROLS, methods=METHODS):
            numbers = found["numbers"]
            for k, (name, share) in enumerate((("gain_in_control", 0.4), ("gain_lost", 0.6))):
                inside[k] += numbers[f"{name}_low"] <= share * gain <= numbers[f"{name}_high"]
    assert min(inside) >= stats.binom.ppf(0.001, 2 * repeats, 0.9)


def test_controls_need_a_partner() -> None:
    (found,) = ask(runs_of(lambda n: 1 + gap(n)), CONTROLS)
    assert found["answer"].startswith("Cannot tell, because no line with equal updates")
    # Methods that are not known to be the same but for the control are not compared.
    (found,) = ask(controlled(0.4), CONTROLS)
    assert found["answer"].startswith("Cannot tell, because no line")
    apart = [
        row for row in controlled(0.4) if row["method"] != "early"
        and (row["samples"] < 256) == (row["method"] == "sft")
    ]  # fmt: skip
    (found,) = ask(apart, CONTROLS, methods=METHODS)
    assert "shares 0 sizes" in found["answer"]
    once = [row for row in controlled(0.4) if row["draw"] == 0]
    assert "no error bar" in ask(once, CONTROLS, methods=METHODS)[0]["answer"]


def test_spread_without_degrees_is_not_needed() -> None:
    """A blur without spread leaves intervals as they are."""
    one, other = question_lines(pd.DataFrame(slow_kd()))
    names = ("sft", "kd")
    spread = pooled_over([one, other], "loss")
    plain = compare_total(one, other, names, "train_seconds", spread)
    still = compare_total(one, other, names, "train_seconds", spread, "s", Spread(0.0, 3, 1))
    for left, right in zip(plain["points"], still["points"], strict=True):
        assert left["loss_difference_low"] == pytest.approx(right["loss_difference_low"])
