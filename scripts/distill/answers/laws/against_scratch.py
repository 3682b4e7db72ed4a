"""Distilled students against students from scratch: data, break-even and compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws.common_text import CommonText
from distill.answers.laws.compute_optimal import Cost
from distill.answers.laws.data_needed import GRID, crossing
from distill.answers.laws.needs import (
    need_amounts,
    need_corpus,
    need_draws,
    need_larger_data,
    need_students,
    need_teacher_size,
)
from distill.laws.common_text import Key, scratch_pairs, selected_of
from distill.laws.curves import REACH, Curve, curve_of, differences, label_of
from distill.laws.points import commonest_epochs
from distill.laws.runs import group_rows
from distill.stats.intervals import Estimate

DATA, BREAK_EVEN, EFFICIENCY = "scratch_data", "break_even", "efficiency"
QUESTIONS = (DATA, BREAK_EVEN, EFFICIENCY)


@dataclass(frozen=True)
class Pair:
    """A distilled group and one from scratch, with their laws, at their largest shared size.

    Attributes:
        rows: The runs of both.
        curves: Their laws.
        params: The size.
        ends: Least and most tokens of each at that size.
        numbers: What the answers have in common.
        about: Whom they are about.
    """

    rows: tuple[pd.DataFrame, pd.DataFrame]
    curves: tuple[Curve, Curve]
    params: float
    ends: tuple[tuple[float, float], tuple[float, float]]
    numbers: Mapping[str, Any]
    about: Mapping[str, Any]

    def answer(self, question: str, **numbers: Any) -> Answer:
        """An answer that is one."""
        return Answer(question, self.about, "answered", {**self.numbers, **numbers})

    def refused(self, question: str, reason: str, *needs: Need, **numbers: Any) -> Answer:
        """The reason why there is no answer, and what would give one."""
        numbers = {**self.numbers, **numbers, "reason": reason}
        return Answer(question, self.about, "cannot_tell", numbers, needs)


def scratch_answers(
    rows: pd.DataFrame, corpus_methods: Sequence[str], costs: Mapping[str, Cost], text: CommonText
) -> list[Answer]:
    """Data, break-even and compute of distilled students against students from scratch.

    Args:
        rows: Points of laws.
        corpus_methods: Methods that learn from a corpus, without a teacher.
        costs: Per teacher, FLOPs per token of students and teacher.
        text: Laws of both, of one score.
    """
    pairs = scratch_pairs(rows, corpus_methods)
    if not pairs:
        needs, numbers = (need_corpus(),), {"reason": "no_corpus"}
        return [Answer(question, {}, "cannot_tell", numbers, needs) for question in QUESTIONS]
    answers = []
    for one, other in pairs:
        pair = _pair(rows, one, other, text)
        if isinstance(pair, Pair):
            share = data_share(*pair.curves, pair.params, pair.ends[1][1])
            answers += [
                _data(pair, share),
                _break_even(pair),
                _efficiency(pair, share, costs.get(one[0])),
            ]
        else:
            answers += pair
    return answers


def _pair(rows: pd.DataFrame, first: Key, second: Key, text: CommonText) -> Pair | list[Answer]:
    """Two groups and their laws, or the answers that say what they lack."""
    keys, about = (first, second), about_group(selected_of(first))
    groups = [group_rows(rows, selected_of(key)) for key in keys]
    laws = [text.law(key, "params") for key in keys]

    def refused(numbers: dict[str, Any], *needs: Need) -> list[Answer]:
        return [Answer(question, about, "cannot_tell", numbers, needs) for question in QUESTIONS]

    for key, law in zip(keys, laws, strict=True):
        if law is None:
            of = {"group": label_of(selected_of(key)), "refused": text.refusal(key, "params")}
            needs = text.needs(need_students(rows), need_amounts(rows))
            return refused({"reason": "no_common_law", "of": of}, *needs)
    shared = set(groups[0]["params"]) & set(groups[1]["params"])
    if not shared:
        return refused({"reason": "no_shared_size"}, need_corpus())
    size = float(max(shared))
    curves = [curve_of(law) for law in laws if law is not None]
    tokens = [group.loc[group["params"] == size, "tokens"] for group in groups]
    ends = [(float(one.min()), float(one.max())) for one in tokens]
    numbers = {
        "params": size,
        "judged_on": text.column,
        "scratch": label_of(selected_of(second)),
        "runs": [len(group) for group in groups],
    }
    return Pair(
        (groups[0], groups[1]), (curves[0], curves[1]), size, (ends[0], ends[1]), numbers, about
    )


def data_share(distilled: Curve, scratch: Curve, size: float, tokens: float) -> Estimate | None:
    """Tokens that distillation needs for scratch's loss at `tokens`, as a share of these.

    None where the distilled law does not meet that loss within a factor 10⁴ of its data.
    """
    log, row = scratch.log({"params": size, "tokens": np.array([tokens])})
    low, high = distilled.range["tokens"]
    x = np.geomspace(low / 1e4, high * 1e4, 4 * GRID)
    curve, rows = distilled.log({"params": size, "tokens": x})
    half = differences(distilled, rows, scratch, np.repeat(row, len(x), axis=0))
    needed = crossing(curve - log[0], half, x)
    return None if needed is None else needed.scaled(1 / tokens)


def _data(pair: Pair, share: Estimate | None) -> Answer:
    """The share of scratch's data that distillation needs."""
    numbers: dict[str, Any] = {"scratch_tokens": pair.ends[1][1]}
    if share is not None:
        numbers |= share.ends()
    problem = _share_problem(pair, share)
    if problem is None:
        return pair.answer(DATA, **numbers)
    reason = problem.pop("reason")
    return pair.refused(DATA, reason, need_larger_data(pair.rows[0]), **numbers, **problem)


def _share_problem(pair: Pair, share: Estimate | None) -> dict[str, Any] | None:
    """Why the share of data is no answer, or None."""
    if share is None:
        return {"reason": "not_met"}
    low, high = pair.ends[0]
    tokens = share.value * pair.ends[1][1]
    beyond = max(low / tokens, tokens / high)
    if beyond > REACH:
        return {"reason": "beyond_reach", "distilled_tokens": tokens, "beyond_measured": beyond}
    return None if share.bounded else {"reason": "unbounded"}


def _break_even(pair: Pair) -> Answer:
    """Where the two laws cross at equal tokens, within what both were measured at."""
    (first_low, first_high), (second_low, second_high) = pair.ends
    low, high = max(first_low, second_low), min(first_high, second_high)
    more = need_larger_data(pair.rows[0])
    if low >= high:
        return pair.refused(BREAK_EVEN, "no_shared_data", more)
    x = np.geomspace(low, high, GRID)
    (one, rows), (other, more_rows) = (
        curve.log({"params": pair.params, "tokens": x}) for curve in pair.curves
    )
    gap, half = other - one, differences(pair.curves[0], rows, pair.curves[1], more_rows)
    better = np.where(gap > half, 1, np.where(gap < -half, -1, 0))
    first, last = (Estimate.around(float(gap[i]), float(half[i])) for i in (0, -1))
    numbers = {
        "tokens_low": low,
        "tokens_high": high,
        "gain_low": first.value,
        "gain_high": last.value,
        "gain_at_low": first.ends(),
        "gain_at_high": last.ends(),
    }
    if (better == 1).all():
        return pair.answer(BREAK_EVEN, **numbers, reached=False, below="distillation")
    if (better == -1).all():
        return pair.answer(BREAK_EVEN, **numbers, reached=True, above="scratch")
    if better[0] == -better[-1] != 0:
        place = crossing(int(better[0]) * gap, half, x)
        assert place is not None
        names = ("distillation", "scratch") if better[0] == 1 else ("scratch", "distillation")
        numbers |= place.ends() | {"reached": True, "below": names[0], "above": names[1]}
        return pair.answer(BREAK_EVEN, **numbers)
    return pair.refused(BREAK_EVEN, "no_difference", need_draws(pair.rows[0]), more, **numbers)


def _efficiency(pair: Pair, share: Estimate | None, cost: Cost | None) -> Answer:
    """FLOPs from scratch over FLOPs by distillation, at one student and one loss."""
    if cost is None:
        need = need_teacher_size(pair.about.get("teacher"))
        return pair.refused(EFFICIENCY, "no_cost", need)
    if problem := _share_problem(pair, share):
        reason = problem.pop("reason")
        return pair.refused(EFFICIENCY, reason, need_larger_data(pair.rows[0]), **problem)
    assert share is not None
    epochs = [commonest_epochs(rows["epochs"].to_numpy(dtype=float)) for rows in pair.rows]
    student = 3 * float(cost.student(np.array([pair.params]))[0])
    numbers: dict[str, Any] = {"flops_counted": cost.counted}
    for name, teacher in (("best_case", 0.0), ("teacher_inference", cost.teacher)):
        factor = student * epochs[1] / (student * epochs[0] + teacher)
        fewest, most = (None if v is None else factor / v for v in (share.high, share.low))
        numbers |= Estimate(factor / share.value, None, fewest, most).ends(name)
    return pair.answer(EFFICIENCY, **numbers)
