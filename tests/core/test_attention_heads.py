"""Numbers of heads that are refused before the first job are those that the library refuses."""

from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError

from distill.core.attention_heads import _WHOLE, heads_fault

MASKED = {"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"}


def builds(kind: str, **entries: Any) -> bool:
    """Whether the library builds and runs a model."""
    family = "Masked" if kind in MASKED else "Causal"
    auto = getattr(transformers, f"AutoModelFor{family}LM")
    small = {"num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 8, "pad_token_id": 0}
    try:
        config = transformers.AutoConfig.for_model(kind, **small, **entries)
        with torch.device("meta"):
            auto.from_config(config)(input_ids=torch.arange(4).unsqueeze(0))
    except (ValueError, RuntimeError, StrictDataclassError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(_WHOLE))
def test_heads_that_divide_no_width_build_no_model(kind: str) -> None:
    entries = {"hidden_size": 50, "num_attention_heads": 4}
    assert heads_fault(kind, entries, {}) == (
        "hidden_size (50) is not a multiple of num_attention_heads (4); correct one of them"
    )
    assert not builds(kind, **entries)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "olmo2"])
def test_groups_that_divide_no_heads_build_no_model(kind: str) -> None:
    entries = {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 3}
    fault = heads_fault(kind, {"num_attention_heads": 4}, {"num_key_value_heads": 3})
    assert fault == (
        "num_attention_heads (4) is not a multiple of num_key_value_heads (3, the source's); set "
        "num_key_value_heads too, such as to 4"
    )
    assert not builds(kind, **entries)


@pytest.mark.parametrize(
    ("kind", "entries", "base"),
    [
        ("llama", {"hidden_size": 48, "num_attention_heads": 4}, {"num_key_value_heads": 2}),
        ("llama", {"n_layer": 2}, {}),
        ("mistral", {"hidden_size": 50, "num_attention_heads": 4, "num_key_value_heads": 4}, {}),
        ("llama", {"hidden_size": 48, "num_attention_heads": 5, "head_dim": 8}, {}),
        ("deepseek_v3", {"num_attention_heads": 4, "num_key_value_heads": 3}, {"kv_lora_rank": 8}),
        ("gpt2", {"n_embd": "wide", "n_head": 4}, {}),
    ],
)
def test_other_heads_are_left_to_the_library(
    kind: str, entries: dict[str, Any], base: dict[str, Any]
) -> None:
    assert heads_fault(kind, entries, base) is None
