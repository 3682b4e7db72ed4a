"""Prices of students: building, data, training, searches, evaluation and speed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distill.contracts.run import AT_ONCE, LIVE, NO_CACHE, Run
from distill.costs.pricing import TEXT_BYTES, Price, Pricing, scored_tokens, tokens_of
from distill.costs.teacher_prices import layer_bytes, target_bytes
from distill.costs.work import (
    HALF,
    SINGLE,
    Architecture,
    Work,
    checkpoint_bytes,
    decoding_memory,
    forward_work,
    generation_work,
    live_work,
    saving_memory,
    student_bytes,
    training_memory,
    training_work,
    updates_of,
)

INSTRUCTIONS = 50
"""Instructions of the first set, answered beside the generated ones."""
PROMPT_TOKENS = 32
"""Tokens of the prompt that a speed measurement continues."""


def initial(pricing: Pricing, run: Run) -> Price:
    """A student before training; the model that it comes from is read whole."""
    models, student = pricing.models, pricing.study.students[run.student]
    model, read = models.students[run.student], list[int]()
    if student.init != "random":
        teachers = pricing.study.teachers.items()
        read = [models.saved[run.student].params]
        read += [models.teachers[name].params for name, teacher in teachers
                 if teacher.source == student.source and name in models.teachers]  # fmt: skip
    memory = pricing.machine.runtime + SINGLE * max([model.params, *read])
    return Price(seconds=pricing.machine.start, disk=student_bytes(model), memory=memory)


def curated(pricing: Pricing, run: Run) -> Price:
    """The rows that a curation keeps for a run."""
    disk = TEXT_BYTES * tokens_of(pricing.run_rows(run))
    return Price(seconds=pricing.machine.analysis_start, disk=disk)


def corpus_shard(pricing: Pricing, run: Run) -> Price:
    """Training data of a run that reads a corpus."""
    disk = TEXT_BYTES * tokens_of(pricing.run_rows(run))
    return Price(seconds=pricing.machine.start, disk=disk)


def shard(pricing: Pricing, run: Run) -> Price:
    """Training data of a run, its soft targets included."""
    rows, size, tokens = pricing.run_rows(run), 0.0, "answer"
    if run.cached != NO_CACHE:
        tokens = pricing.study.caches[run.cache].tokens
        size = target_bytes(pricing, run.teacher, run.cache)
        size += layer_bytes(pricing, run.teacher, run.cache)
    disk = TEXT_BYTES * tokens_of(rows) + size * scored_tokens(rows, tokens)
    return Price(seconds=pricing.machine.analysis_start, disk=disk)


@dataclass(frozen=True)
class TrainingCost:
    """What training a run takes, the start of its job left out.

    Attributes:
        work: FLOPs, a live teacher's left out.
        teacher_work: FLOPs of a live teacher.
        tokens: answer tokens trained on.
        updates: optimiser steps.
        seconds, threads, memory: of all processes that share the training.
        checkpoint: bytes of checkpoints while it trains.
    """

    work: Work
    teacher_work: Work
    tokens: float
    updates: int
    seconds: float
    threads: int
    memory: float
    checkpoint: int


def training_cost(pricing: Pricing, run: Run, processes: int = 1) -> TrainingCost:
    """What training a run takes, by so many processes that share it."""
    models, study, machine = pricing.models, pricing.study, pricing.machine
    model, saved = models.students[run.student], models.saved[run.student]
    if not run.samples:
        memory = machine.runtime + 2 * SINGLE * saved.params
        return TrainingCost(Work(), Work(), 0.0, 0, 0.0, 1, memory, 0)
    settings, method = pricing.train_of(run.method), study.method_of(run.method)
    train, rows = settings.model_dump(), pricing.run_rows(run, settings.max_length)
    heads = [models.teachers[run.teacher]] if pricing.plan.training.heads(run) else []
    head = sum(teacher.width * teacher.vocabulary for teacher in heads)
    losses = method.model_dump() | {"soft": [name for name in method.weights if name != "ce"]}
    work, teacher_work = training_work(model.flops, rows, losses, train, head), Work()
    updates = updates_of(run.samples, train)
    at = {"precision": machine.precision(train["precision"]), "threads": train["threads"]}
    overhead = updates * (machine.optimiser * model.params + machine.update)
    epoch = -(-run.samples // settings.batch_size)
    tokens, base = scored_tokens(rows, "answer") * (updates / epoch), machine.runtime + SINGLE * head  # fmt: skip  # noqa: E501
    if run.cache == LIVE:
        teacher = models.teachers[run.teacher]
        live = live_work(model.flops, teacher.flops, rows, losses, train)
        work, teacher_work, tokens = live.training + live.sampling, live.teacher, live.tokens
        rows, base = live.rows, base + SINGLE * teacher.params
        seconds = pricing.seconds("train", model, live.training, **at) + overhead
        seconds += pricing.seconds("decode", model, live.sampling, **at, rows=train["batch_size"])
        scoring = pricing.settings(run.teacher) | {"threads": at["threads"]}
        seconds += pricing.seconds("score", teacher, teacher_work, **scoring)
    else:
        seconds = pricing.seconds("train", model, work, **at) + overhead
    if stop := settings.early_stopping:
        seconds += updates / (stop.every or epoch) * _validation(pricing, run, at)
    train["micro_batch_size"] = settings.micro_batch_size or settings.batch_size // processes
    longest = max((sum(pair) for pair in rows), default=0.0)
    if not pricing.measured(run):
        longest = min(longest, settings.max_length)
    answer = max(answer for _, answer in rows)
    memory = max(training_memory(model, train, longest, answer, at["precision"], base),
                 saving_memory(model, saved, train, base))  # fmt: skip
    return TrainingCost(
        work, teacher_work, tokens, updates, seconds / processes, settings.threads * processes,
        processes * memory, checkpoint_bytes(model, train, updates),
    )  # fmt: skip


def _validation(pricing: Pricing, run: Run, at: Mapping[str, Any]) -> float:
    """Seconds of one look at the validation text."""
    model, lengths = pricing.models.students[run.student], pricing.lengths[run.teacher]
    one = forward_work(model.flops, lengths.prompt + lengths.answer, lengths.answer)
    return pricing.seconds("score", model, one * pricing.study.rows.validation, **at)


def trained(pricing: Pricing, run: Run, cost: TrainingCost) -> Price:
    """A trained student."""
    disk = student_bytes(pricing.models.saved[run.student])
    seconds = pricing.machine.start + cost.seconds
    return Price(cost.work + cost.teacher_work, seconds, cost.threads, disk, cost.memory)


def search(pricing: Pricing, name: str) -> Price:
    """All trials of a search to their end; pruning makes it cheaper."""
    run, trials = pricing.plan.searches.run(name), pricing.study.searches[name].trials
    cost, settings = training_cost(pricing, run), pricing.study.train
    at = {"precision": pricing.machine.precision(settings.precision), "threads": cost.threads}
    looks = pricing.train_of(run.method).epochs * _validation(pricing, run, at)
    seconds = pricing.machine.start + trials * (cost.seconds + looks)
    work = (cost.work + cost.teacher_work) * trials
    return Price(work, seconds, cost.threads, memory=cost.memory)


def evaluated(pricing: Pricing, model: Architecture, teacher: str) -> Price:
    """Judging a model on a teacher's test text, and its answers where models are asked."""
    entry, lengths, at = pricing.study.evaluate, pricing.lengths[teacher], pricing.judging
    scored = forward_work(model.flops, lengths.prompt + lengths.answer, lengths.answer)
    scored, passage = scored * pricing.study.rows.test, 0
    if entry.reference is not None:
        passage = entry.reference.max_tokens
        scored += forward_work(model.flops, passage, passage) * entry.reference.passages
    chunk = pricing.plan.pool.chunk
    if pricing.study.mask is not None and chunk is not None:  # a pass per token of a chunk
        one = forward_work(model.flops, chunk.read, 1)
        scored += one * (entry.pseudo_chunks * chunk.length)
    teacher_work, held = Work(), 0.0
    if pricing.plan.teachers.has_model(teacher):
        scorer = pricing.models.teachers[teacher]
        tokens = lengths.answer * pricing.study.rows.test
        teacher_work = Work(0.0, scorer.flops.head_per_token * tokens)
        held = SINGLE * scorer.width * scorer.vocabulary + 4 * scorer.width * tokens
    work = scored + teacher_work
    seconds = pricing.seconds("score", model, work, **at)
    base = pricing.machine.runtime + held
    positions = entry.batch_size * max(passage, lengths.answer)
    size = SINGLE if at["precision"] == "fp32" else HALF
    memory = base + size * (model.params + positions * model.vocabulary)
    if pricing.plan.pool.asks:
        asked = _answers(pricing, model, teacher, base)
        work, seconds = work + asked.work, seconds + asked.seconds
        memory = max(memory, asked.memory)
    return Price(work, pricing.machine.start + seconds, entry.threads, memory=memory)


def _answers(pricing: Pricing, model: Architecture, teacher: str, base: float) -> Price:
    """A model's answers to instructions and, where a data set has its own, to test prompts."""
    study, lengths, at = pricing.study, pricing.lengths[teacher], pricing.judging
    entry, source, compared = study.evaluate, study.sources.get(study.rows.source), 0
    if source is not None and "response" in source.columns:
        compared = min(entry.reference_answers, study.rows.test)
    answers = entry.asked + entry.qualitative
    drawn, longest = entry.answers, entry.instruction_tokens
    work = generation_work(model.flops, lengths.prompt, longest) * answers
    rows, tokens = AT_ONCE, longest
    if drawn:
        if compared and drawn.validation:
            compared += min(entry.reference_answers, study.rows.validation)
        rows, tokens, longest = drawn.batch_size, drawn.max_tokens, max(longest, drawn.max_tokens)
    work += generation_work(model.flops, lengths.prompt, tokens) * compared
    prefix = pricing.models.prefix.get(teacher, 0)
    seconds = pricing.decoding(model, work, answers + compared, prefix, **at, rows=rows)
    length = lengths.prompt + longest
    memory = decoding_memory(model, rows, length, at["precision"], base)
    return Price(work, seconds, memory=memory)


def student_evaluated(pricing: Pricing, run: Run) -> Price:
    """Judging the student of a run."""
    return evaluated(pricing, pricing.models.saved[run.student], run.teacher)


def teacher_evaluated(pricing: Pricing, teacher: str) -> Price:
    """Judging a teacher on its own text."""
    return evaluated(pricing, pricing.models.teachers[teacher], teacher)


def timed(pricing: Pricing, kind: str, name: str) -> Price:
    """Speed and memory of an architecture; of a trained teacher, the student before training."""
    plan, entry = pricing.plan, pricing.study.evaluate
    if kind == "teachers" and (run := plan.teachers.trained_run(name)) is not None:
        kind, name = "students", run.student
    models = pricing.models.teachers if kind == "teachers" else pricing.models.students
    model, chunk, probe = models[name], plan.pool.chunk, "single"
    work = generation_work(model.flops, PROMPT_TOKENS, entry.latency_tokens)
    if pricing.study.mask is not None and chunk is not None:
        work = forward_work(model.flops, chunk.read, chunk.read) * entry.latency_batch
        probe = "score"
    work = work * (entry.latency_repeats + 1)
    at = {"precision": pricing.judging["precision"], "threads": entry.latency_threads}
    seconds = pricing.machine.start + pricing.seconds(probe, model, work, **at)
    memory = pricing.machine.runtime + SINGLE * model.params
    return Price(work, seconds, entry.latency_threads, memory=memory)
