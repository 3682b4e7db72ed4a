"""How small a pilot predicts the largest runs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, about_group
from distill.answers.laws.needs import need_amounts, need_larger_data
from distill.laws.fitted import FittedLaw
from distill.laws.pilots import smallest_pilots

KEY = "pilot"


def pilot_answers(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> list[Answer]:
    """One answer per chosen law of the loss that was refitted to pilots."""
    answers = [_answer(rows, law) for law in laws if "pilots" in law.record]
    if answers:
        return answers
    return [Answer(KEY, {}, "cannot_tell", {"reason": "no_law"}, (need_amounts(rows),))]


def _answer(rows: pd.DataFrame, law: FittedLaw) -> Answer:
    ladder, about = law.record["pilots"], about_group(law.selected)
    numbers: dict[str, Any] = {"law": law.name, "formula": law.record["formula"], "ladder": ladder}
    if not ladder:
        numbers["reason"] = "no_pilot"
        return Answer(KEY, about, "cannot_tell", numbers, (need_larger_data(rows),))
    within = {f"{bound:g}": pilot for bound, pilot in smallest_pilots(ladder).items()}
    numbers |= {"within": within, "error": ladder[-1]["error"]}
    return Answer(KEY, about, "answered", numbers)
