"""What curation changes at equal tokens: the loss on held-out and on reference text."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need
from distill.answers.curated import EQUAL, curated_pairs, curations_of, tokens_equal
from distill.answers.interpolated import compare_total
from distill.answers.measured import Measured
from distill.answers.needs import need_precision, smallest
from distill.answers.paired import about_pair, better_of
from distill.stats.intervals import Spread, estimate, pooled_spread, read_estimate
from distill.table.lines import Line, Run, has_values, pooled_over

KEY = "curation_effect"
TEXTS = ("loss", "reference_loss")
"""The loss on held-out text, the teacher's as it came, and on reference text, no teacher's."""


def answer(study: Measured) -> list[Answer]:
    """Compare every curation with raw, all else equal, on held-out and on reference text.

    Runs with the same samples, draw and seed are subtracted from each other where their unique
    tokens are equal; else the losses are interpolated between sizes at equal unique tokens.
    """
    lines = study.parts
    pairs = curated_pairs(lines)
    if not pairs:
        curations = curations_of(lines)
        to_add = ["raw", next((name for name in curations if name != "raw"), None)]
        need = Need("curation_beside_raw", 2, len(curations), {"runs[].curations": to_add})
        numbers = {"pairs": 0, "curations": curations}
        return [Answer(KEY, {}, "cannot_tell", numbers, (need,))]
    spreads = {
        column: pooled_over(lines, column)
        for column in TEXTS
        if any(has_values(line.runs, column) for line in lines)
    }
    return [_effect(one, other, spreads) for one, other in pairs]


def _effect(one: Line, other: Line, spreads: dict[str, Spread | None]) -> Answer:
    names = ("raw", other.curation)
    equal = tokens_equal(one, other)
    texts: dict[str, Any] = {}
    for column in TEXTS:
        missing = [line.label for line in (one, other) if not has_values(line.runs, column)]
        if missing:
            lacking = [{"column": column, "label": label} for label in missing]
            texts[column] = {"verdict": "column_missing", "points": [], "lacking": lacking}
        elif equal:
            texts[column] = _paired(one, other, names, column, equal)
        else:
            texts[column] = _interpolated(one, other, names, column, spreads.get(column))
    numbers = {
        "compared": [one.label, other.label],
        "curation": other.curation,
        "pairs": len(equal),
        "largest_token_difference": EQUAL,
        "texts": texts,
    }
    about = about_pair(other, one)
    if any(text.get("better") for text in texts.values()):
        return Answer(KEY, about, "answered", numbers)
    needs = smallest(
        need_precision(
            read_estimate(text["points"][0], "loss_difference"), text["points"][0].get("pairs", 1)
        )
        if text["points"]
        else Need("column", [column])
        for column, text in texts.items()
    )
    return Answer(KEY, about, "cannot_tell", numbers, needs)


def _paired(
    one: Line, other: Line, names: tuple[str, str], column: str, tokens: dict[Run, float]
) -> dict[str, Any]:
    """Subtract runs from each other; points from the largest size down, and the mean of all."""
    left, right = one.by_run(column), other.by_run(column)
    by_size: dict[int, list[Run]] = {}
    for run in tokens:
        if run in left and run in right:
            by_size.setdefault(int(run[0]), []).append(run)
    values = {n: [left[run] - right[run] for run in runs] for n, runs in by_size.items()}
    spread = pooled_spread(values.values())
    points = []
    for samples in sorted(values, reverse=True):
        gains = values[samples]
        difference = estimate(math.fsum(gains) / len(gains), 1 / len(gains), spread)
        point: dict[str, Any] = {
            "samples": samples,
            "pairs": len(gains),
            "tokens": float(np.mean([tokens[run] for run in by_size[samples]])),
            "better": better_of(difference, names),
        }
        points.append(point | difference.numbers("loss_difference"))
    if not points:
        return {"verdict": "no_pairs", "points": []}
    better, tested = points[0]["better"], points[0]["loss_difference_stderr"] is not None
    verdict = "better" if better else "within_noise" if tested else "no_error_bar"
    return {"verdict": verdict, "better": better, "points": points}


def _interpolated(
    one: Line, other: Line, names: tuple[str, str], column: str, spread: Spread | None
) -> dict[str, Any]:
    raw, curated = (
        replace(line, runs=line.runs.assign(loss=pd.to_numeric(line.runs[column])))
        for line in (one, other)
    )
    text = compare_total(raw, curated, names, "tokens_unique", spread)
    for point in text["points"]:
        point["tokens"] = point.pop("flops")
    return text
