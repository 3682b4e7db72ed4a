"""Data needed for a target loss, data against training from scratch, and the break-even.

Intervals are inverted, not linearised: an amount of data belongs to the interval where the law's
prediction there does not differ from the target by more than its half width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.laws.compute_optimal import Cost
from distill.answers.laws.pairs import NO_CORPUS, of_group, refit, scored_on, scratch_pairs
from distill.answers.record import cannot_tell, law_record
from distill.laws.choice import Settings
from distill.laws.curves import (
    REACH,
    Curve,
    curve_of,
    differences,
    epochs_of,
    grid_laws,
    label_of,
    rows_of,
    selected_of,
)
from distill.laws.fitted import FittedLaw
from distill.laws.law import Array
from distill.stats.intervals import Interval, number

DATA_NEEDED = "How much data does a target loss need?"
AGAINST_SCRATCH = "How much of the data does distillation need, against training from scratch?"
BREAK_EVEN = "Where does training from scratch break even with distillation?"
EFFICIENCY = "How compute-efficient is distillation, against training from scratch?"
_GRID = 801
_MORE = "data closer to the target, or a larger student"


def crossing(gap: Array, half: Array, x: Array) -> Interval | None:
    """Where a falling curve minus its target reaches 0, with its interval.

    Args:
        gap: Log prediction minus log target, shape (m,).
        half: Its half width, shape (m,).
        x: Ascending, positive, shape (m,).

    Returns:
        None where the curve itself does not reach 0 on x; an end is None where the interval runs
        off the grid.
    """
    if not (gap[0] > 0 >= gap[-1]):
        return None
    place = int(np.argmax(gap <= 0))
    share = gap[place - 1] / (gap[place - 1] - gap[place])
    value = float(np.exp(np.log(x[place - 1]) + share * np.log(x[place] / x[place - 1])))
    early, late = gap - half <= 0, gap + half > 0
    low = None if early[0] else float(x[int(np.argmax(early))])
    high = None if late[-1] else float(x[int(len(x) - np.argmax(late[::-1]))])
    return Interval(value, low, high)


def data_for(curve: Curve, log_target: float, inputs: Mapping[str, float]) -> Interval | None:
    """Unique tokens at which a law meets a target; None where it does not within a factor 10⁴.

    Args:
        curve: A law with tokens among its inputs.
        log_target: Log of the target.
        inputs: Its other inputs.
    """
    low, high = curve.range["tokens"]
    x = np.geomspace(low / 1e4, high * 1e4, 4 * _GRID)
    log, rows = curve.log({**inputs, "tokens": x})
    return crossing(log - log_target, differences(curve, rows), x)


def data_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], target: float | None = None
) -> list[dict[str, Any]]:
    """Per group and its largest student: data for a target, and for half the gap that is left.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        target: Loss to reach, nats per token; by default the loss halfway between what the group's
            best runs reached and the law's floor.
    """
    answers = []
    joint = {key: law for key, law in grid_laws(laws, "loss", "params").items()
             if "tokens" in law.inputs}  # fmt: skip
    for key, law in joint.items():
        mine = rows_of(rows, law.selected)
        answers.append(_needed(mine, law, {"params": float(mine["params"].max())}, target))
        del key
    if not joint:
        for law in laws:
            if law.best and law.target == "loss" and law.inputs == ("tokens",):
                answers.append(_needed(rows_of(rows, law.selected), law, {}, target))
    return answers or [
        cannot_tell(DATA_NEEDED, None, "there is no law over data", "at least 4 amounts of data")
    ]


def _needed(
    mine: pd.DataFrame, law: FittedLaw, inputs: dict[str, float], target: float | None
) -> dict[str, Any]:
    curve = curve_of(law)
    if "epochs" in law.inputs:
        inputs = inputs | {"epochs": epochs_of(mine)}
    largest = float(mine["tokens"].max())
    if inputs.get("params"):
        at_size = mine[np.isclose(mine["params"].to_numpy(dtype=float), inputs["params"])]
        largest = float(at_size["tokens"].max())
    far, _ = curve.log({**inputs, "tokens": np.array([largest, largest * 1e12])})
    reached, floor = np.exp(far)
    wanted = float(target if target is not None else (reached + floor) / 2)
    numbers: dict[str, Any] = {"target": wanted, "largest_tokens": largest, **inputs}
    whom = f" with {number(inputs['params'])} parameters" if inputs.get("params") else ""
    evidence = (
        f"{law.record['formula']}, {law.record['points']} runs{whom}; at {number(largest)} tokens "
        f"it gives {number(float(reached), 4)} nats, with endless data {number(float(floor), 4)}."
    )
    if target is None:
        evidence += " No target was named: halfway to the floor is asked for."
    if wanted <= floor:
        because = (
            f"by this law no amount of data brings a student{whom} to {number(wanted, 4)} nats"
        )
        return cannot_tell(DATA_NEEDED, law.selected, because, _MORE, evidence, numbers)
    found = data_for(curve, float(np.log(wanted)), inputs)
    if found is None:
        because = f"{number(wanted, 4)} nats lie too far from what was measured"
        return cannot_tell(DATA_NEEDED, law.selected, because, _MORE, evidence, numbers)
    reach = max(1.0, found.value / curve.range["tokens"][1])
    numbers |= found.numbers() | {"beyond_measured": reach}
    if reach > REACH or found.low is None or found.high is None:
        because = f"the law's answer, {found.text('tokens')}, is " + (
            f"{number(reach)} times more than was measured" if reach > REACH else "unbounded"
        )
        return cannot_tell(DATA_NEEDED, law.selected, because, _MORE, evidence, numbers)
    answer = f"For {number(wanted, 4)} nats{whom}: {found.text('unique tokens')}"
    answer += f", {number(reach)} times beyond what was measured." if reach > 1.01 else "."
    return law_record(DATA_NEEDED, law.selected, answer, evidence, numbers)


def scratch_answers(
    rows: pd.DataFrame,
    corpus_methods: Sequence[str],
    cost: Mapping[str, Cost],
    settings: Settings,
) -> list[dict[str, Any]]:
    """Data, break-even and compute of distilled students against students from scratch.

    Args:
        rows: Points of laws.
        corpus_methods: Methods that learn from a corpus, without a teacher.
        cost: Per teacher, FLOPs per token of students and teacher.
        settings: How to fit.
    """
    pairs = scratch_pairs(rows, corpus_methods)
    if not pairs:
        because = "no run was trained on a corpus that the teacher did not write"
        return [
            cannot_tell(question, None, because, NO_CORPUS)
            for question in (AGAINST_SCRATCH, BREAK_EVEN, EFFICIENCY)
        ]
    answers = []
    for one, other in pairs:
        answers += _against(rows, one, other, cost.get(one[0]), settings)
    return answers


def _against(
    rows: pd.DataFrame,
    first: tuple[str, ...],
    second: tuple[str, ...],
    cost: Cost | None,
    settings: Settings,
) -> list[dict[str, Any]]:
    column, text = scored_on(rows)
    parts = [of_group(rows, key) for key in (first, second)]
    selected = selected_of(first)
    questions = (AGAINST_SCRATCH, BREAK_EVEN, EFFICIENCY)
    curves: list[Curve] = []
    for key, part in zip((first, second), parts, strict=True):
        found = refit(part, column, "params", settings)
        if isinstance(found, str):
            because = f"of {label_of(selected_of(key))}, {found}"
            needs = "at least 3 sizes of student at several amounts of data for both"
            return [cannot_tell(q, selected, because, needs) for q in questions]
        curves.append(found)
    shared = set(parts[0]["params"]) & set(parts[1]["params"])
    if not shared:
        because = "distilled students and those from scratch share no size"
        return [cannot_tell(q, selected, because, NO_CORPUS) for q in questions]
    size = float(max(shared))
    ends = [[float(f(p.loc[p["params"] == size, "tokens"])) for f in (min, max)] for p in parts]
    evidence = (
        f"Chinchilla's law fitted to {len(parts[0])} distilled runs and {len(parts[1])} from "
        f"scratch ({label_of(selected_of(second))}), judged on {text}, at {number(size)} "
        "parameters."
    )
    numbers = {"params": size, "judged_on": column, "scratch": label_of(selected_of(second))}
    share = data_share(curves[0], curves[1], size, ends[1][1])
    return [
        _share(share, ends, selected, evidence, numbers),
        _break_even(curves, size, ends, selected, evidence, numbers),
        _efficiency(share, ends, size, parts, cost, selected, evidence, numbers),
    ]


def data_share(distilled: Curve, scratch: Curve, size: float, tokens: float) -> Interval | None:
    """Tokens that distillation needs for scratch's loss at `tokens`, as a share of these.

    None where the distilled law does not meet that loss within a factor 10⁴ of its data.
    """
    log, row = scratch.log({"params": size, "tokens": np.array([tokens])})
    low, high = distilled.range["tokens"]
    x = np.geomspace(low / 1e4, high * 1e4, 4 * _GRID)
    curve, rows = distilled.log({"params": size, "tokens": x})
    half = differences(distilled, rows, scratch, np.repeat(row, len(x), axis=0))
    found = crossing(curve - log[0], half, x)
    if found is None:
        return None
    return found.scaled(1 / tokens)


def _share(
    share: Interval | None,
    ends: Sequence[Sequence[float]],
    selected: Mapping[str, Any],
    evidence: str,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    tokens = ends[1][1]
    numbers = numbers | {"scratch_tokens": tokens}
    problem = _share_problem(share, ends)
    if share is not None:
        numbers |= share.numbers()
    if problem or share is None:
        needs = "distilled and scratch runs that reach the same losses"
        return cannot_tell(AGAINST_SCRATCH, selected, problem or "", needs, evidence, numbers)
    percent = share.scaled(100)
    answer = (
        f"For the loss that scratch reaches with {number(tokens)} tokens, distillation needs "
        f"{percent.text('%')} of them."
    )
    return law_record(AGAINST_SCRATCH, selected, answer, evidence, numbers)


def _share_problem(share: Interval | None, ends: Sequence[Sequence[float]]) -> str | None:
    """Why the share of data is no answer, or None."""
    if share is None:
        return "the distilled law does not meet the loss from scratch near its data"
    tokens = share.value * ends[1][1]
    beyond = max(ends[0][0] / tokens, tokens / ends[0][1])
    if beyond > REACH:
        return (
            f"it would take {number(tokens)} distilled tokens, {number(beyond)} times outside what "
            "was measured"
        )
    if share.low is None or share.high is None:
        return f"its interval is unbounded: {share.text()}"
    return None


def _break_even(
    curves: Sequence[Curve],
    size: float,
    ends: Sequence[Sequence[float]],
    selected: Mapping[str, Any],
    evidence: str,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    """Where the two laws cross at equal tokens, within what both were measured at."""
    low, high = max(ends[0][0], ends[1][0]), min(ends[0][1], ends[1][1])
    needs = "both at the same amounts of data, and more of it"
    if low >= high:
        because = "the two share no range of data"
        return cannot_tell(BREAK_EVEN, selected, because, needs, evidence, numbers)
    x = np.geomspace(low, high, _GRID)
    (one, rows), (other, more) = (c.log({"params": size, "tokens": x}) for c in curves)
    gap, half = other - one, differences(curves[0], rows, curves[1], more)
    better = np.where(gap > half, 1, np.where(gap < -half, -1, 0))
    numbers = numbers | {
        "tokens_low": low,
        "tokens_high": high,
        "gain_low": float(gap[0]),
        "gain_high": float(gap[-1]),
    }
    first, last = (Interval(gap[i], gap[i] - half[i], gap[i] + half[i]) for i in (0, -1))
    at = (
        f" Distillation's gain in log loss: {first.text()} at {number(low)} tokens, {last.text()} "
        f"at {number(high)}."
    )
    if (better == 1).all():
        answer = f"Not reached by {number(high)} tokens: distillation wins at all of them."
        return law_record(BREAK_EVEN, selected, answer, evidence + at, numbers | {"reached": False})
    if (better == -1).all():
        answer = (
            f"Below {number(low)} tokens if anywhere: training from scratch wins at all measured."
        )
        return law_record(BREAK_EVEN, selected, answer, evidence + at, numbers | {"reached": True})
    if better[0] == -better[-1] != 0:
        sign = int(better[0])
        found = crossing(sign * gap, half, x)
        assert found is not None
        numbers |= found.numbers() | {"reached": True}
        names = ["distillation", "training from scratch"][::sign]
        answer = f"At {found.text('tokens')}: below it {names[0]} wins, above it {names[1]}."
        return law_record(BREAK_EVEN, selected, answer, evidence + at, numbers)
    because = "the two do not differ by more than their intervals over part of the range"
    return cannot_tell(
        BREAK_EVEN, selected, because, "more draws, " + needs, evidence + at, numbers
    )


def _efficiency(
    share: Interval | None,
    ends: Sequence[Sequence[float]],
    size: float,
    parts: Sequence[pd.DataFrame],
    cost: Cost | None,
    selected: Mapping[str, Any],
    evidence: str,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    """FLOPs from scratch over FLOPs by distillation, at one student and one loss."""
    problem = _share_problem(share, ends)
    needs = "distilled and scratch runs that reach the same losses"
    if cost is None:
        problem, needs = "the teacher's FLOPs per token are not known", "the teacher's size"
    if problem or share is None or cost is None:
        return cannot_tell(EFFICIENCY, selected, problem or "", needs, evidence, numbers)
    epochs = [epochs_of(part) for part in parts]
    student = 3 * float(cost.student(np.array([size]))[0])
    found = {}
    for name, teacher in (("best_case", 0.0), ("teacher_inference", cost.teacher)):
        factor = student * epochs[1] / (student * epochs[0] + teacher)
        fewest, most = (None if v is None else factor / v for v in (share.high, share.low))
        found[name] = Interval(factor / share.value, fewest, most)
        numbers = numbers | found[name].numbers(name)
    answer = (
        f"At {number(size)} parameters and one loss, training from scratch takes "
        f"{found['teacher_inference'].text()} times the FLOPs with the teacher's writing counted, "
        f"{found['best_case'].text()} times without."
    )
    return law_record(EFFICIENCY, selected, answer, f"{evidence} {cost.note}", numbers)
