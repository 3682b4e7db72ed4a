"""How FLOPs split between the teacher's inference and the student's training.

FLOPs are counted, not measured, so shares have no sampling error. At fixed epochs both parts grow
with the tokens alike, so the split says nothing about other scales unless epochs vary too.
"""

from typing import Any

import pandas as pd

from distill.answers.record import record
from distill.answers.runs.at_equal_samples import grouped
from distill.stats.intervals import number, span
from distill.table.lines import STEADY, Line, Settings, has_values

SPLIT = "How do FLOPs split between teacher inference and student training?"
SPLIT_SCALES = "Does the split of FLOPs hold at other scales?"
PARTS = ("train_flops", "teacher_flops", "target_flops")


def flops_split(lines: list[Line], settings: Settings) -> list[dict[str, Any]]:
    """Answer how FLOPs split, per method and cache, and what that says about other scales.

    Args:
        lines: lines of the runs table.
        settings: `corpus_methods` names the methods without a teacher.
    """
    corpus = set(settings.get("corpus_methods") or [])
    points: list[dict[str, Any]] = []
    answers = []
    for group in grouped(lines, ("teacher", "method", "cache")):
        found = [point for line in group for point in _points(line)]
        points += [] if group[0].method in corpus else found
        answers.append(_split(group, found, group[0].method in corpus))
    return [*answers, _scales(points)]


def _points(line: Line) -> list[dict[str, Any]]:
    """Return the teacher's share of FLOPs at each size of a line."""
    # Without a cache there are no soft targets to pay for, so a null there is 0.
    needed = PARTS if line.reads_cache else PARTS[:2]
    if not all(has_values(line.runs, column) for column in needed):
        return []
    table = pd.DataFrame(
        {
            column: pd.to_numeric(line.runs[column], errors="coerce")
            for name in PARTS
            for column in (name, f"{name}_amortised")
            if column in line.runs
        }
    )
    for suffix in ("", "_amortised"):
        column = f"target_flops{suffix}"
        table[column] = table[column].fillna(0.0) if column in table else 0.0
    table["samples"] = line.runs["samples"]
    out = []
    for samples, cell in table.groupby("samples"):
        means = cell.mean()
        runs = line.runs[line.runs["samples"] == samples]
        point: dict[str, Any] = {
            "label": line.label,
            "student": line.student,
            "cache": line.cache,
            "samples": int(str(samples)),
            "params": _mean(runs, "params"),
            "tokens_unique": _mean(runs, "tokens_unique"),
            "epochs": _mean(runs, "epochs"),
        }
        for name, suffix in (("marginal", ""), ("amortised", "_amortised")):
            own = means.get(f"teacher_flops{suffix}", float("nan")) + means[f"target_flops{suffix}"]
            total = own + means["train_flops"]
            # The shares need both parts; a table without amortised costs has the marginal alone.
            share = own / total if total > 0 else float("nan")
            point[name] = None if pd.isna(share) else float(share)
        out.append(point)
    return out


def _mean(runs: pd.DataFrame, column: str) -> float | None:
    return float(pd.to_numeric(runs[column]).mean()) if has_values(runs, column) else None


def _split(group: list[Line], points: list[dict[str, Any]], corpus: bool) -> dict[str, Any]:
    line = group[0]
    largest = {point["student"]: point for point in points}
    numbers: dict[str, Any] = {"points": points}
    for name in ("marginal", "amortised"):
        shares = [point[name] for point in largest.values() if point[name] is not None]
        numbers[f"teacher_share_{name}"] = [min(shares), max(shares)] if shares else None
    if corpus:
        answer = "No teacher works for this method: all FLOPs are the student's training."
        evidence = "It trains on a corpus."
    elif numbers["teacher_share_marginal"] is None:
        answer = "Cannot tell: FLOPs of the teacher or of training are not in the table."
        evidence = f"Needs the columns {', '.join(PARTS)}."
    else:
        told = [
            f"{_shares(point[name] for point in largest.values())} {words}"
            for name, words in (
                ("marginal", "for a run that pays for all of the teacher's work"),
                ("amortised", "where that is shared among the runs that use it"),
            )
            if numbers[f"teacher_share_{name}"] is not None
        ]
        answer = f"Of all FLOPs the teacher's inference takes {', '.join(told)}; the rest trains."
        evidence = (
            "Counted, so without an error bar, at the largest size of "
            f"{len(largest)} {'student' if len(largest) == 1 else 'students'}: "
            + "; ".join(
                f"{name}, n = {point['samples']:,}, {number(point['epochs'])} epochs: "
                f"{_percent(point['marginal'])} / {_percent(point['amortised'])}"
                for name, point in largest.items()
            )
            + ". Sharing depends on how many runs this study has."
        )
    found = record(SPLIT, line, answer, evidence, numbers)
    students = {one.student for one in group}
    cache = f" · {line.cache}" if line.reads_cache else ""
    whom = line.student if len(students) == 1 else None
    return found | {"student": whom, "label": f"{line.method}{cache}"}


def _shares(values: Any) -> str:
    return f"{span(100 * value for value in values if value is not None)} %"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{number(100 * share, 2)} %"


def _scales(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Say how the share moves with tokens and with epochs, where both were varied."""
    known = [p for p in points if None not in (p["marginal"], p["epochs"], p["tokens_unique"])]
    by_tokens = _changes(known, "tokens_unique", "epochs")
    by_epochs = _changes(known, "epochs", "tokens_unique")
    numbers = {"by_tokens": by_tokens, "by_epochs": by_epochs}
    lacking = [
        words for words, found in (("unique tokens", by_tokens), ("epochs", by_epochs)) if not found
    ]
    if lacking:
        return record(
            SPLIT_SCALES,
            None,
            f"Cannot tell, because {' and '.join(lacking)} did not vary on their own; needs runs "
            "of one student that differ in unique tokens at equal epochs and in epochs at equal "
            "unique tokens.",
            "At fixed epochs the teacher's and the student's FLOPs both grow with the tokens, so "
            "their ratio is a choice of the study rather than a law.",
            numbers,
        )
    tokens, epochs = (max(x, key=lambda c: c["factor"]) for x in (by_tokens, by_epochs))
    answer = (
        f"The teacher's share goes from {_percent(tokens['from_share'])} to "
        f"{_percent(tokens['to_share'])} over {number(tokens['factor'])} × the unique tokens, and "
        f"from {_percent(epochs['from_share'])} to {_percent(epochs['to_share'])} over "
        f"{number(epochs['factor'])} × the epochs ({number(epochs['from'])} to "
        f"{number(epochs['to'])}): "
    )
    moved = abs(epochs["to_share"] - epochs["from_share"])
    answer += (
        "no one split holds at all scales."
        if max(moved, abs(tokens["to_share"] - tokens["from_share"])) > 0.05
        else "it hardly moves within these ranges."
    )
    evidence = (
        f"All of the teacher's work counted. Pairs of cells of one student that differ in unique "
        f"tokens alone: {len(by_tokens)}; in epochs alone: {len(by_epochs)}. The widest of each "
        f"are told ({tokens['label']}; {epochs['label']})."
    )
    return record(SPLIT_SCALES, None, answer, evidence, numbers)


def _changes(points: list[dict[str, Any]], varied: str, fixed: str) -> list[dict[str, Any]]:
    """Return the widest change per student and value of `fixed` over at least 1.5 × `varied`."""
    out = []
    left = sorted(points, key=lambda p: (p["student"], p["cache"], p[fixed]))
    while left:
        first = left[0]
        cell = [
            p
            for p in left
            if (p["student"], p["cache"]) == (first["student"], first["cache"])
            and p[fixed] <= STEADY * first[fixed]
        ]
        left = left[len(cell) :]
        low, high = (pick(cell, key=lambda p: p[varied]) for pick in (min, max))
        if high[varied] >= 1.5 * low[varied]:
            out.append(
                {
                    "label": high["label"],
                    "from": low[varied],
                    "to": high[varied],
                    "factor": high[varied] / low[varied],
                    "at": first[fixed],
                    "from_share": low["marginal"],
                    "to_share": high["marginal"],
                }
            )
    return out
