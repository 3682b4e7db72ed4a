"""The columns of the runs table, in order: one row each.

A row says what a column means, where its value is read, and when it may be null. The runs table,
the report's tables and the reference page follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CORPUS = ("causal-lm", "masked-lm")
"""Tasks of a corpus, where nothing is asked; the fixed reference text may be left out there."""
_UNMASKED = ("instruction", "causal-lm")


@dataclass(frozen=True)
class Column:
    """A column of the runs table.

    Attributes:
        name: Of the column.
        meaning: In a few words, without the unit.
        path: Where a run's value is read, keys with dots between them. The first key is a section
            of the student's metrics.json, or `study` (study, task, init), `run` (fields of `Run`),
            `speed` (the record of the architecture's speed), `cache` (that of the soft targets),
            `costs` (see `distill.table.teacher_costs`, and totals) or `scores` (combined scores).
        unit: Empty for names, counts, shares and scores.
        text: Whether it holds names rather than numbers.
        measured: Whether it depends on the clock or the machine: such columns alone may differ
            between identical runs.
        nullable: Whether it may be null in any task.
        null_in: Tasks to which it does not apply.
        groups: Titles of the report's tables that show it.
        digits: Significant digits that the report shows.
        teacher: Whether references.json holds the same of each teacher that is a model.
    """

    name: str
    meaning: str
    path: str
    unit: str = ""
    text: bool = False
    measured: bool = False
    nullable: bool = False
    null_in: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    digits: int = 3
    teacher: bool = False

    def read(self, sections: Mapping[str, Any]) -> Any:
        """The value at `path`; None where a section on the way is null or lacks the key."""
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
        "task", "what the models do: instruction, causal-lm or masked-lm", "study.task", text=True
    ),
    Column(
        "teacher",
        "whose text was learned; for a corpus, who judges and gives soft targets",
        "run.teacher",
        text=True,
    ),
    Column("student", "name of the student", "run.student", text=True),
    Column(
        "init",
        "how the student began: cut, pretrained or random",
        "study.init",
        text=True,
        groups=("Students",),
    ),
    Column(
        "method", "weighted losses; none for the student before training", "run.method", text=True
    ),
    Column("curation", "which rows were kept", "run.curation", text=True),
    Column(
        "cache",
        "which soft targets were read; none for text alone, live for a live teacher's",
        "run.cache",
        text=True,
    ),
    Column(
        "samples", "teacher responses in the training set, or chunks of a corpus", "run.samples"
    ),
    Column("seed", "seed of optimiser noise", "run.seed"),
    Column("draw", "which permutation of the pool", "run.draw"),
    Column(
        "params", "parameters, tied ones once", "model.params", groups=("Students",), teacher=True
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
        "answer tokens trained on, repeats and the student's own answers counted",
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
        "loss_stderr",
        "its standard error over prompts (all runs share the prompts)",
        "heldout.loss_stderr",
        "nats",
        teacher=True,
    ),
    Column(
        "loss_teacher",
        "the teacher's own cross-entropy there",
        "heldout.loss_teacher",
        "nats",
        nullable=True,
    ),
    Column(
        "reference_loss",
        "cross-entropy on the fixed reference text, per token",
        "reference.loss",
        "nats",
        null_in=_CORPUS,
        groups=("Quality",),
        digits=4,
        teacher=True,
    ),
    Column(
        "perplexity",
        "exp(loss); of a masked model its masked perplexity: a share of tokens is hidden at once",
        "heldout.perplexity",
        groups=("Quality",),
        teacher=True,
    ),
    Column(
        "pseudo_perplexity",
        "exp of the mean loss of tokens hidden one at a time (task masked-lm)",
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
        "the least kl_teacher that the student's vocabulary allows: 0 unless it is trimmed",
        "heldout.kl_floor",
        "nats",
        nullable=True,
    ),
    Column(
        "top1_agreement",
        "share of held-out tokens at which both find the same token likeliest",
        "heldout.top1_agreement",
        nullable=True,
        groups=("Quality",),
    ),
    Column(
        "ece",
        "expected calibration error of the likeliest held-out token, 15 bins of equal mass",
        "heldout.ece",
        groups=("Quality",),
        teacher=True,
    ),
    Column(
        "bleu",
        "sentence BLEU of answers against the data set's own, mean (smoothing 4)",
        "answers.bleu",
        nullable=True,
        null_in=_CORPUS,
        groups=("Answers compared with the data set's own",),
    ),
    Column(
        "rouge_l",
        "ROUGE-L F-measure of the same answers, mean",
        "answers.rouge_l",
        nullable=True,
        null_in=_CORPUS,
        groups=("Answers compared with the data set's own",),
    ),
    Column(
        "bleu_validation",
        "the same BLEU on validation prompts, which training and settings have seen",
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
        "lower end of its 95 % Wilson interval",
        "instructions.fixed.low",
        null_in=_CORPUS,
        teacher=True,
    ),
    Column("pass_rate_high", "upper end", "instructions.fixed.high", null_in=_CORPUS, teacher=True),
    Column(
        "pass_rate_large",
        "share of the generated instructions met",
        "instructions.large.rate",
        null_in=_CORPUS,
        teacher=True,
    ),
)
_SPEED = (
    Column(
        "tokens_per_second",
        "128 forced new tokens at batch 1 over mean latency; of a masked model, tokens of a "
        "forward pass over its mean latency",
        "speed.tokens_per_second",
        "tokens/s",
        measured=True,
        groups=("Students",),
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
        "work of a forward pass per generated token at context 128; of a masked model, per token "
        "to be found in a chunk",
        "speed.flops_per_token",
        "FLOPs",
        groups=("Students",),
        teacher=True,
    ),
)
_COSTS = (
    _work(
        "train_flops",
        "work of training, the student's own sampling included",
        "training.train_flops",
    ),
    _work(
        "teacher_flops",
        "work of writing this run's prompts and responses, discarded ones included",
        "costs.teacher_flops",
    ),
    _work(
        "teacher_flops_amortised",
        "the same, each row's cost split over the runs that use it",
        "costs.teacher_flops_amortised",
    ),
    _work(
        "target_flops",
        "work of soft targets: scoring passes and heads, also of a live teacher",
        "costs.target_flops",
    ),
    _work(
        "target_flops_amortised",
        "the same, each row's cost split over the runs that read that cache",
        "costs.target_flops_amortised",
    ),
    _work(
        "total_flops",
        "work of training, teacher text and soft targets together: this run alone",
        "costs.total_flops",
    ),
    _work(
        "total_flops_amortised",
        "the same, what the teacher did split over the runs that use it",
        "costs.total_flops_amortised",
    ),
    Column(
        "cache_bytes_per_token",
        "size of the soft targets in files; null for text alone, 0 if live",
        "cache.bytes_per_token",
        "bytes",
        nullable=True,
    ),
    Column(
        "cache_kept_mass",
        "mean share of q that the soft targets keep word by word",
        "cache.kept_mass",
        nullable=True,
    ),
    Column(
        "cache_entropy", "mean entropy of q at their tokens", "cache.entropy", "nats", nullable=True
    ),
    Column(
        "train_seconds",
        "time of training, a live teacher's included",
        "training.train_seconds",
        "s",
        measured=True,
        groups=("Training", "Seconds"),
    ),
    Column(
        "train_peak_memory_mb",
        "peak memory of training: of its GPUs, or else its processes",
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
        null_in=_CORPUS,
        groups=("Scores",),
    ),
    Column(
        "combined_normalised",
        "the same on fixed anchors, each part between 0 and 1",
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
    _seconds("teacher_seconds", "time of writing prompts and responses, discarded ones included"),
    _seconds("teacher_seconds_amortised", "the same, split over the runs that use each row"),
    _seconds("target_seconds", "time of making this run's soft targets"),
    _seconds("target_seconds_amortised", "the same, split over the runs that use each row"),
    Column(
        "reference_bits_per_byte",
        "loss on the reference text per byte",
        "reference.bits_per_byte",
        "bits",
        null_in=_CORPUS,
        teacher=True,
    ),
    _energy("train_kwh", "energy of training, a live teacher's included"),
    _energy("teacher_kwh", "energy of writing prompts and responses, discarded ones included"),
    _energy("teacher_kwh_amortised", "the same, split over the runs that use each row"),
    _energy("target_kwh", "energy of making this run's soft targets"),
    _energy("target_kwh_amortised", "the same, split over the runs that use each row"),
    _energy("total_kwh", "training, teacher text and soft targets together: this run alone"),
    _energy(
        "total_kwh_amortised", "the same, what the teacher did split over the runs that use it"
    ),
    _energy(
        "kwh_estimated",
        "share of total_kwh_amortised that is an estimate, which no counter measured",
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
"""Columns of names; all others hold numbers."""
MEASURED = [column.name for column in COLUMNS.values() if column.measured]
"""The only columns that may differ between identical runs."""


def columns_of(group: str) -> list[str]:
    """Names of the columns that one of the report's tables shows."""
    return [column.name for column in COLUMNS.values() if group in column.groups]


def keys_in(section: str) -> list[str]:
    """Keys of a section of metrics.json that columns read; not those of sections in it."""
    paths = [column.path.split(".") for column in COLUMNS.values()]
    return [path[1] for path in paths if path[0] == section and len(path) == 2]


def nullable_in(task: str) -> list[str]:
    """Columns that may be null in a study of a task."""
    rows = COLUMNS.values()
    return [column.name for column in rows if column.nullable or task in column.null_in]


def benchmark_columns(task: str) -> dict[str, str]:
    """The two columns of a benchmark with their meaning, at the end of a table that has it."""
    return {
        f"benchmark_{task}": f"score on the benchmark {task}",
        f"benchmark_{task}_stderr": "its standard error over documents",
    }
