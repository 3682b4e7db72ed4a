"""Rows of text as batches of token ids that a model reads at once."""

import sys
from collections.abc import Sequence
from typing import Any

import torch

from distill.models.rows import read_ids

TOKENS = 1024
"""Tokens of a forward pass, padding included: with more, a CPU's cache is too small for them."""


def batches(rows: Sequence[dict[str, Any]], size: int, device: torch.device) -> list[list[int]]:
    """Batches of row numbers of similar length, longest first.

    On a CPU also of at most `TOKENS` where rows allow, so that memory does not grow with the rows'
    length but for one row's own attention; a GPU wants more at once.
    """
    most = TOKENS if device.type == "cpu" else sys.maxsize
    lengths = [len(read_ids(row)) for row in rows]
    order = sorted(range(len(rows)), key=lambda number: -lengths[number])
    groups = []
    while order:
        count = max(1, min(size, most // max(1, lengths[order[0]])))
        groups.append(order[:count])
        order = order[count:]
    return groups


def padded(rows: Sequence[dict[str, Any]], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask [rows, length] of what a model reads of rows, padded on the right."""
    each = [torch.tensor(read_ids(row)) for row in rows]
    mask = [torch.ones(len(ids), dtype=torch.long) for ids in each]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(each, batch_first=True).to(device), pad(mask, batch_first=True).to(device)
