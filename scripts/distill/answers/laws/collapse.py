"""Where compression collapses: a break in size that predicts the largest runs beyond chance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws.needs import need_amounts, need_students
from distill.laws.fitted import FittedLaw
from distill.laws.forms import laws_over
from distill.laws.points import commonest_epochs
from distill.laws.runs import group_rows
from distill.stats.intervals import Estimate

KEY = "collapse"
SIGNIFICANCE = 0.05
LEAST_SIZES = max(
    need.least
    for law in laws_over("loss", "joint")
    if not law.smooth
    for need in law.needs
    if need.name == "params"
)


def collapse_answers(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> list[Answer]:
    """One answer per group of students with a law over size and data."""
    answers = [
        _answer(rows, law.record["break_test"], law.selected)
        for law in laws
        if "break_test" in law.record
    ]
    if answers:
        return answers
    needs = (need_students(rows, LEAST_SIZES), need_amounts(rows, 2))
    return [Answer(KEY, {}, "cannot_tell", {"reason": "no_law"}, needs)]


def _answer(rows: pd.DataFrame, test: Mapping[str, Any], selected: Mapping[str, Any]) -> Answer:
    """What the test of a break says about one group.

    Args:
        rows: Points of laws.
        test: `break_test` of the group's law in laws.json.
        selected: The group.
    """
    mine, about = group_rows(rows, selected), about_group(selected)
    numbers: dict[str, Any] = {"sizes": test["sizes"], "established": False}

    def refused(reason: str, *needs: Need) -> Answer:
        return Answer(KEY, about, "cannot_tell", numbers | {"reason": reason}, needs)

    # With many sizes, more of the same range would not show a break that these do not show.
    few = test["sizes"] < 2 * LEAST_SIZES
    more = (need_students(mine, max(LEAST_SIZES, test["sizes"] + 1)),) if few else ()
    if test["sizes"] < LEAST_SIZES:
        return refused("few_sizes", need_students(mine, LEAST_SIZES))
    if "p_value" not in test:
        numbers["refused"] = test["reason"]
        return refused("not_determined", need_amounts(mine, mine["tokens"].nunique() + 1))
    place, steeper = Estimate.of_ends(test["break"]), Estimate.of_ends(test["steeper"])
    same = ("p_value", "replicates", "gain", "smooth_error", "broken_error", "smallest", "largest")
    numbers |= {name: test[name] for name in same} | {"points": test["points"]}
    numbers |= place.ends("break") | steeper.ends("steeper")
    if test["gain"] <= 0 or test["p_value"] > SIGNIFICANCE:
        return refused("no_break", *more)
    low, high = test["smallest"], test["largest"]
    if place.low is None or place.high is None or place.high < low or place.low > high:
        return refused("no_place", *more)
    numbers["established"] = True
    epochs = mine["epochs"].to_numpy(dtype=float)
    same_epochs = mine[np.isclose(epochs, commonest_epochs(epochs), rtol=0.01)]
    teacher = np.unique(same_epochs["teacher_params"].to_numpy(dtype=float))
    if len(teacher) == 1 and np.isfinite(teacher[0]):
        numbers |= place.scaled(1 / float(teacher[0])).ends("share_of_teacher")
    return Answer(KEY, about, "answered", numbers)
