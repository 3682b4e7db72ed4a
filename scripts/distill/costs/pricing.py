"""What the prices of a study's jobs share: models, lengths of text, and speeds of this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from distill.contracts.run import LIVE, Run
from distill.core.parquet import read_table
from distill.costs.row_lengths import shard_lengths
from distill.costs.work import HALF, SINGLE, Architecture, Lengths, Machine, Probe, Rows, Work
from distill.plan.needed import needed_texts
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan

TEXT_BYTES = 4.0
"""Bytes per token of text and its ids in Parquet (3.8 in the default study)."""
QUANTISED_BYTES = {"int8": 1.0, "nf4": 0.5625}
"""Bytes per weight of a quantised body: 8 bits, or 4 with a scale of 4 bytes for each 64."""


@dataclass(frozen=True)
class Price:
    """What one job takes: FLOPs, seconds, threads, bytes on disk, and peak bytes in memory."""

    work: Work = field(default_factory=Work)
    seconds: float = 0.0
    threads: int = 1
    disk: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class Models:
    """Architectures of the models of a study, by name.

    `students` are as they are trained and timed, `saved` as their files hold them and as they are
    judged; the two differ by a trimmed vocabulary. A teacher that the study trains is a saved one.
    By teacher, `template` counts the tokens that its template puts around a prompt, and `prefix`
    those before the user's words (0 where the template is not the tokenizer's own).
    """

    teachers: Mapping[str, Architecture]
    students: Mapping[str, Architecture]
    saved: Mapping[str, Architecture]
    template: Mapping[str, int]
    prefix: Mapping[str, int]


class Pricing:
    """What the price of any job of a study depends on.

    Args:
        plan: The study's plan.
        models: Its models.
        lengths: By teacher.
        machine: What this machine takes.
        root: Where results and resources lie.
    """

    def __init__(
        self, plan: Plan, models: Models, lengths: Mapping[str, Lengths], machine: Machine,
        root: str | Path = ".",
    ) -> None:  # fmt: skip
        self.plan, self.study, self.models = plan, plan.study, models
        self.lengths, self.machine, self.root = lengths, machine, Path(root)
        self.texts = needed_texts(plan)
        self.train_of = cache(self.study.train_of)
        self.text_rows = cache(self._text_rows)
        self._shard_rows: dict[tuple[str, float], Rows] = {}

    def seconds(self, kind: Any, model: Architecture, work: Work, **at: Any) -> float:
        """Seconds of a piece of work; `at` are the precision, threads and rows of its probe."""
        probe = Probe(kind, model.width, model.vocabulary, **at)
        return self.machine.speed(probe).seconds(work)

    def decoding(
        self, model: Architecture, work: Work, answers: float, prefix: int, **at: Any
    ) -> float:
        """Seconds of generating answers: what all prompts begin with is computed only once."""
        shared = Work(model.flops.body_per_token * prefix * answers)
        return self.seconds("decode", model, work + shared * -1, **at)

    def settings(self, teacher: str) -> dict[str, Any]:
        """Precision and threads of a teacher's jobs."""
        entry = self.study.teachers[teacher]
        return {"precision": self.machine.precision(entry.precision), "threads": entry.threads}

    @property
    def judging(self) -> dict[str, Any]:
        """Precision and threads of an evaluation."""
        entry = self.study.evaluate
        return {"precision": self.machine.precision(entry.precision), "threads": entry.threads}

    def weights_memory(self, teacher: str) -> float:
        """Resident bytes of a job that holds a teacher's weights."""
        model, precision = self.models.teachers[teacher], self.settings(teacher)["precision"]
        size = SINGLE if precision == "fp32" else HALF
        body = QUANTISED_BYTES.get(self.study.teachers[teacher].quantisation, size)
        weights = body * model.body_params + size * (model.params - model.body_params)
        return self.machine.runtime + weights

    @cached_property
    def prompt_parts(self) -> list[tuple[str, int]]:
        """(split, part) of prompts: train parts up to the last that is read, and all held-out
        ones."""
        last = max((part for _, split, part in self.texts if split == "train"), default=-1)
        held_out = [(s, p) for s in ("test", "validation") for p in self.plan.pool.parts(s)]
        return [("train", part) for part in range(last + 1)] + held_out

    @cached_property
    def prompt_flops(self) -> list[float]:
        """FLOPs of writing each prompt that exists; none without prompts."""
        pool = self.plan.pool
        if not isinstance(pool, PromptPool):
            return []
        files = [self.root / pool.part(*part) for part in self.prompt_parts]
        columns = [read_table(f, ["prompt_flops"])["prompt_flops"] for f in files if f.is_file()]
        return [value for column in columns for value in column.to_pylist()]

    def _text_rows(self, teacher: str, split: str, part: int) -> Rows:
        """How many rows of each (prompt, answer) a part of a teacher's text has."""
        pool = self.plan.pool
        first, rows = part * pool.settings.part_size, pool.rows(split, part)
        numbers = range(first, first + rows) if split == "train" else [-1] * rows
        return self.lengths[teacher].rows(numbers, float("inf"))

    def run_rows(self, run: Run, limit: float = float("inf")) -> Rows:
        """How many rows of each (prompt, answer) a run trains on."""
        key = (self.plan.shards.file(run), limit)
        if key not in self._shard_rows:
            lengths = self.lengths[run.teacher]
            self._shard_rows[key] = shard_lengths(self.plan, run, lengths, limit, self.root)
        return self._shard_rows[key]

    def measured(self, run: Run) -> bool:
        """Whether a run's tokens are those of text that exists, or of chunks of one length."""
        if run.cache == LIVE:
            return False
        return self.plan.corpora.of(run) is not None or self.lengths[run.teacher].measured


def work_of(rows: Rows, of: Callable[[float, float], Work]) -> Work:
    """The work of rows, those of equal lengths at once."""
    return sum((of(*pair) * count for pair, count in rows.items()), Work())


def tokens_of(rows: Rows) -> float:
    """Tokens of rows, prompts and answers."""
    return sum((p + a) * count for (p, a), count in rows.items())


def scored_tokens(rows: Rows, tokens: str) -> float:
    """Positions whose next token is scored: the answer's, or all but the last."""
    return sum((a if tokens == "answer" else p + a - 1) * count for (p, a), count in rows.items())
