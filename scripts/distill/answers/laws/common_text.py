"""Exponents of groups trained on different text, compared by laws of one score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws.exponents import compare_exponents
from distill.answers.laws.needs import (
    need_amounts,
    need_corpus,
    need_curation,
    need_draws,
    need_students,
)
from distill.answers.needs import need_reference
from distill.contracts.points import MEASURES
from distill.laws.common_text import Key, curation_pairs, scratch_pairs, selected_of
from distill.laws.curves import label_of
from distill.laws.fitted import FittedLaw, find_laws
from distill.laws.forms import simplest
from distill.laws.points import levels
from distill.laws.runs import group_rows

AGAINST_SCRATCH = "scratch_exponents"
CURATION = "curated_exponents"
CURATION_SIZES, CURATION_DRAWS = 5, 3


class CommonText:
    """The laws of laws.json that were fitted to one score for all groups.

    Args:
        record: `common_text` of laws.json.

    Attributes:
        column: The score: `reference` or `loss`; None if the runs share none.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.column: str | None = record["column"]
        self._laws = [FittedLaw(law) for law in record["laws"]]
        self._refused = record["refused"]

    def law(self, key: Key, size: str) -> FittedLaw | None:
        """The law of a group in a measure of size; None where it was refused."""
        laws = find_laws(self._laws, size=size, **selected_of(key))
        return laws[0] if laws else None

    def needs(self, *of_law: Need) -> tuple[Need, ...]:
        """What would give a group its law: a common score, or else what the law itself needs."""
        return (need_reference(),) if self.column is None else of_law

    def refusal(self, key: Key, size: str) -> str:
        """Why a group has no law."""
        keys = {**selected_of(key), "size": size}
        return next(
            str(one["reason"])
            for one in self._refused
            if all(one["selected"][name] == value for name, value in keys.items())
        )


def scratch_differences(
    rows: pd.DataFrame, corpus_methods: Sequence[str], text: CommonText
) -> list[Answer]:
    """Exponents of distilled students against those trained from scratch on a corpus."""
    pairs = scratch_pairs(rows, corpus_methods)
    if not pairs:
        return [
            Answer(AGAINST_SCRATCH, {}, "cannot_tell", {"reason": "no_corpus"}, (need_corpus(),))
        ]
    return [_compared(AGAINST_SCRATCH, rows, one, other, text) for one, other in pairs]


def _compared(
    question: str, rows: pd.DataFrame, first: Key, second: Key, text: CommonText
) -> Answer:
    """Differences of the exponents of two groups."""
    keys = (first, second)
    numbers: dict[str, Any] = {
        "judged_on": text.column,
        "groups": [label_of(selected_of(key)) for key in keys],
        "formula": simplest("loss", "joint").formula,
        "points": [len(group_rows(rows, selected_of(key))) for key in keys],
    }
    laws = {size: [text.law(key, size) for key in keys] for size in MEASURES}
    pairs = {
        size: (one, other)
        for size, (one, other) in laws.items()
        if one is not None and other is not None
    }
    if not pairs:
        missing = next(key for key, law in zip(keys, laws["params"], strict=True) if law is None)
        numbers |= {
            "reason": "no_common_law",
            "of": {
                "group": label_of(selected_of(missing)),
                "refused": text.refusal(missing, "params"),
            },
        }
        about = about_group(selected_of(first))
        needs = text.needs(need_amounts(rows), need_students(rows))
        return Answer(question, about, "cannot_tell", numbers, needs)
    return compare_exponents(question, rows, first, pairs, numbers, bounded=False)


def curation_differences(rows: pd.DataFrame, text: CommonText) -> list[Answer]:
    """How much each curation shifts the exponents against raw data.

    Needs equal tokens, at least 5 sizes and 3 draws in both groups.
    """
    pairs = curation_pairs(rows)
    if not pairs:
        need = need_curation(CURATION_SIZES, CURATION_DRAWS)
        return [Answer(CURATION, {}, "cannot_tell", {"reason": "no_curation"}, (need,))]
    return [
        _lacking(rows, one, other) or _compared(CURATION, rows, one, other, text)
        for one, other in pairs
    ]


def _lacking(rows: pd.DataFrame, first: Key, second: Key) -> Answer | None:
    """The condition of the question of curation that two groups do not meet, if any."""
    groups = [group_rows(rows, selected_of(key)) for key in (first, second)]
    about = about_group(selected_of(first))

    def lacking(reason: str, present: int | None, need: Any) -> Answer:
        numbers = {"reason": reason, "present": present}
        return Answer(CURATION, about, "cannot_tell", numbers, (need,))

    for group in groups:
        if (sizes := group["params"].nunique()) < CURATION_SIZES:
            return lacking("few_sizes", sizes, need_students(group, CURATION_SIZES))
        if (draws := group["draw"].nunique()) < CURATION_DRAWS:
            return lacking("few_draws", draws, need_draws(group, CURATION_DRAWS))
    tokens = np.concatenate([group["tokens"].to_numpy(float) for group in groups])
    ranks, first_count = levels(tokens, "tokens"), len(groups[0])
    if set(ranks[:first_count]) != set(ranks[first_count:]):
        return lacking("unequal_tokens", None, need_curation(CURATION_SIZES, CURATION_DRAWS))
    return None
