"""Checks of teachers that the study trains."""

from distill.config.checks.blocks import block_problems, pool_problems
from distill.config.checks.learning import learns_corpus
from distill.config.checks.lineage import teacher_loops
from distill.config.study import Block, Study


def trained_problems(study: Study) -> list[str]:
    """Report teachers whose training cannot work; the rest of the study must be correct."""
    problems: list[str] = []
    for name, teacher in study.teachers.items():
        entry, where = teacher.trained, f"teachers.{name}.trained"
        if entry is None:
            continue
        method = study.method_of(entry.method)
        corpus = learns_corpus(study, entry.method) or (study.corpus and not method.soft)
        if entry.teacher is None and not corpus:
            problems.append(
                f"{where}.teacher is missing; the method {entry.method} trains on a teacher's text"
            )
            continue
        block = Block(
            students=[entry.student],
            teachers=[entry.teacher or name],
            methods=[entry.method],
            caches=[entry.cache] if entry.cache else [],
            samples=[entry.samples],
            curations=[entry.curation],
            draws=[entry.draw],
        )
        problems += pool_problems(study, block, where)
        problems += block_problems(study, block, where, teacher.gpus)
    if problems:
        return problems
    return [
        f"teachers.{loop[0]}.trained: {' learns from '.join(loop)}, a cycle; let one of them learn from a teacher with a source, or from a corpus"
        for loop in teacher_loops(study)
    ]
