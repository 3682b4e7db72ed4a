"""Quantised checkpoints are read as the plain weights that they stand for, by closed forms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import plain_model
import tiny
from distill.core.errors import UserError
from distill.core.quantised_models import METHODS
from distill.data.fetch import fetch_model

IDS = [5, 9, 20, 33, 7, 41]
Tensors = dict[str, torch.Tensor]
pytestmark = pytest.mark.slow


def fetched(folder: Path, out: Path) -> Path:
    fetch_model({"path": str(folder)}, out / "manifest.json")
    return out


def describe(folder: Path, settings: dict[str, Any]) -> None:
    """Write a quantization_config into a model's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))


def blocks_of_fp8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """Tiles of 16 x 16 with a scale each, as DeepSeek-V3 and Qwen3-FP8 have them."""
    rows, columns = weight.shape
    tiles = weight.reshape(rows // 16, 16, columns // 16, 16)
    scales = tiles.abs().amax((1, 3)) / 448
    packed = (tiles / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    plain = packed.float() * scales[:, None, :, None]
    parts = {"weight": packed.reshape(rows, columns), "weight_scale_inv": scales}
    return parts, plain.reshape(rows, columns)


def channels_of_int8(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """A scale for each row."""
    scales = weight.abs().amax(1, keepdim=True) / 127
    packed = (weight / scales).round().to(torch.int8)
    return {"weight": packed, "weight_scale": scales}, packed.float() * scales


def nibbles(values: torch.Tensor) -> torch.Tensor:
    """int32 [n, m / 8]: eight values of 0 to 15 in a word, the first in the lowest bits."""
    shifts = torch.arange(0, 32, 4)
    words = (values.long().unflatten(1, (-1, 8)) << shifts).sum(-1)
    return (words - (words >= 2**31) * 2**32).to(torch.int32)


def groups_of_int4(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """A scale for 16 weights of a row; eight weights in a word, stored with an offset of 8."""
    rows, columns = weight.shape
    tiles = weight.reshape(rows, columns // 16, 16)
    scales = tiles.abs().amax(2) / 7
    values = (tiles / scales[:, :, None]).round()
    parts = {
        "weight_packed": nibbles(values.reshape(rows, columns) + 8),
        "weight_scale": scales,
        "weight_shape": torch.tensor([rows, columns]),
    }
    return parts, (values * scales[:, :, None]).reshape(rows, columns)


def groups_of_awq(weight: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """AutoAWQ's GEMM layout: inputs in rows, zero points, outputs of a word interleaved."""
    tiles = weight.T.reshape(-1, 16, weight.shape[0])  # [groups, 16 inputs, outputs]
    low, high = tiles.amin(1), tiles.amax(1)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(0, 15)
    values = (tiles / scales[:, None] + zeros[:, None]).round().clamp(0, 15)
    plain = (values - zeros[:, None]).half() * scales.half()[:, None]  # as its kernels compute
    plain = plain.float().reshape(-1, weight.shape[0]).T
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])

    def interleaved(table: torch.Tensor) -> torch.Tensor:
        return nibbles(table.unflatten(1, (-1, 8))[:, :, order].flatten(1))

    parts = {
        "qweight": interleaved(values.reshape(-1, weight.shape[0])),
        "qzeros": interleaved(zeros),
        "scales": scales.half(),
    }
    return parts, plain.contiguous()


def compressed(kind: str, bits: int, **strategy: Any) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, **strategy}
    return {
        "quant_method": "compressed-tensors", "format": kind, "ignore": ["lm_head"],
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }  # fmt: skip


KINDS: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor], tuple[Tensors, torch.Tensor]]]] = {
    "fp8": (
        {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]},
        blocks_of_fp8,
    ),
    "int8": (compressed("int-quantized", 8, strategy="channel"), channels_of_int8),
    "int4": (
        compressed("pack-quantized", 4, strategy="group", group_size=16),
        groups_of_int4,
    ),
    "awq": (
        {
            "quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True,
            "version": "gemm", "modules_to_not_convert": ["lm_head"],
        },
        groups_of_awq,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_become_the_plain_ones(kind: str, tmp_path: Path, plain: Any) -> None:
    settings, pack = KINDS[kind]
    folder, same = tmp_path / "packed", tmp_path / "plain"
    model = tiny.model("llama", tie_word_embeddings=False)
    for place in (folder, same):
        tiny.save(place, model, plain)
    weights = load_file(folder / "model.safetensors")
    stored: Tensors = {}
    expected: Tensors = {}
    for name, weight in weights.items():
        if "proj.weight" in name:
            parts, expected[name] = pack(weight.float())
            stored |= {name.removesuffix("weight") + part: value for part, value in parts.items()}
        else:
            stored[name] = expected[name] = weight
    save_file({name: value.contiguous() for name, value in stored.items()},
              folder / "model.safetensors", {"format": "pt"})  # fmt: skip
    save_file(expected, same / "model.safetensors", {"format": "pt"})
    describe(folder, settings)
    out = fetched(folder, tmp_path / "out")
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    result = load_file(out / "model.safetensors")
    for name, weight in expected.items():
        torch.testing.assert_close(result[name], weight.float(), rtol=1e-6, atol=1e-7)
    ours, theirs = (plain_model.logits(plain_model.opened(place), IDS) for place in (out, same))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_model_saved_by_bitsandbytes(bits: int, tmp_path: Path, plain: Any) -> None:
    base = tiny.save(tmp_path / "base", tiny.model("llama", hidden_size=64), plain)
    settings = BitsAndBytesConfig(
        load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=settings, device_map="cpu", dtype=torch.float32
    )
    model.save_pretrained(tmp_path / "packed")
    plain.save_pretrained(tmp_path / "packed")
    result = load_file(fetched(tmp_path / "packed", tmp_path / "out") / "model.safetensors")
    packed = {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, Linear4bit | Linear8bitLt)
    }
    assert len(packed) == 21
    for name, weight in packed.items():
        if bits == 4:
            expected = dequantize_4bit(weight.data, weight.quant_state)
        else:
            expected = weight.data.float() * weight.SCB.unsqueeze(1) / 127
        torch.testing.assert_close(result[f"{name}.weight"], expected, rtol=1e-6, atol=1e-7)


def test_experts_of_gpt_oss_in_mxfp4(tmp_path: Path, plain: Any) -> None:
    model = tiny.model("gpt_oss", hidden_size=64, intermediate_size=32, num_local_experts=4)
    folder = tiny.save(tmp_path / "packed", model, plain)
    table = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    table = torch.cat([table, -table])
    weights, expected = load_file(folder / "model.safetensors"), {}
    for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = weights.pop(name).shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(122, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
        values = torch.stack([table[(blocks & 15).long()], table[(blocks >> 4).long()]], -1)
        values = values.flatten(3) * torch.exp2(scales.float() - 127).unsqueeze(-1)
        expected[name] = values.flatten(2).transpose(1, 2)
        weights |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    describe(
        folder, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}
    )
    result = load_file(fetched(folder, tmp_path / "out") / "model.safetensors")
    assert expected
    for name, weight in expected.items():
        torch.testing.assert_close(result[name], weight, rtol=0, atol=0)


def test_what_cannot_be_read_has_a_sentence(tmp_path: Path, plain: Any) -> None:
    folder = tiny.save(tmp_path / "packed", tiny.model("llama"), plain)
    describe(folder, {"quant_method": "gptq", "bits": 4, "group_size": 32})
    with pytest.raises(UserError, match=r"by gptq, which .* package gptqmodel .* unquantised"):
        fetched(folder, tmp_path / "out")
    for method in METHODS:
        describe(folder, {"quant_method": method})
        with pytest.raises(UserError, match=rf"{method} .* hold no scales .* remove quantization"):
            fetched(folder, tmp_path / "out")
