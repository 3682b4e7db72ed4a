"""The compute-optimal student and data, under four ways of counting the teacher.

Busbridge et al. 2025, Distillation scaling laws, Eq. 9: with F(N) the forward FLOPs per token,

    C = 3 F(N_S) D_S + F(N_T) (δ_logits D_S + δ_pretrain 3 D_T).

With repeats the student sees epochs x U tokens while the teacher works once on U unique ones:
C = 3 F(N_S) epochs U + F(N_T) (δ_logits U + δ_pretrain 3 D_T).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws.needs import (
    need_amounts,
    need_draws,
    need_epochs,
    need_larger_data,
    need_pretraining_tokens,
    need_students,
    need_teacher_size,
)
from distill.laws.curves import Curve, curve_of, grid_laws
from distill.laws.fitted import FittedLaw
from distill.laws.law import Array
from distill.laws.points import commonest_epochs
from distill.laws.runs import group_rows
from distill.stats.intervals import LEVEL, Estimate

KEY, TEACHER_SHARE = "compute_optimal", "teacher_share"
SCENARIOS = {
    "best_case": (0, 0),
    "teacher_inference": (1, 0),
    "teacher_pretraining": (0, 1),
    "teacher_inference_and_pretraining": (1, 1),
}
"""δ_logits and δ_pretrain."""
SAMPLES = 400
BUDGETS = (1.0, 4.0)
"""Times the compute of the largest run measured."""
_BEYOND = 100.0
"""Students are searched this factor beyond those measured."""
_GRID = 641
"""Students tried."""
_GRID_REPEATS = (161, 25)
"""Students and epochs tried where repeats are known."""


@dataclass(frozen=True)
class Cost:
    """Forward FLOPs per token.

    Attributes:
        sizes: Parameters of the students measured, ascending, shape (s,).
        flops: Theirs, shape (s,); empty for 2 N.
        teacher: The teacher's.
        counted: How: `measured` for each model, or `2N`.
    """

    sizes: Array
    flops: Array
    teacher: float
    counted: str

    def student(self, params: Array) -> Array:
        """F(N): through the students measured, straight in logs between and beyond them."""
        if len(self.flops) < 2:
            return 2.0 * params
        x, y, at = np.log(self.sizes), np.log(self.flops), np.log(params)
        inside = np.interp(at, x, y)
        first = (y[1] - y[0]) / (x[1] - x[0])
        last = (y[-1] - y[-2]) / (x[-1] - x[-2])
        inside = np.where(at < x[0], y[0] + first * (at - x[0]), inside)
        return np.asarray(np.exp(np.where(at > x[-1], y[-1] + last * (at - x[-1]), inside)))


def costs_of(
    runs: pd.DataFrame, rows: pd.DataFrame, references: Mapping[str, Any] | None
) -> dict[str, Cost]:
    """FLOPs per token of each teacher and of the students: measured ones, else 2 N.

    Args:
        runs: The runs table (flops_per_token, params).
        rows: Points of laws (teacher, teacher_params).
        references: references.json (teachers' flops_per_token).

    Returns:
        By teacher; teachers of unknown cost are left out.
    """
    known = (references or {}).get("teachers", {})
    sizes, flops = np.array([]), np.array([])
    if "flops_per_token" in runs:
        table = runs[["params", "flops_per_token"]].apply(pd.to_numeric, errors="coerce").dropna()
        means = table[table > 0].dropna().groupby("params")["flops_per_token"].mean()
        sizes, flops = means.index.to_numpy(dtype=float), means.to_numpy(dtype=float)
    measured = len(flops) >= 2
    costs = {}
    for teacher, group in rows.groupby("teacher", sort=False):
        params = group["teacher_params"].to_numpy(dtype=float)
        stated = (known.get(teacher) or {}).get("flops_per_token")
        if stated is None and not np.isfinite(params).any():
            continue
        exact = measured and stated is not None
        # One way of counting for teacher and students: measured for all, or 2 N for all.
        if exact or not np.isfinite(params).any():
            value = float(str(stated))
        else:
            value = 2.0 * float(np.nanmax(params))
        counted = "measured" if exact else "2N"
        costs[str(teacher)] = Cost(sizes, flops if exact else np.array([]), value, counted)
    return costs


@dataclass(frozen=True)
class Optimum:
    """The best split of a budget, with intervals by the law's covariance.

    Attributes:
        params: Student's size.
        tokens: Unique tokens.
        epochs: Epochs; without an interval where the law does not know repeats.
        teacher_share: Teacher's FLOPs for text over those and the student's training.
        loss: Log of the loss there.
        edge: Whether the best student lies at the edge of what was searched, even for a tenth of
            the draws: no optimum is determined then.
    """

    params: Estimate
    tokens: Estimate
    epochs: Estimate
    teacher_share: Estimate
    loss: float
    edge: bool


def optimum(
    curve: Curve,
    cost: Cost,
    budget: float,
    scenario: tuple[int, int],
    pretraining: float = 0.0,
    epochs: float = 1.0,
    most_epochs: float | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Optimum | None:
    """Minimise a law over student and data under a budget of FLOPs.

    Args:
        curve: A law of params, tokens and maybe epochs.
        cost: FLOPs per token.
        budget: C.
        scenario: δ_logits and δ_pretrain.
        pretraining: D_T, the teacher's own training tokens.
        epochs: Epochs at which a law without them was fitted.
        most_epochs: Largest number to try, for a law that knows repeats.
        samples: Draws of the coefficients.
        seed: Of the draws.

    Returns:
        None where the teacher's pre-training takes the whole budget.
    """
    logits, pretrain = scenario
    left = budget - pretrain * 3 * cost.teacher * pretraining
    if left <= 0:
        return None
    low, high = curve.range["params"]
    count, repeats = (_GRID, 1) if most_epochs is None else _GRID_REPEATS
    params = np.geomspace(low / _BEYOND, high * _BEYOND, count)
    tries = np.geomspace(epochs if most_epochs is None else 1.0, most_epochs or epochs, repeats)
    size, times = (a.ravel() for a in np.meshgrid(params, tries, indexing="ij"))
    student, teacher = 3 * cost.student(size) * times, logits * cost.teacher
    tokens = left / (student + teacher)
    x = curve.law.centred({"params": size, "tokens": tokens, "epochs": times}, curve.centre)
    drawn = np.vstack([curve.theta, curve.samples(samples, seed)])
    with np.errstate(over="ignore", invalid="ignore"):
        logs = np.vstack([curve.law.curve(part, x)[0] for part in np.array_split(drawn, 8)])
    best = np.where(np.isfinite(logs), logs, np.inf).argmin(axis=1)
    ends = np.array([params[0], params[-1]])
    at_edge = np.isin(size[best], ends)
    share = teacher / (student + teacher)
    return Optimum(
        params=_interval(size[best]),
        tokens=_interval(tokens[best]),
        epochs=_interval(times[best]),
        teacher_share=_interval(share[best]),
        loss=float(logs[0, best[0]]),
        edge=bool(at_edge[0] or at_edge.mean() > 1 - LEVEL),
    )


def _interval(values: Array) -> Estimate:
    """The first value, with quantiles of the others."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(values[0])
    return Estimate(value, None, float(min(low, value)), float(max(high, value)))


def compute_optimal_answers(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    costs: Mapping[str, Cost],
    pretraining: Mapping[str, float],
    corpus_methods: Sequence[str] = (),
) -> list[Answer]:
    """Per group with a joint law of the loss: the four scenarios, and the teacher's share.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        costs: FLOPs per token, by teacher.
        pretraining: D_T by teacher, where it is stated.
        corpus_methods: Methods that train without a teacher.
    """
    answers = []
    for law in grid_laws(laws, "loss", "params").values():
        if "tokens" not in law.inputs or law.selected.get("method") in corpus_methods:
            continue
        mine = group_rows(rows, law.selected)
        teacher = str(law.selected.get("teacher") or "")
        for scenario in SCENARIOS:
            cost, pretrained = costs.get(teacher), pretraining.get(teacher)
            answers.append(_scenario(law, mine, cost, scenario, pretrained))
        answers.append(_teacher_share(law, mine, costs.get(teacher)))
    if answers:
        return answers
    needs = (need_students(rows), need_amounts(rows))
    return [
        Answer(key, {}, "cannot_tell", {"reason": "no_law"}, needs) for key in (KEY, TEACHER_SHARE)
    ]


def _largest_compute(mine: pd.DataFrame, cost: Cost, logits: int) -> float:
    """The largest C of a run measured, without pre-training."""
    seen = (mine["tokens"] * mine["epochs"]).to_numpy(dtype=float)
    student = 3 * cost.student(mine["params"].to_numpy(dtype=float)) * seen
    return float((student + logits * cost.teacher * mine["tokens"].to_numpy(dtype=float)).max())


def _scenario(
    law: FittedLaw, mine: pd.DataFrame, cost: Cost | None, scenario: str, pretraining: float | None
) -> Answer:
    """The best student and data for each of `BUDGETS`, the teacher counted in one way."""
    logits, pretrain = SCENARIOS[scenario]
    about, teacher = about_group(law.selected), law.selected.get("teacher")
    numbers: dict[str, Any] = {"scenario": scenario}
    if cost is None and not (logits or pretrain):
        cost = Cost(np.array([]), np.array([]), 0.0, "2N")
    if cost is None:
        numbers["reason"] = "no_cost"
        return Answer(KEY, about, "cannot_tell", numbers, (need_teacher_size(teacher),))
    if pretrain and pretraining is None:
        numbers["reason"] = "no_pretraining_tokens"
        return Answer(KEY, about, "cannot_tell", numbers, (need_pretraining_tokens(teacher),))
    curve = curve_of(law)
    common = commonest_epochs(mine["epochs"].to_numpy(dtype=float))
    most = float(mine["epochs"].max()) if law.law.repeats else None
    paid = pretrain * 3 * cost.teacher * (pretraining or 0.0)
    budgets: dict[str, dict[str, Any]] = {}
    for factor in BUDGETS:
        flops = factor * _largest_compute(mine, cost, logits) + paid
        best = optimum(curve, cost, flops, SCENARIOS[scenario], pretraining or 0.0, common, most)
        assert best is not None
        outside = _outside(curve, best)
        budgets[f"budget_{factor:g}"] = {
            "flops": flops,
            "params": best.params.ends(),
            "tokens": best.tokens.ends(),
            "epochs": best.epochs.ends(),
            "loss": float(np.exp(best.loss)),
            "inside_measured_range": not outside and not best.edge,
            "determined": not best.edge,
            "outside": outside,
        }
    determined = any(budget["determined"] for budget in budgets.values())
    numbers |= budgets | {
        "budgets": list(budgets),
        "times_largest": list(BUDGETS),
        "pretraining_flops": paid,
        "flops_counted": cost.counted,
        "formula": law.record["formula"],
        "points": law.record["points"],
        "samples": SAMPLES,
        "epochs_vary": law.law.repeats,
    }
    if determined:
        return Answer(KEY, about, "answered", numbers)
    numbers["reason"] = "no_optimum"
    return Answer(KEY, about, "cannot_tell", numbers, _wider(mine))


def _wider(mine: pd.DataFrame) -> tuple[Need, ...]:
    """Sizes and data farther apart, and more draws."""
    more = need_students(mine, mine["params"].nunique() + 1)
    return more, need_larger_data(mine), need_draws(mine)


def _outside(curve: Curve, best: Optimum) -> dict[str, float]:
    """What of an optimum lies outside the range measured, as a factor of the nearest end.

    Above 1 it lies above the largest value measured, below 1 below the smallest.
    """
    outside = {}
    for name, value in (("params", best.params.value), ("tokens", best.tokens.value)):
        low, high = curve.range[name]
        if value > high * 1.01:
            outside[name] = value / high
        elif value < low / 1.01:
            outside[name] = value / low
    return outside


def _teacher_share(law: FittedLaw, mine: pd.DataFrame, cost: Cost | None) -> Answer:
    """The teacher's share of FLOPs at the best split of text and repeats."""
    about, numbers = about_group(law.selected), dict[str, Any]()

    def refused(reason: str, *needs: Need) -> Answer:
        return Answer(TEACHER_SHARE, about, "cannot_tell", numbers | {"reason": reason}, needs)

    if not law.law.repeats:
        return refused("epochs_not_varied", need_epochs(mine))
    if cost is None:
        return refused("no_cost", need_teacher_size(law.selected.get("teacher")))
    curve, most = curve_of(law), float(mine["epochs"].max())
    flops = _largest_compute(mine, cost, 1)
    best = optimum(curve, cost, flops, SCENARIOS["teacher_inference"], most_epochs=most)
    assert best is not None
    numbers |= {
        **best.teacher_share.ends(),
        "flops": flops,
        "params": best.params.ends(),
        "tokens": best.tokens.ends(),
        "epochs": best.epochs.ends(),
        "most_epochs": most,
        "flops_counted": cost.counted,
        "formula": law.record["formula"],
        "points": law.record["points"],
    }
    if outside := _outside(curve, best):
        numbers["outside"] = outside
        return refused("outside", *_wider(mine))
    if best.edge:
        return refused("no_optimum", *_wider(mine))
    if (best.epochs.high or most) > most / 1.01:
        return refused("epochs_at_the_end", need_epochs(mine))
    return Answer(TEACHER_SHARE, about, "answered", numbers)
