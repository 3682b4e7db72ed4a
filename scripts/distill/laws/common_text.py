"""Laws of groups trained on different text, fitted to one score for all.

A teacher's own text favours students trained on it, so distilled students and students from
scratch, and curated and raw data, are compared on the fixed reference text. Without one they are
compared on the held-out text only if no teacher wrote it: that of a corpus, or of a user's table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import GROUP_KEYS, MEASURES
from distill.laws.choice import Fitter, Settings, lacks, too_rich
from distill.laws.forms import simplest
from distill.laws.intervals import coefficients, state_of
from distill.laws.points import commonest, levels, points_of, record_range
from distill.laws.runs import group_rows

Key = tuple[str, ...]
"""Values of `GROUP_KEYS`."""
UNCURATED = ("raw", "none", "")
"""Names of no curation."""


NO_COMMON_TEXT = "its runs have no loss on a text that no teacher wrote (evaluate.reference)"
"""Why a group of a study of prompts without a reference text has no law of a common score."""


def scored_on(rows: pd.DataFrame) -> str | None:
    """The column on which groups are compared.

    `reference` where every run has it. Else `loss`; None if the held-out text is a teacher's.
    """
    if "reference" in rows and np.isfinite(rows["reference"].to_numpy(dtype=float)).all():
        return "reference"
    of_prompts = "task" in rows and (rows["task"] == "instruction").any()
    return None if of_prompts else "loss"


def group_keys(rows: pd.DataFrame) -> list[Key]:
    """The groups of some runs, in order."""
    keys = rows[list(GROUP_KEYS)].astype(str).drop_duplicates()
    return [tuple(key) for key in keys.itertuples(index=False)]


def selected_of(key: Sequence[str]) -> dict[str, Any]:
    """What a group's key selects."""
    return dict(zip(GROUP_KEYS, key, strict=True))


def scratch_pairs(rows: pd.DataFrame, corpus_methods: Sequence[str]) -> list[tuple[Key, Key]]:
    """Pairs of groups, distilled and from scratch, with the same start and teacher, if any."""
    keys = [(key, selected_of(key)) for key in group_keys(rows)]
    return [
        (one, other)
        for one, distilled in keys
        for other, scratch in keys
        if distilled["method"] not in corpus_methods
        and scratch["method"] in corpus_methods
        and distilled["init"] == scratch["init"]
        and scratch["teacher"] in ("", distilled["teacher"])
    ]


def curation_pairs(rows: pd.DataFrame) -> list[tuple[Key, Key]]:
    """Pairs of groups, curated and raw, that are equal in all else."""
    place, keys = GROUP_KEYS.index("curation"), group_keys(rows)
    return [
        (one, other)
        for one in keys
        for other in keys
        if one[place] not in UNCURATED
        and other[place] in UNCURATED
        and one[:place] + one[place + 1 :] == other[:place] + other[place + 1 :]
    ]


def fit_on_common_text(
    rows: pd.DataFrame, corpus_methods: Sequence[str], settings: Settings, fitter: Fitter
) -> dict[str, Any]:
    """Fit the simplest law of size and data to every group that such a comparison needs.

    Args:
        rows: Points of laws.
        corpus_methods: Methods that train without a teacher.
        settings: How to fit.
        fitter: Fits a law to points.

    Returns:
        column (`scored_on`, null without one); laws: records with name, formula, selected, points,
        range, coefficients and state; refused: selected and reason.
    """
    pairs = [*scratch_pairs(rows, corpus_methods), *curation_pairs(rows)]
    column, laws, refused = scored_on(rows), [], []
    for key in dict.fromkeys(_flat(pairs)):
        for size in MEASURES:
            selected = {**selected_of(key), "student": None, "size": size}
            record = _fit(group_rows(rows, selected_of(key)), column, size, settings, fitter)
            if isinstance(record, str):
                refused.append({"selected": selected, "reason": record})
            else:
                laws.append({"selected": selected, **record})
    return {"column": column, "laws": laws, "refused": refused}


def _flat(pairs: Iterable[tuple[Key, Key]]) -> list[Key]:
    return [key for pair in pairs for key in pair]


def _fit(
    rows: pd.DataFrame, column: str | None, size: str, settings: Settings, fitter: Fitter
) -> dict[str, Any] | str:
    """A law of one group; the reason where its runs do not determine it."""
    if column is None:
        return NO_COMMON_TEXT
    law = simplest("loss", "joint")
    needed = rows[[size, "tokens", column]].to_numpy(dtype=float)
    scored = rows[(np.isfinite(needed) & (needed > 0)).all(axis=1)]
    if scored.empty:
        return f"no run has both {size} and a score"
    points = points_of(scored.assign(loss=scored[column]), "loss", size, settings.shared)
    epochs = points.values["epochs"]
    points = points.where(levels(epochs, "epochs") == commonest(epochs, "epochs"))
    if column == "reference":
        # The reference text's sampling noise is not in the table: intervals are for that text.
        points = replace(points, stderr=None)
    if reason := lacks(law, points) or too_rich(law, points):
        return reason
    fitted = fitter(law, points, settings)
    return {
        "name": law.name,
        "target": "loss",
        "best": False,
        "formula": law.formula,
        "points": len(points),
        "range": record_range(points, law.inputs),
        "coefficients": coefficients(law, fitted.fit, fitted.uncertainty),
        "state": state_of(fitted.fit, fitted.uncertainty),
    }
