"""What training on the teacher's text made a student forget: its loss on the reference text."""

from typing import Any

from distill.answers.record import record
from distill.stats.intervals import Estimate, estimate, number
from distill.table.lines import Line, has_values, mean_of, pooled_over, trait

FORGOTTEN = "What was forgotten?"


def what_was_forgotten(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare each line's reference loss with that of its student before training (n = 0)."""
    spread = pooled_over(lines, "reference_loss")
    answers = []
    for line in lines:
        before = mean_of(line.before, "reference_loss")
        if before is None or not has_values(line.runs, "reference_loss"):
            what = "no run of the student before training (n = 0)"
            if not has_values(line.runs, "reference_loss"):
                what = "no reference loss"
            answers.append(
                record(
                    FORGOTTEN,
                    line,
                    f"Cannot tell, because the table has {what}; needs reference_loss of both.",
                    "Forgetting is a rise of the loss on a text that no teacher wrote.",
                    {"before": before, "steps": []},
                )
            )
            continue
        answers.append(_forgotten(line, before, spread))
    return answers


def _forgotten(line: Line, before: float, spread: Any) -> dict[str, Any]:
    cells = line.cells("reference_loss")
    steps: list[dict[str, Any]] = []
    rises: list[Estimate] = []
    for samples, row in cells.iterrows():
        # The student at n = 0 is one fixed model, so the noise is that of the trained runs alone.
        rise = estimate(float(row["mean"]) - before, 1 / float(row["count"]), spread)
        rises.append(rise)
        steps.append({"samples": int(str(samples)), "runs": int(row["count"])})
        steps[-1] |= rise.numbers("reference_rise")
    last = rises[-1]
    init = trait(line, "init")
    at = f"At n = {steps[-1]['samples']:,}"
    since = "since the cut" if init == "cut" else "on balance"
    if init == "random":
        answer = "Nothing to forget: the student began at random."
    elif not last.tested:
        word = "rose" if last.value > 0 else "fell"
        answer = f"Cannot tell, because there is no error bar; needs a second run of one size. {at}"
        answer += f" the reference loss {word} by {number(abs(last.value))} nats."
    elif last.sign > 0:
        answer = f"{at} it forgot: the reference loss rose by {last.text('nats per token')}."
    elif last.sign < 0:
        fell = Estimate(-last.value, last.stderr, _minus(last.high), _minus(last.low))
        answer = f"{at} nothing {since}: the reference loss fell by "
        answer += f"{fell.text('nats per token')}."
    else:
        answer = f"Cannot tell: {at[0].lower()}{at[1:]} the reference loss changed by "
        answer += f"{last.text('nats per token')}, within the noise."
    evidence = f"From {number(before)} nats at n = 0: " + "; ".join(
        f"{rise.text()} at n = {step['samples']:,}" for rise, step in zip(rises, steps, strict=True)
    )
    evidence += (
        ". The same passages are read before and after, so their sampling error mostly cancels and "
        "is not in the interval."
    )
    if init == "cut":
        evidence += (
            " What the cut itself took away was gone at n = 0 and is not counted as forgotten."
        )
    numbers = {"before": before, "init": init, "steps": steps}
    return record(FORGOTTEN, line, answer, evidence, numbers)


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
