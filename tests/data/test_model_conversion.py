"""Adapters, GGUF files and models of several modalities become one language model when fetched."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

import plain_model
import tiny
import tiny_gguf
from distill.core.errors import UserError
from distill.core.files import sha256_of
from distill.core.model_files import local_files
from distill.data.fetch import fetch_model

IDS = [5, 9, 20, 33, 7, 41]
pytestmark = pytest.mark.slow


def fetched(folder: Path, out: Path, base: Path | None = None) -> Path:
    fetch_model({"path": str(folder)}, out / "manifest.json", base)
    return out


def same_text(folder: Path, expected: torch.Tensor) -> None:
    model = plain_model.opened(folder)
    torch.testing.assert_close(plain_model.logits(model, IDS), expected, rtol=1e-4, atol=1e-4)
    assert model.config.get_text_config() is model.config


def adapter(folder: Path, base: Path, words: Any = None, **settings: Any) -> torch.Tensor:
    """Save a random adapter of a model; the logits of both together."""
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    tuned = get_peft_model(model, LoraConfig(**{**lora, **settings}))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, 0.0, 0.3)
    tuned.save_pretrained(str(folder))
    if words is not None:
        words.save_pretrained(folder)
    return plain_model.logits(tuned.eval(), IDS)


@pytest.fixture
def base(tmp_path: Path, plain: Any) -> Path:
    return tiny.save(tmp_path / "base", tiny.model("llama"), plain)


def test_an_adapter_is_merged_into_the_local_base_that_it_names(tmp_path: Path, base: Path) -> None:
    expected = adapter(tmp_path / "lora", base)
    out = fetched(tmp_path / "lora", tmp_path / "out")
    same_text(out, expected)
    assert AutoTokenizer.from_pretrained(out)("Hi").input_ids
    assert not list(out.glob("adapter*"))
    assert (tmp_path / "lora" / "adapter_config.json").is_file()
    assert base / "model.safetensors" in local_files(tmp_path / "lora")


def test_the_base_of_an_adapter_may_be_another_source(
    tmp_path: Path, base: Path, plain: Any
) -> None:
    expected = adapter(tmp_path / "lora", base, plain)
    settings = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "owner/base"
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        UserError, match=r"is an adapter.*name that source under the adapter's base"
    ):
        fetched(tmp_path / "lora", tmp_path / "out")
    place = fetched(base, tmp_path / "fetched")
    out = fetched(tmp_path / "lora", tmp_path / "out", place / "manifest.json")
    same_text(out, expected)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, base: Path, plain: Any) -> None:
    adapter(tmp_path / "lora", base)
    other = tiny.save(tmp_path / "other", tiny.model("llama", num_hidden_layers=2), plain)
    with pytest.raises(UserError, match=r"cannot be merged into the model in .*other"):
        fetched(tmp_path / "lora", tmp_path / "out", other / "manifest.json")
    (tmp_path / "lora" / "adapter_model.safetensors").rename(tmp_path / "lora/adapter_model.bin")
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        fetched(tmp_path / "lora", tmp_path / "out", other / "manifest.json")


def test_a_gguf_file_or_its_folder_is_converted(tmp_path: Path, plain: Any) -> None:
    model = tiny.model("llama")
    folder = tmp_path / "gguf"
    folder.mkdir()
    words = tiny.tokenizer(chat=True)
    file = tiny_gguf.write_gguf(folder / "m.gguf", model, words)
    expected = plain_model.logits(model, IDS)
    same_text(fetched(file, tmp_path / "one"), expected)
    same_text(fetched(folder, tmp_path / "two"), expected)
    assert local_files(folder) == local_files(file) == [file]
    shutil.copy(file, folder / "n.gguf")
    with pytest.raises(UserError, match=r"several GGUF files \(m\.gguf, n\.gguf\); name one"):
        fetched(folder, tmp_path / "three")
    (folder / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(UserError, match=r"bad\.gguf is not a GGUF file that transformers reads"):
        fetched(folder / "bad.gguf", tmp_path / "four")


def test_a_folder_of_checkpoints_names_the_last(tmp_path: Path, plain: Any) -> None:
    for step in (100, 200):
        tiny.save(tmp_path / "run" / f"checkpoint-{step}", tiny.model("llama"), plain)
    with pytest.raises(UserError, match=r"but checkpoint-200 in it does; set path to .*-200"):
        fetched(tmp_path / "run", tmp_path / "out")


TEXT = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "initializer_range": 0.15,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip


def gemma3() -> Any:
    kinds = ["sliding_attention", "full_attention"]
    text = {**TEXT, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 12}
    settings = {"vision_config": VISION, "mm_tokens_per_image": 1}
    config = Gemma3Config(text_config={**text, "layer_types": kinds}, **settings)
    return Gemma3ForConditionalGeneration(config)


def llava() -> Any:
    text = {**TEXT, "model_type": "mistral", "sliding_window": None}
    vision = {**VISION, "model_type": "clip_vision_model", "projection_dim": 16}
    return LlavaForConditionalGeneration(
        LlavaConfig(text_config=text, vision_config=vision, image_token_index=299)
    )


def qwen2_vl() -> Any:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 14}
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": rope},
        vision_config=vision,
        **{f"{kind}_token_id": 290 + at for at, kind in enumerate(("image", "video"))},
        vision_start_token_id=292,
        vision_end_token_id=293,
    )
    return Qwen2VLForConditionalGeneration(config)


@pytest.mark.parametrize("make", [gemma3, llava, qwen2_vl])
def test_of_several_modalities_the_language_model_is_taken(
    make: Any, tmp_path: Path, plain: Any
) -> None:
    torch.manual_seed(0)
    whole = make().float().eval()
    folder = tiny.save(tmp_path / "whole", whole, plain)
    before = {file.name: sha256_of(file) for file in folder.iterdir()}
    expected = plain_model.logits(whole, IDS)
    out = fetched(folder, tmp_path / "out")
    same_text(out, expected)
    model = plain_model.opened(out)
    assert not [name for name, _ in model.named_parameters() if "vision" in name]
    assert model.config.vocab_size == 300
    assert {file.name: sha256_of(file) for file in folder.iterdir()} == before
