"""Rows decoded together give what each gives alone, whatever a model's positions come from."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tiny
from distill.core.noise import row_uniforms
from distill.models.attention import GROUPED
from distill.models.batch_mode import decoding_mode
from distill.models.decoding import Decoding
from distill.models.forward import head_inputs, run_model
from distill.models.positions import depends_on_length
from distill.models.sampling import sample_batch
from distill.models.stepping import BatchMode

LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 40,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
GROUPS = {"num_key_value_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "llama": GROUPS,
    "gpt2": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "bloom": {"n_layer": 2, "n_head": 4},
    "falcon": {"alibi": True, "multi_query": False, "new_decoder_architecture": False},
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 4,
        "attention_types": [[["global", "local", "local"], 1]],
        "window_size": 8,
    },
    "phi3": {**GROUPS, "rope_parameters": LONG, "original_max_position_embeddings": 40},
    "llama-dynamic": {**GROUPS, "rope_parameters": DYNAMIC, "max_position_embeddings": 40},
    "mistral": {**GROUPS, "sliding_window": 16},
    "gemma3_text": {
        "num_key_value_heads": 1,
        "head_dim": 16,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "cohere2": {**GROUPS, "sliding_window": 12},
    "mamba": {"state_size": 8},
}


def _made(kind: str) -> Any:
    own = kind in ("mpt", "bloom", "falcon", "gpt_neo", "mamba")
    attention = "eager" if own else GROUPED
    model = tiny.model(kind, vocabulary=120, attention=attention, **KINDS[kind])
    assert model.config.model_type == kind.split("-")[0]
    return model


def _alone(model: Any, prompt: list[int], steps: int, noise: np.ndarray | None) -> list[int]:
    """Tokens of one row without a cache, by inversion of the whole distribution."""
    ids = list(prompt)
    for step in range(steps):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        if noise is None:
            ids.append(int(logits.argmax()))
        else:
            sums = np.cumsum(torch.softmax(logits.double(), -1).numpy())
            ids.append(int(np.searchsorted(sums, noise[step] * sums[-1], side="right")))
    return ids[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_each_row_gives_alone(kind: str, greedy: bool) -> None:
    model, steps = _made(kind), 14
    generator = torch.Generator().manual_seed(2)
    prompts = [
        [5, 6, 7, 8, 9, *torch.randint(120, (more,), generator=generator).tolist()]
        for more in (3, 20, 11, 20, 29)
    ]
    noise = np.stack([row_uniforms(f"row {row}", 0, steps) for row in range(len(prompts))])
    answers = sample_batch(
        model,
        prompts,
        stop_ids=[],
        max_new_tokens=steps,
        decoding=Decoding(0.0 if greedy else 1.0),
        uniforms=None if greedy else noise,
    )
    for prompt, (tokens, _), uniforms in zip(prompts, answers, noise, strict=True):
        assert tokens == _alone(model, prompt, steps, None if greedy else uniforms)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_plain_positions_take_the_fastest_mode(kind: str) -> None:
    assert decoding_mode(_made(kind), 100) is BatchMode.SHARED


@pytest.mark.slow
def test_a_window_is_no_matter_while_texts_are_shorter() -> None:
    model = _made("mistral")
    assert decoding_mode(model, 16) is BatchMode.SHARED
    assert decoding_mode(model, 17) is BatchMode.PADDED


@pytest.mark.parametrize("kind", ["phi3", "llama-dynamic"])
def test_embeddings_by_length_need_whole_passes_beyond_their_threshold(kind: str) -> None:
    model = _made(kind)
    assert decoding_mode(model, 40) is BatchMode.SHARED
    assert decoding_mode(model, 41) is BatchMode.UNCACHED
    assert depends_on_length(model.config, 41)


def test_settings_of_embeddings_by_kind_of_layer_are_read() -> None:
    config = transformers.AutoConfig.for_model("gemma3_text")
    config.rope_parameters = {"full_attention": DYNAMIC, "sliding_attention": {}}
    config.max_position_embeddings = 64
    assert depends_on_length(config, 65)
    assert not depends_on_length(config, 64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_is_scored_as_each_row_alone(kind: str) -> None:
    model = _made(kind)
    generator = torch.Generator().manual_seed(3)
    lengths = [70, 12, 39, 44, 44, 5]
    ids, mask = torch.zeros(6, 70, dtype=torch.long), torch.zeros(6, 70, dtype=torch.long)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(120, (length,), generator=generator)
        mask[row, :length] = 1
    keep = mask.bool() & (torch.arange(70) >= 3)
    with torch.no_grad():
        logits = run_model(model, keep, input_ids=ids, attention_mask=mask).logits.view(-1, 120)
        states = head_inputs(model, ids, mask, keep)
        alone = [
            model(input_ids=row[:length].unsqueeze(0), use_cache=False).logits[0, 3:]
            for row, length in zip(ids, lengths, strict=True)
        ]
        bodies = [
            model.base_model(input_ids=row[:length].unsqueeze(0), use_cache=False)[0][0, 3:]
            for row, length in zip(ids, lengths, strict=True)
        ]
    assert torch.allclose(logits, torch.cat(alone), atol=1e-4)
    assert torch.allclose(states, torch.cat(bodies), atol=1e-4)


@pytest.mark.slow
def test_layers_of_rows_run_apart_are_those_of_each_row() -> None:
    model = _made("phi3")
    ids = torch.arange(2 * 60).view(2, 60) % 120
    mask = torch.ones(2, 60, dtype=torch.long)
    mask[1, 30:] = 0
    with torch.no_grad():
        output = run_model(
            model,
            mask.bool(),
            input_ids=ids,
            attention_mask=mask,
            output_hidden_states=True,
        )
        for row, length in enumerate((60, 30)):
            alone = model(input_ids=ids[row : row + 1, :length], output_hidden_states=True)
            for got, expected in zip(output.hidden_states, alone.hidden_states, strict=True):
                assert torch.allclose(got[row, :length], expected[0], atol=1e-5)
