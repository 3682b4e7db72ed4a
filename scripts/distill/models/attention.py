"""Attention for CPUs: plain matrix products over grouped heads.

On CPU, torch's fused attention is slow for short sequences: it took more than half the time of a
bf16 decoding step of SmolLM2-135M at batch 128, and plain products take a tenth of that. Scores are
materialised (batch x heads x queries x keys), so this is for sequences up to about 1,024 tokens.
"""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from distill.models.stand_in import stand_in

GROUPED = "grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    row_lengths: Sequence[int] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Softmax attention without repeating the key and value heads of grouped queries.

    Args:
        module: The attention layer (unused; part of the library's interface).
        query: [batch, heads, queries, width].
        key: [batch, key heads, keys, width].
        value: [batch, key heads, keys, width of values].
        attention_mask: Additive, broadcastable to [batch, 1, queries, keys], or None.
        scaling: Factor of the scores; 1/sqrt(width) if None.
        dropout: Probability of dropping an attention weight.
        softcap: Scores become softcap * tanh(scores / softcap) (Gemma 2) if given.
        row_lengths: If given, the batch is one row of concatenated texts with these numbers of
            tokens. Each text attends only to itself, and the mask is that of one text.

    Returns:
        Output [batch, queries, heads, width of values], and None for the weights.
    """
    if row_lengths is not None:
        query, key, value = (_apart(states, row_lengths) for states in (query, key, value))
        output = grouped_attention(
            module, query, key, value, attention_mask, scaling, dropout, softcap
        )[0]
        real = [rows[:length] for rows, length in zip(output, row_lengths, strict=True)]
        return torch.cat(real).unsqueeze(0), None
    batch, heads, queries, width = query.shape
    key_heads, keys = key.shape[1], key.shape[2]  # latent attention has values of another width
    grouped = query.reshape(batch, key_heads, heads // key_heads * queries, width)
    if torch.is_autocast_enabled(query.device.type):
        # Autocast would round scores to bf16, which doubles the error of gradients.
        with torch.autocast(query.device.type, enabled=False):
            scores = torch.matmul(grouped.float(), key.float().transpose(2, 3))
    else:
        scores = torch.matmul(grouped, key.transpose(2, 3)).float()
    scores = scores * (width**-0.5 if scaling is None else scaling)
    scores = scores.view(batch, heads, queries, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, :, :keys]
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    if dropout:
        weights = functional.dropout(weights, dropout)
    output = torch.matmul(weights.view(batch, key_heads, -1, keys), value)
    return output.view(batch, heads, queries, -1).transpose(1, 2).contiguous(), None


def _apart(states: torch.Tensor, row_lengths: Sequence[int]) -> torch.Tensor:
    """[1, heads, tokens, width] of several texts as [texts, heads, longest, width]."""
    texts = states[0].transpose(0, 1).split(list(row_lengths))
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).transpose(1, 2)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)


def close_logits(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether fp32 logits of one shape differ by rounding only: by 0.1 % of their spread."""
    return bool((logits - expected).abs().max() <= 1e-3 * expected.std())


def uncached(model: Any) -> dict[str, bool]:
    """Arguments of a forward pass without a cache, which a hybrid without attention cannot fill."""
    taken = inspect.signature(model.forward).parameters
    return {"use_cache": False} if {"use_cache", "kwargs"} & taken.keys() else {}


@torch.no_grad()
def use_grouped(model: torch.nn.Module) -> bool:
    """Give a model `grouped_attention` if a trial shows the logits of the library's attention.

    Some architectures do not use the library's attention interface, or hand over arguments that
    change the result and that `grouped_attention` ignores (attention sinks, relative positions).

    Args:
        model: A causal or masked model in eval mode; its attention is left as it was if the trial
            fails.

    Returns:
        Whether the model has `grouped_attention` now.
    """
    if not model._can_set_attn_implementation():  # by its source, e.g. GPT-J, Falcon, MPT
        return False
    trial = stand_in(model)
    before = trial.config._attn_implementation
    ids = torch.tensor([[3, 4, 5, 6, 7, 3], [5, 3, 7, 4, 0, 0]], device=model.device)
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]], device=model.device)
    settings = uncached(trial)
    expected = trial(input_ids=ids, attention_mask=mask, **settings).logits[mask == 1]
    try:
        trial.set_attn_implementation(GROUPED)
        logits = trial(input_ids=ids, attention_mask=mask, **settings).logits[mask == 1]
        if close_logits(logits, expected):
            model.set_attn_implementation(GROUPED)
            return True
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        logging.info("grouped attention is not for %s: %s", type(model).__name__, error)
    trial.set_attn_implementation(before)
    return False
