"""Checks of methods with the teachers, students and caches that they train with."""

from typing import Any

from pydantic import ValidationError

from distill.config.checks.served import not_served
from distill.config.checks.soundness import unsound
from distill.config.methods import Method
from distill.config.reading import sentence
from distill.config.study import Block, Study
from distill.config.training import Train


def soft_problems(study: Study, teacher: str, method: Method, name: str, cache: str) -> list[str]:
    """Report why a method cannot read a teacher's soft targets."""
    entry = study.caches[cache]
    if reason := unsound(method, entry):
        return [f"methods.{name} with caches.{cache}: {reason}"]
    server = study.teachers[teacher].server
    if not study.teachers[teacher].has_model and server is not None:
        reason = not_served(server, entry)
        return [f"methods.{name} with caches.{cache}: {reason}"] if reason else []
    if not study.teachers[teacher].has_model:
        return [
            f"methods.{name} needs soft targets, but teachers.{teacher} has no model to score its "
            "text; give it a source"
        ]
    return cut_problems(study, [*entry.teachers] or [teacher], method, name)


def cut_problems(study: Study, teachers: list[str], method: Method, name: str) -> list[str]:
    """Report a loss that the teachers' top_k or top_p makes infinite."""
    scorers = [study.teachers[teacher] for teacher in teachers]
    cut = any(scorer.cuts for scorer in scorers)
    if cut and method.infinite_at_zero:
        return [
            f"methods.{name}: KL(student || teacher) is infinite where top_k or top_p cut the "
            "teacher's distribution; use another loss, or a teacher without top_k and top_p"
        ]
    if cut and method.spans:
        return [
            f"methods.{name}: spans needs likelihoods above 0, but top_k or top_p cut the teacher's "
            "distribution; use another loss, or a teacher without top_k and top_p"
        ]
    return []


def live_problems(
    study: Study, teachers: list[str], students: list[str], method: Method, name: str
) -> list[str]:
    """Report why on_policy cannot run these teachers while these students train."""
    if method.on_policy is None:
        return []
    return [
        *(
            f"methods.{name}: on_policy runs the teacher's model, but teachers.{teacher} has text "
            "only; give it a source"
            for teacher in teachers
            if not study.teachers[teacher].has_model
        ),
        *(
            f"methods.{name} with students.{student}: the student cannot sample tokens that its "
            "vocabulary drops; remove on_policy or the student's vocabulary"
            for student in students
            if study.students[student].vocabulary is not None
        ),
        *cut_problems(study, teachers, method, name),
    ]


def shared_problems(study: Study, teachers: list[str], name: str, gpus: int) -> list[str]:
    """Report why `gpus` GPUs cannot train together by a method."""
    train = study.train_of(name)
    size = train.micro_batch_size or max(1, train.batch_size // gpus)
    if train.batch_size % (size * gpus):
        return [
            f"methods.{name}: {gpus} GPUs share a batch, but train.batch_size ({train.batch_size}) is "
            f"not a multiple of gpus x micro_batch_size ({gpus} x {size}); change one of them"
        ]
    spread = [teacher for teacher in teachers if study.teachers[teacher].device_map]
    if gpus > 1 and study.method_of(name).on_policy is not None and spread:
        return [
            f"methods.{name}: on_policy with gpus loads the teacher on each GPU, but "
            f"teachers.{spread[0]}.device_map splits it over all; remove one of them"
        ]
    return []


def unsound_trimmed(study: Study, method: Method, block: Block) -> str | None:
    """Why a student with a trimmed vocabulary cannot learn by a method, with the remedy."""
    remedy = "use another loss, or remove the student's vocabulary"
    if method.uld or method.spans or (method.embedding and method.embedding.head == "teacher"):
        return f"uld, spans and the teacher's head need the full vocabulary; {remedy}"
    if method.soft and method.temperature != 1:
        return f"dropped tokens form one class only at temperature 1; {remedy}"
    if method.soft and any(study.caches[name].scheme == "top_k_tail" for name in block.caches):
        return (
            f"the tail of top_k_tail and the dropped tokens overlap; use another scheme, {remedy}"
        )
    return None


def learns_corpus(study: Study, name: str) -> bool:
    """Whether a method trains on a corpus."""
    return study.method_of(name).corpus is not None


def corpus_method_problems(study: Study, name: str, method: Method) -> list[str]:
    """Report mistakes in a method that trains on a corpus, except in its `train` entries."""
    problems, corpus, reference = list[str](), method.corpus or "", study.evaluate.reference
    source = study.sources[corpus]
    if "text" not in source.columns:
        problems.append(
            f"sources.{corpus}.fields: name the text column, which methods.{name} learns"
        )
    passages = reference.passages if reference and corpus == reference.source else 0
    if source.rows and source.rows <= passages:
        problems.append(
            f"methods.{name}.corpus: all {source.rows} rows of {corpus} are reference text "
            f"(evaluate.reference.passages: {passages}), which methods never train on; lower "
            "passages or name another corpus"
        )
    if train_problems(study, "", method.train):
        return problems
    if method.corpus_tokens >= (length := study.train_of(name).max_length):
        problems.append(
            f"methods.{name}.corpus_tokens: {method.corpus_tokens} tokens and the token before them "
            f"exceed train.max_length ({length}); raise that or lower corpus_tokens"
        )
    return problems


def train_problems(study: Study, where: str, entries: dict[str, Any]) -> list[str]:
    """Report mistakes in a method's entries of `train`, whose key in the config is `where`."""
    try:
        Train.model_validate(study.train.model_dump() | entries)
    except ValidationError as error:
        lines = [sentence(item, Train).removeprefix("config: ") for item in error.errors()]
        return [f"{where}: {line}" for line in lines]
    return []
