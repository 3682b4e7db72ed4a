"""How much of its teacher's score on each benchmark a student keeps."""

from collections.abc import Mapping
from typing import Any

from distill.answers.answer import Answer, Need, about_line
from distill.answers.measured import Measured
from distill.stats.intervals import Estimate, read_estimate
from distill.table.lines import GROUP, Line

KEY = "benchmarks"
Cell = Mapping[str, Any]
"""A cell of references.json's benchmarks."""


def answer(study: Measured) -> list[Answer]:
    """For each line and benchmark, what its largest size keeps of the teacher's score."""
    known = study.references.get("benchmarks") or {"cells": [], "tasks": {}}
    answers = []
    for line in study.lines:
        cells = [cell for cell in known["cells"] if _belongs(cell, line) and cell["samples"]]
        largest = max((cell["samples"] for cell in cells), default=0)
        answers += [
            _score(line, cell, known["tasks"][cell["task"]])
            for cell in cells
            if cell["samples"] == largest
        ]
    return answers


def _belongs(cell: Cell, line: Line) -> bool:
    return all(cell[name] == getattr(line, name) for name in GROUP)


def _score(line: Line, cell: Cell, task: Mapping[str, Any]) -> Answer:
    numbers = {key: value for key, value in cell.items() if key not in GROUP}
    numbers |= {"metric": task["metric"], "higher_is_better": task["higher_is_better"]}
    numbers |= {"documents": task["n"], "against": standing(cell, task)}
    about = about_line(line) | {"label": f"{line.label} · {cell['task']}"}
    if cell["difference"] is None:
        return Answer(KEY, about, "cannot_tell", numbers, (Need("teacher_model"),))
    if cell["share"] is None:
        lower = task["higher_is_better"] is False
        need = Need("higher_is_better", True, False) if lower else Need("teacher_score_above_0")
        return Answer(KEY, about, "cannot_tell", numbers, (need,))
    return Answer(KEY, about, "answered", numbers)


def standing(cell: Cell, task: Mapping[str, Any]) -> dict[str, str]:
    """How a student stands against its teacher and against guessing, each if it has a score.

    better or worse beyond the noise, within_noise, or untested without an error bar.
    """
    against = {}
    up = task["higher_is_better"] is not False
    for name, whom in (("difference", "teacher"), ("above_chance", "guessing")):
        value = estimate_of(cell, name)
        if value is not None:
            clear = "better" if (value.sign > 0) == up else "worse"
            against[whom] = (
                "untested" if not value.tested else clear if value.sign else "within_noise"
            )
    return against


def estimate_of(cell: Cell, name: str) -> Estimate | None:
    """A cell's value with its interval; None where the cell has none."""
    return None if cell[name] is None else read_estimate(cell, name)
