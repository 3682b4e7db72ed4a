"""Which method is better at equal samples, run by run."""

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.paired import about_pair, by_student, compare_paired
from distill.table.lines import Line

KEY = "at_equal_samples"


def answer(study: Measured) -> list[Answer]:
    """Compare each method and cache of a student with its first method without a cache.

    A chunk of a corpus is neither a response nor plain text of the teacher: methods that train on a
    corpus are compared at equal FLOPs alone.
    """
    return compare_methods(taught(study))


def taught(study: Measured) -> list[Line]:
    """The lines whose methods learn a teacher's responses."""
    methods = study.references.get("methods", {})
    return [line for line in study.lines if not methods.get(line.method, {}).get("corpus")]


def compare_methods(lines: list[Line]) -> list[Answer]:
    """Compare lines with the first of their student: one without a cache, if there is one."""
    answers = []
    for group, names in by_student(lines):
        for other, name in zip(group[1:], names[1:], strict=True):
            about = about_pair(group[0], other, method=f"{names[0]} vs {name}")
            answers.append(compare_paired(KEY, group[0], other, (names[0], name), about))
    return [one for one in answers if one is not None]
