"""Attention for CPUs: plain matrix products over grouped heads.

On CPU, torch's fused attention is slow for short sequences: it took more than half the time of a
bf16 decoding step of SmolLM2-135M at batch 128, and plain products take a tenth of that. Scores are
materialised (batch x heads x queries x keys), so this is for sequences up to about 1,024 tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

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
        value: [batch, key heads, keys, width].
        attention_mask: Additive, broadcastable to [batch, 1, queries, keys], or None.
        scaling: Factor of the scores; 1/sqrt(width) if None.
        dropout: Probability of dropping an attention weight.
        softcap: Scores become softcap * tanh(scores / softcap) (Gemma 2) if given.
        row_lengths: If given, the batch is one row of concatenated texts with these numbers of
            tokens. Each text attends only to itself, and the mask is that of one text.

    Returns:
        Output [batch, queries, heads, width], and None for the weights.
    """
    if row_lengths is not None:
        query, key, value = (_apart(states, row_lengths) for states in (query, key, value))
        output = grouped_attention(
            module, query, key, value, attention_mask, scaling, dropout, softcap
        )[0]
        real = [rows[:length] for rows, length in zip(output, row_lengths, strict=True)]
        return torch.cat(real).unsqueeze(0), None
    batch, heads, queries, width = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
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
    return output.view(batch, heads, queries, width).transpose(1, 2).contiguous(), None


def _apart(states: torch.Tensor, row_lengths: Sequence[int]) -> torch.Tensor:
    """[1, heads, tokens, width] of several texts as [texts, heads, longest, width]."""
    texts = states[0].transpose(0, 1).split(list(row_lengths))
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).transpose(1, 2)


AttentionInterface.register(GROUPED, grouped_attention)


AttentionMaskInterface.register(GROUPED, eager_mask)
