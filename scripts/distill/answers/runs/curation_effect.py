"""What curation changes at equal tokens: the loss on two texts, and an exponent."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import record
from distill.answers.runs.at_equal_flops import compare_total
from distill.answers.runs.at_equal_samples import better_of
from distill.stats.intervals import (
    Estimate,
    Spread,
    estimate,
    mean_estimate,
    number,
    pooled_spread,
    read_estimate,
)
from distill.table.lines import RAW, Line, Run, alike, has_values, pooled_over

CURATION = "What does curation change at equal tokens?"
CURATION_EXPONENT = "Does curation change an exponent?"
TEXTS = {"loss": "held-out text", "reference_loss": "reference text"}
EQUAL = 0.02
"""Largest relative difference of unique tokens that counts as equal."""
FEWEST_SIZES, FEWEST_DRAWS = 5, 3


def curation_effect(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare every curation with raw, all else equal, on held-out and on reference text.

    Runs with the same samples, draw and seed are subtracted from each other where their unique
    tokens are equal; else the losses are read off between sizes at equal unique tokens.
    """
    pairs = [
        (one, other)
        for one in lines
        if one.curation in RAW
        for other in lines
        if other.curation not in RAW
        and one.method == other.method
        and alike(one, other, "curation")
    ]
    if not pairs:
        found = sorted({"raw" if line.curation in RAW else line.curation for line in lines})
        why = (
            f"every run trained on {' or '.join(found)}"
            if len(found) == 1
            else "no curated run has a raw partner of the same student and method"
        )
        text = f"Cannot tell, because {why}; needs a curation and raw runs beside it, all else "
        return [
            record(question, None, text + extra, f"Curations: {', '.join(found)}.", {"pairs": 0})
            for question, extra in (
                (CURATION, "equal."),
                (
                    CURATION_EXPONENT,
                    f"equal, at {FEWEST_SIZES} sizes or more and {FEWEST_DRAWS} draws or more.",
                ),
            )
        ]
    spreads = {column: pooled_over(lines, column) for column in TEXTS if _known(lines, column)}
    return [
        *(_effect(one, other, spreads) for one, other in pairs),
        *_exponents(pairs),
    ]


def _known(lines: list[Line], column: str) -> bool:
    return any(has_values(line.runs, column) for line in lines)


def _tokens_equal(one: Line, other: Line) -> dict[Run, float]:
    """Return the unique tokens of the paired runs whose tokens are equal."""
    if not all(has_values(line.runs, "tokens_unique") for line in (one, other)):
        return {}
    left, right = one.by_run("tokens_unique"), other.by_run("tokens_unique")
    return {
        run: math.sqrt(left[run] * right[run])
        for run in left
        if run in right and min(left[run], right[run]) > 0
        and abs(math.log(left[run] / right[run])) <= EQUAL
    }  # fmt: skip


def _effect(one: Line, other: Line, spreads: dict[str, Spread | None]) -> dict[str, Any]:
    names = ("raw", other.curation)
    equal = _tokens_equal(one, other)
    texts: dict[str, Any] = {}
    for column in TEXTS:
        if not all(has_values(line.runs, column) for line in (one, other)):
            texts[column] = {"verdict": f"cannot tell, column {column} is missing", "points": []}
        elif equal:
            texts[column] = _paired(one, other, names, column, equal)
        else:
            texts[column] = _read_off(one, other, names, column, spreads.get(column))
    answer = "; ".join(f"{words}: {texts[column]['verdict']}" for column, words in TEXTS.items())
    told = []
    for column, words in TEXTS.items():
        for point in texts[column]["points"][:1]:
            found = read_estimate(point, "loss_difference")
            told.append(
                f"On {words} the loss of raw minus that of {other.curation} is "
                f"{found.text('nats')} at {number(point['tokens'])} unique tokens."
            )
    how = (
        f"{len(equal)} pairs of runs with the same samples, draw and seed, whose unique tokens "
        f"differ by at most {100 * EQUAL:g} %."
        if equal
        else "No pair of runs has equal tokens, so losses are read off between measured sizes."
    )
    how += " Held-out text is the teacher's as it came; the reference text is no teacher's."
    numbers = {
        "compared": [one.label, other.label],
        "curation": other.curation,
        "pairs": len(equal),
        "texts": texts,
    }
    found_record = record(
        CURATION, other, answer[0].upper() + answer[1:] + ".", " ".join([*told, how]), numbers
    )
    return found_record | {"label": f"{other.label} or {one.label}"}


def _verdict(difference: Estimate, names: tuple[str, str]) -> str:
    if better := better_of(difference, names):
        return f"{better} is better"
    if not difference.tested:
        return "cannot tell, no error bar"
    return "cannot tell, the difference is within the noise"


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
        found = values[samples]
        difference = estimate(math.fsum(found) / len(found), 1 / len(found), spread)
        point: dict[str, Any] = {
            "samples": samples,
            "pairs": len(found),
            "tokens": float(np.mean([tokens[run] for run in by_size[samples]])),
            "better": better_of(difference, names),
        }
        points.append(point | difference.numbers("loss_difference"))
    if not points:
        return {"verdict": "cannot tell, no paired runs have it", "points": []}
    top = read_estimate(points[0], "loss_difference")
    return {"verdict": _verdict(top, names), "better": better_of(top, names), "points": points}


def _read_off(
    one: Line, other: Line, names: tuple[str, str], column: str, spread: Spread | None
) -> dict[str, Any]:
    raw, curated = (
        replace(line, runs=line.runs.assign(loss=pd.to_numeric(line.runs[column])))
        for line in (one, other)
    )
    found = compare_total(raw, curated, names, "tokens_unique", spread, "unique tokens")
    for point in found["points"]:
        point["tokens"] = point.pop("flops")
    return found


def _exponents(pairs: list[tuple[Line, Line]]) -> list[dict[str, Any]]:
    """Answer for each curation and method whether exponents in size and in data differ from raw.

    An exponent here is the slope of log gap against log size on the sizes measured, the gap being
    kl_teacher. Each draw gives one difference of slopes, from paired runs at equal tokens; draws
    are the repeats that the interval comes from.
    """
    answers = []
    groups: dict[tuple[str, ...], list[tuple[Line, Line]]] = {}
    for one, other in pairs:
        key = (one.teacher, one.method, one.cache, other.curation)
        groups.setdefault(key, []).append((one, other))
    for found in groups.values():
        answers.append(_exponent_in_size(found))
        answers += [_exponent_in_data(one, other) for one, other in found]
    return answers


def _log_ratios(one: Line, other: Line) -> dict[Run, float]:
    """Return log gap(curated) − log gap(raw) of paired runs at equal tokens."""
    if not all(has_values(line.runs, "kl_teacher") for line in (one, other)):
        return {}
    left, right = one.by_run("kl_teacher"), other.by_run("kl_teacher")
    return {
        run: math.log(right[run] / left[run])
        for run in _tokens_equal(one, other)
        if run in left and run in right and min(left[run], right[run]) > 0
    }


def _exponent_in_size(pairs: list[tuple[Line, Line]]) -> dict[str, Any]:
    """Compare exponents in the student's size at each number of samples; tell the best covered."""
    cells: dict[int, dict[Any, list[tuple[float, float]]]] = {}
    for one, other in pairs:
        if not has_values(one.runs, "params"):
            continue
        size = float(pd.to_numeric(one.runs["params"]).mean())
        for run, ratio in _log_ratios(one, other).items():
            cells.setdefault(int(run[0]), {}).setdefault(run[1:], []).append((size, ratio))
    found = {n: _slopes(draws) for n, draws in cells.items()}
    covered = {n: len({size for draw in cells[n].values() for size, _ in draw}) for n in cells}
    usable = [n for n in found if len(found[n]) >= FEWEST_DRAWS]
    best = max(usable, default=None)
    have = (max(covered.values(), default=0), max((len(d) for d in cells.values()), default=0))
    slopes = found[best] if best is not None else []
    where = f"n = {best:,}" if best is not None else ""
    out = _shift(pairs[0], slopes, "the student's size", where, "sizes of student", have)
    return out | {"student": None, "label": f"{pairs[0][1].method} · {pairs[0][1].curation}"}


def _exponent_in_data(one: Line, other: Line) -> dict[str, Any]:
    tokens = _tokens_equal(one, other)
    draws: dict[Any, list[tuple[float, float]]] = {}
    for run, ratio in _log_ratios(one, other).items():
        draws.setdefault(run[1:], []).append((tokens[run], ratio))
    slopes = _slopes(draws)
    have = (max((len(points) for points in draws.values()), default=0), len(draws))
    out = _shift((one, other), slopes, "the unique tokens", "", "sizes of data", have)
    return out | {"label": f"{other.label} or {one.label}"}


def _slopes(draws: dict[Any, list[tuple[float, float]]]) -> list[float]:
    """Return raw's exponent minus the curated one for each draw with enough distinct sizes.

    gap ∝ size^−α: the slope of log(gap curated / gap raw) against log size is α raw − α curated.
    Seeds of a draw are averaged: they are not repeats of the data.
    """
    found: dict[Any, list[float]] = {}
    for key, points in draws.items():
        if len({size for size, _ in points}) >= FEWEST_SIZES:
            x, y = np.log([p[0] for p in points]), np.array([p[1] for p in points])
            x = x - x.mean()
            found.setdefault(key[0], []).append(float((x * y).sum() / (x**2).sum()))
    return [math.fsum(values) / len(values) for values in found.values()]


def _shift(
    pair: tuple[Line, Line],
    slopes: list[float],
    axis: str,
    where: str,
    sizes: str,
    have: tuple[int, int],
) -> dict[str, Any]:
    curation = pair[1].curation
    numbers: dict[str, Any] = {
        "curation": curation,
        "axis": axis,
        "draws": len(slopes),
        "sizes": have[0],
    }
    if len(slopes) < FEWEST_DRAWS:
        lacks = " and no gap to the teacher" if not has_values(pair[1].runs, "kl_teacher") else ""
        return record(
            CURATION_EXPONENT,
            pair[1],
            f"Cannot tell for the exponent in {axis}, because there are at most {have[0]} {sizes} "
            f"and {have[1]} draws at equal tokens{lacks}; needs {FEWEST_SIZES} or more sizes, each "
            f"with {FEWEST_DRAWS} or more draws.",
            f"Pairs of {curation} and raw runs with the same samples, draw and seed and unique "
            f"tokens within {100 * EQUAL:g} %.",
            numbers,
        )
    # Slopes are raw's exponent minus the curated one; told is curated minus raw.
    shift = mean_estimate([-slope for slope in slopes])
    numbers |= shift.numbers("exponent_shift")
    word = {1: "larger", -1: "smaller", 0: ""}[shift.sign]
    at = f" at {where}" if where else ""
    if word:
        answer = f"Yes: with {curation} the exponent in {axis}{at} is {word} than raw's, by "
        value = shift if shift.value > 0 else Estimate(
            -shift.value, shift.stderr, -(shift.high or 0.0), -(shift.low or 0.0)
        )  # fmt: skip
        answer += f"{value.text()}."
    else:
        answer = (
            f"Cannot tell for the exponent in {axis}{at}: with {curation} minus raw it is "
            f"{shift.text()}, within the noise."
        )
    evidence = (
        f"Slopes of the logarithm of the gap to the teacher over {have[0]} {sizes}, from runs "
        f"paired at equal tokens; {len(slopes)} draws are the repeats. A slope on the sizes "
        "measured, not a fitted law."
    )
    return record(CURATION_EXPONENT, pair[1], answer, evidence, numbers)
