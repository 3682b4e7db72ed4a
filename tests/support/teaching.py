"""All that one student's training reads, made on the spot: specs, text, soft targets and head."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny
from distill.config.checks.study import parse_study
from distill.contracts.run import NO_CACHE, RAW, Run
from distill.contracts.schemas import MASKED_SCHEMA, TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.parquet import read_rows, write_rows
from distill.data.shards import build_shard
from distill.models.head_extraction import extract_head
from distill.plan.runs import targets_of
from distill.plan.study import Plan
from distill.targets.caching import cache_part
from distill.targets.layers import fit_projection, layers_part
from distill.teacher.scoring import score_part


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
    exact = {"source": "base", "precision": "fp32"}
    config["teachers"] = {"big": exact | (teacher or {}), "other": exact}
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
    return study.training.spec(run_of(study, seed))


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
    files = Files(folder / "shard" / "n.parquet")
    if held_out:
        files.validation = [write_text(folder / "validation.parquet", held_out, words)]
    cache, model = spec.get("cache"), folder / "teacher" / "config.json"
    if cache:
        tiny.save(model.parent, teacher, words)
    if aligned:
        files.teacher = model.parent
        words.save_pretrained(model.parent)
    targets: list[Path] = []
    layers: list[Path] = []
    if cache:
        scorer = cache["scorers"][0]
        head, states = folder / "head.safetensors", folder / "states.parquet"
        extract_head(model, head, scorer)
        score_part(text, model, states, scorer, cache["tokens"])
        if cache["scheme"] == "final_hidden":
            files.heads, targets = [head], [states]
        else:
            targets = [folder / "targets.parquet"]
            cache_part([states], [head], targets[0], cache)
    if cache and cache.get("hidden"):
        chosen, layers, projection = cache["hidden"], [folder / "layers.parquet"], None
        if chosen["projection"] == "pca":
            projection = folder / "projection.safetensors"
            fit_projection(text, model, projection, chosen)
        layers_part(text, model, projection, layers[0], chosen)
    order = [row["row"] for row in rows]
    build_shard([text], order, spec, files.shard, targets=targets, layers=layers)
    return files


def ask(
    folder: Path,
    spec: dict[str, Any],
    teacher: Any,
    words: Any,
    rows: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]] = (),
) -> Files:
    """The same with the teacher itself in place of a cache."""
    files = teach(folder, spec["shard"], None, words, rows, held_out)
    files.teacher = tiny.save(folder / "teacher", teacher, words)
    return files


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
