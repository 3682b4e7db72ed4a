"""Hidden states of chosen teacher layers: projected, quantised, and read back.

A projection to width w stores 2 w (bf16) or w + 4 (int8 with a scale) bytes per token and layer.
Random projections keep angles and distances up to a factor (Johnson-Lindenstrauss); PCA keeps the
directions of largest variance of the first training part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.contracts.costs import Cost
from distill.contracts.schemas import LAYERS_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import write_rows
from distill.models.batching import batches, padded
from distill.models.flops import FlopModel
from distill.models.forward import fills_masks, not_finite
from distill.models.rows import read_ids, scored_positions
from distill.models.scored_text import open_scoring
from distill.models.tensors import load_tensors, save_tensors
from distill.runtime.meter import Meter
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint


@torch.inference_mode()
def layer_states(
    model: Any, rows: Sequence[dict[str, Any]], layers: Sequence[int], tokens: str
) -> list[torch.Tensor]:
    """Hidden states of layers of a teacher, per row float32 [tokens, layers, width].

    Args:
        model: The teacher in eval mode.
        rows: Rows of a text part, with token ids.
        layers: 0 for the embeddings, i for the output of the i-th layer.
        tokens: `answer` or `all`: which positions.

    Raises:
        UserError: The teacher has no such layer, or its states are NaN or infinite.
    """
    deepest = model.config.num_hidden_layers
    if wrong := [layer for layer in layers if layer > deepest]:
        raise UserError(
            f"the teacher has layers 0 to {deepest} but a cache needs layer {wrong[0]}; correct "
            "its hidden.layers"
        )
    states: dict[int, torch.Tensor] = {}
    for batch in batches(rows, 16, model.device):
        ids, mask = padded([rows[number] for number in batch], model.device)
        settings = {} if fills_masks(model) else {"use_cache": False}
        output = model.base_model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, **settings
        )
        for place, number in enumerate(batch):
            where = list(scored_positions(rows[number], tokens))
            picked = [output.hidden_states[layer][place, where] for layer in layers]
            states[number] = torch.stack(picked, 1).float().cpu()
            if not bool(states[number].isfinite().all()):
                raise not_finite(model, "hidden states")
    return [states[number] for number in range(len(rows))]


def random_projection(width: int, target: int, layers: int, seed: int) -> torch.Tensor:
    """Gaussian projections [layers, width, target] of variance 1 / target."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, width, target, generator=generator) / target**0.5


def fit_pca(states: Sequence[torch.Tensor], target: int) -> torch.Tensor:
    """Leading principal directions [layers, width, target], by decreasing variance.

    The mean is not removed: the learned projection of the student's states has no bias to add it.

    Raises:
        UserError: There are fewer tokens or dimensions than directions.
    """
    flat = torch.cat(list(states)).double()
    tokens, layers, width = flat.shape
    if target > min(tokens, width):
        raise UserError(
            f"hidden.width is {target} but the teacher's states have {width} dimensions and the "
            f"first training part {tokens} tokens; lower it"
        )
    projections = []
    for layer in range(layers):
        moments = flat[:, layer].T @ flat[:, layer]
        directions = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :target]
        signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        projections.append((directions * signs).float())  # eigenvectors have an arbitrary sign
    return torch.stack(projections)


def save_projection(projection: torch.Tensor, path: str | Path) -> None:
    """Write a projection as safetensors."""
    save_tensors({"projection": projection}, path)


def load_projection(path: str | Path) -> torch.Tensor:
    """Read a projection.

    Raises:
        UserError: The file is damaged.
    """
    return load_tensors(path)[0]["projection"]


def project(states: torch.Tensor, projection: torch.Tensor | None) -> torch.Tensor:
    """[tokens, layers, width] to [tokens, layers, target]."""
    if projection is None:
        return states
    return torch.einsum("tlw,lwk->tlk", states, projection)


def encode_layers(states: torch.Tensor, bits: int) -> dict[str, bytes]:
    """Quantise [tokens, layers, width]: int8 with a scale per token and layer, or bf16."""
    if bits == 16:
        return {
            "layers": states.to(torch.bfloat16).view(torch.int16).numpy().tobytes(),
            "scales": b"",
        }
    scales = states.abs().amax(-1).clamp_min(1e-12) / 127
    quantised = (states / scales.unsqueeze(-1)).round().to(torch.int8)
    return {"layers": quantised.numpy().tobytes(), "scales": scales.float().numpy().tobytes()}


def decode_layers(row: Mapping[str, Any], layers: int, bits: int) -> torch.Tensor:
    """float32 [tokens, layers, width] from a row's blobs."""
    if bits == 16:
        flat = torch.frombuffer(bytearray(row["layers"]), dtype=torch.bfloat16).float()
        return flat.view(row["target_tokens"], layers, -1)
    scales = torch.from_numpy(np.frombuffer(row["scales"], "<f4").copy()).view(-1, layers, 1)
    flat = torch.frombuffer(bytearray(row["layers"]), dtype=torch.int8).float()
    return flat.view(len(scales), layers, -1) * scales


def score_layers(
    model: Any,
    rows: Sequence[dict[str, Any]],
    spec: Mapping[str, Any],
    projection: torch.Tensor | None,
) -> list[dict[str, Any]]:
    """Rows of `LAYERS_SCHEMA` for rows of a text part.

    Args:
        model: The teacher in eval mode.
        rows: Rows of a text part, with token ids.
        spec: layers, tokens, projection, width, bits and seed.
        projection: The fitted projection for `pca`; else None.
    """
    meter = Meter()
    states = layer_states(model, rows, spec["layers"], spec["tokens"])
    share = meter.total() / len(rows)
    if spec["projection"] == "random":
        wide = states[0].shape[-1]
        projection = random_projection(wide, spec["width"], len(spec["layers"]), spec["seed"])
    flop_model = FlopModel.from_model(model)
    return [
        {
            "id": row["id"],
            **encode_layers(project(row_states, projection), spec["bits"]),
            **(Cost(flop_model.sequence_forward(len(read_ids(row)), 0)) + share).columns("layer_"),
        }
        for row, row_states in zip(rows, states, strict=True)
    ]


def fit_projection(
    text: str | Path,
    model: str | Path,
    out: str | Path,
    spec: dict[str, Any],
    tokenizer: str | Path | None = None,
) -> None:
    """Fit the principal directions of a teacher's layers to one part of a text.

    Args:
        text: The first training part.
        model: A file in the teacher's directory.
        out: The projection, safetensors.
        spec: scorer (how the teacher is loaded), layers, tokens and width.
        tokenizer: As of `open_scoring`.

    Raises:
        UserError: See `open_scoring`, `layer_states` and `fit_pca`; or memory ran out.
    """
    with memory_hint("scoring a text", SMALLER_TEACHER):
        rows, opened = open_scoring(text, model, spec["scorer"], tokenizer)
        states = layer_states(opened, rows, spec["layers"], spec["tokens"])
        save_projection(fit_pca(states, spec["width"]), out)


def layers_part(
    text: str | Path,
    model: str | Path,
    projection: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    tokenizer: str | Path | None = None,
) -> None:
    """Save projected hidden states of chosen layers of a teacher on one part of a text.

    Args:
        text: The part of the text.
        model: A file in the teacher's directory.
        projection: The fitted projection for `pca`; else None.
        out: The states, rows of `LAYERS_SCHEMA`.
        spec: scorer (how the teacher is loaded), and see `score_layers`; stored in the output.
        tokenizer: As of `open_scoring`.

    Raises:
        UserError: See `open_scoring` and `layer_states`; or memory ran out.
    """
    with memory_hint("scoring a text", SMALLER_TEACHER):
        rows, opened = open_scoring(text, model, spec["scorer"], tokenizer)
        fitted = load_projection(projection) if projection else None
        states = score_layers(opened, rows, spec, fitted)
    write_rows(out, states, LAYERS_SCHEMA, spec=spec)
