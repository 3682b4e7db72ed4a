"""The same student trained by this project and by TRL: one pass over the same rows, by a method."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

import prepared
from distill.models.encoding import collate
from distill.models.opening import dtype_of
from distill.models.tokenizers import load_tokenizer
from distill.runtime.cpu import set_up_cpu
from distill.runtime.memory import memory_now, peak_memory, reset_peak
from distill.training.build import build_trainer

THREADS = 2


@torch.no_grad()
def _judged(model: Any, pad: int) -> dict[str, float]:
    """Cross-entropy and KL(teacher || student) on held-out answers, in fp32, nats per token."""
    teacher = AutoModelForCausalLM.from_pretrained(prepared.teacher(), dtype=torch.float32)
    model.eval()
    batch = prepared.held_out(pad)
    keep = batch["shift_labels"] != -100
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    own = model(**given, logits_to_keep=keep, use_cache=False).logits.float().log_softmax(-1)
    theirs = teacher(**given, logits_to_keep=keep, use_cache=False).logits.float().log_softmax(-1)
    labels = batch["shift_labels"][keep].unsqueeze(1)
    return {
        "cross_entropy": float(-own.gather(1, labels).mean()),
        "kl": float((theirs.exp() * (theirs - own)).sum(-1).mean()),
    }


def _repeated(build: Callable[[], Any]) -> Callable[[], Mapping[str, float]]:
    """Build a trainer and time its train(); the first student is judged.

    Later ones are that one again, which their last loss shows.
    """
    tokenizer = load_tokenizer(prepared.initial())
    tokens = sum(len(example.tokens) for example in prepared.rows())
    judged: dict[str, float] = {}

    def once() -> Mapping[str, float]:
        reset_peak("cpu")
        before = memory_now("cpu")
        trainer = build()
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        peak = peak_memory("cpu")
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        if not judged:
            judged.update(_judged(trainer.model, tokenizer.pad_token_id), last_loss=losses[-1])
        assert abs(losses[-1] / judged["last_loss"] - 1) < 1e-3, "training is not repeated"
        return judged | {
            "seconds": seconds,
            "tokens": tokens,
            "updates": trainer.state.global_step,
            "first_loss": losses[0],
            "train_peak_mb": peak / 2**20,
            "train_added_mb": (peak - before) / 2**20,
        }

    return once


def _spec(method: str, precision: str) -> dict[str, Any]:
    """The benchmarks' training, in a precision."""
    spec = prepared.plan().training.spec(prepared.run(method))
    return spec | {"train": spec["train"] | {"precision": precision}}


def ours(method: str, precision: str = "bf16") -> Callable[[], Mapping[str, float]]:
    """As the rule train_student does it."""
    gc.freeze()  # as its imports end
    set_up_cpu(THREADS)
    run = prepared.run(method)
    spec = _spec(method, precision)
    folder = Path(tempfile.mkdtemp())
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")

    def build() -> Any:
        shutil.rmtree(folder, ignore_errors=True)
        return build_trainer(
            prepared.initial(), prepared.shard(method), spec, run.student, folder / "resume"
        )

    return _repeated(build)


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's words for the same training; what would slow it down is off."""
    train = spec["train"]
    return {
        "output_dir": tempfile.mkdtemp(),
        "num_train_epochs": train["epochs"],
        "per_device_train_batch_size": train["batch_size"],
        "learning_rate": train["learning_rate"],
        "lr_scheduler_type": train["schedule"],
        "warmup_steps": train["warmup_ratio"],
        "weight_decay": train["weight_decay"],
        "max_grad_norm": train["max_grad_norm"],
        "bf16": train["precision"] == "bf16",
        "use_cpu": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "seed": spec["seed"],
        "data_seed": spec["seed"],
    }


def _student() -> Any:
    return AutoModelForCausalLM.from_pretrained(prepared.initial(), dtype=torch.float32)


def trl_sft(precision: str = "bf16") -> Callable[[], Mapping[str, float]]:
    """TRL's `SFTTrainer`, its loss on answers only, in the same tokens."""
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(THREADS)
    spec = _spec("sft", precision)
    examples = prepared.rows()
    data = Dataset.from_dict(
        {
            "input_ids": [example.tokens for example in examples],
            "completion_mask": [
                [0] * len(example.prompt) + [1] * len(example.answer) for example in examples
            ],
        }
    )

    def build() -> Any:
        settings = SFTConfig(**_settings(spec), completion_only_loss=True, max_length=256)
        tokenizer = load_tokenizer(prepared.initial())
        return SFTTrainer(_student(), args=settings, train_dataset=data, processing_class=tokenizer)

    return _repeated(build)


def trl_gkd(precision: str = "bf16") -> Callable[[], Mapping[str, float]]:
    """TRL's GKD on given answers (lmbda 0) with forward KL (beta 0) to a live teacher."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    torch.set_num_threads(THREADS)
    spec = _spec("kd", precision)
    tokenizer = load_tokenizer(prepared.initial())
    data = Dataset.from_list(
        [{"prompt": example.prompt, "answer": example.answer} for example in prepared.rows()]
    )

    def gather(batch: list[dict[str, Any]]) -> dict[str, Any]:
        examples = [prepared.Example(one["prompt"], one["answer"]) for one in batch]
        made = collate(examples, tokenizer.pad_token_id)
        labels = torch.full_like(made["input_ids"], -100)
        labels[:, 1:] = made["shift_labels"][:, :-1]
        return {
            "input_ids": made["input_ids"],
            "attention_mask": made["attention_mask"],
            "labels": labels,
        }

    def build() -> Any:
        return GKDTrainer(
            _student(),
            AutoModelForCausalLM.from_pretrained(prepared.teacher(), dtype=dtype_of(precision)),
            args=GKDConfig(**_settings(spec), lmbda=0.0, beta=0.0),
            data_collator=gather,
            train_dataset=data,
            processing_class=tokenizer,
        )

    return _repeated(build)
