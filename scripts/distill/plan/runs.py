"""The run table of a study, and the folder of a run's student."""

from collections.abc import Mapping

from distill.config.study import Block, Study
from distill.contracts.run import LIVE, NO_CACHE, RAW, UNTRAINED, Run


def targets_of(study: Study, method: str, caches: list[str]) -> list[str]:
    """The `cache` values of a method's runs: each cache, LIVE, or NO_CACHE."""
    entry = study.method_of(method)
    if entry.on_policy is not None:
        return [LIVE]
    return caches if entry.soft else [NO_CACHE]


def block_runs(study: Study, block: Block) -> set[Run]:
    """The runs of a block, including the n = 0 run of each student."""
    runs = {
        Run(student, teacher, method, curation, cache, samples, draw, seed)
        for student in block.students
        for teacher in block.teachers
        for method in block.methods
        for cache in targets_of(study, method, block.caches)
        for curation in ([RAW] if study.method_of(method).corpus else block.curations)
        for samples in block.samples
        for draw in block.draws
        for seed in block.seeds
    }
    untrained = {Run(run.student, run.teacher, UNTRAINED, RAW, NO_CACHE, 0, 0, 0) for run in runs}
    return runs | untrained


def run_table(study: Study) -> list[Run]:
    """All runs of a study, without duplicates."""
    return sorted(set().union(*(block_runs(study, block) for block in study.runs)))


def trained_run(study: Study, teacher: str) -> Run | None:
    """The run that trains a teacher; None for a teacher that the study does not train."""
    entry = study.teachers[teacher].trained
    if entry is None:
        return None
    return Run(
        entry.student,
        entry.teacher or teacher,
        entry.method,
        entry.curation,
        targets_of(study, entry.method, [entry.cache or NO_CACHE])[0],
        entry.samples,
        entry.draw,
        entry.seed,
    )


def search_run(study: Study, name: str) -> Run:
    """The run whose settings a search varies."""
    search = study.searches[name]
    cache = targets_of(study, search.method, [search.cache or NO_CACHE])[0]
    return Run(
        search.student, search.teacher, search.method, RAW, cache, search.samples, search.draw, 0
    )


def run_of(names: Mapping[str, str]) -> Run:
    """The run of a path's wildcards; a shard's path has no student."""
    return Run(
        names.get("student", ""),
        names["teacher"],
        names.get("method", ""),
        names["curation"],
        names.get("cache", NO_CACHE),
        int(names["samples"]),
        int(names["draw"]),
        int(names.get("seed", 0)),
    )


def results_folder(study: Study) -> str:
    """The study's directory."""
    return f"results/{study.study}"


def student_file(study: Study, run: Run, name: str) -> str:
    """A file in a run's student directory."""
    return f"{results_folder(study)}/students/{run.folder}/{name}"
