"""What benchmarks say: how much of its teacher's score each student keeps, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.answers.record import record
from distill.stats.intervals import Estimate, number, read_estimate
from distill.table.lines import GROUP, Line

BENCHMARKS = "How much of the teacher's score on benchmarks is kept?"
Cell = Mapping[str, Any]
"""A cell of references.json's benchmarks."""


def answer_benchmarks(
    lines: Sequence[Line], references: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Answer for each line and benchmark what its largest size keeps of the teacher's score."""
    known = (references or {}).get("benchmarks") or {"cells": [], "tasks": {}}
    answers = []
    for line in lines:
        cells = [cell for cell in known["cells"] if _belongs(cell, line) and cell["samples"]]
        largest = max((cell["samples"] for cell in cells), default=0)
        for cell in cells:
            if cell["samples"] == largest:
                found = _answer(line, cell, known["tasks"][cell["task"]])
                answers.append(found | {"label": f"{line.label} · {cell['task']}"})
    return answers


def _belongs(cell: Cell, line: Line) -> bool:
    return all(cell[name] == getattr(line, name) for name in GROUP)


def _answer(line: Line, cell: Cell, task: Mapping[str, Any]) -> dict[str, Any]:
    kept, above = (share_in_percent(cell, name) for name in ("share", "share_above_chance"))
    at = f"at n = {cell['samples']:,} the {task['metric']} is {plus_minus(cell)}"
    if cell["difference"] is None:
        text = f"Cannot tell, because the teacher has no model to be judged; {at}."
    elif kept is None:
        low = (
            "lower is better" if task["higher_is_better"] is False else "its own is not clear of 0"
        )
        text = f"Cannot tell: {at}, and no share of the teacher's score is formed, as {low}."
    else:
        text = f"It keeps {kept.text('%')} of the teacher's score: {at}."
        if above is not None:
            text += f" Of what lies above guessing it keeps {above.text('%')}."
    evidence = f"{_difference(cell)}{verdict(cell, task).capitalize()}. "
    evidence += (
        f"{task['n']:,} documents, the same for both; intervals are over documents and leave out "
        f"what another draw or seed would change ({_runs(cell)} here)."
    )
    numbers = {key: value for key, value in cell.items() if key not in GROUP}
    return record(BENCHMARKS, line, text, evidence, numbers | {"metric": task["metric"]})


def _runs(cell: Cell) -> str:
    return "one run" if cell["runs"] == 1 else f"the mean of {cell['runs']} runs"


def _difference(cell: Cell) -> str:
    found = estimate_of(cell, "difference")
    return "" if found is None else f"Its score minus the teacher's is {found.text()}. "


def verdict(cell: Cell, task: Mapping[str, Any]) -> str:
    """Say what can be told apart: the student from its teacher, and from guessing."""
    words, better = [], {True: "better", False: "worse"}
    up = task["higher_is_better"] is not False
    for name, whom in (("difference", "the teacher"), ("above_chance", "guessing")):
        found = estimate_of(cell, name)
        if found is None:
            continue
        if not found.tested:
            words.append(f"no error bar against {whom}")
        elif found.sign == 0:
            words.append(f"not told apart from {whom}")
        else:
            words.append(f"{better[(found.sign > 0) == up]} than {whom}")
    return ", ".join(words) or "nothing to compare it with"


def estimate_of(cell: Cell, name: str) -> Estimate | None:
    """A cell's value with its interval; None where the cell has none."""
    return None if cell[name] is None else read_estimate(cell, name)


def plus_minus(score: Mapping[str, Any] | None) -> str:
    """Write a score with its standard error."""
    if not score:
        return "–"
    error = "" if not score["stderr"] else f" ± {number(score['stderr'], 2)}"
    return f"{number(score['value'])}{error}"


def share_in_percent(cell: Cell, name: str) -> Estimate | None:
    """A share in per cent."""
    if (found := estimate_of(cell, name)) is None:
        return None
    ends = (found.stderr, found.low, found.high)
    return Estimate(100 * found.value, *(None if end is None else 100 * end for end in ends))
