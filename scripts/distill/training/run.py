"""Train one student on one shard, through transformers' Trainer."""

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
from transformers import AutoConfig, EarlyStoppingCallback, PrinterCallback, TrainingArguments

from distill.contracts.energy import Energy
from distill.core.cards import render_card
from distill.core.checksums import SAFE, check_files, list_files, tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.core.parquet import check_table, read_metadata, read_rows
from distill.models.encoding import OTHER_TOKENS, collate, encode_rows
from distill.models.flops import FlopModel, training_passes
from distill.models.forward import is_masked, model_class
from distill.models.heads import OutputHead, load_head
from distill.models.opening import attention_for, check_context, check_kind, resolve_precision
from distill.models.tokenizers import load_tokenizer
from distill.models.vocabulary import FILE, Vocabulary, add_spread, expand_model
from distill.runtime.device import device
from distill.runtime.processes import is_first_process
from distill.training.batches import LAST, Item, TargetReader
from distill.training.checkpoints import (
    FINISHED,
    RECORD,
    CheckpointOnSignal,
    SkipShortCheckpoint,
    last_checkpoint,
    prepare_folder,
    publish,
)
from distill.training.micro_batch import RUNNING, holds, mark_running, micro_batch
from distill.training.objective import Objective
from distill.training.on_policy import LiveTeacher, counted, live_targets
from distill.training.spans import Aligner
from distill.training.trainer import PROJECTIONS, DistillationTrainer


def _saving(train: dict[str, Any], keep: bool) -> dict[str, Any]:
    """When to evaluate and to save: for resuming, for the best checkpoint, or never."""
    stopping = train["early_stopping"]
    if keep and not stopping:
        if not train["checkpoint_updates"]:
            return {"save_strategy": "no"}
        return {"save_strategy": "steps", "save_steps": train["checkpoint_updates"]}
    every, when = (stopping or {}).get("every"), "epoch"
    settings: dict[str, Any] = {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    if every:
        settings, when = settings | {"eval_steps": every, "save_steps": every}, "steps"
    return settings | {
        "eval_strategy": when,
        "save_strategy": when if keep else "no",
        "load_best_model_at_end": keep,
    }


def _arguments(
    train: dict[str, Any], precision: str, seed: int, resume: Path, keep: bool, processes: int,
    projected: bool,
) -> TrainingArguments:  # fmt: skip
    micro, on_cpu = micro_batch(train, processes), device().type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(resume),
        num_train_epochs=train["epochs"],
        max_steps=train["max_updates"] or -1,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=train["batch_size"] // (micro * processes),
        activation_checkpointing=train["gradient_checkpointing"],
        activation_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=train["learning_rate"],
        lr_scheduler_type=train["schedule"],
        warmup_steps=train["warmup_ratio"],
        weight_decay=train["weight_decay"],
        max_grad_norm=train["max_grad_norm"],
        optim="adamw_torch_fused",
        fp16=precision == "fp16",
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and processes > 1 else None,
        # Projections are no part of the forward pass, so that they would be taken for unused.
        ddp_find_unused_parameters=not projected,
        ddp_broadcast_buffers=False,  # none is learned
        seed=seed,
        data_seed=seed,
        # With one the library would remove the last checkpoint where another is the best.
        save_total_limit=2 if keep and train["early_stopping"] else 1,
        **_saving(train, keep),
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would log a NaN loss as 0
        report_to=["tensorboard"] if keep else [],
        remove_unused_columns=False,
        # On a GPU the next batch is copied while the last one is computed.
        dataloader_pin_memory=not on_cpu,
        accelerator_config={"non_blocking": not on_cpu},
        average_tokens_across_devices=False,  # get_batch_samples counts over all processes
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=False,
    )
    if arguments.n_gpu > 1:  # else it would split and enlarge batches over all GPUs that it sees
        arguments._n_gpu = 1
    return arguments


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
    of the spans that are one word of both vocabularies."""
    pairs = [(item.spans, item.row or {}, item.example) for item in items if item.spans is not None]
    words = [word for spans, _, _ in pairs for word in spans.word]
    return {
        "student_tokens": sum(len(spans.own) for spans, _, _ in pairs)
        / sum(len(example.answer) for _, _, example in pairs),
        "teacher_tokens": sum(len(spans.theirs) for spans, _, _ in pairs)
        / sum(len(row["response_ids"]) for _, row, _ in pairs),
        "words": sum(words) / len(words),
    }


def load_items(
    shard: str | Path,
    tokenizer: Any,
    spec: dict[str, Any],
    objective: Objective,
    config: Any,
    aligner: Aligner | None = None,
) -> tuple[list[Item], TargetReader | None]:
    """Training examples of a shard, and the reader of their soft targets if the method has any.

    Raises:
        UserError: The soft targets are of another tokenizer than the student's, or are read by
            spans and are not; or the student is a causal model and its rows are masked chunks, or
            the reverse.
    """
    rows, digest = read_rows(shard), read_metadata(shard, "tokenizer_sha256")
    check_kind(config, rows, "the student")
    if "corpus" in spec.get("shard", {}) and tokenizer_sha256(tokenizer) != digest:
        raise UserError(
            "the chunks of a corpus are in the tokens of the student's source, but the student's "
            "tokenizer is another; a method with corpus needs the source's own"
        )
    if "corpus" in spec.get("shard", {}).get("text", {}) and tokenizer_sha256(tokenizer) != digest:
        raise UserError(OTHER_TOKENS)
    length = spec["train"]["max_length"]
    examples = encode_rows(rows, tokenizer, spec["formatting"], digest, length)
    if not objective.reads_targets:
        return [Item(example) for example in examples], None
    method, cache = spec["method"], spec["shard"].get("cache")
    across = [name for name in objective.soft if name in ("uld", "spans")]
    same = tokenizer_sha256(tokenizer) == digest
    if not same and (len(across) < len(objective.soft) or objective.needs_states):
        raise UserError(
            "the student's tokenizer is not the teacher's, so their distributions over tokens "
            "cannot be compared; use a cross-tokenizer method (spans, uld), or ce on the text alone"
        )
    if same and "spans" in across:
        raise UserError(
            "the student's tokenizer is the teacher's, so spans has nothing to align; use "
            "forward_kl in its place"
        )
    if cache is None:  # a live teacher's
        return [Item(example, row) for example, row in zip(examples, rows, strict=True)], None
    head = objective.head
    vocabulary, width = 0, 0
    if cache["scheme"] == "final_hidden":
        assert head is not None
        width = head.weight.shape[1]
    else:
        vocabulary = read_metadata(shard, "vocabulary")
    reader = TargetReader(method, cache, vocabulary, width)
    items = [Item(example, row) for example, row in zip(examples, rows, strict=True)]
    if aligner is None:
        return items, reader
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        spans = aligner.spans(row["response_ids"], example.answer, row["response"])
        items[number] = Item(example, row, spans)
    if not any(item.spans and item.spans.own for item in items):
        raise UserError(
            "the student's tokenizer and the teacher's have no span of any answer in common, so "
            "spans has nothing to compare; use uld, or ce on the text alone"
        )
    return items, reader


def _with_adapters(model: Any, lora: dict[str, Any]) -> Any:
    """The model with low-rank adapters (Hu 2021, LoRA), all else frozen."""
    from peft import LoraConfig, get_peft_model  # seconds of imports that other runs need not pay

    settings = LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
        target_modules=lora["targets"],
        task_type=None if is_masked(model.config) else "CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, settings)


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
    for name, none in (("final_logit_softcapping", None), ("logit_scale", 1), ("logits_scaling", 1)):  # fmt: skip  # noqa: E501
        if getattr(config, name, None) is not None:
            setattr(config, name, none)


def _check_layers(config: Any, layers: Sequence[Any], name: str) -> None:
    deepest = config.num_hidden_layers
    if wrong := [layer for layer in layers if layer != LAST and int(layer) > deepest]:
        raise UserError(
            f"{name} has layers 0 to {deepest} but the method matches its layer {wrong[0]}; "
            "correct hidden.layers, which reads {student layer: teacher layer}"
        )


def check_inputs(initial: str | Path, shard: str | Path | None) -> None:
    """Compare the student before training, and its shard if there is one, with their checksums.

    Raises:
        UserError: A file is damaged.
    """
    check_files(initial)
    if shard is not None:
        check_table(shard)


def build_trainer(
    initial: str | Path,
    shard: str | Path,
    spec: dict[str, Any],
    name: str,
    resume: Path,
    heads: Sequence[str | Path] = (),
    validation: Sequence[str | Path] = (),
    callbacks: Sequence[Any] = (),
    keep: bool = True,
    teacher: str | Path | None = None,
) -> DistillationTrainer:
    """A trainer of one student on one shard, with a device, precision and loss of its spec.

    Args:
        initial: Directory of the student before training.
        shard: Its training data.
        spec: formatting, method, train, shard and seed, and teacher if a live one is asked.
        name: The student's name, for errors.
        resume: Directory of checkpoints.
        heads: The teacher's output head, for a final_hidden cache.
        validation: Held-out text for early stopping or a search.
        callbacks: Further callbacks of the library.
        keep: False for a trial: evaluated on the validation text, but nothing is saved.
        teacher: Directory of the teacher's model, for spans or to be asked live.

    Raises:
        UserError: The shard does not fit the student.
    """
    tokenizer, train = load_tokenizer(initial), spec["train"]
    head = load_head(heads[0], device()) if heads else None
    vocabulary = Vocabulary.load(initial)
    cache, aligner = spec["shard"].get("cache"), None
    asked = teacher is not None and "teacher" in spec
    if asked:
        cache = live_targets(spec["method"], spec["teacher"])
    elif teacher is not None:
        aligner = Aligner(load_tokenizer(teacher), tokenizer)
    words = aligner.words if aligner else None
    objective = Objective(spec["method"], cache, head, vocabulary, words)
    config = AutoConfig.from_pretrained(initial, **SAFE)
    items, reader = load_items(shard, tokenizer, spec, objective, config, aligner)
    live = LiveTeacher(teacher, spec, tokenizer, items, objective) if asked and teacher else None
    held_out: list[Item] = []
    if validation:
        digest = read_metadata(validation[0], "tokenizer_sha256")
        rows = read_rows(validation)
        held_out = [
            Item(example)
            for example in encode_rows(
                rows, tokenizer, spec["formatting"], digest, train["max_length"]
            )
        ]
    if vocabulary is not None:
        items = [Item(vocabulary.encode(item.example), item.row) for item in items]
        held_out = [Item(vocabulary.encode(item.example)) for item in held_out]
    lengths = [len(item.example.tokens) for item in items + held_out]
    length = max(lengths if live is None else [*lengths, live.longest])
    check_context(config, length, name)
    if rule := train["width_rule"]:
        rate = train["learning_rate"] * (config.hidden_size / rule["at"]) ** rule["power"]
        train = {**train, "learning_rate": rate}
    if spec["method"]["hidden"]:
        _check_layers(config, list(spec["method"]["hidden"]["layers"]), name)
    attention = None if train["gradient_checkpointing"] else attention_for(length)
    model = model_class(config).from_pretrained(
        initial, dtype=torch.float32, use_safetensors=True, attn_implementation=attention, **SAFE
    )
    flop_model = FlopModel.from_model(model)
    if vocabulary is not None:
        add_spread(model, vocabulary)
    if train["lora"]:
        torch.manual_seed(spec["seed"])
        model = _with_adapters(model, train["lora"])
    if objective.needs_states:
        torch.manual_seed(spec["seed"])
        layers = 0
        if spec["method"]["hidden"] and reader is not None:
            layers = reader.collate(items[:1], 0)["layers"].shape[-1]
        model.add_module(PROJECTIONS, objective.projections(config.hidden_size, layers))
    precision = resolve_precision(train["precision"])
    if precision == "fp16" and device().type == "cpu":
        raise UserError("fp16 needs a GPU to train; set train.precision to auto, bf16 or fp32")
    pad = tokenizer.pad_token_id
    if vocabulary is not None:
        pad = int(vocabulary.ids[pad])

    def gather(batch: list[Item]) -> dict[str, Any]:
        if live is not None and batch[0].row is not None:
            return {"items": batch}  # collated with the answers that its update learns
        if reader is not None and batch[0].row is not None:
            return reader.collate(batch, pad)
        return collate([item.example for item in batch], pad)

    stop = train["early_stopping"]
    trainer = DistillationTrainer(
        objective,
        reader,
        precision,
        flop_model,
        live,
        model=model,
        args=_arguments(
            train, precision, spec["seed"], resume, keep, spec.get("gpus", 1),
            objective.needs_states,
        ),
        train_dataset=items,
        eval_dataset=held_out or None,
        data_collator=gather,
        callbacks=[
            *([EarlyStoppingCallback(stop["patience"])] if stop else []), SkipShortCheckpoint(),
            *callbacks,
        ],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    votes = trainer.over_processes([int(precision == "bf16")])[0]
    if precision == "bf16" and votes < trainer.args.world_size:  # each timed it for `auto`
        trainer.precision = "fp32"
    return trainer


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
        teacher: Directory of the teacher's model, for spans or to be asked live.
        micro: Rows per forward pass, if other than the config's.

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
    tokenizer, vocabulary = load_tokenizer(initial), Vocabulary.load(initial)
    record: dict[str, Any] = {"schema": 1, "spec": spec, "run": run, "updates": 0}
    record |= {"tokens_seen": 0, "tokens_unique": 0, "train_flops": 0, "train_seconds": 0.0}
    record |= {"peak_memory_mb": None, "peak_memory_of": None, **Energy().record()}
    if shard is None:
        model = model_class(AutoConfig.from_pretrained(initial, **SAFE)).from_pretrained(
            initial, dtype=torch.float32, use_safetensors=True, **SAFE
        )
    else:
        settings = read_json(best)["settings"] if best else {}
        used = with_settings(spec, settings | ({"train.micro_batch_size": micro} if micro else {}))
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
        trainer = build_trainer(
            initial, shard, used, run["student"], resume, heads, validation, teacher=teacher
        )
        if first:  # what a kill left is cleared up
            last_checkpoint(resume)
            mark_running(resume)
            logging.info("%s", trainer.settings())
        trainer.accelerator.wait_for_everyone()
        last = last_checkpoint(resume)
        interruption = CheckpointOnSignal()
        trainer.add_callback(interruption)
        try:
            trainer.train(resume_from_checkpoint=last)
        except pickle.UnpicklingError:
            raise UserError(
                f"{last} holds more than numbers, which is not loaded, as it could "
                f"run code; delete {resume} to train from the start"
            ) from None
        seconds = time.perf_counter() - trainer.began
        peak, energy = trainer.peak_memory(), trainer.energy()
        state = trainer.state
        if diverged(state):
            raise UserError(_not_a_number("the training loss", run))
        stopped = bool(used["train"]["early_stopping"])
        if interruption.asked and state.global_step < state.max_steps:
            raise UserError(
                f"training was told to stop ({interruption.asked.name}) after {state.global_step} "
                f"of {state.max_steps} updates; the next run goes on from its checkpoint"
            )
        if not first:
            return
        logging.info("trained for %d updates in %.1f s", state.global_step, seconds)
        record |= counted_work(trainer, used["train"])
        if trainer.live is not None:
            record |= counted(state.log_history)
        record |= {
            "updates": state.global_step,
            "train_seconds": seconds,
            **peak,
            **energy.record(),
            "resumed_from": Path(last).name if last else None,
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
            "best_update": _best_update(state) if stopped else None,
            "settings": settings,
        }
        model = finished_model(trainer)
        if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
            raise UserError(_not_a_number("a weight", run))
    if vocabulary is not None:
        expand_model(model, vocabulary, tokenizer)
        write_json(finished / FILE, vocabulary.record())
    model.save_pretrained(finished, max_shard_size="1000GB")
    tokenizer.save_pretrained(finished)
    corpus, masked = run.get("corpus"), is_masked(model.config)
    words = {
        "learned": f"chunks of {corpus}" if corpus else f"responses of {run['teacher']}",
        "pipeline": "fill-mask" if masked else "text-generation",
        "auto_class": "AutoModelForMaskedLM" if masked else "AutoModelForCausalLM",
    }
    render_card("student", finished / "README.md", **run, **words)
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
    """Whether a loss of a training was not a number."""
    found = [entry.get("loss", entry.get("eval_loss", 0.0)) for entry in state.log_history]
    return not all(math.isfinite(loss) for loss in found)


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
