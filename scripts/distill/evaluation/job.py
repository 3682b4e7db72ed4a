"""Evaluate one model from files to files: metrics.json and the responses."""

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.contracts.energy import Energy, energy_of, sum_energy
from distill.contracts.schemas import MASKED_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.files import read_json, sha256_of, write_json, write_text
from distill.core.parquet import read_metadata, read_rows, read_schema, read_table
from distill.core.units import BYTES_PER_MB
from distill.evaluation.answers import ask_model
from distill.evaluation.corpus import evaluate_on_corpus
from distill.evaluation.held_out import NO_REFERENCE, held_out, reference_metrics
from distill.models.batch_mode import modes_of
from distill.models.encoding import encode_rows
from distill.models.flops import count_parameters
from distill.models.heads import load_head
from distill.models.opening import check_kind, load_model, load_teacher, resolve_precision
from distill.models.rows import read_ids
from distill.models.shared_tokens import Reader
from distill.models.vocabulary import Vocabulary
from distill.runtime.device import hardware
from distill.runtime.environment import git_revision, versions
from distill.runtime.out_of_memory import memory_hint

_FROM_TRAINING = (
    "updates", "tokens_seen", "tokens_unique", "train_flops", "train_seconds", "peak_memory_mb",
    "peak_memory_of",
)  # fmt: skip
_REMEDY = "lower evaluate.batch_size (of instructions, evaluate.answers.batch_size)"


def _saved_size_mb(model: Any, folder: Path) -> float:
    """Parameters as saved in safetensors, tied ones once, in MB of 1024^2 bytes."""
    from safetensors import safe_open

    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                part = opened.get_slice(name)
                bits = int("".join(filter(str.isdigit, part.get_dtype())) or 8)
                size = bits // 8
                for side in part.get_shape():
                    size *= side
                total += size
    return total / BYTES_PER_MB


def _served_nats(rows: Sequence[dict[str, Any]], served: Sequence[dict[str, Any]]) -> list[float]:
    """-log q of each answer by the log-probabilities that its server gave."""
    pairs = zip(rows, served, strict=True)
    return [-sum(answer["log_p"][: len(row["response_ids"])]) for row, answer in pairs]


@dataclass(frozen=True)
class _Subject:
    """The evaluated model, loaded."""

    folder: Path
    model: Any
    tokenizer: Any
    vocabulary: Vocabulary | None
    precision: str

    @classmethod
    def opened(
        cls,
        model_file: str | Path,
        rows: Sequence[dict[str, Any]],
        spec: dict[str, Any],
        is_teacher: bool,
        tokens_of: str | Path | None,
    ) -> "_Subject":
        """Load the model for the longest of the held-out rows and reference passages."""
        folder = Path(model_file).parent
        tokenizer = Reader.of(folder, tokens_of).tokenizer
        precision = resolve_precision(spec["precision"])
        longest = max(len(read_ids(row)) for row in rows)
        if spec["reference"] is not None:
            longest = max(longest, spec["reference"]["max_tokens"] + 1)
        if is_teacher:
            settings = spec["scorer"] | {"precision": precision}
            model = load_teacher(folder, settings, sequence=longest)
        else:
            model = load_model(folder, precision=precision, sequence=longest)
        check_kind(model.config, rows, str(folder))
        return cls(folder, model, tokenizer, Vocabulary.load(folder), precision)

    def record(self) -> dict[str, Any]:
        """The model's size and identity."""
        total, body = count_parameters(self.model)
        size = _saved_size_mb(self.model, self.folder)
        if self.vocabulary is not None:  # rows that repeat are one parameter, as tied tables are
            repeated = self.vocabulary.repeated(self.model)
            size, total = size * (1 - repeated / total), total - repeated
        weights = sorted(self.folder.glob("*.safetensors"))
        return {
            "params": total,
            "params_non_embedding": body,
            "size_mb": size,
            "architecture": self.model.config.architectures,
            "sha256": {file.name: sha256_of(file) for file in weights},
        }


def _trained_tokens(
    shard: str | Path, training: dict[str, Any], tokenizer: Any, formatting: dict[str, Any]
) -> Counter[int]:
    """How often each token id was a target in the training set."""
    limit = training["spec"]["train"]["max_length"]
    digest = read_metadata(shard, "tokenizer_sha256")
    if "corpus" in training["spec"]["shard"]:
        digest = tokenizer_sha256(tokenizer)  # of the student's source, with the same ids
    names = [name for name in read_schema(shard).names if name in MASKED_SCHEMA.names]
    rows = read_table(shard, names).to_pylist()  # without the soft targets, which are large
    examples = encode_rows(rows, tokenizer, formatting, digest, limit)
    return Counter(token for example in examples for token in example.answer)


def _training_record(training: dict[str, Any]) -> dict[str, Any]:
    """The part of a student's training record that metrics.json repeats."""
    record = {name: training[name] for name in _FROM_TRAINING}
    # Not of a student that was not trained.
    record |= {name: training.get(name) for name in ("precision", *Energy().record())}
    if "target_flops" in training:  # a live teacher's
        record["target_flops"] = training["target_flops"]
    return record


def _passages(reference: str | Path | None, spec: dict[str, Any]) -> list[str]:
    """The reference text; none without one."""
    rows = read_rows(reference) if reference is not None else []
    return [row["text"] for row in rows[: spec["reference"]["passages"]]] if rows else []


def _scoring_job(states: Sequence[str | Path]) -> dict[str, Any]:
    """Memory and energy of the jobs in which a teacher wrote or scored the held-out text."""
    jobs = [read_metadata(path, "job") for path in states]
    largest: dict[str, Any] = max(jobs, key=lambda job: float(job["peak_memory_mb"]))
    return largest | sum_energy(energy_of(job, "energy_") for job in jobs).record()


def _responses(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the held-out answers end, and how long they are."""
    return {
        "rows": len(rows),
        "finished_share": sum(row["finish_reason"] == "stop" for row in rows) / len(rows),
        "mean_tokens": sum(len(row["response_ids"] or []) for row in rows) / len(rows),
    }


def _instructed(
    subject: _Subject,
    rows: Sequence[dict[str, Any]],
    passages: Sequence[str],
    spec: dict[str, Any],
    validation: Sequence[str | Path],
    instructions: Sequence[str | Path],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics on answers to instructions and on the reference text (if any), and the answers."""
    model, tokenizer = subject.model, subject.tokenizer
    tuned = read_rows(validation)[: spec["reference_answers"]] if validation else []
    sections, answers = ask_model(model, tokenizer, rows, spec, tuned, instructions)
    sections["reference"] = NO_REFERENCE
    if passages:
        most, size = spec["reference"]["max_tokens"], spec["batch_size"]
        sections["reference"] = reference_metrics(model, tokenizer, passages, most, size)
    return sections, answers


def evaluate_model(
    model: str | Path,
    texts: Sequence[str | Path],
    states: Sequence[str | Path],
    head: str | Path | None,
    reference: str | Path | None,
    training: str | Path | None,
    shard: str | Path | None,
    spec: dict[str, Any],
    metrics: str | Path,
    responses: str | Path,
    served: Sequence[str | Path] = (),
    validation: Sequence[str | Path] = (),
    instructions: Sequence[str | Path] = (),
    tokens_of: str | Path | None = None,
) -> None:
    """Measure a model and write its record.

    Args:
        model: A file in the model's directory.
        texts: The teacher's held-out text.
        states: The teacher's final hidden states on it, in the same order; none without a model.
        head: The teacher's output head; None without a model.
        reference: Rows of the reference text's data set; None without one.
        training: The student's training record; None for a teacher.
        shard: The student's training data; None at n = 0 and for a teacher.
        spec: The evaluation's settings; stored in the record.
        metrics: Output, JSON.
        responses: Output, JSON lines.
        served: The server's answers that the text was taken from, where they give its loss.
        validation: Text for the validation prompts, if the study answers them.
        instructions: Files of the study's own verifiable instructions, if it has some.
        tokens_of: Directory with the text's tokenizer, if it is not the model's.

    Raises:
        UserError: The text does not fit the model; a loss has no finite perplexity; memory ran out.
    """
    with memory_hint(f"evaluating {spec['batch_size']} rows at once", _REMEDY):
        start, rows = time.perf_counter(), read_rows(texts)
        subject = _Subject.opened(
            model, rows, spec, is_teacher=training is None, tokens_of=tokens_of
        )
        opened, tokenizer = subject.model, subject.tokenizer
        training_record = read_json(training) if training is not None else None
        trained = Counter[int]()
        if shard is not None and training_record is not None:
            trained = _trained_tokens(shard, training_record, tokenizer, spec["formatting"])
        heldout = held_out(
            opened,
            tokenizer,
            rows,
            read_rows(states),
            load_head(head, opened.device) if head else None,
            read_metadata(texts[0], "tokenizer_sha256"),
            trained,
            spec,
            subject.vocabulary,
            _served_nats(rows, read_rows(served)) if served else [],
            is_teacher=training is None,
        )
        passages = _passages(reference, spec)
        on_corpus, answers = "corpus" in spec["text"], list[dict[str, Any]]()
        if on_corpus:
            sections = evaluate_on_corpus(opened, tokenizer, rows, passages, spec)
        else:
            sections, answers = _instructed(subject, rows, passages, spec, validation, instructions)
        record: dict[str, Any] = {
            "schema": 1,
            "spec": spec,
            "model": subject.record(),
            "heldout": heldout,
            **sections,
            "responses": None if on_corpus else _responses(rows),
            "precision": subject.precision,
            "batching": modes_of(subject.model),
            "hardware": hardware(),
            "versions": versions(),
            "git": git_revision(),
            "evaluate_seconds": time.perf_counter() - start,
        }
    if training_record is None:
        record["job"] = _scoring_job(states)
    else:
        record |= {"run": training_record["run"], "training": _training_record(training_record)}
    write_text(responses, "".join(json.dumps(answer) + "\n" for answer in answers))
    record["responses_sha256"] = sha256_of(responses)
    logging.info("loss %.4f in %.0f s", heldout["loss"], record["evaluate_seconds"])
    write_json(metrics, record)
