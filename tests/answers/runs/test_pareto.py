import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from distill.answers.runs import pareto
from distill.answers.runs.energy_quality import KWH
from distill.table.lines import lines_of, prepare_runs
from question_tables import ask, gap, runs_of, shifted


@pytest.mark.slow
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
            a for a in ask(rows, pareto) if a.numbers["costs"] == [column]
        ).numbers["models"]  # fmt: skip
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
    status = {m["student"]: m["status"] for m in ask(small + large, pareto)[0].numbers["models"]}
    assert status == {"small": "front", "large": "undecided"}
    worse = runs_of(lambda n: 1.6, sizes=(64,), student="large", params=2e6)
    found = ask(small + worse, pareto)[0]
    assert found.status == "answered"
    assert found.numbers["models"][1]["beaten_by"] == ["small · sft at n = 64"]
    assert [m["status"] for m in found.numbers["models"]] == ["front", "beaten"]


def test_a_front_needs_its_columns() -> None:
    rows = [row | {"size_mb": None} for row in runs_of(lambda n: 1 + gap(n))]
    (lacking,) = [a for a in ask(rows, pareto) if "size_mb" in a.numbers["costs"]]
    assert (lacking.status, lacking.numbers["models"]) == ("cannot_tell", [])
    assert [(need.what, need.wanted) for need in lacking.needs] == [("column", ["size_mb"])]
    assert any(a.numbers.get("costs_equal") for a in ask(rows, pareto))


def test_without_repeats_the_front_is_untested() -> None:
    (found, *_) = ask(runs_of(lambda n: 1 + gap(n), draws=1), pareto)
    assert found.status == "cannot_tell"
    assert [need.change for need in found.needs] == [{"runs[].draws": [0, 1]}]
    assert found.numbers["models"]


def pooled_sd(table: pd.DataFrame, column: str) -> tuple[float, int]:
    """Standard deviation between runs of a cell and its degrees of freedom."""
    cells = table.groupby(["method", "samples"])[column].agg(["var", "count"])
    df = int((cells["count"] - 1).sum())
    return math.sqrt(float(((cells["count"] - 1) * cells["var"]).sum() / df)), df


@pytest.mark.slow
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
    (found,) = [a for a in ask(rows, pareto) if KWH in a.numbers["costs"]]  # alone: not of use
    assert found.numbers["costs"] == [KWH]
    seen = set()
    for model in found.numbers["models"]:
        me = cells.loc[(model["method"], model["samples"])]
        others = cells.drop((model["method"], model["samples"]))
        sure = np.log(me[KWH] / others[KWH]) >= margins[1]
        beaten = bool((sure & (others["loss"] < me["loss"] - margins[0])).any())
        front = not bool(((others[KWH] <= me[KWH]) & (others["loss"] <= me["loss"])).any())
        assert model["status"] == ("beaten" if beaten else "front" if front else "undecided")
        seen.add(model["status"])
    assert seen == {"beaten", "front", "undecided"}
    assert found.numbers["kwh_estimated"] == 1.0
    assert found.numbers["watts_per_cpu"] == 4.0


def test_of_many_models_the_front_stays() -> None:
    """Costs apart by more than a group: the front of all is the front of those that are left."""
    rng = np.random.default_rng(2)
    (line,) = lines_of(prepare_runs(pd.DataFrame(runs_of(lambda n: 1.0, sizes=(64,)))))
    costs, losses = np.sort(rng.uniform(1, 100, 5_000)), rng.uniform(2, 3, 5_000)
    models = [
        pareto.Model(line, 64, float(loss), 1, (float(cost),))
        for cost, loss in zip(costs, losses, strict=True)
    ]
    kept = pareto._thinned(models)
    assert len(kept) == pareto.MOST_MODELS
    least = np.minimum.accumulate(losses)
    front = {float(loss) for loss in losses[losses == least]}
    # Of two in one group, the later has the lower loss.
    groups = np.array_split(losses, pareto.MOST_MODELS)
    assert {model.loss for model in kept} == {float(group.min()) for group in groups}
    of_kept = np.minimum.accumulate([model.loss for model in kept])
    assert set(of_kept) <= front
    assert min(front) == of_kept[-1]
