"""Cut students, saved and opened again, compute what the layers that they keep computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from distill.core.errors import UserError
from distill.models.building import build_student
from distill.models.layers import evenly_spaced

KINDS: dict[str, dict[str, Any]] = {
    "smollm3": {"num_key_value_heads": 2, "no_rope_layer_interval": 4, "use_sliding_window": False},
    "gpt_neo": {
        "num_layers": 8,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 4]],
        "window_size": 8,
    },
    "qwen2": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 3,
    },
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 4,
    },
    "cohere2": {"num_key_value_heads": 2, "sliding_window": 8},
    "qwen2_moe": {
        "num_key_value_heads": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "mlp_only_layers": [0, 1, 2, 5],
    },
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "first_k_dense_replace": 3,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
    },
    "lfm2": {"num_key_value_heads": 2, "full_attn_idxs": [1, 4, 7], "conv_L_cache": 3},
}


def _cut(tmp_path: Path, kind: str, words: Any, layers: int, settings: dict[str, Any]) -> Any:
    made = tiny.model(kind, num_hidden_layers=8, **settings)
    tiny.save(tmp_path / "source", made, words)
    spec = {"init": "cut", "source": {}, "layers": layers, "config": {}, "seed": 0}
    build_student(spec, tmp_path / "source", tmp_path / "out" / "manifest.json")
    return made, AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager", dtype=torch.float32
    )


def _of_layers(model: Any, chosen: list[int], ids: torch.Tensor) -> torch.Tensor:
    """Logits of a model whose other layers hand on what they get."""
    stack = next(
        module
        for module in model.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == 8
    )

    def skip(_module: Any, inputs: Any, settings: Any, output: Any) -> Any:
        states = inputs[0] if inputs else settings["hidden_states"]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    hooks = [
        layer.register_forward_hook(skip, with_kwargs=True)
        for number, layer in enumerate(stack)
        if number not in chosen
    ]
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("layers", [3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_student_is_the_layers_that_it_keeps(
    tmp_path: Path, plain: Any, kind: str, layers: int
) -> None:
    teacher, student = _cut(tmp_path, kind, plain, layers, KINDS[kind])
    ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(1))
    expected = _of_layers(teacher, evenly_spaced(layers, 8), ids)
    with torch.no_grad():
        logits = student(input_ids=ids, use_cache=False).logits
    assert torch.allclose(logits, expected, atol=1e-4)


def test_layers_whose_scale_depends_on_their_number_are_refused(tmp_path: Path, plain: Any) -> None:
    settings = {"scale_attn_by_inverse_layer_idx": True, "n_layer": 8}
    with pytest.raises(UserError, match="because its layers depend on their number"):
        _cut(tmp_path, "gpt2", plain, 3, settings)


def test_a_random_student_of_another_depth_has_its_own_lists_by_layer(
    tmp_path: Path, plain: Any
) -> None:
    made = tiny.model("smollm3", num_hidden_layers=8, **KINDS["smollm3"])
    tiny.save(tmp_path / "source", made, plain)
    spec: dict[str, Any] = {"init": "random", "source": {}, "layers": None, "seed": 0}
    spec["config"] = {"num_hidden_layers": 4}
    build_student(spec, tmp_path / "source", tmp_path / "out" / "manifest.json")
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert student.config.no_rope_layers == [1, 1, 1, 0]
