"""Shared makers of tests."""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import teaching
from distill.core.files import read_json
from distill.training.run import train_student

KD = {"ce": 0.5, "forward_kl": 0.5}


EXACT = {"scheme": "final_hidden"}


LAYERS = {"layers": [1, 3], "bits": 16}


MATCHED = {"ce": 0.5, "hidden": {"layers": {1: 1, 2: 3}}}


def spec(**train: Any) -> dict[str, Any]:
    """Cross-entropy alone."""
    return teaching.spec_of(teaching.plan({"ce": 1.0}, train=train))


def soft_spec(
    method: dict[str, Any], cache: dict[str, Any] = EXACT, seed: int = 0, **train: Any
) -> dict[str, Any]:
    return teaching.spec_of(teaching.plan(method, cache, train), seed)


def student(folder: Path, words: Any, **settings: Any) -> Path:
    """The student before training, made once per folder."""
    if (folder / "initial").exists():
        return folder / "initial"
    return teaching.small(folder, words, **settings)


def finish(
    out: Path,
    settings: dict[str, Any],
    initial: Path,
    files: teaching.Files | None,
    tag: str = "tag",
    **run: Any,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Train from files; the record and the weights."""
    given = files.given if files else {}
    shard = files.shard if files else None
    train_student(initial, shard, out / "training.json", settings, teaching.RUN | run, tag, **given)
    return read_json(out / "training.json"), load_file(out / "model.safetensors")


def train(
    out: Path, rows: list[dict[str, Any]], words: Any, settings: dict[str, Any], **run: Any
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Train a tiny model on text alone; its record and weights."""
    initial = student(out.parent, words)
    files = teaching.teach(out.parent / f"{out.name}-files", settings["shard"], None, words, rows)
    return finish(out, settings, initial, files, **run)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return math.sqrt(sum(float(((one[k] - other[k]) ** 2).sum()) for k in one))


METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ce": ({"ce": 1.0, "forward_kl": 1e-9}, EXACT),
    "forward_kl": ({"forward_kl": 1.0}, EXACT),
    "study": (KD | {"tokens": "all"}, EXACT | {"tokens": "all"}),
    "reverse_kl": ({"reverse_kl": 1.0}, EXACT),
    "jsd": ({"jsd": 1.0}, {"scheme": "dense"}),
    "total_variation": ({"total_variation": 1.0}, {"scheme": "top_k_tail", "k": 7}),
    "skew_kl": ({"skew_kl": 1.0}, {"scheme": "top_k_tail", "k": 7}),
    "top_k": (KD, {"scheme": "top_k", "k": 7}),
    "sampled": (KD, {"scheme": "sampled", "draws": 20}),
    "uld": ({"ce": 0.5, "uld": 1.0}, {"scheme": "dense"}),
    "spans": ({"ce": 0.5, "spans": 1.0}, EXACT),
    "hidden": (MATCHED, {"scheme": "top_k", "k": 3, "hidden": LAYERS}),
    "embedding": ({"ce": 0.5, "embedding": {"loss": "cosine"}}, EXACT),
}


def torch_state(initial: Path, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The initial weights under the names of `like`; projections as they are there."""
    saved = load_file(initial / "model.safetensors")
    return {key: saved.get(key, value) for key, value in like.items()}


RESUMED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "soft": (KD, EXACT, {}),
    "projections": (
        {"ce": 0.5, "hidden": {"layers": {1: 3}}, "embedding": {"head": "teacher"}},
        EXACT | {"hidden": LAYERS},
        {"weight_decay": 0.1},
    ),
    "adapters": (
        {"ce": 0.5, "hidden": {"layers": {1: 3}}},
        {"scheme": "top_k", "k": 5, "hidden": LAYERS},
        {"lora": {"rank": 2, "dropout": 0.2}},
    ),
    "stopping": (KD, EXACT, {"early_stopping": {"patience": 9, "every": 2}}),
}
