"""Build the trainer of one student on one shard: device, precision, loss and settings."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, EarlyStoppingCallback, PrinterCallback, TrainingArguments

from distill.core.checksums import SAFE
from distill.core.display import listed
from distill.core.errors import UserError
from distill.models.encoding import collate
from distill.models.flops import FlopModel
from distill.models.forward import is_masked
from distill.models.heads import load_head
from distill.models.opening import check_context, choose_attention, resolve_precision
from distill.models.shared_tokens import Reader
from distill.models.tokenizers import load_tokenizer
from distill.models.vocabulary import Vocabulary, add_spread
from distill.models.weights import open_weights
from distill.runtime.device import device
from distill.training.batches import LAST, Item, TargetReader
from distill.training.checkpoints import SkipShortCheckpoint
from distill.training.items import held_out_items, load_items
from distill.training.micro_batch import micro_batch
from distill.training.objective import Objective
from distill.training.on_policy import LiveTeacher, live_targets
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
    train: dict[str, Any],
    precision: str,
    seed: int,
    resume: Path,
    keep: bool,
    processes: int,
    projected: bool,
) -> TrainingArguments:
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
        # Projections are not part of the forward pass and would be considered unused.
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


def _with_adapters(model: Any, lora: dict[str, Any]) -> Any:
    """The model with low-rank adapters (Hu 2021, LoRA), all else frozen."""
    from peft import LoraConfig, get_peft_model  # seconds of imports that other runs need not pay

    _check_targets(model, lora["targets"])
    settings = LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["targets"],
        task_type=None if is_masked(model.config) else "CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def _check_targets(model: Any, targets: list[str] | str) -> None:
    """Check that each name of modules that get an adapter has one; peft ignores some without."""
    names = [name for name, _ in model.named_modules()]
    wrong = [
        target
        for target in ([] if isinstance(targets, str) else targets)
        if not any(f".{name}".endswith(f".{target}") for name in names)
    ]
    if wrong:
        linear = [name for name, one in model.named_modules() if hasattr(one, "in_features")]
        last = dict.fromkeys(name.rpartition(".")[2] for name in linear)
        raise UserError(
            f"train.lora.targets: the student has no module named {' or '.join(map(repr, wrong))}; "
            f"its linear modules are {listed(last)}"
        )


def _check_layers(config: Any, layers: Sequence[Any], name: str) -> None:
    deepest = config.num_hidden_layers
    if wrong := [layer for layer in layers if layer != LAST and int(layer) > deepest]:
        raise UserError(
            f"{name} has layers 0 to {deepest} but the method matches its layer {wrong[0]}; "
            "correct hidden.layers, which reads {student layer: teacher layer}"
        )


def _objective(
    spec: dict[str, Any],
    tokenizer: Any,
    vocabulary: Vocabulary | None,
    heads: Sequence[str | Path],
    teacher: str | Path | None,
) -> tuple[Objective, Aligner | None]:
    """The method's loss, and what aligns the student's tokens with another tokenizer's."""
    cache, aligner = spec["shard"].get("cache"), None
    if teacher is not None and "teacher" in spec:
        cache = live_targets(spec["method"], spec["teacher"])
    elif teacher is not None:
        aligner = Aligner(load_tokenizer(teacher), tokenizer, spec["formatting"]["template"])
    head = load_head(heads[0], device()) if heads else None
    shared_ids = aligner.shared_ids if aligner else None
    return Objective(spec["method"], cache, head, vocabulary, shared_ids), aligner


def _scaled_rate(train: dict[str, Any], config: Any) -> dict[str, Any]:
    """Training settings with the learning rate that the width rule gives this student."""
    if rule := train["width_rule"]:
        rate = train["learning_rate"] * (config.hidden_size / rule["at"]) ** rule["power"]
        return {**train, "learning_rate": rate}
    return train


def _open_student(
    initial: str | Path,
    spec: dict[str, Any],
    length: int,
    vocabulary: Vocabulary | None,
    objective: Objective,
    matched_layers: int,
) -> tuple[Any, FlopModel]:
    """The student before training, in fp32, with adapters and projections if its method has any.

    Args:
        initial: Its directory.
        spec: method, train and seed.
        length: Longest example in tokens; picks the attention kernel.
        vocabulary: The student's, where it is trimmed.
        objective: The method's loss.
        matched_layers: Width of the teacher's layers that the method matches; 0 for none.
    """
    train = spec["train"]
    config = AutoConfig.from_pretrained(initial, **SAFE)
    model = open_weights(initial, dtype=torch.float32)
    if not train["gradient_checkpointing"]:
        choose_attention(model, length)
    flop_model = FlopModel.from_model(model)
    if vocabulary is not None:
        add_spread(model, vocabulary)
    if train["lora"]:
        torch.manual_seed(spec["seed"])
        model = _with_adapters(model, train["lora"])
    if objective.needs_states:
        torch.manual_seed(spec["seed"])
        model.add_module(PROJECTIONS, objective.projections(config.hidden_size, matched_layers))
    return model, flop_model


def _collator(
    reader: TargetReader | None, live: LiveTeacher | None, pad: int
) -> Callable[[list[Item]], dict[str, Any]]:
    """The function that collates items into a batch."""

    def gather(batch: list[Item]) -> dict[str, Any]:
        if live is not None and batch[0].row is not None:
            return {"items": batch}  # collated with the answers that its update learns
        if reader is not None and batch[0].row is not None:
            return reader.collate(batch, pad)
        return collate([item.example for item in batch], pad)

    return gather


def _training_precision(setting: str) -> str:
    precision = resolve_precision(setting)
    if precision == "fp16" and device().type == "cpu":
        raise UserError("fp16 needs a GPU to train; set train.precision to auto, bf16 or fp32")
    return precision


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
    tokens_of: str | Path | None = None,
) -> DistillationTrainer:
    """A trainer of one student on one shard, with a device, precision and loss of its spec.

    Args:
        initial: Directory of the student before training.
        shard: Its training data.
        spec: formatting, method, train, shard and seed, and teacher if it is live.
        name: The student's name, for errors.
        resume: Directory of checkpoints.
        heads: The teacher's output head, for a final_hidden cache.
        validation: Held-out text for early stopping or a search.
        callbacks: Further callbacks of the library.
        keep: False for a trial: evaluated on the validation text, but nothing is saved.
        teacher: Directory of the teacher's model, for spans or for live targets.
        tokens_of: Directory with the text's tokenizer, if it is not that of the student's source.

    Raises:
        UserError: The shard does not fit the student.
    """
    tokens = Reader.of(initial, tokens_of, spec["formatting"]["template"])
    tokenizer, vocabulary = tokens.tokenizer, Vocabulary.load(initial)
    objective, aligner = _objective(spec, tokenizer, vocabulary, heads, teacher)
    config = AutoConfig.from_pretrained(initial, **SAFE)
    items, reader = load_items(shard, tokens, spec, objective, config, aligner)
    live = None
    if teacher is not None and "teacher" in spec:
        live = LiveTeacher(teacher, spec, tokenizer, items, objective)
    held_out, pad = held_out_items(validation, tokenizer, spec), tokenizer.pad_token_id
    if vocabulary is not None:
        items = [Item(vocabulary.encode(item.example), item.row) for item in items]
        held_out = [Item(vocabulary.encode(item.example)) for item in held_out]
        pad = int(vocabulary.ids[pad])
    lengths = [len(item.example.tokens) for item in items + held_out]
    length = max(lengths if live is None else [*lengths, live.longest])
    check_context(config, length, name)
    layers = 0
    if spec["method"]["hidden"]:
        _check_layers(config, list(spec["method"]["hidden"]["layers"]), name)
        if reader is not None:
            layers = reader.collate(items[:1], 0)["layers"].shape[-1]
    model, flop_model = _open_student(initial, spec, length, vocabulary, objective, layers)
    train = _scaled_rate(spec["train"], config)
    precision, stop = _training_precision(train["precision"]), train["early_stopping"]
    processes, projected = spec.get("gpus", 1), objective.needs_states
    trainer = DistillationTrainer(
        objective,
        reader,
        precision,
        flop_model,
        live,
        model=model,
        args=_arguments(train, precision, spec["seed"], resume, keep, processes, projected),
        train_dataset=items,
        eval_dataset=held_out or None,
        data_collator=_collator(reader, live, pad),
        callbacks=[
            *([EarlyStoppingCallback(stop["patience"])] if stop else []),
            SkipShortCheckpoint(),
            *callbacks,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    votes = trainer.over_processes([int(precision == "bf16")])[0]
    if precision == "bf16" and votes < trainer.args.world_size:  # each timed it for `auto`
        trainer.precision = "fp32"
    return trainer
