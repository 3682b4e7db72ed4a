"""Summary: gains, lowest perplexity, soft targets against text, sweet spot."""

from collections.abc import Sequence
from typing import Any

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs import at_equal_flops, at_equal_samples, doubling, sweet_spot
from distill.table.lines import Line, noise_sources

KEY = "summary"


def answer(study: Measured) -> list[Answer]:
    """Counts and extremes over all lines."""
    lines = study.lines
    largest = max(line.sizes[-1] for line in lines)
    steps = [gain.numbers["gains_per_doubling"] for gain in study.ask(doubling.answer)]
    lasts = [step[-1] for step in steps if step]
    spots = [spot.numbers for spot in study.ask(sweet_spot.answer)]
    claimed = [spot["samples"] for spot in spots if spot["samples"]]
    learners = at_equal_samples.taught(study)
    tasks = set(study.table["task"].dropna()) if "task" in study.table else set()
    numbers = {
        "largest_samples": largest,
        "best": _best(study, largest),
        "soft_targets": soft_against_plain(
            study.ask(at_equal_samples.answer),
            at_equal_flops.compare_at_equal_flops(learners, study.spread),
            noise_sources(study.table),
        ),
        "task": tasks.pop() if len(tasks) == 1 else None,
        "lines": len(lines),
        "several_caches": _several_caches(lines),
        "last_gains": [step["loss_gain"] for step in lasts],
        "first_gains": [step[0]["loss_gain"] for step in steps if len(step) > 1],
        "clear_gains": sum((step["loss_gain_low"] or 0.0) > 0 for step in lasts),
        "tested": any(step["loss_gain_stderr"] is not None for step in lasts),
        "cost_stated": spots[0]["cost"] is not None,
        "sweet_spots": sorted(set(claimed)),
        "sweet_spot_lines": len(claimed),
    }
    return [Answer(KEY, numbers=numbers)]


def _best(study: Measured, largest: int) -> list[dict[str, Any]]:
    """The lowest loss at the largest size, for each teacher."""
    best = []
    for teacher in dict.fromkeys(line.teacher for line in study.lines):
        losses = [
            (float(line.cells("loss").loc[largest, "mean"]), line.label)
            for line in study.lines
            if line.teacher == teacher and largest in line.sizes
        ]
        if losses:
            loss, label = min(losses, key=lambda pair: pair[0])
            known = study.references.get("teachers", {}).get(teacher) or {}
            entry = {"teacher": teacher, "label": label, "loss": loss}
            best.append(entry | {"teacher_perplexity": known.get("perplexity")})
    return best


def _several_caches(lines: list[Line]) -> bool:
    """Whether a method of a student reads several caches."""
    names = [(x.teacher, x.student, x.method, x.curation) for x in lines]
    return len(set(names)) < len(names)


def soft_against_plain(
    at_samples: Sequence[Answer], at_flops: Sequence[Answer], sources: Sequence[str]
) -> dict[str, Any] | None:
    """Count where soft targets have a lower loss than plain text; None without comparisons.

    Args:
        at_samples: Answers at equal samples.
        at_flops: Answers at equal FLOPs.
        sources: What runs of a cell differ in, from `noise_sources`.
    """
    compared = [one for one in at_samples if one.numbers["reads_cache"] == [False, True]]
    if not compared:
        return None
    lasts = [one.numbers["differences"][-1] for one in compared]
    leads = [
        one.numbers["better_from"]["samples"]
        for one in compared
        if (one.numbers["better_from"] or {}).get("name") == one.numbers["compared"][1]
    ]
    worse = sum(
        last["better"] == one.numbers["compared"][0]
        for one, last in zip(compared, lasts, strict=True)
    )
    spreads = [sd for one in compared if (sd := one.numbers["pooled_sd"]) is not None]
    counts: dict[str, Any] = {
        "comparisons": len(compared),
        "better_at_largest": len(leads),
        "worse_at_largest": worse,
        "untested": sum(last["loss_difference_stderr"] is None for last in lasts),
        "gains": [last["loss_difference"] for last in lasts],
        "better_from": [min(leads), max(leads)] if leads else None,
        "sources": list(sources),
        "difference_sd": [min(spreads), max(spreads)] if spreads else None,
        "each": [
            {
                "student": one.about["student"],
                "compared": one.numbers["compared"],
                "better_from": one.numbers["better_from"],
                **last,
            }
            for one, last in zip(compared, lasts, strict=True)
        ],
    }
    equal = [
        one.numbers
        for one in at_flops
        if one.numbers["reads_cache"] == [False, True]
        and one.numbers["totals"]["total_flops"]["points"]
    ]
    if equal:
        pairs = [(one["compared"], one["totals"]["total_flops"]["better"]) for one in equal]
        wins = sum(names[1] == better for names, better in pairs)
        losses = sum(names[0] == better for names, better in pairs)
        counts["equal_flops"] = {"comparisons": len(equal), "better": wins, "worse": losses}
    return counts
