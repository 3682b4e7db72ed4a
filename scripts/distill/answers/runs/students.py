"""Which student is better at equal samples, run by run."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.paired import about_pair, compare_paired
from distill.table.lines import Line, mean_of, sort_out

KEY = "students"


def answer(study: Measured) -> list[Answer]:
    """Compare each student with the next larger one, all else equal."""
    answers = []
    for group in sort_out(study.lines, "teacher", "curation", "method", "cache"):
        ordered = sorted(group, key=lambda line: mean_of(line.runs, "params") or 0.0)
        for one, other in pairwise(ordered):
            names = (one.student, other.student)
            about = about_pair(one, other, student=f"{one.student} vs {other.student}")
            compared = compare_paired(KEY, one, other, names, about)
            if compared is not None:
                numbers = {**compared.numbers, **_traits(one, other)}
                answers.append(replace(compared, numbers=numbers))
    return answers


def _traits(one: Line, other: Line) -> dict[str, Any]:
    """What two students may differ in, the explanations to check."""
    pair = (one, other)
    return {
        "params_non_embedding": [mean_of(line.runs, "params_non_embedding") for line in pair],
        "inits": [
            sorted(set(line.runs["init"].dropna().astype(str))) if "init" in line.runs else []
            for line in pair
        ],
        "loss_before_training": [mean_of(line.before, "loss") for line in pair],
    }
