"""How much data a student needs for a target loss.

Intervals are inverted, not linearised: an amount of data belongs to the interval where the law's
prediction there does not differ from the target by more than its half width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, about_group
from distill.answers.laws.needs import need_amounts, need_larger_data, need_students
from distill.laws.curves import REACH, Curve, curve_of, differences, grid_laws
from distill.laws.fitted import FittedLaw
from distill.laws.law import Array
from distill.laws.points import commonest_epochs
from distill.laws.runs import group_rows
from distill.stats.intervals import Estimate

KEY = "data_needed"
GRID = 801


def crossing(gap: Array, half: Array, x: Array) -> Estimate | None:
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
    return Estimate(value, None, low, high)


def data_for(curve: Curve, log_target: float, inputs: Mapping[str, float]) -> Estimate | None:
    """Unique tokens at which a law meets a target; None where it does not within a factor 10⁴.

    Args:
        curve: A law with tokens among its inputs.
        log_target: Log of the target.
        inputs: Its other inputs.
    """
    low, high = curve.range["tokens"]
    x = np.geomspace(low / 1e4, high * 1e4, 4 * GRID)
    log, rows = curve.log({**inputs, "tokens": x})
    return crossing(log - log_target, differences(curve, rows), x)


def data_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], target: float | None = None
) -> list[Answer]:
    """Per group and its largest student: data for a target, or for half the gap that is left.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        target: Loss to reach, nats per token; by default the loss halfway between what the group's
            best runs reached and the law's floor.
    """
    joint = [law for law in grid_laws(laws, "loss", "params").values() if "tokens" in law.inputs]
    alone = [law for law in laws if law.best and law.target == "loss" and law.inputs == ("tokens",)]
    answers = [_answer(rows, law, target) for law in joint or alone]
    if answers:
        return answers
    return [Answer(KEY, {}, "cannot_tell", {"reason": "no_law"}, (need_amounts(rows),))]


def _answer(rows: pd.DataFrame, law: FittedLaw, target: float | None) -> Answer:
    mine, curve = group_rows(rows, law.selected), curve_of(law)
    inputs: dict[str, float] = {}
    largest = float(mine["tokens"].max())
    if "params" in law.inputs:
        inputs["params"] = float(mine["params"].max())
        at_size = mine[np.isclose(mine["params"].to_numpy(dtype=float), inputs["params"])]
        largest = float(at_size["tokens"].max())
    if "epochs" in law.inputs:
        inputs["epochs"] = commonest_epochs(mine["epochs"].to_numpy(dtype=float))
    far, _ = curve.log({**inputs, "tokens": np.array([largest, largest * 1e12])})
    reached, floor = np.exp(far)
    target_loss = float(target if target is not None else (reached + floor) / 2)
    numbers: dict[str, Any] = {
        "target": target_loss,
        "target_stated": target is not None,
        "largest_tokens": largest,
        "formula": law.record["formula"],
        "points": law.record["points"],
        "reached": float(reached),
        "floor": float(floor),
        **inputs,
    }
    about = about_group(law.selected)

    def refused(reason: str) -> Answer:
        needs = (need_larger_data(mine), need_students(mine, mine["params"].nunique() + 1))
        return Answer(KEY, about, "cannot_tell", numbers | {"reason": reason}, needs)

    if target_loss <= floor:
        return refused("below_floor")
    tokens = data_for(curve, float(np.log(target_loss)), inputs)
    if tokens is None:
        return refused("far_away")
    beyond = max(1.0, tokens.value / curve.range["tokens"][1])
    numbers |= tokens.ends() | {"beyond_measured": beyond}
    if beyond > REACH:
        return refused("beyond_reach")
    if not tokens.bounded:
        return refused("unbounded")
    return Answer(KEY, about, "answered", numbers)
