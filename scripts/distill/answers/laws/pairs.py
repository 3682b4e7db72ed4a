"""Groups of runs that learned from different text: laws fitted to one judge, and their differences.

Distilled students against students from scratch, and curated data against raw: a teacher's own text
favours those who learned from it, so these are compared on the fixed reference text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.laws.exponents import told_differences
from distill.answers.record import cannot_tell
from distill.laws.choice import Settings, fit_points, too_rich
from distill.laws.curves import (
    GROUP_KEYS,
    SIZE_NAMES,
    SIZE_RANGE,
    Curve,
    coefficient_difference,
    curve_of_fit,
    label_of,
    selected_of,
)
from distill.laws.forms import LAWS
from distill.laws.points import distinct, levels, points_of
from distill.stats.intervals import number

AGAINST_SCRATCH = "Does distillation change the exponents, against training from scratch?"
CURATION = "Does curation shift the exponent in size?"
_CURATION_SIZES, _CURATION_DRAWS = 5, 3
RAW = ("raw", "none", "")
"""Names of no curation."""
NO_CORPUS = (
    "an independent corpus: a method that trains without a teacher on text that the teacher did "
    "not write (`corpus`), at the same sizes of student"
)


def refit(
    rows: pd.DataFrame, column: str, size: str, settings: Settings, name: str = "chinchilla"
) -> Curve | str:
    """Fit a law to a column of some runs; the reason in words where they do not determine it.

    Args:
        rows: Runs as points of laws.
        column: loss, gap or reference.
        size: The measure of size.
        settings: How to fit.
        name: Of the law.
    """
    law = LAWS["loss"][name]
    needed = rows[[size, "tokens", column]].to_numpy(dtype=float)
    kept = rows[(np.isfinite(needed) & (needed > 0)).all(axis=1)]
    if kept.empty:
        return f"no run has both {size} and a score"
    points = points_of(kept.assign(loss=kept[column]), "loss", size, settings.shared)
    points = points.where(levels(points.values["epochs"], "epochs") == _commonest(points.values))
    if column == "reference":
        # The reference text's sampling noise is not in the table: intervals are for that text.
        points = replace(points, stderr=None)
    if "params" in law.inputs and distinct(points, "params") < 3:
        return "there are fewer than 3 sizes of student"
    reason = too_rich(law, points)
    return reason if reason else curve_of_fit(fit_points(law, points, settings), points)


def _commonest(values: Mapping[str, Any]) -> int:
    return int(np.bincount(levels(values["epochs"], "epochs")).argmax())


def scored_on(rows: pd.DataFrame) -> tuple[str, str]:
    """The column on which groups with different training text are compared, and its name.

    A teacher's own text favours those who learned from it: the fixed reference text where there is
    one, else the table's loss.
    """
    if np.isfinite(rows["reference"].to_numpy(dtype=float)).all():
        return "reference", "the fixed reference text"
    return "loss", "the table's loss, taken to be on one text for all"


def scratch_pairs(
    rows: pd.DataFrame, corpus_methods: Sequence[str]
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Pairs of groups, distilled and from scratch, with the same start, judge and curation."""
    keys = _keys(rows)
    pairs = []
    for one in keys:
        for other in keys:
            a, b = selected_of(one), selected_of(other)
            if (
                a["method"] not in corpus_methods
                and b["method"] in corpus_methods
                and a["init"] == b["init"]
                and (b["teacher"] in ("", a["teacher"]))
            ):
                pairs.append((one, other))
    return pairs


def scratch_differences(
    rows: pd.DataFrame, corpus_methods: Sequence[str], settings: Settings
) -> list[dict[str, Any]]:
    """Exponents of distilled students against those trained from scratch on a corpus."""
    pairs = scratch_pairs(rows, corpus_methods)
    if not pairs:
        return [cannot_tell(AGAINST_SCRATCH, None, "no run was trained on a corpus that the "
                            "teacher did not write", NO_CORPUS)]  # fmt: skip
    column, text = scored_on(rows)
    return [_refitted(AGAINST_SCRATCH, rows, a, b, column, text, settings) for a, b in pairs]


def of_group(rows: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The runs of a group."""
    keep = np.ones(len(rows), dtype=bool)
    for name, value in zip(GROUP_KEYS, key, strict=True):
        keep &= (rows[name].astype(str) == value).to_numpy()
    return rows[keep]


def _refitted(
    question: str,
    rows: pd.DataFrame,
    first: tuple[str, ...],
    second: tuple[str, ...],
    column: str,
    text: str,
    settings: Settings,
) -> dict[str, Any]:
    """Differences of exponents of two groups whose laws are fitted here, to one column."""
    names = [label_of(selected_of(key)) for key in (first, second)]
    values, doubts, needs, counts = {}, [], [], []
    for size in SIZE_NAMES:
        curves = []
        for key in (first, second):
            found = refit(of_group(rows, key), column, size, settings)
            if isinstance(found, str):
                if size == "params":
                    doubts.append(f"law: {found} ({label_of(selected_of(key))})")
                    needs.append("at least 3 sizes of student at several amounts of data for both")
                continue
            curves.append(found)
        if len(curves) < 2:
            continue
        values[f"alpha_{size}"] = coefficient_difference(curves[0], curves[1], "alpha")
        values.setdefault("beta", coefficient_difference(curves[0], curves[1], "beta"))
        for curve in curves:
            low, high = curve.range["params"]
            if high / low < SIZE_RANGE:
                doubts.append(f"alpha: sizes span a factor of {number(high / low)}")
                needs.append(f"students over a factor of {SIZE_RANGE:.0f} in size")
    counts = [len(of_group(rows, key)) for key in (first, second)]
    evidence = (
        f"{LAWS['loss']['chinchilla'].formula} fitted to both, judged on {text}; {counts[0]} and "
        f"{counts[1]} runs, taken as independent."
    )
    return told_differences(
        question, first, names, values, doubts, needs, evidence, {"judged_on": column}
    )


def curation_differences(rows: pd.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """How much each curation shifts the exponents against raw data.

    Needs equal tokens, at least 5 sizes and 3 draws in both groups.
    """
    keys = _keys(rows)
    place = GROUP_KEYS.index("curation")
    pairs = [
        (one, other)
        for one in keys
        for other in keys
        if one[place] not in RAW
        and other[place] in RAW
        and one[:place] + one[place + 1 :] == other[:place] + other[place + 1 :]
    ]
    needs = (
        f"a curated and a raw group at equal tokens, with at least {_CURATION_SIZES} sizes and "
        f"{_CURATION_DRAWS} draws each"
    )
    if not pairs:
        return [cannot_tell(CURATION, None, "no curation was run beside raw data", needs)]
    column, text = scored_on(rows)
    answers = []
    for one, other in pairs:
        lacking = _lacking(of_group(rows, one), of_group(rows, other))
        if lacking:
            answers.append(cannot_tell(CURATION, selected_of(one), lacking, needs))
        else:
            answers.append(_refitted(CURATION, rows, one, other, column, text, settings))
    return answers


def _lacking(one: pd.DataFrame, other: pd.DataFrame) -> str | None:
    """Which condition of the question of curation two groups do not meet."""
    for rows in (one, other):
        if (sizes := rows["params"].nunique()) < _CURATION_SIZES:
            return f"a group has {sizes} sizes of student, fewer than {_CURATION_SIZES}"
        if (draws := rows["draw"].nunique()) < _CURATION_DRAWS:
            return f"a group has {draws} draws, fewer than {_CURATION_DRAWS}"
    both = np.concatenate([one["tokens"].to_numpy(float), other["tokens"].to_numpy(float)])
    ranks = levels(both, "tokens")
    if set(ranks[: len(one)]) != set(ranks[len(one) :]):
        return "the two groups were not trained on equal tokens"
    return None


def _keys(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """The groups of some runs, in order."""
    distinct_rows = rows[list(GROUP_KEYS)].astype(str).drop_duplicates()
    return [tuple(key) for key in distinct_rows.itertuples(index=False)]
