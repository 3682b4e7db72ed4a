"""Train one student on one shard, through transformers' Trainer."""

import logging
import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from distill.encoding import Example, collate, encode_rows
from distill.files import UserError, write_json, write_text
from distill.flops import FlopModel
from distill.losses import cross_entropy
from distill.models import (
    SAFE,
    attention_for,
    check_context,
    device,
    load_tokenizer,
    resolve_precision,
)
from distill.parquet import read_metadata, read_rows

CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [distillation]
---
# {student} after {samples} responses of {teacher}

A student of the study `{study}`: initialisation `{init}`, method `{method}`, draw {draw}, seed
{seed}. It was trained on model-written text for measuring scaling laws, not for use.

    AutoModelForCausalLM.from_pretrained(".")

`training.json` says how it was made, `metrics.json` how it did.
"""


class DistillationTrainer(Trainer):
    """Trainer whose loss is the method's, on the logits of answer tokens only."""

    # compute_loss divides by the token count of the whole batch, so nothing is left to scale.
    loss_is_scaled_for_ga = True

    def __init__(self, method: dict[str, Any], bf16: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.method = method
        self.bf16 = bf16
        self.model_accepts_loss_kwargs = True  # makes the library count the batch's tokens

    def compute_loss_context_manager(self) -> Any:
        """bf16 autocast around the forward pass and the loss.

        The library's own flag converts all outputs to fp32, which on CPU cost a quarter of a step:
        a float32 copy of the logits and one of their gradient.
        """
        if self.bf16:
            return torch.autocast(self.args.device.type, dtype=torch.bfloat16)
        return super().compute_loss_context_manager()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """The method's loss over `num_items_in_batch` target tokens (of all micro-batches)."""
        targets = inputs["shift_labels"]
        keep = targets != -100
        output = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            logits_to_keep=keep,
            use_cache=False,
        )
        tokens = keep.sum() if num_items_in_batch is None else num_items_in_batch
        loss = self.method["ce"] * cross_entropy(output.logits, targets[keep], tokens)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, output) if return_outputs else loss


def _arguments(train: dict[str, Any], precision: str, seed: int, resume: Path) -> TrainingArguments:
    micro = train["micro_batch_size"] or train["batch_size"]
    checkpoints = train["checkpoint_updates"]
    return TrainingArguments(
        output_dir=str(resume),
        num_train_epochs=train["epochs"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=train["batch_size"] // micro,
        learning_rate=train["learning_rate"],
        lr_scheduler_type=train["schedule"],
        warmup_steps=train["warmup_ratio"],
        weight_decay=train["weight_decay"],
        max_grad_norm=train["max_grad_norm"],
        optim="adamw_torch_fused",
        fp16=precision == "fp16",
        use_cpu=device().type == "cpu",
        seed=seed,
        data_seed=seed,
        save_strategy="steps" if checkpoints else "no",
        save_steps=checkpoints or 500,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would log a NaN loss as 0
        report_to=["tensorboard"],
        remove_unused_columns=False,
        dataloader_pin_memory=device().type == "cuda",
        average_tokens_across_devices=True,
        restore_callback_states_from_checkpoint=True,
        disable_tqdm=False,
    )


def _prepare_folder(folder: Path, tag: str) -> Path:
    """Clear what an earlier spec left; keep checkpoints of the same spec. Returns `resume/`."""
    resume = folder / "resume"
    kept = (resume / "tag.txt").is_file() and (resume / "tag.txt").read_text() == tag
    folder.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if item == resume and kept:
            continue
        shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    write_text(resume / "tag.txt", tag)
    return resume


def _publish(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save into a scratch folder, then move file by file into place."""
    scratch = folder / "saving"
    shutil.rmtree(scratch, ignore_errors=True)
    model.save_pretrained(scratch, max_shard_size="1000GB")
    tokenizer.save_pretrained(scratch)
    for file in sorted(scratch.iterdir()):
        file.replace(folder / file.name)
    scratch.rmdir()


def _count(examples: Sequence[Example], flop_model: FlopModel, epochs: int) -> dict[str, Any]:
    answers = sum(len(example.answer) for example in examples)
    once = sum(
        flop_model.sequence_training(len(example.prompt) + len(example.answer), len(example.answer))
        for example in examples
    )
    return {
        "tokens_seen": answers * epochs,
        "tokens_unique": answers,
        "train_flops": once * epochs,
    }


def train_student(
    initial: str | Path,
    shard: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    run: dict[str, Any],
    tag: str,
) -> None:
    """Train a student and write its directory; `out` is its training record, written last.

    Args:
        initial: Directory of the student before training.
        shard: Its training data; None for the n = 0 student, which is saved as it is.
        out: `training.json` in the student's directory.
        spec: formatting, method, train and seed; stored in the record.
        run: The run's names and numbers, for the model card.
        tag: Names spec, data and code; a checkpoint with another tag is cleared.

    Raises:
        UserError: The shard does not fit the student, or the loss is not a number.
    """
    folder = Path(out).parent
    resume = _prepare_folder(folder, tag)
    tokenizer = load_tokenizer(initial)
    examples: list[Example] = []
    length = 8
    if shard is not None:
        length = spec["train"]["max_length"]
        examples = encode_rows(
            read_rows(shard), tokenizer, spec["formatting"],
            read_metadata(shard, "tokenizer_sha256"), length,
        )  # fmt: skip
        length = max(len(example.prompt) + len(example.answer) for example in examples)
    check_context(AutoConfig.from_pretrained(initial, **SAFE), length, run["student"])
    model = AutoModelForCausalLM.from_pretrained(
        initial, dtype=torch.float32, use_safetensors=True,
        attn_implementation=attention_for(length), **SAFE,
    )  # fmt: skip
    record: dict[str, Any] = {"schema": 1, "spec": spec, "run": run, "updates": 0}
    record |= {"tokens_seen": 0, "tokens_unique": 0, "train_flops": 0, "train_seconds": 0.0}
    if shard is not None:
        train = spec["train"]
        precision = resolve_precision(train["precision"])
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
        trainer = DistillationTrainer(
            spec["method"],
            bf16=precision == "bf16",
            model=model,
            args=_arguments(train, precision, spec["seed"], resume),
            train_dataset=examples,
            data_collator=partial(collate, pad=tokenizer.pad_token_id),
        )
        trainer.remove_callback(PrinterCallback)
        last = get_last_checkpoint(str(resume))
        start = time.perf_counter()
        trainer.train(resume_from_checkpoint=last)
        seconds = time.perf_counter() - start
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        if not all(loss == loss and abs(loss) != float("inf") for loss in losses):
            raise UserError(
                f"the training loss of {run['student']} at n = {run['samples']} became NaN or "
                "infinite; lower train.learning_rate, or use precision bf16 or fp32"
            )
        if trainer.state.global_step < trainer.state.max_steps:
            raise UserError("training was interrupted; the next run goes on from its checkpoint")
        logging.info("trained for %d updates in %.1f s", trainer.state.global_step, seconds)
        record |= _count(examples, FlopModel.from_model(model), train["epochs"])
        record |= {
            "updates": trainer.state.global_step,
            "train_seconds": seconds,
            "resumed_from": Path(last).name if last else None,
            "precision": precision,
            "device": device().type,
            "losses": losses,
        }
    _publish(model, tokenizer, folder)
    write_text(folder / "README.md", CARD.format(**run))
    shutil.rmtree(resume)
    write_json(out, record)
