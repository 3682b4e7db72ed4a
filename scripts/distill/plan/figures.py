"""Which figures a study has: a function of its config alone."""

from collections import Counter
from collections.abc import Iterable, Sequence

from distill.config.own_table import TableStudy
from distill.config.study import Study
from distill.contracts.figures import figures_with
from distill.contracts.run import LIVE, MAGPIE, NO_CACHE, RAW, Run

LEAST_SIZES, LEAST_RUNS = 3, 4
"""Fewest training sizes and runs of one student that determine a law with two coefficients."""


def figures_of(study: Study | TableStudy, runs: Sequence[Run] = ()) -> list[str]:
    """Return the names of a study's figures, in the order of the report.

    A figure that needs a fitted law is listed if the runs may determine one. If the fit is refused
    later, the figure says so.

    Args:
        study: The validated config.
        runs: The run table; empty for your own table of runs.
    """
    if isinstance(study, TableStudy):
        return figures_with(_table_traits(study))
    return figures_with(_traits(study, [run for run in runs if run.samples]))


def _table_traits(study: TableStudy) -> set[str]:
    """Return the traits that the columns imply; the number of sizes is not known yet."""
    traits = {"sizes", "students", "laws", "held_out"}
    traits |= {"gap"} if "teacher_loss" in study.columns else set()
    return traits | ({"teacher_size"} if "teacher_params" in study.columns else set())


def _traits(study: Study, runs: Sequence[Run]) -> set[str]:
    """Return the traits of a study with trained runs."""
    sizes, students = _sizes(runs), _students(runs)
    has_gap = _has_gap(study, runs)
    present = {
        "runs": True,
        "prompts": study.corpus is None,
        "gap": has_gap,
        "teacher_size": has_gap,
        "teacher_work": any(_costs_teacher(study, run) for run in runs),
        "caches": _several_caches(runs),
        "searches": any(study.methods[run.method].search for run in runs),
        "curations": _has_twins(runs),
        "sizes": sizes >= LEAST_SIZES,
        "students": students >= 2,
        "laws": max(sizes, students) >= LEAST_SIZES,
        "held_out": max(sizes, students) > LEAST_SIZES or min(sizes, students) >= LEAST_SIZES,
    }
    return {name for name, holds in present.items() if holds}


def _has_gap(study: Study, runs: Sequence[Run]) -> bool:
    """Tell whether a teacher is a model with the tokenizer of one of its students.

    Tokenizers are read later; what says that they differ is a method for such students.
    """
    pairs = {(run.teacher, run.student) for run in runs if study.teachers[run.teacher].has_model}
    other = {"uld", "spans"}
    return bool(
        pairs
        - {
            (run.teacher, run.student)
            for run in runs
            if other & study.method_of(run.method).weights.keys()
        }
    )


def _costs_teacher(study: Study, run: Run) -> bool:
    """Return whether a run uses a teacher whose FLOPs are counted."""
    teacher, has_corpus = study.teachers[run.teacher], study.method_of(run.method).corpus
    if run.cache != NO_CACHE:
        return teacher.has_model
    if study.corpus is not None or has_corpus:
        return False
    if study.rows.source == MAGPIE or teacher.writes:
        return True
    return teacher.server is not None and teacher.server.params is not None


def _several_caches(runs: Sequence[Run]) -> bool:
    caches: dict[tuple[object, ...], set[str]] = {}
    for run in runs:
        if run.cache not in (NO_CACHE, LIVE):
            caches.setdefault(_key(run, "cache"), set()).add(run.cache)
    return any(len(names) > 1 for names in caches.values())


def _has_twins(runs: Sequence[Run]) -> bool:
    raw = {_key(run, "curation") for run in runs if run.curation == RAW}
    return any(run.curation != RAW and _key(run, "curation") in raw for run in runs)


def _key(run: Run, besides: str) -> tuple[object, ...]:
    """Return all attributes of a run but one."""
    return tuple(value for name, value in vars(run).items() if name != besides)


def _sizes(runs: Sequence[Run]) -> int:
    """Return the largest number of training sizes of a line with enough runs for a law."""
    counts: dict[tuple[str, ...], Counter[int]] = {}
    for run in runs:
        line = (run.student, run.teacher, run.method, run.curation, run.cache)
        counts.setdefault(line, Counter())[run.samples] += 1
    return _most(len(sizes) for sizes in counts.values() if sizes.total() >= LEAST_RUNS)


def _students(runs: Sequence[Run]) -> int:
    """Return the largest number of students with the same teacher, method, curation and cache."""
    students: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        line = (run.teacher, run.method, run.curation, run.cache)
        students.setdefault(line, set()).add(run.student)
    return _most(map(len, students.values()))


def _most(numbers: Iterable[int]) -> int:
    return max(numbers, default=0)
