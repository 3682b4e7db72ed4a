"""All that one student's training reads, made on the spot: specs, text, soft targets and head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import tiny
from distill.config.checks.checks import parse_study
from distill.contracts.run import NO_CACHE, RAW, Run
from distill.contracts.schemas import MASKED_SCHEMA, STATES_SCHEMA, TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.parquet import read_rows, write_rows
from distill.data.shards import build_shard
from distill.models.head_extraction import head_of
from distill.models.heads import load_head, save_head
from distill.plan.study import Plan, targets_of
from distill.targets.caching import cache_targets
from distill.targets.format import scheme_of, target_schema
from distill.targets.layers import LAYERS_SCHEMA, fit_pca, layer_states, score_layers
from distill.teacher.scoring import score_text

CPU = torch.device("cpu")


def plan(
    method: dict[str, Any],
    cache: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    teacher: dict[str, Any] | None = None,
    search: dict[str, Any] | None = None,
) -> Plan:
    """The plan of a study with one student, teacher, method and cache, checked as any config."""
    config = tiny.study()
    config["prompts"]["template"] = "{prompt}"
    config["teachers"] = {"big": {"source": "base", **(teacher or {})}, "other": {"source": "base"}}
    config["students"] = {"small": {"init": "cut", "source": "base", "layers": 2}}
    if method.get("spans"):
        config["sources"]["words"] = {"path": "models/words"}
        config["students"]["small"]["source"] = "words"
    config["methods"] = {"own": method}
    config["caches"] = {"soft": cache} if cache else {}
    settings = {"precision": "fp32", "learning_rate": 1e-3, "epochs": 1, "max_length": 200}
    config["train"] = settings | {"checkpoint_updates": 0} | (train or {})
    block = {"students": ["small"], "teachers": ["big"], "methods": ["own"], "samples": [16]}
    config["runs"] = [block | ({"caches": ["soft"]} if cache else {})]
    if search:
        own = {"student": "small", "teacher": "big", "method": "own", "samples": 16}
        config["searches"] = {"find": own | ({"cache": "soft"} if cache else {}) | search}
        config["methods"]["found"] = {"search": "find"}
        config["runs"][0]["methods"] = ["found"]
    return Plan(parse_study(config))


def run_of(study: Plan, seed: int = 0) -> Run:
    """Its run."""
    method = "found" if study.study.searches else "own"
    (cache,) = targets_of(study.study, method, ["soft" if study.study.caches else NO_CACHE])
    return Run("small", "big", method, RAW, cache, 16, 0, seed)


def spec_of(study: Plan, seed: int = 0) -> dict[str, Any]:
    """What its trained student depends on."""
    return study.train_spec(run_of(study, seed))


@dataclass
class Files:
    """What a job of training is handed."""

    shard: Path
    heads: list[Path] = field(default_factory=list)
    validation: list[Path] = field(default_factory=list)
    teacher: Path | None = None

    @property
    def given(self) -> dict[str, Any]:
        """Heads, validation text and the teacher's model, as keyword arguments."""
        return {"heads": self.heads, "validation": self.validation, "teacher": self.teacher}


def write_text(path: Path, rows: Sequence[dict[str, Any]], words: Any) -> Path:
    """A part of a teacher's text."""
    schema = MASKED_SCHEMA if "positions" in rows[0] else TEXT_SCHEMA
    write_rows(path, rows, schema, spec={}, tokenizer_sha256=tokenizer_sha256(words))
    return path


def teach(
    folder: Path,
    spec: dict[str, Any],
    teacher: Any,
    words: Any,
    rows: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]] = (),
    aligned: bool = False,
) -> Files:
    """Score the rows by the teacher, make its cache's parts and the shard, as the workflow does.

    The teacher's tokenizer is handed on to a method that aligns tokenizers alone.
    """
    text = write_text(folder / "text.parquet", rows, words)
    made = Files(folder / "shard" / "n.parquet")
    if held_out:
        made.validation = [write_text(folder / "validation.parquet", held_out, words)]
    if aligned:
        made.teacher = folder / "teacher"
        words.save_pretrained(made.teacher)
    cache = spec.get("cache")
    targets: list[Path] = []
    layers: list[Path] = []
    if cache:
        head, targets = folder / "head.safetensors", [folder / "targets.parquet"]
        save_head(head_of(teacher), head)
        states = score_text(teacher, rows, cache["tokens"])
        if cache["scheme"] == "final_hidden":
            made.heads = [head]
            write_rows(targets[0], states, STATES_SCHEMA, spec={})
        else:
            soft = cache_targets([states], [load_head(head, CPU)], cache)
            schema = target_schema(scheme_of(cache))
            size = len(teacher.get_output_embeddings().weight)
            write_rows(targets[0], soft, schema, spec={}, vocabulary=size)
    if cache and cache.get("hidden"):
        kept, layers, projection = cache["hidden"], [folder / "layers.parquet"], None
        if kept["projection"] == "pca":
            wide = layer_states(teacher, rows, kept["layers"], kept["tokens"])
            projection = fit_pca(wide, kept["width"])
        write_rows(layers[0], score_layers(teacher, rows, kept, projection), LAYERS_SCHEMA, spec={})
    order = [row["row"] for row in rows]
    build_shard([text], order, spec, made.shard, targets=targets, layers=layers)
    return made


def ask(
    folder: Path,
    spec: dict[str, Any],
    teacher: Any,
    words: Any,
    rows: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]] = (),
) -> Files:
    """The same with the teacher itself in place of a cache."""
    made = teach(folder, spec["shard"], None, words, rows, held_out)
    made.teacher = tiny.save(folder / "teacher", teacher, words)
    return made


def shard_rows(files: Files) -> list[dict[str, Any]]:
    """Rows of the shard."""
    return read_rows(files.shard)


def big(kind: str = "llama", **settings: Any) -> Any:
    """A teacher."""
    return tiny.model(kind, seed=1, initializer_range=0.1, **settings)


def small(folder: Path, words: Any, kind: str = "llama", **settings: Any) -> Path:
    """A saved student of width 16."""
    narrow = {"n_embd": 16, "n_layer": 2} if kind == "gpt2" else {}
    narrow |= {"hidden_size": 16, "num_hidden_layers": 2} if kind != "gpt2" else {}
    made = tiny.model(kind, **{"seed": 2, "initializer_range": 0.1, **narrow, **settings})
    return tiny.save(folder / "initial", made, words)


RUN = {
    "study": "demo", "student": "small", "teacher": "big", "init": "random", "method": "own",
    "samples": 16, "draw": 0, "seed": 0,
}  # fmt: skip
