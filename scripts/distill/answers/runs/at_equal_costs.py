"""Which method is better at equal seconds and at equal money.

As at equal FLOPs (`distill.answers.runs.at_equal_flops`), losses are interpolated between measured
sizes, never beyond them. Seconds are measured, so their spread between runs of a cell widens the
intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import record
from distill.answers.runs.at_equal_flops import compare_total
from distill.answers.runs.at_equal_samples import by_student
from distill.stats.intervals import Spread, number, pooled_spread, read_estimate
from distill.table.lines import Line, Settings, has_values, sort_out

METHODS_SECONDS = "Which method is better at equal seconds?"
METHODS_MONEY = "Which method is better at equal money?"


@dataclass(frozen=True)
class Total:
    """A total that methods are compared at: what it adds up, in words."""

    column: str
    words: str
    needs: tuple[str, ...]


SECONDS = (
    Total(
        "total_seconds",
        "all of the teacher's work counted",
        ("train_seconds", "teacher_seconds", "target_seconds"),
    ),
    Total(
        "total_seconds_amortised",
        "the teacher's work shared among the runs that use it",
        ("train_seconds", "teacher_seconds_amortised", "target_seconds_amortised"),
    ),
    Total("train_seconds", "training alone", ("train_seconds",)),
)
MONEY = (
    Total(
        "money",
        "the teacher's text paid by this run alone",
        ("tokens_unique", "train_seconds", "target_seconds"),
    ),
    Total(
        "money_amortised",
        "the teacher's text and soft targets shared among the runs that use them",
        (
            "tokens_unique", "train_seconds", "target_seconds_amortised",
            "teacher_flops", "teacher_flops_amortised",
        ),
    ),
)  # fmt: skip


def compare_at_equal_seconds(lines: list[Line], spread: Spread | None) -> list[dict[str, Any]]:
    """Compare every two methods (and caches) of a student at equal seconds.

    Args:
        lines: lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
    """
    if not any(has_values(line.runs, "train_seconds") for line in lines):
        return [
            record(
                METHODS_SECONDS,
                None,
                "Cannot tell, because the table has no train_seconds; needs seconds of training.",
                "Seconds are those of one machine, so they are measured where they are compared.",
                {"cannot_tell": True},
            )
        ]
    with_totals = [_with_seconds(line) for line in lines]
    return _compare_all(METHODS_SECONDS, with_totals, SECONDS, spread, "seconds", "")


def compare_at_equal_money(
    lines: list[Line], spread: Spread | None, settings: Settings
) -> list[dict[str, Any]]:
    """Compare every two methods (and caches) of a student at equal money.

    Money is the price of the text's unique tokens, none for a method that trains on a corpus, and
    that of the hours of training and of making soft targets.

    Args:
        lines: lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
        settings: `prices` {teacher_million_tokens, hour} and `corpus_methods`.
    """
    prices = settings.get("prices")
    if not prices:
        return [
            record(
                METHODS_MONEY,
                None,
                "Cannot tell, because no prices are stated; needs evaluate.prices with "
                "teacher_million_tokens (a million tokens that the teacher writes) and hour (an "
                "hour of this machine).",
                "Which method money favours depends on these two prices alone once FLOPs and "
                "seconds are measured.",
                {"prices": None},
            )
        ]
    corpus = set(settings.get("corpus_methods") or [])
    with_totals = [_with_money(line, prices, line.method in corpus) for line in lines]
    stated = (
        f"Prices: {number(prices['teacher_million_tokens'])} per million teacher tokens (of the "
        "training set, in the student's tokens; answers that were discarded are not in it) and "
        f"{number(prices['hour'])} per hour of training and of making soft targets on this "
        "machine. "
    )
    answers = _compare_all(METHODS_MONEY, with_totals, MONEY, spread, "money", stated)
    for answer in answers:
        answer["numbers"]["prices"] = dict(prices)
    return answers


def _column(line: Line, name: str) -> pd.Series:
    """Return a column as numbers; what a line without a cache pays for soft targets is 0."""
    if name not in line.runs:
        values = pd.Series(np.nan, index=line.runs.index)
    else:
        values = pd.to_numeric(line.runs[name], errors="coerce").astype(float)
    return values if line.reads_cache or not name.startswith("target_") else values.fillna(0.0)


def _with_seconds(line: Line) -> Line:
    totals = {
        total.column: sum(_column(line, name) for name in total.needs)
        for total in SECONDS
        if len(total.needs) > 1
    }
    return replace(line, runs=line.runs.assign(**totals))


def _with_money(line: Line, prices: Mapping[str, float], corpus: bool) -> Line:
    text = _column(line, "tokens_unique") * (
        0.0 if corpus else prices["teacher_million_tokens"] / 1e6
    )
    hourly = prices["hour"] / 3600
    train = _column(line, "train_seconds")
    alone, shared = _column(line, "teacher_flops"), _column(line, "teacher_flops_amortised")
    # Ready-made text costs no FLOPs; its tokens cannot be shared out by them.
    part = (shared / alone.where(alone > 0)) if not corpus else pd.Series(1.0, line.runs.index)
    totals = {
        "money": text + hourly * (train + _column(line, "target_seconds")),
        "money_amortised": text * part
        + hourly * (train + _column(line, "target_seconds_amortised")),
    }
    return replace(line, runs=line.runs.assign(**totals))


def _compare_all(
    question: str,
    lines: list[Line],
    totals: tuple[Total, ...],
    spread: Spread | None,
    unit: str,
    stated: str,
) -> list[dict[str, Any]]:
    blurs = {total.column: log_spread(lines, total.column) for total in totals}
    answers: list[dict[str, Any]] = []
    for part in sort_out(lines, "init", "group"):
        for group, names in by_student(part):
            if len(set(names)) < len(names):
                names = [line.label for line in group]
            untold: list[dict[str, Any]] = []
            for (one, first), (other, second) in combinations(zip(group, names, strict=True), 2):
                if one.method == other.method and one.cache != other.cache:
                    continue
                compared = (first, second)
                found = _pair(question, one, other, compared, totals, spread, blurs, unit)
                found["evidence"] = stated + found["evidence"]
                measured = any(x["points"] for x in found["numbers"]["totals"].values())
                (answers if measured else untold).append(found)
            answers += untold if len(untold) < 2 else [_nowhere(question, untold, unit)]
    if not answers:
        text = "Cannot tell, because every student has one method; needs two methods of one."
        answers.append(record(question, None, text, f"{len(lines)} lines.", {"compared": []}))
    return answers


def _nowhere(question: str, untold: list[dict[str, Any]], unit: str) -> dict[str, Any]:
    """Say in one answer which pairs of a student's methods cannot be compared at all."""
    reasons: dict[str, dict[str, None]] = {}
    for answer in untold:
        for total in answer["numbers"]["totals"].values():
            reason = total["verdict"].removeprefix("cannot tell, ")
            reasons.setdefault(reason, {})[answer["method"]] = None
    numbers = {"compared": [], "pairs": [answer["numbers"] for answer in untold]}
    text = (
        f"Cannot tell for {len(untold)} pairs of methods, because {'; '.join(reasons)}; needs two "
        f"or more sizes of each, over the same {unit}."
    )
    told = "; ".join(f"{why}: {', '.join(names)}" for why, names in reasons.items())
    found = record(question, None, text, f"{told[0].upper()}{told[1:]}.", numbers)
    keys = {name: untold[0][name] for name in ("teacher", "student")}
    return found | keys | {"label": untold[0]["student"]}


def log_spread(lines: list[Line], column: str) -> Spread | None:
    """Pool the spread of a column's logarithm between runs of a cell; None without repeats."""
    groups = []
    for line in lines:
        for _, values in line.by_size(column):
            found = values.dropna().to_numpy(float)
            if (found > 0).all():
                groups.append(np.log(found))
    return pooled_spread(groups)


def _amount(value: float, unit: str) -> str:
    return f"a cost of {number(value)}" if unit == "money" else f"{number(value)} {unit}"


def _pair(
    question: str,
    one: Line,
    other: Line,
    names: tuple[str, str],
    totals: tuple[Total, ...],
    spread: Spread | None,
    blurs: Mapping[str, Spread | None],
    unit: str,
) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for total in totals:
        lacking = [
            f"{name} of {line.label}"
            for line in (one, other)
            for name in total.needs
            if not has_values(line.runs, name) and (line.reads_cache or "target_" not in name)
        ]
        if lacking:
            verdict = f"cannot tell, the table lacks {' and '.join(lacking)}"
            found[total.column] = {
                "verdict": verdict, "better": None, "overlap": None, "points": [],
            }  # fmt: skip
            continue
        found[total.column] = compare_total(
            one, other, names, total.column, spread, unit, blurs[total.column]
        )
        for point in found[total.column]["points"]:
            point[unit] = point.pop("flops")
    answer = "; ".join(f"{total.words}: {found[total.column]['verdict']}" for total in totals) + "."
    told = [
        f"{total.words[0].upper()}{total.words[1:]}, the loss of {names[0]} minus that of "
        f"{names[1]} is "
        + ", ".join(
            f"{read_estimate(point, 'loss_difference').text('nats')} at "
            + _amount(point[unit], unit)
            for point in found[total.column]["points"]
        )
        + "."
        for total in totals
        if found[total.column]["points"]
    ]
    if told:
        told.append(
            "Losses are read off straight lines in log loss against the logarithm of "
            f"{unit}, between measured sizes."
        )
        told.append(
            "The spread of seconds between runs of a cell is in the intervals."
            if all(blurs[total.column] for total in totals)
            else "Seconds were measured once per size, so their own error is not in the intervals."
        )
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "totals": found,
        "log_sd": {name: blur.sd if blur else None for name, blur in blurs.items()},
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    out = record(question, one, answer[0].upper() + answer[1:], " ".join(told), numbers)
    return out | {"method": f"{names[0]} vs {names[1]}", "label": f"{one.label} or {other.label}"}
