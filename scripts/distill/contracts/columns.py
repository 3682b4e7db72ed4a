"""The columns of the runs table: their order, their meaning, and which depend on the clock."""

COLUMNS = {
    "study": "name of the study",
    "task": "what the models do: instruction, causal-lm or masked-lm",
    "teacher": "whose text was learned; for a corpus, who judges and gives soft targets",
    "student": "name of the student",
    "init": "how the student began: cut, pretrained or random",
    "method": "weighted losses; none for the student before training",
    "curation": "which rows were kept",
    "cache": "which soft targets were read; none for text alone, live for a live teacher's",
    "samples": "teacher responses in the training set, or chunks of a corpus",
    "seed": "seed of optimiser noise",
    "draw": "which permutation of the pool",
    "params": "parameters, tied ones once",
    "params_non_embedding": "parameters without embeddings and output head",
    "updates": "optimiser steps",
    "tokens_seen": "answer tokens trained on, repeats and the student's own answers counted",
    "tokens_unique": "answer tokens in the training set",
    "unseen_token_share": "share of held-out answer tokens that were never a training target",
    "loss": "cross-entropy on held-out text (the teacher's, or a corpus's), nats per answer token "
    "(of a masked model: per masked token)",
    "loss_stderr": "its standard error over prompts (all runs share the prompts)",
    "loss_teacher": "the teacher's own cross-entropy there",
    "reference_loss": "cross-entropy on the fixed reference text, nats per token",
    "perplexity": "exp(loss); of a masked model its masked perplexity: a share of tokens is hidden "
    "at once",
    "pseudo_perplexity": "exp of the mean loss of tokens hidden one at a time (task masked-lm)",
    "bits_per_byte": "held-out loss per byte of text, EOS included",
    "kl_teacher": "KL(q || student) on held-out text, whatever the method, nats per token",
    "kl_floor": "the least kl_teacher that the student's vocabulary allows: 0 unless it is trimmed",
    "top1_agreement": "share of held-out tokens at which both find the same token likeliest",
    "ece": "expected calibration error of the likeliest held-out token, 15 bins of equal mass",
    "bleu": "sentence BLEU of answers against the data set's own, mean (smoothing 4)",
    "rouge_l": "ROUGE-L F-measure of the same answers, mean",
    "bleu_validation": "the same BLEU on validation prompts, which training and settings have seen",
    "pass_rate": "share of the 50 fixed verifiable instructions met",
    "pass_rate_low": "lower end of its 95 % Wilson interval",
    "pass_rate_high": "upper end",
    "pass_rate_large": "share of the generated instructions met",
    "tokens_per_second": "128 forced new tokens at batch 1 over mean latency; of a masked model, "
    "tokens of a forward pass over its mean latency",
    "tokens_per_second_median": "the same over median latency",
    "ttft_ms": "time to the first token, median, ms",
    "forward_ms": "time of a masked model's forward pass over evaluate.latency_batch chunks, "
    "median, ms",
    "size_mb": "parameters as saved, MB of 1024^2 bytes",
    "peak_memory_mb": "peak memory of generation, MB",
    "flops_per_token": "forward FLOPs per generated token at context 128; of a masked model, per "
    "token to be found in a chunk",
    "train_flops": "FLOPs of training, the student's own sampling included",
    "teacher_flops": "FLOPs of writing this run's prompts and responses, discarded ones included",
    "teacher_flops_amortised": "the same, each row's cost split over the runs that use it",
    "target_flops": "FLOPs of soft targets: scoring passes and heads, also of a live teacher",
    "target_flops_amortised": "the same, each row's cost split over the runs that read that cache",
    "total_flops": "training, teacher text and soft targets together: this run alone",
    "total_flops_amortised": "the same, what the teacher did split over the runs that use it",
    "cache_bytes_per_token": "size of the soft targets in files; null for text alone, 0 if live",
    "cache_kept_mass": "mean share of q that the soft targets keep word by word",
    "cache_entropy": "mean entropy of q at their tokens, nats",
    "train_seconds": "seconds of training, a live teacher's included",
    "train_peak_memory_mb": "peak memory of training, MB: of its GPUs, or else its processes",
    "combined": "w1 / perplexity + w2 * pass_rate + w3 * tokens_per_second, as published",
    "combined_normalised": "the same on fixed anchors, each part between 0 and 1",
    "combined_mean": "mean of the normalised perplexity and the pass rate",
    "teacher_seconds": "seconds of writing prompts and responses, discarded ones included",
    "teacher_seconds_amortised": "the same, split over the runs that use each row",
    "target_seconds": "seconds of making this run's soft targets",
    "target_seconds_amortised": "the same, split over the runs that use each row",
    "reference_bits_per_byte": "bits per byte on the reference text",
    "train_kwh": "energy of training, kWh, a live teacher's included",
    "teacher_kwh": "energy of writing prompts and responses, kWh, discarded ones included",
    "teacher_kwh_amortised": "the same, split over the runs that use each row",
    "target_kwh": "energy of making this run's soft targets, kWh",
    "target_kwh_amortised": "the same, split over the runs that use each row",
    "total_kwh": "training, teacher text and soft targets together, kWh: this run alone",
    "total_kwh_amortised": "the same, what the teacher did split over the runs that use it",
    "kwh_estimated": "share of total_kwh_amortised that is an estimate, which no counter measured",
}
"""Columns of the runs table, in order, with their meaning."""
TEXTS = ["study", "task", "teacher", "student", "init", "method", "curation", "cache"]
"""Columns of names; all others hold numbers."""
ENERGY = [
    "train_kwh",
    "teacher_kwh",
    "teacher_kwh_amortised",
    "target_kwh",
    "target_kwh_amortised",
    "total_kwh",
    "total_kwh_amortised",
    "kwh_estimated",
]
"""Columns of energy, in kWh, and what share of it is estimated."""
MEASURED = [
    "tokens_per_second",
    "tokens_per_second_median",
    "ttft_ms",
    "forward_ms",
    "peak_memory_mb",
    "train_seconds",
    "train_peak_memory_mb",
    "combined",
    "combined_normalised",
    "teacher_seconds",
    "teacher_seconds_amortised",
    "target_seconds",
    "target_seconds_amortised",
    *ENERGY,
]
"""Columns that depend on the clock or the machine: the only ones that may differ between identical
runs."""
ASKED = [
    "pass_rate",
    "pass_rate_low",
    "pass_rate_high",
    "pass_rate_large",
    "combined",
    "bleu",
    "bleu_validation",
    "rouge_l",
]
"""Columns of what models answer: null in a study of a corpus, where nothing is asked."""
REFERENCE = ["reference_loss", "reference_bits_per_byte"]
"""Columns of the reference text, which a study of a corpus may leave out."""
NULL_IN = {
    "instruction": ["pseudo_perplexity", "forward_ms"],
    "causal-lm": [*ASKED, *REFERENCE, "pseudo_perplexity", "forward_ms"],
    "masked-lm": [*ASKED, *REFERENCE, "bits_per_byte", "ttft_ms"],
}
"""By task, the columns that do not apply to it."""
NULLABLE = [
    "loss_teacher",
    "kl_teacher",
    "kl_floor",
    "top1_agreement",
    "bleu",
    "rouge_l",
    "bleu_validation",
    "train_peak_memory_mb",
    "cache_bytes_per_token",
    "cache_kept_mass",
    "cache_entropy",
    "combined_normalised",
    "combined_mean",
    *ENERGY,
]
"""Columns that are null without a teacher's tokens or model, reference answers, a cache or a known
energy, in any task."""


def benchmark_columns(task: str) -> dict[str, str]:
    """The two columns of a benchmark with their meaning, at the end of a table that has it."""
    return {
        f"benchmark_{task}": f"score on the benchmark {task}",
        f"benchmark_{task}_stderr": "its standard error over documents",
    }
