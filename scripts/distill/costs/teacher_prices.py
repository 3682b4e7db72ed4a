"""Prices of what is made before a student: prompts, teachers' text and soft targets."""

from collections.abc import Iterable
from dataclasses import replace

from distill.costs.pricing import (
    TEXT_BYTES,
    Price,
    Pricing,
    scored_tokens,
    tokens_of,
    work_of,
)
from distill.costs.work import (
    HALF,
    SINGLE,
    Work,
    cache_bytes_per_token,
    decoding_memory,
    forward_work,
    generation_work,
    layer_bytes_per_token,
)

CLOSED = 0.5
"""Share of Magpie turns taken to be closed in time where no prompts exist yet."""
LOSS_BYTES = 40.0
"""Bytes per row of a teacher's own losses: a short id and four numbers."""
SERVED_VOCABULARY = 2**17
"""Vocabulary taken for a server's log-probabilities: ids of 4 bytes."""


def prompts(pricing: Pricing, split: str, part: int) -> Price:
    """Candidates of a part that a teacher writes (Magpie).

    Prompts that exist say how many turns were closed, and how long they were.
    """
    pool, machine = pricing.plan.pool, pricing.machine
    settings, rows = pool.settings, pool.rows(split, part)
    name = settings.teacher or ""
    model, at = pricing.models.teachers[name], pricing.settings(name)
    batch, prefix = pricing.study.teachers[name].batch_size, pricing.models.prefix[name]
    turn = generation_work(model.flops, prefix, settings.max_tokens)
    turns = rows * settings.surplus / CLOSED
    if measured := pricing.prompt_flops:
        turns = sum(measured) / len(measured) * rows / turn.flops
    work = turn * turns
    seconds = machine.start + pricing.decoding(model, work, turns, prefix, **at, rows=batch)
    length = prefix + settings.max_tokens
    memory = decoding_memory(model, batch, length, at["precision"], machine.runtime)
    return Price(work, seconds, at["threads"], memory=memory)


def taken_text(pricing: Pricing, teacher: str, split: str, part: int) -> Price:
    """A part of a text that no model of the study writes."""
    disk = TEXT_BYTES * tokens_of(pricing.text_rows(teacher, split, part))
    return Price(seconds=pricing.machine.analysis_start, disk=disk)


def written_text(pricing: Pricing, teacher: str, split: str, part: int) -> Price:
    """A part of a teacher's text with its hidden states."""
    rows, entry = pricing.text_rows(teacher, split, part), pricing.study.teachers[teacher]
    model, at, machine = pricing.models.teachers[teacher], pricing.settings(teacher), pricing.machine  # fmt: skip  # noqa: E501
    work = work_of(rows, lambda p, a: generation_work(model.flops, p, a))
    seconds = pricing.decoding(
        model, work, rows.total(), pricing.models.prefix[teacher], **at, rows=entry.batch_size
    )
    size, longest = min(entry.batch_size, rows.total()), pricing.lengths[teacher].prompt + entry.max_tokens  # fmt: skip  # noqa: E501
    return Price(
        work, machine.start + seconds, at["threads"],
        disk=TEXT_BYTES * tokens_of(rows)
        + _number_bytes(split, at["precision"]) * model.width * scored_tokens(rows, "answer"),
        memory=decoding_memory(model, size, longest, at["precision"], machine.runtime),
    )  # fmt: skip


def states(pricing: Pricing, text: str, scorer: str, tokens: str, split: str, part: int) -> Price:
    """A scoring pass over a part of the text of the teacher `text`, which keeps hidden states.

    A masked model's head has layers before its matrix, which are run here.
    """
    rows, model = pricing.text_rows(text, split, part), pricing.models.teachers[scorer]
    at, kept = pricing.settings(scorer), scored_tokens(rows, tokens)
    before = model.flops.head_per_token - 2 * model.width * model.vocabulary
    work = work_of(rows, lambda p, a: forward_work(model.flops, p + a, 0)) + Work(before * kept)
    seconds = pricing.machine.start + pricing.seconds("score", model, work, **at)
    memory = pricing.weights_memory(scorer)
    disk = _number_bytes(split, at["precision"]) * model.width * kept
    return Price(work, seconds, at["threads"], disk, memory)


def _number_bytes(split: str, precision: str) -> int:
    """Bytes of a number of a hidden state: test rows keep the teacher's precision."""
    return SINGLE if split == "test" and precision == "fp32" else HALF


def head(pricing: Pricing, teacher: str) -> Price:
    """A teacher's output head."""
    model = pricing.models.teachers[teacher]
    size = SINGLE * model.width * model.vocabulary
    memory = pricing.weights_memory(teacher) + size
    return Price(seconds=pricing.machine.start, disk=size, memory=memory)


def losses(pricing: Pricing, teacher: str, part: int) -> Price:
    """A teacher's own loss on each answer of a part, from its hidden states."""
    model, at = pricing.models.teachers[teacher], pricing.settings(teacher)
    rows = pricing.text_rows(teacher, "train", part)
    tokens = scored_tokens(rows, "answer")
    work = Work(0.0, model.flops.head_per_token * tokens)
    seconds = pricing.machine.start + pricing.seconds("score", model, work, **at)
    memory = _heads_memory(pricing, [teacher], tokens)
    return Price(work, seconds, at["threads"], LOSS_BYTES * rows.total(), memory)


def target_bytes(pricing: Pricing, teacher: str, cache: str) -> float:
    """Bytes per token of a cache's distributions."""
    entry = pricing.study.caches[cache].model_dump()
    if not pricing.plan.teachers.has_model(teacher):
        return cache_bytes_per_token(entry, 0, SERVED_VOCABULARY)
    model = pricing.models.teachers[next(iter(pricing.plan.targets.teachers(teacher, cache)))]
    return cache_bytes_per_token(entry, model.width, model.vocabulary)


def layer_bytes(pricing: Pricing, teacher: str, cache: str) -> float:
    """Bytes per token of a cache's stored layers; 0 without any."""
    hidden = pricing.study.caches[cache].hidden
    if hidden is None:
        return 0.0
    return layer_bytes_per_token(hidden.model_dump(), pricing.models.teachers[teacher].width)


def targets(pricing: Pricing, teacher: str, cache: str, part: int) -> Price:
    """Soft targets of a part of the text, from the hidden states of the cache's teachers."""
    entry, models = pricing.study.caches[cache], pricing.models.teachers
    names = list(pricing.plan.targets.teachers(teacher, cache))
    tokens = scored_tokens(pricing.text_rows(teacher, "train", part), entry.tokens)
    model, at = models[names[0]], pricing.settings(teacher)
    work = Work(0.0, sum(models[name].flops.head_per_token for name in names) * tokens)
    spec = entry.model_dump(exclude={"teachers", "hidden", "tokens"})
    seconds = pricing.seconds("score", model, work, **at)
    seconds += tokens * pricing.machine.encoding(spec, model.vocabulary, at["threads"])
    disk = target_bytes(pricing, teacher, cache) * tokens
    memory = _heads_memory(pricing, names, tokens)
    return Price(work, pricing.machine.start + seconds, at["threads"], disk, memory)


def served_targets(pricing: Pricing, teacher: str, cache: str, part: int) -> Price:
    """Soft targets that come with a server's answers."""
    rows = pricing.text_rows(teacher, "train", part)
    tokens = scored_tokens(rows, pricing.study.caches[cache].tokens)
    disk = target_bytes(pricing, teacher, cache) * tokens
    return Price(seconds=pricing.machine.start, disk=disk)


def projection(pricing: Pricing, teacher: str, part: int) -> Price:
    """A pass over a part of the text that fits the directions of stored layers."""
    model, at = pricing.models.teachers[teacher], pricing.settings(teacher)
    rows = pricing.text_rows(teacher, "train", part)
    work = work_of(rows, lambda p, a: forward_work(model.flops, p + a, 0))
    seconds = pricing.machine.start + pricing.seconds("score", model, work, **at)
    return Price(work, seconds, at["threads"], memory=pricing.weights_memory(teacher))


def layers(pricing: Pricing, teacher: str, cache: str, part: int) -> Price:
    """Stored hidden states of layers on a part of the text."""
    once, entry = projection(pricing, teacher, part), pricing.study.caches[cache]
    tokens = scored_tokens(pricing.text_rows(teacher, "train", part), entry.tokens)
    return replace(once, disk=layer_bytes(pricing, teacher, cache) * tokens)


def _heads_memory(pricing: Pricing, names: Iterable[str], tokens: float) -> float:
    """Runtime, heads, hidden states, and three copies of a block's logits."""
    models = [pricing.models.teachers[name] for name in names]
    held = sum(SINGLE * m.width * m.vocabulary + 4 * m.width * tokens for m in models)
    return pricing.machine.runtime + held + 3 * SINGLE * 512 * models[0].vocabulary
