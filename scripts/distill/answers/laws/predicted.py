"""Whether the laws predicted the largest runs, which neither fit nor choice had seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, about_group
from distill.answers.laws.needs import need_amounts, need_larger_data, need_students
from distill.laws.curves import group_of
from distill.laws.fitted import FittedLaw

KEY = "predicted"


def predicted_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], document: Mapping[str, Any]
) -> list[Answer]:
    """How the chosen laws predicted the size step that they were evaluated on.

    Laws over size where a group has one, each in the measure of all parameters; else laws over the
    data of one student.
    """
    chosen = [law for law in laws if law.best]
    grids = {(group_of(law), law.target) for law in chosen if law.selected.get("size")}
    answers = []
    for law in chosen:
        size, place = law.selected.get("size"), (group_of(law), law.target)
        if size == "params" or (size is None and place not in grids):
            twin = next(
                (
                    one
                    for one in chosen
                    if one.selected.get("size") == "params_non_embedding"
                    and one.name == law.name
                    and (group_of(one), one.target) == place
                ),
                None,
            )
            answers.append(_predicted(rows, law, twin))
    if answers:
        return answers
    refused = sorted({str(one["reason"]) for one in document["refused"]})
    needs = (need_amounts(rows), need_students(rows))
    return [Answer(KEY, {}, "cannot_tell", {"reason": "no_law", "refused": refused}, needs)]


def _predicted(rows: pd.DataFrame, law: FittedLaw, twin: FittedLaw | None) -> Answer:
    held = law.record["holdout"]
    numbers: dict[str, Any] = {
        "law": law.name,
        "target": law.target,
        "holdout": held,
        "formula": law.record["formula"],
        "points": law.record["points"],
    }
    about = about_group(law.selected)
    if held is None:
        numbers["reason"] = "not_judged"
        return Answer(KEY, about, "cannot_tell", numbers, (need_larger_data(rows),))
    if twin is not None and twin.record["holdout"]:
        numbers["holdout_non_embedding"] = twin.record["holdout"]
    return Answer(KEY, about, "answered", numbers)
