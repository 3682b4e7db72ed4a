"""What a run costs, in closed form: FLOPs, seconds, bytes on disk and in memory.

FLOPs are those of `distill.models.flops`, split into body (attention included) and head, since a
machine runs the two at different speeds. Seconds are FLOPs over the speeds that
`distill.costs.calibration` measured.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distill.models.flops import FlopModel, training_passes

SINGLE, HALF = 4, 2
"""Bytes of a number in fp32, and in bf16 or fp16."""
SAMPLED_BYTES, SAMPLED_POWER = 4.0, 0.41
"""Bytes per token of d sampled draws, 4 d^0.41: within 8 % of the seven caches of
docs/studies/cache.md (a teacher with 1.1 nats of entropy and 49,152 words)."""
Rows = Counter[tuple[float, float]]
"""How many rows have each (prompt, answer) tokens: few pairs, however many rows."""


@dataclass(frozen=True)
class Architecture:
    """What a model's costs depend on.

    Attributes:
        params, body_params: total and non-embedding parameters, tied ones once.
        flops: its three constants.
        width, vocabulary, layers, heads: of the model; width is what enters the head.
        activations: elements per token that enter or leave a weight matrix of the body.
        kv: elements per token of a full key-value cache, all layers.
        files: bytes of the tokenizer's and other small files saved beside the weights.
    """

    params: int
    body_params: int
    flops: FlopModel
    width: int
    vocabulary: int
    layers: int
    heads: int
    activations: int
    kv: int
    files: int = 0


@dataclass(frozen=True)
class Work:
    """FLOPs below the head (attention included) and of the head."""

    body: float = 0.0
    head: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.body + other.body, self.head + other.head)

    def __mul__(self, factor: float) -> "Work":
        return Work(self.body * factor, self.head * factor)

    @property
    def flops(self) -> float:
        """The sum."""
        return self.body + self.head


@dataclass(frozen=True)
class Speed:
    """Measured FLOPs per second of body and head, each with all that goes along with it."""

    body: float
    head: float

    def seconds(self, work: Work) -> float:
        """How long a piece of work takes."""
        return work.body / self.body + work.head / self.head


@dataclass(frozen=True)
class Probe:
    """What is timed: a kind of work at a width, vocabulary, precision and number of threads.

    `train` is forward and backward over a batch, `score` forward alone, `decode` one cached step
    of `rows` answers with their sampling, `single` the same of one answer.
    """

    kind: Literal["train", "score", "decode", "single"]
    width: int
    vocabulary: int
    precision: str
    threads: int
    rows: int = 1


@dataclass(frozen=True)
class Machine:
    """What a machine takes, measured; what is asked for twice is measured once.

    Attributes:
        speed: FLOPs per second in one kind of work.
        encoding: seconds per token of making soft targets, the head's product left out, by the
            cache's settings, the vocabulary and the threads.
        precision: what a config's precision is here.
        optimiser: seconds per trained parameter and update.
        update: seconds per update of the training loop itself.
        start, analysis_start: seconds until a job has imported what it needs, with torch and
            without.
        runtime: resident bytes of a job that has imported torch and done nothing.
    """

    speed: Callable[[Probe], Speed]
    encoding: Callable[[Mapping[str, Any], int, int], float]
    precision: Callable[[str], str]
    optimiser: float
    update: float
    start: float
    analysis_start: float
    runtime: float


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and answers.

    Attributes:
        prompt, answer: per row whose length is not known.
        measured: whether these are means of text that exists, rather than the config's limits.
        known: (prompt, answer) of rows of the training pool that exist already.
    """

    prompt: float
    answer: float
    measured: bool = False
    known: Mapping[int, tuple[int, int]] | None = None

    def rows(self, rows: Sequence[int], limit: float) -> Rows:
        """How many rows of each (prompt, answer), as trained on: answers are cut at `limit` in
        total. Where none is known, a billion rows are counted at once."""
        mean = (self.prompt, self.answer)
        each = Counter({mean: len(rows)})
        if self.known:
            each = Counter(self.known.get(row, mean) for row in rows)
        found: Rows = Counter()
        for (prompt, answer), count in each.items():
            found[prompt, max(0.0, min(answer, limit - prompt))] += count
        return found


def forward_work(flops: FlopModel, length: float, head_tokens: float) -> Work:
    """A forward pass over one sequence, `FlopModel.sequence_forward` for lengths that are means."""
    body = flops.body_per_token * length + flops.attention_per_token_per_context * length**2
    return Work(body, flops.head_per_token * head_tokens)


def generation_work(flops: FlopModel, prompt: float, new: float) -> Work:
    """One answer with a cache, `FlopModel.generation` for lengths that are means."""
    if new <= 0:
        return Work()
    steps = max(new - 1, 0.0)
    contexts = prompt**2 + steps * prompt + steps * (steps + 1) / 2
    body = flops.body_per_token * (prompt + steps)
    body += flops.attention_per_token_per_context * contexts
    return Work(body, flops.head_per_token * new)


def updates_of(samples: int, train: Mapping[str, Any]) -> int:
    """Optimiser steps: epochs of whole batches (the last may be smaller), or max_updates."""
    epoch = math.ceil(samples / train["batch_size"])
    return int(train["max_updates"] or train["epochs"] * epoch)


def training_work(
    flops: FlopModel,
    rows: Rows,
    method: Mapping[str, Any],
    train: Mapping[str, Any],
    teacher_head: int = 0,
) -> Work:
    """FLOPs of training as `distill.training.run` counts them.

    Args:
        flops: The student's constants.
        rows: How many rows of each (prompt, answer) tokens, after the cut.
        method: Loss weights: ce, `soft` (whether a loss on the teacher's distribution has a
            weight) and tokens (`answer` or `all`).
        train: epochs, max_updates, batch_size, lora and gradient_checkpointing.
        teacher_head: Elements of a teacher's head that training runs itself; 0 for none.
    """
    samples = rows.total()
    if not samples:
        return Work()
    passes, total = training_passes(train), Work()
    for (prompt, answer), count in rows.items():
        hard = answer if method["ce"] > 0 else 0.0
        soft = 0.0
        if method["soft"]:
            soft = prompt + answer - 1 if method["tokens"] == "all" else answer
        once = forward_work(flops, prompt + answer, max(hard, soft)) * passes
        total += (once + Work(0.0, 2.0 * teacher_head * soft)) * count
    return total * (updates_of(samples, train) / math.ceil(samples / train["batch_size"]))


def trainable_params(model: Architecture, train: Mapping[str, Any]) -> int:
    """Parameters with gradients: all, or about those of adapters on every matrix of the body."""
    if not train["lora"]:
        return model.params
    return int(train["lora"]["rank"]) * model.activations


def training_memory(
    model: Architecture,
    train: Mapping[str, Any],
    longest: float,
    answer: float,
    precision: str,
    base: float,
) -> float:
    """Peak bytes of a training job, as a sum of what is held at once.

    - base: the runtime;
    - 4 P weights, and 4 + 8 bytes per trained parameter for gradient and AdamW's two moments;
    - body: tokens of a micro-batch x elements that enter or leave a matrix x bytes of an
      activation (with checkpointing one layer of them, and each layer's input), and the attention
      weights, heads x length^2 per layer, three times;
    - head: logits and their gradient at answer tokens, and another gradient of the vocabulary's
      table (the look-up's beside the head's);
    - with autocast, copies of the weights in half precision.
    """
    micro = train["micro_batch_size"] or train["batch_size"]
    size = SINGLE if precision == "fp32" else HALF
    trained = trainable_params(model, train)
    layers = 1 if train["gradient_checkpointing"] else model.layers
    tokens = micro * longest
    held = tokens * model.activations * layers / model.layers * size
    held += 3 * micro * model.heads * longest**2 * layers * SINGLE
    if train["gradient_checkpointing"]:
        held += tokens * model.width * model.layers * SINGLE
    table = model.vocabulary * model.width * SINGLE if not train["lora"] else 0
    logits = 2 * micro * answer * model.vocabulary * size
    copies = 0 if precision == "fp32" else HALF * model.params
    return base + SINGLE * model.params + 12 * trained + held + logits + table + copies


def saving_memory(
    model: Architecture, saved: Architecture, train: Mapping[str, Any], base: float
) -> float:
    """Bytes at the end of training, as a student with a trimmed vocabulary gets the full one back.

    Beside weights, gradients and AdamW's moments stand the full tables, twice: gathered and copied.
    """
    held = SINGLE * model.params + 12 * trainable_params(model, train)
    return base + held + 2 * SINGLE * (saved.params - model.params)


def decoding_memory(
    model: Architecture, rows: int, length: float, precision: str, base: float
) -> float:
    """Peak bytes of generating `rows` answers at once: runtime, weights, key-value cache, and three
    copies of one step's logits."""
    size = SINGLE if precision == "fp32" else HALF
    return (
        base
        + size * (model.params + rows * length * model.kv)
        + 3 * SINGLE * rows * (model.vocabulary)
    )


def student_bytes(model: Architecture) -> int:
    """Bytes of a saved student: fp32 weights, tied ones once, and its small files."""
    return SINGLE * model.params + model.files


def checkpoint_bytes(model: Architecture, train: Mapping[str, Any], updates: int) -> int:
    """Bytes of checkpoints while a run trains, which are removed at its end.

    Weights, AdamW's two moments, and the small files; early stopping keeps the best one as well.
    """
    if train["early_stopping"]:
        copies = 2
    else:
        every = train["checkpoint_updates"]
        copies = int(bool(every) and updates > every)
    saved = SINGLE * (trainable_params(model, train) if train["lora"] else model.params)
    return copies * (saved + 8 * trainable_params(model, train) + model.files)


def cache_bytes_per_token(spec: Mapping[str, Any], width: int, vocabulary: int) -> float:
    """Bytes per token of soft targets by scheme, before compression but for `sampled`.

    Args:
        spec: scheme, k, draws, log_p, bits and temperatures, as in the config.
        width: Of the teacher's final hidden states.
        vocabulary: Of the teacher.
    """
    scheme, further = spec["scheme"], len(spec["temperatures"])
    if scheme == "final_hidden":
        return HALF * width
    if scheme == "dense":
        return HALF * vocabulary + 2
    one_id, one_p = (2 if vocabulary <= 65_536 else 4), spec["bits"] // 8
    moments = 2 * (1 + further) + 4 * further
    if scheme == "sampled":
        size = SAMPLED_BYTES * spec["draws"] ** SAMPLED_POWER
        # An id with its count takes about 2.5 compressed bytes, so that many have a log p.
        return size + (size / 2.5 * one_p if spec["log_p"] else 0) + 6 * further
    return min(spec["k"], vocabulary) * (one_id + one_p) + 2 + moments


def layer_bytes_per_token(hidden: Mapping[str, Any] | None, width: int) -> float:
    """Bytes per token of stored hidden states of layers: values, and a scale each at 8 bits."""
    if not hidden:
        return 0.0
    kept = hidden["width"] or width
    return len(hidden["layers"]) * (kept * hidden["bits"] / 8 + SINGLE * (hidden["bits"] == 8))


def makespan(jobs: Iterable[tuple[float, int]], cores: int, most: int | None = None) -> float:
    """Seconds until jobs of one stage are done, longest first, each as soon as cores are free.

    Args:
        jobs: (seconds, threads); a job takes at most all cores.
        cores: Cores at hand.
        most: Most jobs at once, if limited.
    """
    free, now, running = cores, 0.0, list[tuple[float, int]]()
    for seconds, threads in sorted(jobs, reverse=True):
        need = min(threads, cores)
        while free < need or (most and len(running) >= most):
            now, given = heapq.heappop(running)
            free += given
        heapq.heappush(running, (now + seconds, need))
        free -= need
    return max((end for end, _ in running), default=0.0)


@dataclass(frozen=True)
class LiveWork:
    """FLOPs of a run with a live teacher.

    Attributes:
        training: forward and backward passes of the student.
        sampling: its own answers.
        teacher: the teacher's forward passes with its head.
        tokens: answer tokens trained on.
        rows: of both kinds of updates, for what the longest needs.
    """

    training: Work
    sampling: Work
    teacher: Work
    tokens: float
    rows: Rows


def live_work(
    student: FlopModel,
    teacher: FlopModel,
    rows: Rows,
    method: Mapping[str, Any],
    train: Mapping[str, Any],
) -> LiveWork:
    """Work of a run with a live teacher; the share of updates is taken to be exact.

    Args:
        student: The student's constants.
        teacher: The teacher's.
        rows: Of the text, after the cut.
        method: on_policy, and what `training_work` asks for.
        train: As for `training_work`.
    """
    share, most = method["on_policy"]["share"], float(method["on_policy"]["max_tokens"])
    own: Rows = Counter()
    for (prompt, _), count in rows.items():
        own[prompt, most] += count
    kinds: list[tuple[float, Rows]] = [(1 - share, rows), (share, own)]
    epochs = updates_of(rows.total(), train) / math.ceil(rows.total() / train["batch_size"])

    def asked(prompt: float, answer: float) -> Work:
        scored = prompt + answer - 1 if method["tokens"] == "all" else answer
        return forward_work(teacher, prompt + answer, scored)

    def over(kind: Rows, of: Callable[[float, float], Work]) -> Work:
        return sum((of(*row) * count for row, count in kind.items()), Work()) * epochs

    def sampled(prompt: float, answer: float) -> Work:
        return generation_work(student, prompt, answer)

    trained = (training_work(student, kind, method, train) * part for part, kind in kinds)
    tokens = (part * answer * count for part, kind in kinds for (_, answer), count in kind.items())
    return LiveWork(
        sum(trained, Work()),
        over(own, sampled) * share,
        sum((over(kind, asked) * part for part, kind in kinds), Work()),
        sum(tokens) * epochs,
        sum((kind for part, kind in kinds if part), Counter()),
    )
