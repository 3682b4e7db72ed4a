"""The columns of the runs table, in order: one row each.

A row defines a column's meaning, the source of its value, and when it may be null. The runs table,
the report's tables and the reference page follow from these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CORPUS = ("causal-lm", "masked-lm")
"""Tasks of a corpus, which have no prompts."""
_UNMASKED = ("instruction", "causal-lm")


@dataclass(frozen=True)
class Column:
    """A column of the runs table.

    Attributes:
        name: Name of the column.
        meaning: Short description without the unit.
        path: Source of a run's value, as keys separated by dots. The first key is a section of the
            student's metrics.json, or `study` (study, task, init), `run` (fields of `Run`), `speed`
            (the record of the architecture's speed), `cache` (that of the soft targets), `costs`
            (see `distill.table.teacher_costs`, and totals) or `scores` (combined scores).
        unit: Unit; empty for names, counts, shares and scores.
        text: Whether it contains names rather than numbers.
        measured: Whether it depends on the clock or the machine; only such columns may differ
            between identical runs.
        nullable: Whether it may be null in any task.
        null_in: Tasks to which it does not apply.
        null_without: Key of `evaluate` without which (not set, or 0) it is null.
        groups: Titles of the report's tables that show it.
        digits: Significant digits in the report.
        teacher: Whether references.json has the same value for each teacher with a model.
    """

    name: str
    meaning: str
    path: str
    unit: str = ""
    text: bool = False
    measured: bool = False
    nullable: bool = False
    null_in: tuple[str, ...] = ()
    null_without: str = ""
    groups: tuple[str, ...] = ()
    digits: int = 3
    teacher: bool = False

    def read(self, sections: Mapping[str, Any]) -> Any:
        """The value at `path`; None if a section on the path is null or lacks the key."""
        value: Any = sections
        for key in self.path.split("."):
            value = None if value is None else value.get(key)
        return value


def _work(name: str, meaning: str, path: str) -> Column:
    return Column(name, meaning, path, "FLOPs", groups=("FLOPs",))


def _seconds(name: str, meaning: str) -> Column:
    return Column(name, meaning, f"costs.{name}", "s", measured=True, groups=("Seconds",))


def _energy(name: str, meaning: str, unit: str = "kWh") -> Column:
    path = f"costs.{name}"
    return Column(name, meaning, path, unit, measured=True, nullable=True, groups=("Energy",))


_NAMES = (
    Column("study", "name of the study", "study.study", text=True),
    Column(
        "task", "task of the study: instruction, causal-lm or masked-lm", "study.task", text=True
    ),
    Column(
        "teacher",
        "teacher of the text; for a corpus, teacher of the evaluation and the soft targets",
        "run.teacher",
        text=True,
    ),
    Column("student", "name of the student", "run.student", text=True),
    Column(
        "init",
        "initialisation of the student: cut, pretrained or random",
        "study.init",
        text=True,
        groups=("Students",),
    ),
    Column(
        "method", "weighted losses; none for the student before training", "run.method", text=True
    ),
    Column("curation", "curation of the training rows", "run.curation", text=True),
    Column(
        "cache",
        "cache of soft targets; none without soft targets, live for a live teacher",
        "run.cache",
        text=True,
    ),
    Column(
        "samples", "teacher responses in the training set, or chunks of a corpus", "run.samples"
    ),
    Column("seed", "seed of data order and dropout", "run.seed"),
    Column("draw", "permutation of the pool", "run.draw"),
    Column(
        "params",
        "parameters, counting tied ones once",
        "model.params",
        groups=("Students",),
        teacher=True,
    ),
    Column(
        "params_non_embedding",
        "parameters without embeddings and output head",
        "model.params_non_embedding",
        groups=("Students",),
        teacher=True,
    ),
)
_LEARNING = (
    Column("updates", "optimiser steps", "training.updates", groups=("Training",)),
    Column(
        "tokens_seen",
        "answer tokens in training, counting repeats and the student's own answers",
        "training.tokens_seen",
        groups=("Training",),
    ),
    Column(
        "tokens_unique",
        "answer tokens in the training set",
        "training.tokens_unique",
        groups=("Training",),
    ),
    Column(
        "unseen_token_share",
        "share of held-out answer tokens that were never a training target",
        "heldout.unseen_token_share",
        groups=("Training",),
    ),
)
_QUALITY = (
    Column(
        "loss",
        "cross-entropy on held-out text (the teacher's, or a corpus's), per answer token (of a "
        "masked model: per masked token)",
        "heldout.loss",
        "nats",
        groups=("Quality",),
        digits=4,
        teacher=True,
    ),
    Column(
        "unigram_loss",
        "loss of a unigram model on the held-out text: the token frequencies of the run's "
        "training text, with additive smoothing; a student above it learned less than these",
        "heldout.unigram_loss",
        "nats",
        nullable=True,
        groups=("Quality",),
        digits=4,
    ),
    Column(
        "loss_stderr",
        "standard error of loss over prompts (all runs share the prompts)",
        "heldout.loss_stderr",
        "nats",
        teacher=True,
    ),
    Column(
        "loss_teacher",
        "the teacher's cross-entropy on the same text",
        "heldout.loss_teacher",
        "nats",
        teacher=True,
        nullable=True,
    ),
    Column(
        "reference_loss",
        "cross-entropy on the fixed reference text, per token",
        "reference.loss",
        "nats",
        null_in=_CORPUS,
        null_without="reference",
        groups=("Quality",),
        digits=4,
        teacher=True,
    ),
    Column(
        "perplexity",
        "exp(loss); for a masked model its masked perplexity: many tokens are masked at once",
        "heldout.perplexity",
        groups=("Quality",),
        teacher=True,
    ),
    Column(
        "pseudo_perplexity",
        "exp of the mean loss of tokens masked one at a time (task masked-lm)",
        "pseudo.perplexity",
        null_in=_UNMASKED,
        groups=("Quality",),
        teacher=True,
    ),
    Column(
        "bits_per_byte",
        "held-out loss per byte of text, EOS included",
        "heldout.bits_per_byte",
        "bits",
        null_in=("masked-lm",),
        groups=("Quality",),
        digits=4,
        teacher=True,
    ),
    Column(
        "kl_teacher",
        "KL(q || student) on held-out text, whatever the method, per token",
        "heldout.kl_teacher",
        "nats",
        nullable=True,
        groups=("Quality",),
        digits=4,
    ),
    Column(
        "kl_floor",
        "smallest kl_teacher that the student's vocabulary allows: 0 unless it is trimmed",
        "heldout.kl_floor",
        "nats",
        nullable=True,
    ),
    Column(
        "top1_agreement",
        "share of held-out tokens where student and teacher have the same most likely token",
        "heldout.top1_agreement",
        nullable=True,
        groups=("Quality",),
    ),
    Column(
        "ece",
        "expected calibration error of the most likely held-out token, 15 bins of equal mass",
        "heldout.ece",
        groups=("Quality",),
        teacher=True,
    ),
    Column(
        "bleu",
        "mean sentence BLEU of answers against those of the data set (smoothing 4)",
        "answers.bleu",
        nullable=True,
        null_in=_CORPUS,
        groups=("Answers compared with the data set's own",),
    ),
    Column(
        "rouge_l",
        "mean ROUGE-L F-measure of the same answers",
        "answers.rouge_l",
        nullable=True,
        null_in=_CORPUS,
        groups=("Answers compared with the data set's own",),
    ),
    Column(
        "bleu_validation",
        "the same BLEU on validation prompts, which early stopping and searches use",
        "answers_validation.bleu",
        nullable=True,
        null_in=_CORPUS,
        groups=("Answers compared with the data set's own",),
    ),
    Column(
        "pass_rate",
        "share of the 50 fixed verifiable instructions met",
        "instructions.fixed.rate",
        null_in=_CORPUS,
        teacher=True,
    ),
    Column(
        "pass_rate_low",
        "lower end of the 95 % Wilson interval of pass_rate",
        "instructions.fixed.low",
        null_in=_CORPUS,
        teacher=True,
    ),
    Column(
        "pass_rate_high",
        "upper end of the same interval",
        "instructions.fixed.high",
        null_in=_CORPUS,
        teacher=True,
    ),
    Column(
        "pass_rate_large",
        "share of the generated instructions met",
        "instructions.large.rate",
        null_in=_CORPUS,
        null_without="generated_instructions",
        teacher=True,
    ),
)
_SPEED = (
    Column(
        "tokens_per_second",
        "evaluate.latency_tokens new tokens at batch 1, without stopping at EOS, over mean "
        "latency; for a masked model, tokens of a forward pass over its mean latency",
        "speed.tokens_per_second",
        "tokens/s",
        measured=True,
        groups=("Students",),
        teacher=True,
    ),
    Column(
        "speed_disturbed",
        "1 if other programs disturbed the timing until its limit, so that speeds are left out of "
        "fronts and scores; else 0",
        "speed.disturbed",
        measured=True,
        teacher=True,
    ),
    Column(
        "tokens_per_second_median",
        "the same over median latency",
        "speed.tokens_per_second_median",
        "tokens/s",
        measured=True,
        groups=("Students",),
    ),
    Column(
        "ttft_ms",
        "time to the first token, median",
        "speed.ttft_ms",
        "ms",
        measured=True,
        null_in=("masked-lm",),
        groups=("Students",),
    ),
    Column(
        "forward_ms",
        "time of a masked model's forward pass over evaluate.latency_batch chunks, median",
        "speed.forward_ms",
        "ms",
        measured=True,
        null_in=_UNMASKED,
        groups=("Students",),
    ),
    Column(
        "size_mb",
        "parameters as saved",
        "model.size_mb",
        "MB of 1024^2 bytes",
        groups=("Students",),
        teacher=True,
    ),
    Column(
        "peak_memory_mb",
        "peak memory of generation",
        "speed.peak_memory_mb",
        "MB",
        measured=True,
        groups=("Students",),
        teacher=True,
    ),
    Column(
        "flops_per_token",
        "FLOPs of a forward pass per generated token at context 128; for a masked model, per "
        "masked token of a chunk",
        "speed.flops_per_token",
        "FLOPs",
        groups=("Students",),
        teacher=True,
    ),
)
_COSTS = (
    _work(
        "train_flops",
        "FLOPs of training, including the student's sampling",
        "training.train_flops",
    ),
    _work(
        "teacher_flops",
        "FLOPs of generating this run's prompts and responses, including discarded ones",
        "costs.teacher_flops",
    ),
    _work(
        "teacher_flops_amortised",
        "the same, each row's cost split over the runs that use it",
        "costs.teacher_flops_amortised",
    ),
    _work(
        "target_flops",
        "FLOPs of soft targets: scoring passes and heads, also of a live teacher",
        "costs.target_flops",
    ),
    _work(
        "target_flops_amortised",
        "the same, each row's cost split over the runs that read that cache",
        "costs.target_flops_amortised",
    ),
    _work(
        "total_flops",
        "FLOPs of training, teacher text and soft targets for this run alone",
        "costs.total_flops",
    ),
    _work(
        "total_flops_amortised",
        "the same, with the teacher's FLOPs split over the runs that use them",
        "costs.total_flops_amortised",
    ),
    Column(
        "cache_bytes_per_token",
        "size of the soft targets in files; null without soft targets, 0 for a live teacher",
        "cache.bytes_per_token",
        "bytes",
        nullable=True,
    ),
    Column(
        "cache_kept_mass",
        "mean probability under q of the tokens that the soft targets store",
        "cache.kept_mass",
        nullable=True,
    ),
    Column(
        "cache_entropy",
        "mean entropy of q at the tokens with soft targets",
        "cache.entropy",
        "nats",
        nullable=True,
    ),
    Column(
        "train_seconds",
        "time of training, including a live teacher's",
        "training.train_seconds",
        "s",
        measured=True,
        groups=("Training", "Seconds"),
    ),
    Column(
        "train_peak_memory_mb",
        "peak memory of training, on its GPUs or of its processes",
        "training.peak_memory_mb",
        "MB",
        measured=True,
        nullable=True,
        groups=("Training",),
    ),
)
_SCORES = (
    Column(
        "combined",
        "w1 / perplexity + w2 * pass_rate + w3 * tokens_per_second, as published",
        "scores.combined",
        measured=True,
        nullable=True,
        null_in=_CORPUS,
        groups=("Scores",),
    ),
    Column(
        "combined_normalised",
        "the same with each part scaled by fixed anchors to 0 to 1",
        "scores.combined_normalised",
        measured=True,
        nullable=True,
        groups=("Scores",),
    ),
    Column(
        "combined_mean",
        "mean of the normalised perplexity and the pass rate",
        "scores.combined_mean",
        nullable=True,
        groups=("Scores",),
    ),
)
_LATER = (
    _seconds(
        "teacher_seconds", "time of generating prompts and responses, including discarded ones"
    ),
    _seconds("teacher_seconds_amortised", "the same, split over the runs that use each row"),
    _seconds("target_seconds", "time of computing this run's soft targets"),
    _seconds("target_seconds_amortised", "the same, split over the runs that use each row"),
    Column(
        "reference_bits_per_byte",
        "loss on the reference text per byte",
        "reference.bits_per_byte",
        "bits",
        null_in=_CORPUS,
        null_without="reference",
        teacher=True,
    ),
    _energy("train_kwh", "energy of training, including a live teacher's"),
    _energy("teacher_kwh", "energy of generating prompts and responses, including discarded ones"),
    _energy("teacher_kwh_amortised", "the same, split over the runs that use each row"),
    _energy("target_kwh", "energy of computing this run's soft targets"),
    _energy("target_kwh_amortised", "the same, split over the runs that use each row"),
    _energy("total_kwh", "energy of training, teacher text and soft targets for this run alone"),
    _energy(
        "total_kwh_amortised", "the same, with the teacher's energy split over the runs that use it"
    ),
    _energy(
        "kwh_estimated",
        "share of total_kwh_amortised that is estimated rather than measured",
        "",
    ),
)
COLUMNS = {
    column.name: column
    for group in (_NAMES, _LEARNING, _QUALITY, _SPEED, _COSTS, _SCORES, _LATER)
    for column in group
}
"""Columns of the runs table by name, in order."""
TEXTS = [column.name for column in COLUMNS.values() if column.text]
"""Columns with names; all others are numeric."""
MEASURED = [column.name for column in COLUMNS.values() if column.measured]
"""The only columns that may differ between identical runs."""


def columns_of(group: str) -> list[str]:
    """Names of the columns in one of the report's tables."""
    return [column.name for column in COLUMNS.values() if group in column.groups]


def keys_in(section: str) -> list[str]:
    """Keys of a section of metrics.json that columns read, without those of its subsections."""
    paths = [column.path.split(".") for column in COLUMNS.values()]
    return [path[1] for path in paths if path[0] == section and len(path) == 2]


def nullable_in(task: str) -> list[str]:
    """Columns that may be null in a study of a task."""
    rows = COLUMNS.values()
    return [column.name for column in rows if column.nullable or task in column.null_in]


def left_out_by(evaluation: Mapping[str, Any]) -> list[str]:
    """Columns that are null because of what a study's `evaluate` leaves out.

    Args:
        evaluation: The spec of an evaluation.
    """
    rows = [column for column in COLUMNS.values() if column.null_without]
    return [column.name for column in rows if not evaluation.get(column.null_without)]


def benchmark_columns(task: str) -> dict[str, str]:
    """The two columns of a benchmark and their meanings; they are the last of the runs table."""
    return {
        f"benchmark_{task}": f"score on the benchmark {task}",
        f"benchmark_{task}_stderr": "its standard error over documents",
    }
