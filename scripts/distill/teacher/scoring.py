"""The teacher's exact distribution: its final hidden states and its output head.

A hidden state in bf16 takes two bytes per unit of width and token, and with the saved output head
it reproduces q over the whole vocabulary at any temperature, so that no student runs the teacher.
States of a teacher run in bf16 are kept as they are. Those of one run in fp32 are rounded, which
cost a KL of 2e-5 nats per token on SmolLM2-135M; on test rows they are stored in fp32, so that no
metric has this error.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from distill.contracts.costs import Cost
from distill.contracts.schemas import STATES_SCHEMA
from distill.core.parquet import write_rows
from distill.models.batching import batches, padded
from distill.models.flops import FlopModel
from distill.models.forward import fills_masks, head_inputs, not_finite
from distill.models.head_extraction import head_of
from distill.models.heads import state_bytes, state_dtype
from distill.models.positions import length_limit
from distill.models.rows import read_ids, scored_positions
from distill.models.scored_text import open_scoring
from distill.runtime.memory import job_peak
from distill.runtime.meter import Meter
from distill.runtime.out_of_memory import SMALLER_TEACHER, memory_hint

WORTH_SHARING = 8  # tokens that rows begin with: fewer save less than a second pass costs


def _cached(model: Any) -> DynamicCache | None:
    """A key-value cache, if it holds all that a model needs of earlier tokens."""
    if length_limit(model.config) is not None:
        return None
    takes = inspect.signature(model.base_model.forward).parameters
    if fills_masks(model) or not {"past_key_values", "position_ids"} <= takes.keys():
        return None
    cache = DynamicCache(config=model.config)
    return cache if {type(layer) for layer in cache.layers} == {DynamicLayer} else None


def _shared(ids: torch.Tensor, keep: torch.Tensor) -> int:
    """Length of the prefix that all rows share, without kept positions; 0 if too short to share."""
    same = int((ids == ids[:1]).all(0).int().cumprod(0).sum())
    shared = min(same, int(keep.int().argmax(1).min()))
    return shared if len(ids) > 1 and shared >= WORTH_SHARING else 0


def _kept_states(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """`head_inputs` of a batch; a prefix that all rows share is run once."""
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
    model: Any,
    rows: Sequence[dict[str, Any]],
    tokens: str = "answer",
    batch_size: int = 16,
    exact: bool = False,
) -> list[dict[str, Any]]:
    """Final hidden states of a teacher on text, its own or another's.

    Args:
        model: The teacher in eval mode.
        rows: Rows of a text part, with token ids.
        tokens: `answer` or `all`: which positions.
        batch_size: Rows per forward pass.
        exact: Whether hidden states are stored as the model computes them, not rounded to bf16.

    Returns:
        Rows of `STATES_SCHEMA`, in the order of `rows`.

    Raises:
        UserError: A hidden state is NaN or infinite.
    """
    matrix = head_of(model).weight.numel()  # refuses a head that hidden states do not suffice for
    flop_model, stored = FlopModel.from_model(model), state_dtype(model.dtype, exact)
    scored: dict[int, dict[str, Any]] = {}
    meter = Meter()
    for batch in batches(rows, batch_size, model.device):
        ids, mask = padded([rows[number] for number in batch], model.device)
        where = [scored_positions(rows[number], tokens) for number in batch]
        keep = torch.zeros_like(ids, dtype=torch.bool)
        for states, positions in zip(keep, where, strict=True):
            states[list(positions)] = True
        hidden = _kept_states(model, ids, mask, keep).split([len(states) for states in where])
        if not all(bool(states.isfinite().all()) for states in hidden):
            raise not_finite(model, "hidden states")
        share = meter.lap() / len(batch)
        for number, states, positions in zip(batch, hidden, where, strict=True):
            count, length = len(positions), len(read_ids(rows[number]))
            # The output matrix itself is not run here, but a masked model's layers before it are.
            flops = flop_model.sequence_forward(length, count) - 2 * matrix * count
            scored[number] = {
                "id": rows[number]["id"],
                "tokens": count,
                "hidden": state_bytes(states, stored),
                **(Cost(float(flops)) + share).columns(),
            }
    return [scored[number] for number in range(len(rows))]


def score_part(
    text: str | Path,
    model: str | Path,
    out: str | Path,
    spec: dict[str, Any],
    tokens: str,
    tokenizer: str | Path | None = None,
    exact: bool = False,
) -> None:
    """Save a teacher's final hidden states on one part of an existing text.

    Args:
        text: The part of the text.
        model: A file in the teacher's directory.
        out: The part's states, rows of `STATES_SCHEMA`, with the job's memory and energy.
        spec: How the teacher is loaded; stored in the output.
        tokens: `answer` or `all`: which positions.
        tokenizer: A file in the directory of the text's tokenizer, if it is not the teacher's.
        exact: As of `score_text`.

    Raises:
        UserError: As `open_scoring` and `score_text`; memory ran out.
    """
    with memory_hint("scoring a text", SMALLER_TEACHER):
        rows, opened = open_scoring(text, model, spec, tokenizer)
        meter = Meter()
        states = score_text(opened, rows, tokens, exact=exact)
        used = job_peak() | meter.total().energy.record()
    write_rows(out, states, STATES_SCHEMA, spec=spec, job=used)
