"""Whether students learned more than token frequencies: their loss against a unigram model's."""

from typing import Any

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.table.lines import Line, has_values

KEY = "learned"


def answer(study: Measured) -> list[Answer]:
    """The lines whose loss at their largest size is above that of a unigram model of their text."""
    lines = [line for line in study.lines if has_values(line.runs, "unigram_loss")]
    if not lines:
        return []
    compared = [_compared(line) for line in lines]
    above = [one for one in compared if one["loss"] >= one["unigram_loss"]]
    best = min(compared, key=lambda one: float(one["loss"]))
    numbers: dict[str, Any] = {
        "lines": len(lines),
        "above": above,
        "best": best,
        "unigram_loss": [
            min(one["unigram_loss"] for one in compared),
            max(one["unigram_loss"] for one in compared),
        ],
    }
    return [Answer(KEY, numbers=numbers)]


def _compared(line: Line) -> dict[str, Any]:
    """A line's largest size with its mean loss, that of the unigram model and the teacher's."""
    cells, baseline = line.cells("loss"), line.cells("unigram_loss")
    samples = int(baseline.index[-1])
    teacher = line.cells("loss_teacher") if has_values(line.runs, "loss_teacher") else None
    return {
        "label": line.label,
        "samples": samples,
        "loss": float(cells.loc[samples, "mean"]),
        "unigram_loss": float(baseline.loc[samples, "mean"]),
        "loss_teacher": None if teacher is None else float(teacher.loc[samples, "mean"]),
    }
