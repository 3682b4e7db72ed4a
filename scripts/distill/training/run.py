"""Train one student on one shard, through transformers' Trainer, and write its directory."""

import logging
import math
import os
import pickle
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from distill.contracts.energy import Energy
from distill.core.cards import render_card
from distill.core.checksums import check_files, list_files
from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.core.parquet import check_table
from distill.models.export import save_model
from distill.models.flops import training_passes
from distill.models.forward import is_masked
from distill.models.heads import OutputHead
from distill.models.shared_tokens import Reader
from distill.models.turns import find_turns
from distill.models.vocabulary import FILE, Vocabulary, expand_model
from distill.models.weights import open_weights
from distill.runtime.device import device
from distill.runtime.processes import is_first_process
from distill.training.batches import Item
from distill.training.build import build_trainer
from distill.training.checkpoints import (
    FINISHED,
    RECORD,
    CheckpointOnSignal,
    last_checkpoint,
    prepare_folder,
    publish,
)
from distill.training.micro_batch import RUNNING, holds, mark_running
from distill.training.on_policy import counted
from distill.training.trainer import PROJECTIONS, DistillationTrainer


def counted_work(trainer: DistillationTrainer, train: dict[str, Any]) -> dict[str, Any]:
    """Tokens and FLOPs of training, of as many rows as the updates saw."""
    objective, head, passes = trainer.objective, trainer.objective.head, training_passes(train)
    items: Sequence[Item] = trainer.train_dataset
    once = 0
    for item in items:
        answer = len(item.example.answer)
        soft: Sequence[int] = ()
        targets: Sequence[int] = ()
        if trainer.reader is not None and item.row is not None:
            soft, targets = trainer.reader.positions(item)
        hard = answer if objective.method["ce"] > 0 else 0
        scored = max(hard, len(soft)) if objective.soft else hard
        length = len(item.example.tokens)
        once += passes * trainer.flop_model.sequence_forward(length, scored)
        if objective.soft and head is not None:  # the teacher's head, in each forward pass
            once += 2 * head.weight.numel() * len(targets)
    answers = sum(len(item.example.answer) for item in items)
    epochs = trainer.state.global_step / math.ceil(len(items) / train["batch_size"])
    counted = {
        "tokens_seen": round(answers * epochs),
        "tokens_unique": answers,
        "train_flops": round(once * epochs),
    }
    if aligned := [item for item in items if item.spans is not None]:
        counted["spans"] = _aligned(aligned)
    return counted


def _aligned(items: Sequence[Item]) -> dict[str, float]:
    """Shares of the answers' tokens, the student's and the teacher's, that lie in common spans, and
    of the spans that are one token of both vocabularies."""
    pairs = [(item.spans, item.row or {}, item.example) for item in items if item.spans is not None]
    single = [one for spans, _, _ in pairs for one in spans.single]
    return {
        "student_tokens": sum(len(spans.student) for spans, _, _ in pairs)
        / sum(len(example.answer) for _, _, example in pairs),
        "teacher_tokens": sum(len(spans.teacher) for spans, _, _ in pairs)
        / sum(len(row["response_ids"]) for _, row, _ in pairs),
        "words": sum(single) / len(single),
    }


def _own_head(model: Any, projection: torch.nn.Linear, head: OutputHead) -> None:
    """Make the teacher's head on the projected states the student's own: W_s = W_t P, exactly."""
    weight = head.weight.float() @ projection.weight.detach().float()
    config, old = model.config, model.get_output_embeddings()
    if len(weight) != config.vocab_size:  # heads over one tokenizer are padded differently
        model.resize_token_embeddings(len(weight), mean_resizing=False)
    output = torch.nn.Linear(weight.shape[1], len(weight), bias=old.bias is not None)
    output.weight = torch.nn.Parameter(weight)
    if output.bias is not None:
        torch.nn.init.zeros_(output.bias)
    model.set_output_embeddings(output.to(model.device))
    config.tie_word_embeddings = False
    neutral = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1}
    for name, value in neutral.items():
        if getattr(config, name, None) is not None:
            setattr(config, name, value)


def check_inputs(initial: str | Path, shard: str | Path | None) -> None:
    """Compare the student before training, and its shard if there is one, with their checksums.

    Raises:
        UserError: A file is damaged.
    """
    check_files(initial)
    if shard is not None:
        check_table(shard)


def finished_model(trainer: DistillationTrainer) -> Any:
    """The trained student as it is saved: adapters merged, projections gone or in its head."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    projections = getattr(model, PROJECTIONS, None)
    if projections is not None:
        delattr(model, PROJECTIONS)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()  # weights are fp32: merging in bf16 would move logits
    if projections is not None and trainer.objective.borrows_head:
        assert trainer.objective.head is not None
        _own_head(model, projections["embedding"], trainer.objective.head)
    return model


def with_settings(spec: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The spec with other values of some settings, named method.<key> or train.<key>."""
    merged = dict(spec)
    for key, value in settings.items():
        section, _, name = key.partition(".")
        merged[section] = {**merged[section], name: value}
    return merged


def _run_updates(trainer: DistillationTrainer, resume: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Train, from the last checkpoint if there is one.

    Returns:
        What it took: train_seconds, memory, energy, and the checkpoint that it resumed from.

    Raises:
        UserError: The loss is not a number; a checkpoint is not to be trusted; a signal asked to
            stop before the last update.
    """
    last = last_checkpoint(resume)
    interruption = CheckpointOnSignal()
    trainer.add_callback(interruption)
    try:
        trainer.train(resume_from_checkpoint=last)
    except pickle.UnpicklingError:
        raise UserError(
            f"{last} holds objects other than numbers, which are not loaded because they could "
            f"run code; delete {resume} to train from the start"
        ) from None
    took = {"train_seconds": time.perf_counter() - trainer.began}
    took |= trainer.peak_memory() | trainer.energy().record()
    state = trainer.state
    if diverged(state):
        raise UserError(_not_a_number("the training loss", run))
    if interruption.asked and state.global_step < state.max_steps:
        raise UserError(
            f"training was stopped ({interruption.asked.name}) after {state.global_step} "
            f"of {state.max_steps} updates; the next run resumes from its checkpoint"
        )
    return took | {"resumed_from": Path(last).name if last else None}


def _record_of(
    trainer: DistillationTrainer, train: dict[str, Any], took: dict[str, Any]
) -> dict[str, Any]:
    """The training record of a finished training run.

    Args:
        trainer: That trained.
        train: Its settings.
        took: Of `_run_updates`.
    """
    state = trainer.state
    logging.info("trained for %d updates in %.1f s", state.global_step, took["train_seconds"])
    record = counted_work(trainer, train)
    if trainer.live is not None:
        record |= counted(state.log_history)
    return record | {
        "updates": state.global_step,
        **took,
        "learning_rate": trainer.args.learning_rate,
        "precision": trainer.precision,
        "device": device().type,
        "processes": trainer.args.world_size,
        "micro_batch_size": trainer.args.per_device_train_batch_size,
        "losses": [entry["loss"] for entry in state.log_history if "loss" in entry],
        "terms": _curves(state.log_history),
        "validation": [
            {"update": entry["step"], "loss": entry["eval_loss"]}
            for entry in state.log_history
            if "eval_loss" in entry
        ],
        "best_update": _best_update(state) if train["early_stopping"] else None,
    }


def _save_student(
    model: Any,
    tokenizer: Any,
    vocabulary: Vocabulary | None,
    finished: Path,
    run: dict[str, Any],
    spec: dict[str, Any],
) -> None:
    """Write a student's weights, tokenizer and card."""
    if vocabulary is not None:
        expand_model(model, vocabulary, tokenizer)
        write_json(finished / FILE, vocabulary.record())
    corpus, masked = run.get("corpus"), is_masked(model.config)
    turns = find_turns(tokenizer, spec["formatting"]["template"])
    save_model(model, tokenizer, finished, turns, spec.get("stop"), max_shard_size="1000GB")
    card = {
        "learned": f"chunks of {corpus}" if corpus else f"responses of {run['teacher']}",
        "pipeline": "fill-mask" if masked else "text-generation",
        "auto_class": "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM",
    }
    render_card("student", finished / "README.md", **run, **card)


def train_student(
    initial: str | Path,
    shard: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    run: dict[str, Any],
    tag: str,
    heads: Sequence[str | Path] = (),
    validation: Sequence[str | Path] = (),
    best: str | Path | None = None,
    teacher: str | Path | None = None,
    micro: int | None = None,
    tokens_of: str | Path | None = None,
) -> None:
    """Train a student and write its directory; `out` is its training record, written last.

    Args:
        initial: Directory of the student before training.
        shard: Its training data; None for the n = 0 student, which is saved as it is.
        out: `training.json` in the student's directory.
        spec: formatting, method, train and seed, teacher if a live one is asked, and gpus if this
            is one of so many processes, of which the first writes; stored in the record.
        run: The run's names and numbers, for the model card.
        tag: Names spec, data and code; a checkpoint with another tag is cleared.
        heads: The teacher's output head, for a final_hidden cache.
        validation: Held-out text for early stopping.
        best: best.json of the search that the method names.
        teacher: Directory of the teacher's model, for spans or for live targets.
        micro: Rows per forward pass, if other than the config's.
        tokens_of: Directory with the text's tokenizer, if it is not that of the student's source.
            If they share tokens, the student is saved with it.

    Raises:
        UserError: The shard does not fit the student, or the loss is not a number.
    """
    folder = Path(out).parent
    resume, first = folder / "resume", is_first_process()
    finished = resume / FINISHED
    if holds(resume, tag) and (finished / RECORD).is_file():
        if first:
            publish(finished, Path(out))
        return
    check_inputs(initial, shard)  # before the folder is cleared
    if first:  # which is for one to do
        prepare_folder(folder, tag)
        shutil.rmtree(finished, ignore_errors=True)
    tokens = Reader.of(initial, tokens_of, spec["formatting"]["template"])
    tokenizer, vocabulary = tokens.tokenizer, Vocabulary.load(initial)
    record: dict[str, Any] = {"schema": 1, "spec": spec, "run": run, "updates": 0}
    record |= {"tokens_seen": 0, "tokens_unique": 0, "train_flops": 0, "train_seconds": 0.0}
    record |= {"peak_memory_mb": None, "peak_memory_of": None, **Energy().record()}
    if shard is None:
        model = open_weights(initial, dtype=torch.float32)
    else:
        settings = read_json(best)["settings"] if best else {}
        used = with_settings(spec, settings | ({"train.micro_batch_size": micro} if micro else {}))
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
        trainer = build_trainer(
            initial,
            shard,
            used,
            run["student"],
            resume,
            heads,
            validation,
            teacher=teacher,
            tokens_of=tokens_of,
        )
        if first:  # what a kill left is cleared up
            last_checkpoint(resume)
            mark_running(resume)
            logging.info("%s", trainer.settings())
        trainer.accelerator.wait_for_everyone()
        took = _run_updates(trainer, resume, run)
        if not first:
            return
        record |= _record_of(trainer, used["train"], took) | {"settings": settings}
        model = finished_model(trainer)
        if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
            raise UserError(_not_a_number("a weight", run))
    _save_student(model, tokenizer, vocabulary, finished, run, spec)
    write_json(finished / RECORD, record | {"files": list_files(finished)})
    for checkpoint in resume.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    (resume / RUNNING).unlink(missing_ok=True)
    publish(finished, Path(out))


def _not_a_number(what: str, run: dict[str, Any]) -> str:
    return (
        f"{what} of {run['student']} at n = {run['samples']} became NaN or infinite; lower "
        "train.learning_rate, or use precision bf16 or fp32"
    )


def diverged(state: Any) -> bool:
    """Whether a loss of a training run was not a number."""
    losses = [entry.get("loss", entry.get("eval_loss", 0.0)) for entry in state.log_history]
    return not all(math.isfinite(loss) for loss in losses)


def _curves(history: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Each term of the loss, per update."""
    curves: dict[str, list[float]] = {}
    for entry in history:
        for key, value in entry.items():
            if key.startswith("terms/"):
                curves.setdefault(key.removeprefix("terms/"), []).append(value)
    return curves


def _best_update(state: Any) -> int | None:
    """The update whose weights were kept."""
    path = state.best_model_checkpoint
    return int(Path(path).name.rsplit("-", 1)[-1]) if path else None
