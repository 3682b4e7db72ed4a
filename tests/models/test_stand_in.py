"""Trials run on a small fp32 model of the same architecture, so that rounding does not decide."""

from typing import Any

import pytest
import torch

import tiny
from distill.models.attention import GROUPED, use_grouped
from distill.models.batch_mode import decoding_mode
from distill.models.forward import packs
from distill.models.stand_in import stand_in
from distill.models.stepping import BatchMode

WINDOWS: dict[str, Any] = {
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_hidden_layers": 12,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
}


def test_a_model_in_fp32_stands_for_itself() -> None:
    model = tiny.model("llama")
    assert stand_in(model) is model


def test_all_kinds_of_layers_are_there_in_fp32_without_the_weights() -> None:
    model = tiny.model("gemma3_text", **WINDOWS).bfloat16()
    small = stand_in(model)
    assert {weight.dtype for weight in small.parameters()} == {torch.float32}
    assert small.config.layer_types == WINDOWS["layer_types"][:6]
    assert len(small.model.layers) == 6
    assert model.config.num_hidden_layers == 12
    uniform = stand_in(tiny.model("llama", vocabulary=900, num_hidden_layers=5).bfloat16())
    assert (len(uniform.model.layers), uniform.config.vocab_size) == (2, 512)


def test_what_is_zero_at_first_is_not_hidden() -> None:
    small = stand_in(tiny.model("gpt2").bfloat16())
    assert all(weight.any() and weight.float().std() > 0 for weight in small.parameters())


def noisy(kind: str, **settings: Any) -> Any:
    """A model in bf16 of which rounding changes logits by a tenth of their spread."""
    model = tiny.model(kind, num_hidden_layers=12, initializer_range=1.0, **settings).bfloat16()
    ids = torch.randint(300, (1, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rounded, exact = model(input_ids=ids).logits, model.float()(input_ids=ids).logits
    assert (rounded - exact).square().mean().sqrt() > 0.05 * exact.std()
    return model.bfloat16()


def test_rounding_of_bf16_does_not_decide_how_a_model_is_run() -> None:
    model = noisy("llama", num_key_value_heads=2)
    assert use_grouped(model)
    assert model.config._attn_implementation == GROUPED
    assert decoding_mode(model, 100) is BatchMode.SHARED
    assert packs(model)


@pytest.mark.slow
def test_an_architecture_that_padding_changes_is_found_in_bf16_too() -> None:
    settings = {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}
    exact, rounded = tiny.model("mpt", **settings), tiny.model("mpt", **settings).bfloat16()
    assert decoding_mode(rounded, 100) is decoding_mode(exact, 100) is not BatchMode.SHARED
