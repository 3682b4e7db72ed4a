"""What training made a student forget: its loss on the reference text, which no teacher wrote."""

from typing import Any

from distill.answers.answer import Answer, Need, about_line
from distill.answers.measured import Measured
from distill.answers.needs import need_precision, need_reference
from distill.stats.intervals import Spread, estimate, read_estimate
from distill.table.lines import Line, has_values, mean_of, pooled_over, trait

KEY = "forgetting"


def answer(study: Measured) -> list[Answer]:
    """Compare each line's reference loss with that of its student before training (n = 0)."""
    spread = pooled_over(study.parts, "reference_loss")
    answers = []
    for line in study.parts:
        before = mean_of(line.before, "reference_loss")
        numbers: dict[str, Any] = {"before": before, "steps": []}
        if not has_values(line.runs, "reference_loss"):
            needs = (need_reference(),)
            answers.append(Answer(KEY, about_line(line), "cannot_tell", numbers, needs))
        elif before is None:
            need = Need("untrained_student")
            answers.append(Answer(KEY, about_line(line), "cannot_tell", numbers, (need,)))
        else:
            answers.append(_rise(line, before, spread))
    return answers


def _rise(line: Line, before: float, spread: Spread | None) -> Answer:
    steps: list[dict[str, Any]] = []
    for samples, row in line.cells("reference_loss").iterrows():
        # The student at n = 0 is one fixed model, so the noise is that of the trained runs alone.
        rise = estimate(float(row["mean"]) - before, 1 / float(row["count"]), spread)
        steps.append({"samples": int(str(samples)), "runs": int(row["count"])})
        steps[-1] |= rise.numbers("reference_rise")
    init = trait(line, "init")
    numbers = {"before": before, "init": init, "steps": steps}
    if init == "random":
        return Answer(KEY, about_line(line), "not_applicable", numbers)
    last = read_estimate(steps[-1], "reference_rise")
    if last.sign:
        return Answer(KEY, about_line(line), "answered", numbers)
    needs = (need_precision(last, steps[-1]["runs"]),)
    return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)
