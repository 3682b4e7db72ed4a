"""A row of text as a model reads it: which tokens, and where each of the others is predicted."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Example:
    """One prompt and answer in a model's tokens; the answer has its end token if it ended.

    Of a masked chunk, the prompt is all that the model sees, the answer the true tokens to be found
    and `positions` where in the prompt they stand, ascending.
    """

    prompt: list[int]
    answer: list[int]
    positions: list[int] | None = None

    @property
    def tokens(self) -> list[int]:
        """What the model reads while it is trained or judged."""
        return self.prompt if self.positions is not None else self.prompt + self.answer

    @property
    def predicting(self) -> Sequence[int]:
        """Where in `tokens` each token of the answer is predicted."""
        if self.positions is not None:
            return self.positions
        return range(len(self.prompt) - 1, len(self.tokens) - 1)


def scored_positions(row: Mapping[str, Any], tokens: str = "answer") -> Sequence[int]:
    """Positions of a text row at which a token is predicted: the answer's, or all but the last.

    Of a masked chunk, those of the tokens to be found.
    """
    if "positions" in row:
        return list(row["positions"])
    prompt, answer = len(row["prompt_ids"]), len(row["response_ids"])
    return range(prompt - 1 if tokens == "answer" else 0, prompt + answer - 1)


def read_ids(row: Mapping[str, Any]) -> list[int]:
    """Token ids of a text row that a model reads: prompt and answer, or a masked chunk."""
    ids = list(row["prompt_ids"] or [])
    return ids if "positions" in row else ids + list(row["response_ids"] or [])


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


TOKENS = 1024
"""Tokens of a forward pass, padding included: with more, a CPU's cache is too small for them."""
