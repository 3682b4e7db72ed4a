from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

import tiny
from distill.core.noise import row_uniforms
from distill.models import stepping
from distill.models.attention import GROUPED
from distill.models.decoding import Decoding
from distill.models.decoding_cache import STEP, SteppedLayer, decoding_cache
from distill.models.sampling import sample_batch


def test_a_layer_holds_what_the_librarys_holds_and_zeros() -> None:
    ours, plain = SteppedLayer(), DynamicLayer()
    noise = torch.Generator().manual_seed(0)
    rows, filled, kept = 1, 0, torch.tensor([2, 0])
    for step, new in enumerate((STEP - 3, 3, 1, 1, 2 * STEP, 1)):
        if step == 1:
            rows = 4
            ours.batch_repeat_interleave(rows)
            plain.batch_repeat_interleave(rows)
        if step == 3:
            rows = len(kept)
            ours.batch_select_indices(kept)
            plain.batch_select_indices(kept)
        keys, values = torch.randn(2, rows, 2, new, 8, generator=noise)
        columns, first = ours.get_mask_sizes(new)
        filled += new
        for got, wanted in zip(ours.update(keys, values), plain.update(keys, values), strict=True):
            assert got.shape == (rows, 2, columns, 8)
            assert torch.equal(got[:, :, :filled], wanted)
            assert not got[:, :, filled:].any()
            assert got.is_contiguous()
        assert first == 0
        assert 0 <= columns - filled < STEP
        assert ours.get_seq_length() == plain.get_seq_length() == filled


def test_filling_a_column_within_a_step_copies_nothing() -> None:
    layer, new = SteppedLayer(), torch.ones(2, 2, 1, 8)
    places = {tensor.data_ptr() for _ in range(STEP) for tensor in layer.update(new, new)}
    assert len(places) == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "gemma2", "gemma2 8"])
@pytest.mark.parametrize("decoding", [Decoding(0.0), Decoding(0.9)])
def test_texts_and_states_are_those_of_the_librarys_cache(
    kind: str, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts share a beginning, differ in length, and leave the batch at different steps."""
    name, _, window = kind.partition(" ")
    settings = {"sliding_window": int(window)} if window else {}
    model = tiny.model(name, vocabulary=97, seed=3, attention=GROUPED, **settings)
    prompts = [[5, 6, 7, *range(20, 20 + 3 * row)] for row in range(1, 7)]
    steps = 2 * STEP + 5

    def sample() -> tuple[Any, torch.Tensor]:
        states = torch.zeros(6, steps, 32)
        noise = np.stack([row_uniforms(f"row-{row}", 0, steps) for row in range(6)])
        texts = sample_batch(
            model, prompts, stop_ids=[1, 2], max_new_tokens=steps, decoding=decoding,
            uniforms=noise, states=states,
        )  # fmt: skip
        for (text, _), own in zip(texts, states, strict=True):
            own[len(text) :] = 0
        return texts, states

    layers = decoding_cache(model).layers
    assert any(isinstance(layer, SteppedLayer) for layer in layers)
    ours = sample()
    monkeypatch.setattr(stepping, "decoding_cache", lambda model: DynamicCache(config=model.config))
    plain = sample()
    assert ours[0] == plain[0]
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-4, atol=1e-4)
    assert max(len(text) for text, _ in ours[0]) >= STEP  # so the cache grew


def test_other_attention_keeps_the_librarys_cache() -> None:
    model = tiny.model("llama", attention="sdpa")
    assert {type(layer) for layer in decoding_cache(model).layers} == {DynamicLayer}
