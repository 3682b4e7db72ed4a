import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import tiny
from distill.core.errors import UserError
from distill.models.building import build_student
from distill.models.layers import evenly_spaced


def source(tmp_path: Path, kind: str, words: Any) -> Path:
    depth = {"n_layer" if kind == "gpt2" else "num_hidden_layers": 6}
    return tiny.save(tmp_path / "source", tiny.model(kind, **depth), words)


def build(tmp_path: Path, name: str = "out", **spec: Any) -> Any:
    defaults: dict[str, Any] = {
        "init": "random",
        "source": {},
        "layers": None,
        "config": {},
        "seed": 0,
    }
    build_student(defaults | spec, tmp_path / "source", tmp_path / name / "manifest.json")
    return AutoModelForCausalLM.from_pretrained(tmp_path / name)


def same(one: Any, other: Any) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_kept_layers_are_evenly_spaced_from_first_to_last() -> None:
    assert evenly_spaced(4, 30) == [0, 10, 19, 29]
    assert evenly_spaced(2, 30) == [0, 29]
    assert evenly_spaced(1, 30) == [0]
    assert evenly_spaced(30, 30) == list(range(30))
    for kept in range(2, 31):
        chosen = evenly_spaced(kept, 30)
        assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 29, kept)
    with pytest.raises(UserError, match="keeps 31 layers of a model that has 30"):
        evenly_spaced(31, 30)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "gemma2"])
def test_a_cut_student_has_the_weights_of_its_layers(tmp_path: Path, plain: Any, kind: str) -> None:
    source(tmp_path, kind, plain)
    student = build(tmp_path, init="cut", layers=3)
    teacher = AutoModelForCausalLM.from_pretrained(tmp_path / "source")
    assert student.config.num_hidden_layers == 3
    stack = "transformer.h" if kind == "gpt2" else "model.layers"
    for new, old in enumerate((0, 2, 5)):
        assert same(
            student.get_submodule(f"{stack}.{new}"), teacher.get_submodule(f"{stack}.{old}")
        )
    assert same(student.get_input_embeddings(), teacher.get_input_embeddings())
    assert same(student.get_output_embeddings(), teacher.get_output_embeddings())
    if types := getattr(teacher.config, "layer_types", None):
        assert student.config.layer_types == [types[0], types[2], types[5]]
    ids = torch.arange(6).unsqueeze(0)
    assert student.generate(ids, max_new_tokens=2, pad_token_id=0).shape[1] > 6
    made = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert made["layers"] == 3
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again("Hi?").input_ids == plain("Hi?").input_ids


@pytest.mark.slow
def test_too_many_layers_are_a_user_error(tmp_path: Path, plain: Any) -> None:
    source(tmp_path, "llama", plain)
    with pytest.raises(UserError, match="keeps 7 layers of a model that has 6"):
        build(tmp_path, init="cut", layers=7)


@pytest.mark.slow
def test_a_pretrained_student_is_the_model_itself(tmp_path: Path, plain: Any) -> None:
    source(tmp_path, "llama", plain)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale.safetensors").write_text("old")
    student = build(tmp_path, init="pretrained")
    assert same(student, AutoModelForCausalLM.from_pretrained(tmp_path / "source"))
    assert not (tmp_path / "out" / "stale.safetensors").exists()


@pytest.mark.slow
def test_a_random_student_is_the_same_for_its_seed(tmp_path: Path, plain: Any) -> None:
    source(tmp_path, "llama", plain)
    entries = {"num_hidden_layers": 2, "hidden_size": 64}
    one = build(tmp_path, "one", config=entries)
    torch.randn(3)
    two = build(tmp_path, "two", config=entries)
    three = build(tmp_path, "three", config=entries, seed=1)
    assert same(one, two)
    assert not same(one, three)
    assert (one.config.num_hidden_layers, one.config.hidden_size) == (2, 64)
    assert one.config.num_key_value_heads == 2  # as in the source
    assert one.config.head_dim == 16  # 64 over 4 heads, not the source's 8
    teacher = AutoModelForCausalLM.from_pretrained(tmp_path / "source")
    assert not torch.equal(one.model.layers[0].mlp.up_proj.weight[:1, :32],
                           teacher.model.layers[0].mlp.up_proj.weight[:1])  # fmt: skip


def test_a_random_student_may_have_another_architecture(tmp_path: Path, plain: Any) -> None:
    source(tmp_path, "llama", plain)
    entries = {"model_type": "gpt2", "n_embd": 16, "num_hidden_layers": 1, "n_head": 2}
    student = build(tmp_path, config=entries)
    assert student.config.model_type == "gpt2"
    assert student.transformer.wte.weight.shape == (len(plain), 16)
    assert len(student.transformer.h) == 1
    assert student.config.eos_token_id == plain.eos_token_id
    assert AutoConfig.from_pretrained(tmp_path / "out").n_embd == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"num_hidden_layer": 2}, "llama knows no num_hidden_layer"),
        ({"model_type": "gpt2", "n_embed": 16, "n_layer": 1}, "gpt2 knows no n_embed"),
        ({"model_type": "gpt22"}, "builds no gpt22 model"),
        ({"hidden_size": 30, "num_attention_heads": 4}, "builds no llama model|knows no"),
        ({"hidden_size": "wide"}, "builds no llama model"),
        ({"pad_token_id": 300}, "builds no llama model: Padding_idx"),
        (
            {"model_type": "bert", "num_hidden_layers": 1},
            "a bert model that attends to later tokens",
        ),
        (
            {"num_attention_heads": 3, "hidden_size": 24},
            r"\(3\) is not a mul.*2, the source's\); set",
        ),
    ],
)
def test_a_config_that_builds_nothing_is_a_user_error(
    tmp_path: Path, plain: Any, entries: dict[str, Any], sentence: str
) -> None:
    source(tmp_path, "llama", plain)
    with pytest.raises(UserError, match=sentence):
        build(tmp_path, config=entries)


def test_a_tokenizer_that_the_library_replaces_is_told(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(False)]
    )
    source(tmp_path, "llama", words)
    entries = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    entries |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    with pytest.raises(UserError, match=r"a qwen2 model always gets .* Qwen2Tokenizer, which spl"):
        build(tmp_path, config=entries | {"model_type": "qwen2"})
    assert build(tmp_path, config=entries | {"model_type": "mistral"}).config.hidden_size == 16
