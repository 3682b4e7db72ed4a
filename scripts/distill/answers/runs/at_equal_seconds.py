"""Which method is better at equal seconds."""

from dataclasses import replace

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.total_costs import Total, compare_all, numbers_of
from distill.table.lines import Line, has_values

KEY = "at_equal_seconds"
TOTALS = (
    Total("total_seconds", ("train_seconds", "teacher_seconds", "target_seconds")),
    Total(
        "total_seconds_amortised",
        ("train_seconds", "teacher_seconds_amortised", "target_seconds_amortised"),
    ),
    Total("train_seconds", ("train_seconds",)),
)


def answer(study: Measured) -> list[Answer]:
    """Compare every two methods (and caches) of a student at equal seconds."""
    lines = study.parts
    if not any(has_values(line.runs, "train_seconds") for line in lines):
        need = Need("column", ["train_seconds"])
        return [Answer(KEY, {}, "cannot_tell", {"cannot_tell": True}, (need,))]
    summed = [_with_seconds(line) for line in lines]
    return compare_all(KEY, summed, TOTALS, study.part_spread, "seconds")


def _with_seconds(line: Line) -> Line:
    totals = {
        total.column: sum(numbers_of(line, name) for name in total.needs)
        for total in TOTALS
        if len(total.needs) > 1
    }
    return replace(line, runs=line.runs.assign(**totals))
