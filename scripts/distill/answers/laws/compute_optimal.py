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

from distill.answers.record import cannot_tell, law_record
from distill.laws.curves import Curve, curve_of, epochs_of, grid_laws, label_of, rows_of
from distill.laws.fitted import FittedLaw
from distill.laws.law import Array
from distill.stats.intervals import LEVEL, Interval, number

COMPUTE_OPTIMAL = "What student and how much data are best for the compute?"
TEACHER_SHARE = "How should FLOPs be split between the teacher's work and the student's training?"
SCENARIOS = {
    "best_case": (0, 0),
    "teacher_inference": (1, 0),
    "teacher_pretraining": (0, 1),
    "teacher_inference_and_pretraining": (1, 1),
}
"""δ_logits and δ_pretrain."""
SAMPLES = 400
BUDGETS = (1.0, 4.0)
"""Times the compute of the dearest run measured."""
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
        note: How they were counted, in words.
    """

    sizes: Array
    flops: Array
    teacher: float
    note: str

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
        given = (known.get(teacher) or {}).get("flops_per_token")
        if given is None and not np.isfinite(params).any():
            continue
        exact = measured and given is not None
        # One way of counting for teacher and students: measured for all, or 2 N for all.
        if exact or not np.isfinite(params).any():
            value = float(str(given))
        else:
            value = 2.0 * float(np.nanmax(params))
        note = "FLOPs per token as counted for each model." if exact else (
            "FLOPs per token taken as 2 N."
        )  # fmt: skip
        costs[str(teacher)] = Cost(sizes, flops if exact else np.array([]), value, note)
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

    params: Interval
    tokens: Interval
    epochs: Interval
    teacher_share: Interval
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
    with np.errstate(over="ignore"):
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


def _interval(values: Array) -> Interval:
    """The first value, with quantiles of the others."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))


def compute_optimal_answers(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    costs: Mapping[str, Cost],
    pretraining: Mapping[str, float],
    corpus_methods: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Per group with a joint law of the loss: the four scenarios, and the teacher's share."""
    answers = []
    for law in grid_laws(laws, "loss", "params").values():
        if "tokens" not in law.inputs or law.selected.get("method") in corpus_methods:
            continue
        mine = rows_of(rows, law.selected)
        cost = costs.get(str(law.selected.get("teacher") or ""))
        pretrained = pretraining.get(str(law.selected.get("teacher") or ""))
        for name in SCENARIOS:
            answers.append(_scenario(law, mine, cost, name, pretrained))
        answers.append(_teacher_share(law, mine, cost))
    if answers:
        return answers
    needs = "students of at least 3 sizes, each at several amounts of data"
    because = "there is no joint law of size and data"
    return [cannot_tell(q, None, because, needs) for q in (COMPUTE_OPTIMAL, TEACHER_SHARE)]


def _dearest(mine: pd.DataFrame, cost: Cost, logits: int) -> float:
    """The largest C of a run measured, without pre-training."""
    seen = (mine["tokens"] * mine["epochs"]).to_numpy(dtype=float)
    student = 3 * cost.student(mine["params"].to_numpy(dtype=float)) * seen
    return float((student + logits * cost.teacher * mine["tokens"].to_numpy(dtype=float)).max())


_WORDS = {
    "best_case": "the student's training alone counted",
    "teacher_inference": "the teacher's writing or scoring counted",
    "teacher_pretraining": "the teacher's pre-training counted",
    "teacher_inference_and_pretraining": "the teacher's pre-training and its writing counted",
}


def _scenario(
    law: FittedLaw, mine: pd.DataFrame, cost: Cost | None, name: str, pretraining: float | None
) -> dict[str, Any]:
    logits, pretrain = scenario = SCENARIOS[name]
    words = _WORDS[name]
    numbers: dict[str, Any] = {"scenario": name}
    question = f"{COMPUTE_OPTIMAL} ({words})"
    if cost is None and not (logits or pretrain):
        cost = Cost(np.array([]), np.array([]), 0.0, "FLOPs per token taken as 2 N.")
    if cost is None:
        return cannot_tell(question, law.selected, "the teacher's size is not known",
                           "the teacher's parameters or FLOPs per token", "", numbers)  # fmt: skip
    if pretrain and pretraining is None:
        because = "the tokens that the teacher was pre-trained on, D_T, are not stated"
        needs = f"D_T of {law.selected.get('teacher') or 'the teacher'} under pretraining_tokens"
        return cannot_tell(question, law.selected, because, needs, "", numbers)
    curve = curve_of(law)
    common = epochs_of(mine)
    most = float(mine["epochs"].max()) if "epochs" in law.inputs else None
    paid = pretrain * 3 * cost.teacher * (pretraining or 0.0)
    told, inside = [], False
    for factor in BUDGETS:
        budget = factor * _dearest(mine, cost, logits) + paid
        best = optimum(curve, cost, budget, scenario, pretraining or 0.0, common, most)
        assert best is not None
        outside = _outside(curve, best)
        text = f"with {number(budget)} FLOPs"
        if best.edge:
            text += ": cannot tell, the law has no optimum near what was measured"
        else:
            text += (
                f" a student of {best.params.text()} parameters on {best.tokens.text()} unique "
                f"tokens{_epochs(best, most, common)}, loss {number(float(np.exp(best.loss)), 4)}"
            )
            text += f" ({outside})" if outside else ""
        inside |= not outside and not best.edge
        told.append(text)
        numbers[f"budget_{factor:g}"] = {
            "flops": budget,
            "params": best.params.numbers(),
            "tokens": best.tokens.numbers(),
            "epochs": best.epochs.numbers(),
            "loss": float(np.exp(best.loss)),
            "inside_measured_range": not outside and not best.edge,
            "determined": not best.edge,
        }
    evidence = (
        f"{law.record['formula']}, {law.record['points']} runs; intervals from "
        f"{SAMPLES} draws of its coefficients. Budgets: {' and '.join(f'{b:g}' for b in BUDGETS)} "
        f"times the dearest run measured{' and the pre-training' if pretrain else ''}. {cost.note}"
    )
    if paid:
        evidence += f" Pre-training: {number(paid)} FLOPs, the same for every split."
    if all("cannot tell" in text for text in told):
        needs = "sizes and amounts of data farther apart, or more draws"
        return cannot_tell(question, law.selected, "the law has no optimum near what was measured",
                           needs, evidence, numbers)  # fmt: skip
    answer = "; ".join(told)
    answer = f"{answer[0].upper()}{answer[1:]}."
    if not inside:
        answer += " Neither lies within what was measured: directions, not recommendations."
    return law_record(question, law.selected, answer, evidence, numbers)


def _epochs(best: Optimum, most: float | None, common: float) -> str:
    if most is not None:
        return f", {best.epochs.text('epochs')}"
    return f", {number(common)} epochs as measured" if common > 1.01 else ""


def _outside(curve: Curve, best: Optimum) -> str:
    """In words, what of an optimum lies outside the range measured; empty if nothing."""
    found = []
    for name, label, value in (
        ("params", "the student", best.params.value),
        ("tokens", "the data", best.tokens.value),
    ):
        low, high = curve.range[name]
        if value > high * 1.01:
            found.append(f"{label} {number(value / high)} times above the largest measured")
        elif value < low / 1.01:
            found.append(f"{label} {number(low / value)} times below the smallest measured")
    return "outside the range measured: " + ", ".join(found) if found else ""


def _teacher_share(law: FittedLaw, mine: pd.DataFrame, cost: Cost | None) -> dict[str, Any]:
    """The teacher's share of FLOPs at the best split of text and repeats."""
    if "epochs" not in law.inputs:
        because = "unique tokens and epochs were not both varied: at one number of epochs the "
        because += "share follows from the models' sizes alone"
        needs = "runs of the same students at several numbers of epochs and of unique tokens"
        return cannot_tell(TEACHER_SHARE, law.selected, because, needs)
    if cost is None:
        return cannot_tell(TEACHER_SHARE, law.selected, "the teacher's size is not known",
                           "the teacher's parameters or FLOPs per token")  # fmt: skip
    curve, most = curve_of(law), float(mine["epochs"].max())
    budget = _dearest(mine, cost, 1)
    best = optimum(curve, cost, budget, SCENARIOS["teacher_inference"], most_epochs=most)
    assert best is not None
    share = best.teacher_share
    numbers = {
        **share.numbers(),
        "flops": budget,
        "params": best.params.numbers(),
        "tokens": best.tokens.numbers(),
        "epochs": best.epochs.numbers(),
        "most_epochs": most,
    }
    evidence = (
        f"{law.record['formula']}, {law.record['points']} runs ({label_of(law.selected)}); best "
        f"split of {number(budget)} FLOPs: {best.params.text()} parameters, {best.tokens.text()} "
        f"unique tokens, {best.epochs.text('epochs')}. {cost.note}"
    )
    outside = _outside(curve, best)
    if best.edge or outside or (best.epochs.high or most) > most / 1.01:
        because = outside or (
            "the law has no optimum near what was measured"
            if best.edge
            else f"the best number of epochs is not clear of the most measured, {number(most)}"
        )
        needs = "more epochs, sizes and data on both sides of the optimum"
        return cannot_tell(TEACHER_SHARE, law.selected, because, needs, evidence, numbers)
    text = share.scaled(100).text("%")
    answer = (
        f"The teacher's work takes {text} of the FLOPs at the best split, the student the rest."
    )
    return law_record(TEACHER_SHARE, law.selected, answer, evidence, numbers)
