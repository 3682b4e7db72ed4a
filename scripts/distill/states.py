"""The teacher's distribution, exact: its final hidden states, and the output head they enter.

A hidden state in bf16 takes two bytes per unit of width and token, and with the saved output head
it gives back q over the whole vocabulary at any temperature, so that no student runs the teacher.
States of a teacher run in bf16 are kept as they are. Those of one run in fp32 are rounded, which
cost a KL of 2e-5 nats per token on SmolLM2-135M.
"""

import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from distill.energy import energy_fields
from distill.files import UserError
from distill.flops import FlopModel
from distill.forward import fills_masks, head_inputs
from distill.meter import Meter
from distill.rows import read_ids, scored_positions
from distill.sampling import Decoding, log_q, not_finite
from distill.tensors import load_tensors, save_tensors

TOKENS = 1024
"""Tokens of a forward pass, padding included: with more, a CPU's cache is too small for them."""
WORTH_SHARING = 8  # tokens that rows begin with: fewer save less than a second pass costs

STATES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("hidden", pa.large_binary()),
        ("flops", pa.float64()),
        ("seconds", pa.float64()),
        *energy_fields(),
    ]
)
"""Per row of text: the final hidden states at the positions that predict its tokens, bf16
[tokens, width] as bytes, and the FLOPs, seconds and energy of computing them (0 where they fell out
of generation)."""


class OutputHead:
    """A saved output head: logits = softcap(scale * (hidden W^T + b))."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, cap: float, scale: float):
        self.weight, self.bias, self.cap, self.scale = weight, bias, cap, scale

    @property
    def is_matrix(self) -> bool:
        """Whether logits are hidden W^T and nothing more."""
        return self.bias is None and not self.cap and self.scale == 1

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [tokens, vocabulary] of hidden states [tokens, width]."""
        logits = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return torch.tanh(logits / self.cap) * self.cap if self.cap else logits


def head_of(model: Any) -> OutputHead:
    """The output head of a language model: its matrix, and what else makes logits.

    Raises:
        UserError: The head is more than a matrix with optional bias, scale and soft cap: its
            logits differ from the model's own.
    """
    module = model.get_output_embeddings()
    config = model.config
    scale = getattr(config, "logit_scale", None) or 1.0
    if getattr(config, "logits_scaling", None):
        scale = 1.0 / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None) or 0.0
    head = OutputHead(module.weight.detach(), getattr(module, "bias", None), cap, scale)
    ids = torch.arange(8, device=model.device).unsqueeze(0) % config.vocab_size
    with torch.inference_mode():
        own = model(input_ids=ids).logits[0]
        ours = head.logits(final_hidden(model, ids, None)[0])
    if not torch.allclose(own.float(), ours.float(), atol=1e-2, rtol=1e-2):
        raise UserError(
            f"the output head of {config.model_type} is more than a matrix, so soft targets "
            "cannot be had from its hidden states; use another teacher architecture"
        )
    return head


def final_hidden(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """What a language model hands to its output matrix: [batch, tokens, width]."""
    return head_inputs(model, ids, mask, torch.ones_like(ids, dtype=torch.bool)).view(
        *ids.shape, -1
    )


def save_head(head: OutputHead, path: str | Path) -> None:
    """Write an output head as safetensors (bf16 or fp32, as loaded)."""
    tensors = {"weight": head.weight}
    if head.bias is not None:
        tensors["bias"] = head.bias
    save_tensors(tensors, path, {"cap": str(head.cap), "scale": str(head.scale)})


def load_head(path: str | Path, device: torch.device) -> OutputHead:
    """Read an output head.

    Raises:
        UserError: The file is damaged.
    """
    tensors, marks = load_tensors(path)
    placed = {name: tensor.to(device) for name, tensor in tensors.items()}
    return OutputHead(
        placed["weight"], placed.get("bias"), float(marks["cap"]), float(marks["scale"])
    )


def batches(rows: Sequence[dict[str, Any]], size: int, device: torch.device) -> list[list[int]]:
    """Batches of row numbers of like length, longest first.

    On a CPU also of at most `TOKENS` where rows allow, so that memory does not grow with the rows'
    length but for one row's own attention; a GPU wants more at once.
    """
    most = TOKENS if device.type == "cpu" else sys.maxsize
    lengths = [len(read_ids(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda number: -lengths[number])
    made = []
    while order:
        own = max(1, min(size, most // max(1, lengths[order[0]])))
        made.append(order[:own])
        order = order[own:]
    return made


def padded(rows: Sequence[dict[str, Any]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask [rows, length] of what a model reads of rows, padded on the right."""
    each = [torch.tensor(read_ids(row)) for row in rows]
    mask = [torch.ones(len(ids), dtype=torch.long) for ids in each]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(each, batch_first=True).to(device), pad(mask, batch_first=True).to(device)


def _cached(model: Any) -> DynamicCache | None:
    """A cache, where it is all that a model needs of earlier tokens: each layer sees them all."""
    takes = inspect.signature(model.base_model.forward).parameters
    if fills_masks(model) or not {"past_key_values", "position_ids"} <= takes.keys():
        return None
    cache = DynamicCache(config=model.config)
    return cache if {type(layer) for layer in cache.layers} == {DynamicLayer} else None


def _shared(ids: torch.Tensor, keep: torch.Tensor) -> int:
    """How many tokens all rows of a batch begin with, none at a kept position, worth sharing."""
    same = int((ids == ids[:1]).all(0).int().cumprod(0).sum())
    shared = min(same, int(keep.int().argmax(1).min()))
    return shared if len(ids) > 1 and shared >= WORTH_SHARING else 0


def _kept_states(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """`head_inputs` of a batch; what all its rows begin with, a system prompt say, is run once."""
    shared = _shared(ids, keep)
    cache = _cached(model) if shared else None
    if cache is None:
        return head_inputs(model, ids, mask, keep)
    model.base_model(input_ids=ids[:1, :shared], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(ids))
    output = model.base_model(
        input_ids=ids[:, shared:],
        attention_mask=mask,
        position_ids=torch.arange(shared, ids.shape[1], device=ids.device).expand(len(ids), -1),
        past_key_values=cache,
        use_cache=True,
    )
    states: torch.Tensor = output.last_hidden_state[keep[:, shared:]]
    return states


@torch.inference_mode()
def score_text(
    model: Any, rows: Sequence[dict[str, Any]], tokens: str = "answer", batch_size: int = 16
) -> list[dict[str, Any]]:
    """Final hidden states of a teacher on text, its own or another's.

    Args:
        model: The teacher in eval mode.
        rows: Rows of a text part, with token ids.
        tokens: `answer` or `all`: which positions.
        batch_size: Rows per forward pass.

    Returns:
        Rows of `STATES_SCHEMA`, in the order of `rows`.

    Raises:
        UserError: A hidden state is NaN or infinite.
    """
    matrix = head_of(model).weight.numel()  # refuses a head that hidden states do not suffice for
    flop_model = FlopModel.from_model(model)
    scored: dict[int, dict[str, Any]] = {}
    meter = Meter()
    for batch in batches(rows, batch_size, model.device):
        start = time.perf_counter()
        ids, mask = padded([rows[number] for number in batch], model.device)
        where = [scored_positions(rows[number], tokens) for number in batch]
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for own, positions in zip(keep, where, strict=True):
            own[list(positions)] = True
        hidden = _kept_states(model, ids, mask, keep).split([len(own) for own in where])
        if not all(bool(own.isfinite().all()) for own in hidden):
            raise not_finite(model, "hidden states")
        energy = meter.lap() / len(batch)
        for number, own, positions in zip(batch, hidden, where, strict=True):
            kept, length = len(positions), len(read_ids(rows[number]))
            # The output matrix itself is not run here, but a masked model's layers before it are.
            flops = flop_model.sequence_forward(length, kept) - 2 * matrix * kept
            scored[number] = {
                "id": rows[number]["id"],
                "tokens": kept,
                "hidden": state_bytes(own),
                "flops": float(flops),
                "seconds": (time.perf_counter() - start) / len(batch),
                **energy.columns(),
            }
    return [scored[number] for number in range(len(rows))]


def state_bytes(states: torch.Tensor) -> bytes:
    """bf16 [tokens, width] as bytes."""
    blob: bytes = states.to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().tobytes()
    return blob


def hidden_states(blob: bytes, width: int) -> torch.Tensor:
    """bf16 [tokens, width] from the bytes of a row."""
    return torch.frombuffer(bytearray(blob), dtype=torch.bfloat16).view(-1, width)


def teacher_log_q(head: OutputHead, states: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """log q float32 [tokens, vocabulary] from final hidden states [tokens, width]."""
    return log_q(head.logits(states.to(head.weight.device)), decoding)
