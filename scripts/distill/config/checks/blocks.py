"""Checks of a block of runs: sizes beyond the pool, methods that its models do not support."""

from distill.config.checks.learning import (
    learns_corpus,
    live_problems,
    shared_problems,
    soft_problems,
    unsound_trimmed,
)
from distill.config.study import Block, Study
from distill.config.values import MOST_ROWS


def pool_problems(study: Study, block: Block, where: str) -> list[str]:
    """Report sizes beyond the pool of rows, unless all methods train on a corpus of their own."""
    prompts, largest = study.rows, max(block.samples)
    section = "prompts" if study.corpus is None else "corpus"
    limit, setting = prompts.pool, f"{section}.pool"
    if any(block.draws) and prompts.draw_pool is not None:
        limit, setting = prompts.draw_pool, f"{section}.draw_pool (draws above 0 permute it)"
    if all(learns_corpus(study, name) for name in block.methods):
        return []
    if largest > limit:
        return [
            f"{where}.samples: {largest} is larger than {setting}, {limit}; raise that or lower samples"
        ]
    problems = []
    if any(block.draws) and limit > MOST_ROWS:
        problems.append(
            f"{where}.draws: draws above 0 permute at most {MOST_ROWS} rows; set {section}.draw_pool"
        )
    for name in block.curations:
        curation = study.curations.get(name)
        need = curation.candidates(largest) if curation else largest
        if need > limit:
            problems.append(
                f"{where}.samples: {largest} rows of curations.{name} need {need} candidates "
                f"(surplus {curation.surplus if curation else 1:g}), more than {setting}, {limit}; "
                "raise that or lower samples or surplus"
            )
    return problems


def block_problems(study: Study, block: Block, where: str, gpus: int = 1) -> list[str]:
    """Report combinations in a block of runs that cannot work; its names must exist.

    Args:
        study: The study.
        block: The block.
        where: Its key in the config.
        gpus: Smallest number of GPUs that train a student of the block.
    """
    problems = []
    gpus = max(gpus, *(study.students[student].gpus for student in block.students))
    for name in block.curations:
        if name in study.curations:
            problems += _curation_problems(study, block, name)
    for name in block.methods:
        method = study.method_of(name)
        if method.reads_cache and not block.caches:
            problems.append(
                f"{where}.caches: the method {name} needs soft targets; name a cache "
                f"({', '.join(study.caches) or 'and define it under caches:'})"
            )
        if method.reads_cache:
            for teacher in block.teachers:
                for cache in block.caches:
                    problems += soft_problems(study, teacher, method, name, cache)
        problems += live_problems(study, block.teachers, block.students, method, name)
        problems += shared_problems(study, block.teachers, name, gpus)
        untrained_head = not method.weights and not (
            method.embedding and method.embedding.head == "teacher"
        )
        for student in block.students:
            trimmed = study.students[student].vocabulary is not None
            if trimmed and (reason := unsound_trimmed(study, method, block)):
                problems.append(f"methods.{name} with students.{student}: {reason}")
            for teacher in block.teachers if method.spans else []:
                if study.students[student].source == tokenizer_source(study, teacher):
                    problems.append(
                        f"methods.{name}: {student} has the tokenizer of {teacher}, so spans has "
                        "nothing to align; use forward_kl instead"
                    )
            if untrained_head and study.students[student].init == "random":
                problems.append(
                    f"methods.{name}: no loss would train the random output head of {student}; add "
                    "ce, or embedding: {head: teacher}"
                )
        if study.train_of(name).early_stopping and not study.rows.validation:
            problems.append(
                f"methods.{name}: early stopping needs held-out validation prompts; set "
                "prompts.validation, e.g. to 100"
            )
    if not any(study.method_of(name).reads_cache for name in block.methods) and block.caches:
        live = any(study.method_of(name).on_policy for name in block.methods)
        reason = " (on_policy runs the teacher instead)" if live else ""
        problems.append(
            f"{where}.caches: none of the block's methods reads soft targets{reason}; remove caches"
        )
    return problems


def _curation_problems(study: Study, block: Block, name: str) -> list[str]:
    """Report teachers and methods of a block that cannot use a curation."""
    problems, curation = [], study.curations[name]
    counts = curation.length and (curation.length.min_tokens or curation.length.max_tokens)
    for teacher in block.teachers:
        entry = study.teachers[teacher]
        scored = ("teacher_loss", curation.teacher_loss, entry.has_model)
        for key, needed, available in (scored, ("length", counts, entry.has_tokens)):
            if needed and not available:
                problems.append(
                    f"curations.{name}.{key} needs the tokens of a model, but teachers.{teacher} has "
                    "text only; give it a source, or use another filter"
                )
    for method in block.methods:
        if curation.corrupt and study.method_of(method).reads_cache:
            problems.append(
                f"methods.{method} with curations.{name}: a corrupted answer has no soft targets, "
                "because the teacher scored the original text; use a method with ce only, or a "
                "curation without corrupt"
            )
    return problems


def tokenizer_source(study: Study, teacher: str) -> str | None:
    """Model source of a teacher's tokenizer."""
    entry = study.teachers[teacher]
    return study.students[entry.trained.student].source if entry.trained else entry.source
