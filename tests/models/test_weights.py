"""Checkpoints that lack weights, or hold others, are refused before random ones are used."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import tiny
from distill.core.errors import UserError
from distill.data.fetch import fetch_model
from distill.data.model_files import check_weights, reading_model
from distill.models.weights import open_weights

Tensors = dict[str, torch.Tensor]


def _without_last_layer(tensors: Tensors) -> Tensors:
    return {key: value for key, value in tensors.items() if "layers.2." not in key}


def _with_a_further_layer(tensors: Tensors) -> Tensors:
    extra = {
        key.replace("layers.2.", "layers.3."): value.clone()
        for key, value in tensors.items()
        if "layers.2." in key
    }
    return tensors | extra


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a shard is lost": (_without_last_layer, r"lack model\.layers\.2\..* and 6 more"),
    "compiled": (
        lambda tensors: {"_orig_mod." + key: value for key, value in tensors.items()},
        r"remove the prefix '_orig_mod\.'",
    ),
    "distributed": (
        lambda tensors: {"module." + key: value for key, value in tensors.items()},
        r"remove the prefix 'module\.'",
    ),
    "no head": (
        lambda tensors: {key: value for key, value in tensors.items() if key != "lm_head.weight"},
        r"lack lm_head\.weight.*name a model with a language head",
    ),
    "more layers than its config": (_with_a_further_layer, r"hold model\.layers\.3\..*leaves out"),
    "a bias that its config leaves out": (
        lambda tensors: tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)},
        r"hold model\.layers\.0\.self_attn\.q_proj\.bias",
    ),
    "a norm that its architecture leaves out": (
        lambda tensors: tensors | {"model.layers.0.self_attn.q_norm.weight": torch.ones(8)},
        r"hold model\.layers\.0\.self_attn\.q_norm\.weight",
    ),
    "other shape": (
        lambda tensors: tensors | {"model.norm.weight": torch.ones(31)},
        r"model\.norm\.weight .* has the shape \[31\], but its config.json needs \[32\]",
    ),
}


@pytest.fixture
def folder(tmp_path: Path, plain: Any) -> Path:
    return tiny.save(tmp_path / "model", tiny.model("llama"), plain)


def _change(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_are_named_when_fetched_and_opened(folder: Path, change: str) -> None:
    _change(folder, CHANGES[change][0])
    with pytest.raises(UserError, match=CHANGES[change][1]):
        check_weights(folder, "teacher")
    with pytest.raises(UserError, match=CHANGES[change][1]):
        open_weights(folder, dtype=torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gpt2", "gemma2"])
def test_whole_checkpoints_are_opened(tmp_path: Path, plain: Any, kind: str) -> None:
    made = tiny.model(kind)
    folder = tiny.save(tmp_path / "model", made, plain)
    check_weights(folder, "teacher")
    ids = torch.arange(9).unsqueeze(0)
    opened = open_weights(folder, dtype=torch.float32, attn_implementation="eager")
    assert torch.equal(opened(input_ids=ids).logits, made(input_ids=ids).logits)


def test_a_head_beside_the_model_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _change(folder, lambda tensors: tensors | {"v_head.summary.weight": torch.ones(1, 32)})
    check_weights(folder, "teacher")
    assert "v_head.summary.weight is no part of the language model" in caplog.text


def test_a_pretraining_checkpoint_of_bert_is_whole(tmp_path: Path, plain: Any) -> None:
    settings = transformers.BertConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    folder = tiny.save(tmp_path / "model", transformers.BertForPreTraining(settings), plain)
    check_weights(folder, "teacher")


def test_a_classifier_is_refused(tmp_path: Path, plain: Any) -> None:
    made = transformers.LlamaForSequenceClassification(tiny.config("llama"))
    folder = tiny.save(tmp_path / "model", made, plain)
    with pytest.raises(UserError, match=r"lack lm_head\.weight.*hold score\.weight instead"):
        check_weights(folder, "teacher")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"model_type": "llama99"}, "cannot be opened as a language model"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "is an encoder-decoder"),
        ({"model_type": "vit"}, "cannot be opened as a language model"),
        ({"model_type": "clip"}, "cannot be opened as a language model"),
        ({"model_type": "bert"}, "is a bert model that attends to later tokens"),
        (
            {"num_attention_heads": 5},
            r"cannot be opened .*not a multiple of .*; correct its config",
        ),
        ({"vocab_size": None}, "cannot be opened as a language model .*vocab_size"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "cannot be opened .*factor"),
        ({"hidden_act": "swash"}, "cannot be opened as a language model .*swash"),
        ({"model_type": None}, "without model_type, so its architecture is unknown; add model_ty"),
    ],
)
def test_other_architectures_are_one_sentence(
    folder: Path, entries: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | entries
    if not config["model_type"]:
        del config["model_type"]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=sentence):
        fetch_model({"path": str(folder)}, tmp_path / "fetched" / "manifest.json")


def test_weights_under_other_names_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    with pytest.raises(
        UserError, match=r"has neither model\.safetensors nor .*consolidated.*rename"
    ):
        fetch_model({"path": str(folder)}, tmp_path / "fetched" / "manifest.json")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left"), MemoryError(), torch.OutOfMemoryError("0 B")]
)
def test_a_full_disk_or_memory_is_no_fault_of_a_model(error: Exception) -> None:
    with pytest.raises(type(error)), reading_model("teacher"):
        raise error
    with pytest.raises(UserError, match=r"cannot be opened .*no file"), reading_model("teacher"):
        raise OSError("no file")
