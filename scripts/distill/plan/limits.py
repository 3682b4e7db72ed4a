"""What a study will not answer, by its config: too few sizes, students or repeats, no reference."""

import math
from collections.abc import Callable, Iterator

from distill.config.study import Study
from distill.contracts.run import Run
from distill.plan.study import Plan

SIZES_OF_A_LAW, STUDENTS_OF_A_LAW = 4, 3
"""Training-set sizes that determine a law of the loss over data; students of one over size."""
INSTRUCTIONS_OF_A_CLAIM = 200
"""Generated instructions below which a pass rate distinguishes large differences only."""


def limits_of(plan: Plan) -> list[str]:
    """One sentence per question that the study leaves open, each with the remedy."""
    trained = [run for run in plan.runs if run.samples]
    return [*_grid_limits(trained), *_evaluation_limits(plan.study)]


def _grid_limits(runs: list[Run]) -> Iterator[str]:
    sizes = _most(runs, lambda run: run.samples, "samples", "draw", "seed")
    if sizes < SIZES_OF_A_LAW:
        yield (
            f"no law over data: there {_are(sizes, 'training-set size')} of a student and method, "
            f"a law needs {SIZES_OF_A_LAW}; add sizes to runs[].samples"
        )
    students = _most(runs, lambda run: run.student, "student", "samples", "draw", "seed")
    if students < STUDENTS_OF_A_LAW:
        yield (
            f"no law over size: there {_are(students, 'student')} of a method, a law needs "
            f"{STUDENTS_OF_A_LAW} of different size; add students"
        )
    if _most(runs, lambda run: (run.draw, run.seed), "draw", "seed") < 2:
        yield (
            "no error bars: no run is repeated with another draw or seed; add draws: [0, 1] to a "
            "block of runs"
        )


def _evaluation_limits(study: Study) -> Iterator[str]:
    entry = study.evaluate
    if entry.reference is None and study.corpus is None:
        yield (
            "no loss on a text that no teacher wrote: what students forget, and comparisons of "
            "teachers or with training from scratch; name a text in evaluate.reference"
        )
    if study.corpus is not None:
        return
    own = entry.instructions
    number, key = entry.generated_instructions, "evaluate.generated_instructions"
    if own is not None:
        number, key = own.more, "evaluate.instructions.more"
    if number == 0:
        yield (
            f"no small differences of pass rates: {entry.asked} instructions distinguish only "
            f"large ones; raise {key}"
        )
    elif number < INSTRUCTIONS_OF_A_CLAIM:
        margin = 196 * math.sqrt(0.25 / number)
        yield (
            "no small differences of pass_rate_large, whose 95 % interval reaches "
            f"{min(margin, 50):.0f} points to either side; raise {key}, "
            f"which is {number}"
        )


def _most(runs: list[Run], value: Callable[[Run], object], *varied: str) -> int:
    """Most different values of runs that are equal in all attributes but those that vary."""
    values: dict[tuple[object, ...], set[object]] = {}
    for run in runs:
        key = tuple(entry for name, entry in vars(run).items() if name not in varied)
        values.setdefault(key, set()).add(value(run))
    return max(map(len, values.values()), default=0)


def _are(number: int, noun: str) -> str:
    return f"is 1 {noun}" if number == 1 else f"are {number} {noun}s"
