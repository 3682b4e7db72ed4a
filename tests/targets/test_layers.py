import math
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from distill.core.errors import UserError
from distill.models.flops import FlopModel
from distill.targets.layers import (
    decode_layers,
    encode_layers,
    fit_pca,
    layer_states,
    load_projection,
    project,
    random_projection,
    save_projection,
    score_layers,
)


def some_states(tokens: int = 40, layers: int = 2, width: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scales = torch.logspace(-2, 1, width)  # some dimensions are large, as in real models
    return torch.randn(tokens, layers, width, generator=generator) * scales


def stored(states: torch.Tensor, bits: int) -> dict[str, Any]:
    return {**encode_layers(states, bits), "target_tokens": len(states)}


def test_eight_bits_miss_by_half_a_step_of_the_tokens_own_scale() -> None:
    states = some_states()
    states[3] = 0
    row = stored(states, 8)
    assert len(row["layers"]) == states.numel()
    assert len(row["scales"]) == 4 * 40 * 2
    back = decode_layers(row, 2, 8)
    assert back.shape == states.shape
    assert back.dtype == torch.float32
    step = states.abs().amax(-1, keepdim=True) / 127
    assert bool(((back - states).abs() <= step / 2 * 1.0001 + 1e-12).all())
    assert float(back[3].abs().max()) < 1e-10
    assert float((back - states).abs().max()) > 0


def test_sixteen_bits_are_bf16() -> None:
    states = some_states()
    row = stored(states, 16)
    assert len(row["layers"]) == 2 * states.numel()
    assert row["scales"] == b""
    back = decode_layers(row, 2, 16)
    assert torch.equal(back, states.to(torch.bfloat16).float())
    assert bool(((back - states).abs() <= states.abs() * 2**-8).all())


def test_a_part_of_a_wider_tensor_is_stored_as_it_reads() -> None:
    part = some_states(width=24).transpose(0, 1)[:, ::2].transpose(0, 1)
    assert not part.is_contiguous()
    for bits in (8, 16):
        torch.testing.assert_close(decode_layers(stored(part, bits), 2, bits), part, rtol=0.02, atol=0.2)  # fmt: skip  # noqa: E501


def test_a_random_projection_keeps_lengths_and_angles_in_expectation() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 24, generator=generator).double()
    products, lengths = [], []
    for seed in range(400):
        (matrix,) = random_projection(24, 8, 1, seed).double()
        a, b = one @ matrix, other @ matrix
        products.append(float(a @ b))
        lengths.append(float(a @ a))
    # The variances of both are known: (|a|^2 |b|^2 + (a b)^2) / k, and 2 |a|^4 / k.
    exact, norm = float(one @ other), float(one @ one)
    spread = math.sqrt((norm * float(other @ other) + exact**2) / 8 / 400)
    assert abs(np.mean(products) - exact) < 4 * spread
    assert abs(np.mean(lengths) - norm) < 4 * math.sqrt(2 * norm**2 / 8 / 400)
    assert np.std(products) == pytest.approx(spread * 20, rel=0.2)


def test_a_random_projection_is_its_seeds_and_each_layers_own() -> None:
    matrices = random_projection(24, 8, 2, seed=5)
    assert matrices.shape == (2, 24, 8)
    assert torch.equal(matrices, random_projection(24, 8, 2, seed=5))
    assert not torch.equal(matrices, random_projection(24, 8, 2, seed=6))
    assert not torch.equal(matrices[0], matrices[1])
    states = some_states()
    shown = project(states, matrices)
    for layer in range(2):
        torch.testing.assert_close(shown[:, layer], states[:, layer] @ matrices[layer])
    assert project(states, None) is states


def test_pca_finds_the_leading_directions_of_the_second_moments() -> None:
    states = [some_states(30), some_states(25) * 1.5 + 0.3]
    found = fit_pca(states, 5)
    assert found.shape == (2, 24, 5)
    flat = torch.cat(states).double().numpy()
    for layer in range(2):
        values, vectors = np.linalg.eigh(flat[:, layer].T @ flat[:, layer])
        expected = vectors[:, np.argsort(-values)[:5]]
        ours = found[layer].double().numpy()
        np.testing.assert_allclose(np.abs((expected * ours).sum(0)), 1, atol=1e-5)
        np.testing.assert_allclose(ours.T @ ours, np.eye(5), atol=1e-5)
        largest = ours[np.abs(ours).argmax(0), range(5)]
        assert (largest > 0).all()
    assert torch.equal(found, fit_pca(list(states), 5))
    other = project(torch.cat(states), found)
    kept = other.square().sum((0, 2)) / torch.cat(states).square().sum((0, 2))
    assert bool((kept > 0.9).all())


def test_pca_needs_as_many_tokens_and_dimensions_as_directions() -> None:
    with pytest.raises(
        UserError, match=r"hidden\.width is 25 .* 24 dimensions .* 40 tokens; lower"
    ):
        fit_pca([some_states()], 25)
    with pytest.raises(UserError, match=r"hidden\.width is 12 .* 10 tokens; lower"):
        fit_pca([some_states(10)], 12)


def test_a_projection_is_read_as_it_was_written(tmp_path: Any) -> None:
    matrices = random_projection(24, 8, 2, seed=5).transpose(1, 2)
    save_projection(matrices, tmp_path / "p.safetensors")
    assert torch.equal(load_projection(tmp_path / "p.safetensors"), matrices)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_layers_are_those_of_the_model_row_by_row(plain: Any, kind: str, tokens: str) -> None:
    model, rows = tiny.model(kind), tiny.uneven_rows(plain, 20)
    layers = [3, 0, 2]
    found = layer_states(model, rows, layers, tokens)
    for row, states in zip(rows, found, strict=True):
        ids = [*row["prompt_ids"], *row["response_ids"]]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states
            logits = model(torch.tensor([ids])).logits[0]
            shown = model.lm_head(states[:, 0])
        first = 0 if tokens == "all" else len(row["prompt_ids"]) - 1
        expected = torch.stack([hidden[layer][0, first : len(ids) - 1] for layer in layers], 1)
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
        # The last one is what enters the output head.
        torch.testing.assert_close(shown, logits[first : len(ids) - 1], rtol=1e-3, atol=1e-3)
    assert len(found[0]) != len(found[1])


def test_a_layer_that_the_teacher_lacks_is_a_user_error(plain: Any) -> None:
    with pytest.raises(
        UserError, match=r"layers 0 to 3 but .* layer 4; correct its hidden\.layers"
    ):
        layer_states(tiny.model("llama"), tiny.uneven_rows(plain, 2), [1, 4], "answer")


@pytest.mark.slow
@pytest.mark.parametrize("projection", ["none", "random", "pca"])
def test_stored_layers_are_projected_and_quantised(plain: Any, projection: str) -> None:
    model, rows = tiny.model("llama"), tiny.uneven_rows(plain, 5)
    spec = {
        "layers": [1, 3], "tokens": "answer", "projection": projection, "bits": 16, "seed": 4,
        "width": None if projection == "none" else 6,
    }  # fmt: skip
    states = layer_states(model, rows, [1, 3], "answer")
    matrices = None
    if projection == "pca":
        matrices = fit_pca(states, 6)
    made = score_layers(model, rows, spec, matrices)
    if projection == "random":
        matrices = random_projection(32, 6, 2, 4)
    flops = FlopModel.from_model(model)
    for row, own, blobs in zip(rows, states, made, strict=True):
        assert blobs["id"] == row["id"]
        back = decode_layers(blobs | {"target_tokens": len(own)}, 2, 16)
        torch.testing.assert_close(back, project(own, matrices), rtol=2**-7, atol=1e-6)
        length = len(row["prompt_ids"]) + len(row["response_ids"])
        assert blobs["layer_flops"] == flops.sequence_forward(length, 0)
