"""Checks of single sections of a config; the names in them must exist."""

from collections.abc import Iterator

from distill.config.checks.learning import corpus_method_problems, train_problems
from distill.config.checks.names import unknown
from distill.config.row_counts import least_rows
from distill.config.study import Study
from distill.config.text import Prompts
from distill.contracts.columns import COLUMNS
from distill.contracts.run import LIVE, MAGPIE, NO_CACHE, RAW, UNTRAINED


def source_problems(study: Study) -> Iterator[str]:
    """Report adapters of adapters."""
    for name, source in study.sources.items():
        if source.base and study.sources[source.base].base:
            yield (
                f"sources.{name}.base: {source.base} has a base itself; merge one adapter and save "
                "the result, and name that as base"
            )


def prompt_problems(study: Study) -> Iterator[str]:
    """Report mistakes in the source or the teacher of the prompts."""
    if study.prompts is None or study.corpus is not None:
        return
    prompts = study.prompts
    if prompts.source != MAGPIE:
        source = study.sources[prompts.source]
        if "prompt" not in source.columns:
            yield f"sources.{prompts.source}.fields: name the prompt column"
        if source.known_rows and least_rows(prompts) > source.known_rows:
            yield too_few_rows(prompts, prompts.source, source.known_rows)
        return
    if prompts.teacher is None:
        yield unknown("prompts.teacher", "", study.teachers, "teacher")
        return
    writer = study.teachers[prompts.teacher]
    if not writer.writes:
        yield (
            "prompts.teacher: Magpie needs a teacher with a local model, not ready-made text or a "
            "server"
        )
    elif writer.trained is not None:
        yield (
            f"prompts.teacher: this study trains {prompts.teacher} only after the prompts exist; "
            "name a teacher with a source"
        )


def too_few_rows(prompts: Prompts, name: str, rows: int) -> str:
    """The error on a data set with fewer rows than prompts."""
    held_out = prompts.test + prompts.validation
    which = "pool, test or validation" if prompts.validation else "pool or test"
    remedy = "give more rows" if rows < 2 else f"lower prompts.{which}"
    return (
        f"prompts.pool: {prompts.pool} training and {held_out} held-out prompts need "
        f"{least_rows(prompts)} rows but {name} has {rows}; {remedy}"
    )


def teacher_problems(study: Study) -> Iterator[str]:
    """Report ready-made text and servers that the prompts rule out, and mixtures without a model."""
    for name, cache in study.caches.items():
        for scorer in cache.teachers:
            if not study.teachers[scorer].has_model:
                yield f"caches.{name}.teachers: {scorer} has no model; give it a source"
    if study.rows.template != "chat" and study.rows.source != MAGPIE:
        for name, teacher in study.teachers.items():
            if teacher.chat_template_kwargs:
                yield (
                    f"teachers.{name}.chat_template_kwargs are variables of a chat template, but "
                    "prompts.template is a text; remove them, or set it to chat"
                )
    if study.prompts is None or study.corpus is not None:
        return
    for name, teacher in study.teachers.items():
        if teacher.text is not None:
            if "response" not in study.sources[teacher.text].columns:
                yield (
                    f"sources.{teacher.text}.fields: ready-made teacher text needs a response "
                    "column"
                )
            if study.prompts.source != teacher.text:
                yield (
                    f"teachers.{name}.text: must equal prompts.source, {study.prompts.source!r}, "
                    "because the responses answer its prompts"
                )
            if teacher.cuts and teacher.has_model:
                yield (
                    f"teachers.{name}: remove top_k and top_p: on ready-made responses, which "
                    "were not drawn from the model, they make the teacher's loss infinite"
                )
        server = teacher.server
        if server is not None and server.top_logprobs and study.prompts.template != "chat":
            yield (
                f"teachers.{name}.server.top_logprobs: servers return log-probabilities for chats "
                "only; set prompts.template to chat, or remove top_logprobs"
            )


def student_problems(study: Study) -> Iterator[str]:
    """Report trimmed vocabularies without text to count ids in."""
    for name, student in study.students.items():
        if student.vocabulary is not None and not study.rows.validation:
            yield (
                f"students.{name}.vocabulary: ids are counted in the answers to validation prompts; "
                "set prompts.validation, e.g. to 100"
            )


def method_problems(study: Study) -> Iterator[str]:
    """Report mistakes in the training settings and corpora of methods."""
    for name, method in study.methods.items():
        yield from train_problems(study, f"methods.{name}.train", method.train)
        if method.corpus is not None and study.corpus is None:
            yield from corpus_method_problems(study, name, method)


def evaluation_problems(study: Study) -> Iterator[str]:
    """Report mistakes in the reference text, costs, benchmarks and answers of the evaluation."""
    if reference := study.evaluate.reference:
        source = study.sources[reference.source]
        if "text" not in source.columns:
            yield f"sources.{reference.source}.fields: name the text column"
        if source.rows and not source.begins and source.rows < reference.passages:
            yield (
                f"evaluate.reference.passages is {reference.passages}, but {reference.source} has "
                f"{source.rows} rows; lower passages"
            )
    yield from _instruction_problems(study)
    rows = COLUMNS.values()
    columns = [row.name for row in rows if not row.text and study.task not in row.null_in]
    for name in study.evaluate.cost or {}:
        if name not in columns:
            yield unknown("evaluate.cost", name, dict.fromkeys(columns), "numeric column")
    for name in study.evaluate.benchmarks:
        if name.removesuffix("_stderr") in {*study.evaluate.benchmarks} - {name}:
            yield (
                f"evaluate.benchmarks.{name}: its column would have the same name as another "
                "benchmark's standard error; rename the task"
            )
    answers = study.evaluate.answers
    if answers and answers.validation and not study.rows.validation:
        yield (
            "evaluate.answers.validation: there are no validation prompts; set "
            "prompts.validation, e.g. to 100"
        )


def _instruction_problems(study: Study) -> Iterator[str]:
    """Report own instructions without checks, prompts or rows."""
    own = study.evaluate.instructions
    if own is None or own.source is None:
        return
    source = study.sources[own.source]
    if "prompt" not in source.columns:
        yield f"evaluate.instructions.source: {own.source} has no prompts; name a source with some"
        return
    if own.checks is None and not any(one.checks for one in source.templates or ()):
        yield (
            f"evaluate.instructions: the prompts of {own.source} have no checks; add checks here, "
            "or to its templates"
        )
    rows = source.known_rows
    if own.source == study.rows.source:
        rows = study.rows.test
        if study.evaluate.asked > rows:
            yield (
                f"evaluate.instructions: {study.evaluate.asked} held-out prompts are asked, but "
                f"prompts.test is {rows}; raise it, or lower published or more"
            )
    elif rows is not None and study.evaluate.asked > rows:
        yield (
            f"evaluate.instructions: {study.evaluate.asked} prompts are asked, but {own.source} "
            f"has {rows}; lower published or more"
        )


def reserved_names(study: Study) -> Iterator[str]:
    """Report names that are reserved in paths."""
    if UNTRAINED in study.methods:
        yield f"methods.{UNTRAINED}: the name is reserved for the untrained student"
    if RAW in study.curations:
        yield f"curations.{RAW}: the name is reserved for all rows without curation"
    for name, what in ((NO_CACHE, "without soft targets"), (LIVE, "with a live teacher")):
        if name in study.caches:
            yield f"caches.{name}: the name is reserved for runs {what}"
