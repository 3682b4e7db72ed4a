"""Which student and which method is better at equal samples, run by run.

Lines are compared where they share all else. Runs with the same draw and seed are subtracted from
each other first, which takes out the noise that they share. Intervals are 90 %, each for itself: of
many comparisons some are clear by chance.
"""

import math
from itertools import pairwise
from typing import Any

from distill.answers.record import record
from distill.stats.intervals import (
    Estimate,
    estimate,
    number,
    pooled_spread,
    read_estimate,
    sizes_text,
    span,
)
from distill.table.lines import Line, Run, mean_of

STUDENTS = "Which student is better?"
METHODS = "Which method is better at equal samples?"


def compare_students(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare each student with the next larger one, all else equal."""
    answers = []
    for group in grouped(lines, ("teacher", "curation", "method", "cache")):
        ordered = sorted(group, key=lambda line: mean_of(line.runs, "params") or 0.0)
        for one, other in pairwise(ordered):
            found = _compare(STUDENTS, one, other, (one.student, other.student))
            if found is None:
                continue
            found["evidence"] += _explanation(one, other)
            found["student"] = f"{one.student} vs {other.student}"
            answers.append(found)
    return answers


def compare_methods(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare each method and cache of a student with its first method without a cache.

    Where every method reads a cache, with the first of them.
    """
    answers = []
    for group, names in by_student(lines):
        for other, name in zip(group[1:], names[1:], strict=True):
            found = _compare(METHODS, group[0], other, (names[0], name))
            if found is None:
                continue
            found["evidence"] += (
                "Equal samples are not equal work: compare FLOPs and seconds before choosing."
            )
            found["method"] = f"{names[0]} vs {name}"
            answers.append(found)
    return answers


def grouped(lines: list[Line], shared: tuple[str, ...]) -> list[list[Line]]:
    """Return the groups of lines that agree in the attributes `shared`."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(getattr(line, name) for name in shared), []).append(line)
    return list(groups.values())


def by_student(lines: list[Line]) -> list[tuple[list[Line], list[str]]]:
    """Return the lines of each student and their names, the line to compare with first.

    A line is named by its method, and by its cache where the method has several.
    """
    out = []
    for group in grouped(lines, ("teacher", "curation", "student")):
        first = next((line for line in group if not line.reads_cache), group[0])
        ordered = [first, *(line for line in group if line is not first)]
        methods = [line.method for line in ordered]
        names = [
            f"{line.method} · {line.cache}"
            if methods.count(line.method) > 1 and line.reads_cache
            else line.method
            for line in ordered
        ]
        out.append((ordered, names))
    return out


def paired(one: Line, other: Line, column: str) -> dict[Run, tuple[float, float]]:
    """Return a column of two lines side by side, for the runs with equal samples, draw and seed."""
    left, right = one.by_run(column), other.by_run(column)
    return {run: (left[run], right[run]) for run in left if run in right}


def loss_differences(one: Line, other: Line) -> dict[int, list[float]]:
    """Return loss(one) − loss(other) of paired runs by sample count, smallest first."""
    found: dict[int, list[float]] = {}
    for run, (left, right) in paired(one, other, "loss").items():
        found.setdefault(int(run[0]), []).append(left - right)
    return found


def _compare(
    question: str, one: Line, other: Line, names: tuple[str, str]
) -> dict[str, Any] | None:
    """Compare the losses of two lines at each size, run by run where draw and seed agree.

    The difference d = loss(one) − loss(other) at a size has the interval mean(d) ± t · sd/√pairs,
    sd pooled over the sizes. A line leads from a size on if the interval says so there and at every
    larger size.
    """
    differences = loss_differences(one, other)
    if not differences:
        return None
    spread = pooled_spread(differences.values())
    steps: list[dict[str, Any]] = []
    for size, values in differences.items():
        difference = estimate(math.fsum(values) / len(values), 1 / len(values), spread)
        steps.append(
            {"samples": size, "runs": len(values), "better": better_of(difference, names)}
            | difference.numbers("loss_difference")
        )
    last = steps[-1]
    difference = read_estimate(last, "loss_difference")
    text = (
        f"At n = {last['samples']:,} the loss of {names[0]} minus that of {names[1]} is "
        f"{difference.text('nats')}; runs with the same draw and seed are compared with each other"
    )
    text += (
        f", their spread pooled over {spread.cells} sizes. "
        if spread
        else "; no size has two such pairs, so nothing here is tested against noise. "
    )
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "differences": steps,
        "better_from": _leads_from(steps),
        "params": [mean_of(one.runs, "params"), mean_of(other.runs, "params")],
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    found = record(question, one, _who_is_better(steps, names), text, numbers)
    found["label"] = f"{one.label} or {other.label}"
    return found


def better_of(difference: Estimate, names: tuple[str, str]) -> str | None:
    """Return who has the clearly lower loss; None if that cannot be told."""
    return {-1: names[0], 1: names[1], 0: None}[difference.sign]


def _leads_from(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return who is clearly better up to the largest size, and from which size on."""
    name, since = steps[-1]["better"], None
    for step in reversed(steps):
        if name is None or step["better"] != name:
            break
        since = step["samples"]
    return None if since is None else {"name": name, "samples": since}


def _who_is_better(steps: list[dict[str, Any]], names: tuple[str, str]) -> str:
    """Say at which sizes which of two lines is better."""
    if all(step["loss_difference_stderr"] is None for step in steps):
        value = steps[-1]["loss_difference"]
        if value == 0:
            return "Cannot tell: no error bar, and the losses are equal."
        lower = names[1] if value > 0 else names[0]
        return f"Cannot tell: no error bar. {lower} is lower at n = {steps[-1]['samples']:,}."
    told = []
    for name in (*names, None):
        sizes = [step["samples"] for step in steps if step["better"] == name]
        if not sizes:
            continue
        everywhere = len(sizes) == len(steps)
        if name:
            told.append(f"{name} at {'every size' if everywhere else sizes_text(sizes)}")
        else:
            told.append(f"cannot tell at {'any size' if everywhere else sizes_text(sizes)}")
    answer = "; ".join(told)
    return f"C{answer[1:]}." if answer.startswith("cannot tell") else f"Better: {answer}."


def _explanation(one: Line, other: Line) -> str:
    """Say what two students differ in, the explanations to check."""
    parts = []
    for column, name in (("params", "parameters"), ("params_non_embedding", "without embeddings")):
        sizes = [mean_of(line.runs, column) for line in (one, other)]
        if None not in sizes and sizes[0] != sizes[1]:
            counts = [f"{size:,.0f}" for size in sizes]
            parts.append(f"{name} ({' against '.join(counts)})")
    starts = [
        set(line.runs["init"].dropna().astype(str)) if "init" in line.runs else set[str]()
        for line in (one, other)
    ]
    if starts[0] != starts[1]:
        parts.append(
            "initialisation (" + " against ".join("/".join(sorted(s)) or "?" for s in starts) + ")"
        )
        if len(parts) > 1:
            return (
                f"They differ in {', '.join(parts)}: these runs cannot say which of these is the "
                "cause; a pair that differs in one of them would."
            )
    if not parts:
        return "The table does not say what they differ in."
    first = [mean_of(line.before, "loss") for line in (one, other)]
    text = f"The plain explanation to check: they differ in {', '.join(parts)}."
    if None not in first:
        text += f" Before training their losses were {number(first[0])} and {number(first[1])}."
    return text


# --- in short --------------------------------------------------------------------------------
def soft_against_plain(
    at_samples: list[dict[str, Any]], at_flops: list[dict[str, Any]], noise: str
) -> tuple[str, dict[str, Any] | None]:
    """Say in plain words whether soft targets beat plain text, and return the counts.

    Args:
        at_samples: answers of `compare_methods`.
        at_flops: answers of `compare_at_equal_flops`.
        noise: what runs of a cell differ in, from `noise_sources`.
    """
    mine = [a for a in at_samples if a["numbers"]["reads_cache"] == [False, True]]
    if not mine:
        return "", None
    lasts = [answer["numbers"]["differences"][-1] for answer in mine]
    leads = [
        answer["numbers"]["better_from"]["samples"]
        for answer in mine
        if (answer["numbers"]["better_from"] or {}).get("name") == answer["numbers"]["compared"][1]
    ]
    worse = sum(
        last["better"] == answer["numbers"]["compared"][0]
        for answer, last in zip(mine, lasts, strict=True)
    )
    untested = sum(last["loss_difference_stderr"] is None for last in lasts)
    numbers: dict[str, Any] = {
        "comparisons": len(mine),
        "better_at_largest": len(leads),
        "worse_at_largest": worse,
        "untested": untested,
        "gains": [last["loss_difference"] for last in lasts],
    }
    text = "Do soft targets beat plain text at equal samples? "
    if len(mine) <= 3:
        text += " ".join(map(_told_comparison, mine))
    else:
        text += (
            f"At the largest size they do so by more than the noise in {len(leads)} of {len(mine)} "
            f"comparisons, and are worse in {worse}"
        )
        text += f" ({untested} are untested). " if untested else ". "
        text += f"{_gained(lasts)}"
        starts = f"n = {min(leads):,}" if leads else ""
        starts += f" to {max(leads):,}" if leads and max(leads) > min(leads) else ""
        text += f"; where they do, from {starts} on." if leads else "."
    spreads = [sd for a in mine if (sd := a["numbers"]["pooled_sd"]) is not None]
    if spreads:
        text += (
            f" Between {noise} such a difference varies by a standard deviation of {span(spreads)} "
            "nats."
        )
    equal = [
        answer["numbers"]
        for answer in at_flops
        if answer["numbers"]["reads_cache"] == [False, True]
        and answer["numbers"]["totals"]["total_flops"]["points"]
    ]
    if equal:
        who = [one["totals"]["total_flops"]["better"] for one in equal]
        wins = sum(one["compared"][1] == name for one, name in zip(equal, who, strict=True))
        losses = sum(one["compared"][0] == name for one, name in zip(equal, who, strict=True))
        numbers["equal_flops"] = {"comparisons": len(equal), "better": wins, "worse": losses}
        text += " At equal FLOPs, all of the teacher's work counted, "
        if wins or losses:
            text += f"they are better in {wins} of {len(equal)} and worse in {losses}."
        else:
            text += "it cannot be told whether they are better."
    return text + " ", numbers


def _gained(steps: list[dict[str, Any]]) -> str:
    """Say by how much soft targets change the loss."""
    values = [step["loss_difference"] for step in steps]
    if min(values) >= 0:
        return f"They lower the loss by {span(values)} nats"
    if max(values) <= 0:
        return f"They raise the loss by {span(-value for value in values)} nats"
    return (
        f"They change the loss by between {number(-max(values), 2)} and +{number(-min(values), 2)} "
        "nats"
    )


def _told_comparison(answer: dict[str, Any]) -> str:
    """Say one comparison of soft targets with plain text at the largest size."""
    numbers = answer["numbers"]
    plain, soft = numbers["compared"]
    last, lead = numbers["differences"][-1], numbers["better_from"]
    difference = read_estimate(last, "loss_difference")
    at, whom = f"at n = {last['samples']:,}", f"for {answer['student']}"
    if not difference.tested:
        side = "lower" if difference.value > 0 else "higher"
        return (
            f"Cannot tell {whom}: {at} the loss of {soft} is {number(abs(difference.value))} nats "
            f"{side} than that of {plain}, without an error bar."
        )
    if difference.sign > 0:
        since = lead["samples"]
        from_on = f"from n = {since:,} on" if since < last["samples"] else f"only {at}"
        return (
            f"Yes {whom}, {from_on}: {soft} lowers the loss of {plain} by "
            f"{difference.text('nats')} {at}."
        )
    if difference.sign < 0:
        flipped = Estimate(
            -difference.value, difference.stderr, _negative(difference.high),
            _negative(difference.low),
        )  # fmt: skip
        return f"No {whom}: {soft} raises the loss of {plain} by {flipped.text('nats')} {at}."
    return (
        f"Cannot tell {whom}: {at} the loss of {plain} minus that of {soft} is "
        f"{difference.text('nats')}."
    )


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
