"""Next-token logits of a batch of rows, step by step: with a cache, or by whole forward passes.

Four ways of batching are known (`BatchMode`), from the fastest to the plainest. Not every
architecture gives the same logits by each of them as one row at a time without a cache.
"""

import inspect
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Protocol

import torch

from distill.models.decoding_cache import decoding_cache
from distill.models.forward import bare


class BatchMode(StrEnum):
    """How rows are decoded together."""

    SHARED = "common prefix once, then padding, with a cache"
    PADDED = "padding on the left, with a cache"
    EQUAL = "rows of equal length, with a cache"
    UNCACHED = "rows of equal length, without a cache"

    @property
    def pads(self) -> bool:
        """Whether rows of different lengths form a batch."""
        return self in (BatchMode.SHARED, BatchMode.PADDED)


class Steps(Protocol):
    """A batch of rows that grow by one token at a time."""

    def logits(self) -> torch.Tensor:
        """Logits [rows, vocabulary] of each row's next token."""

    def append(self, tokens: torch.Tensor) -> None:
        """Append a token, int64 [rows], to each row."""

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows only, int64 [kept]."""


def accepted(model: Any, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that a model's forward pass names."""
    names = inspect.signature(bare(model).forward).parameters
    return {key: value for key, value in arguments.items() if key in names}


class CachedSteps:
    """Rows of one batch with a key-value cache.

    Args:
        model: A causal language model in eval mode.
        prompts: Token ids per row, none empty.
        shared: Whether the common prefix is run once; padding then stands behind it.

    Raises:
        TypeError: The model takes no cache.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], shared: bool) -> None:
        self.model, self.cache = model, decoding_cache(model)
        # State-space models have another name for it.
        self.past = accepted(model, past_key_values=self.cache, cache_params=self.cache)
        if not self.past:
            raise TypeError(f"{type(model).__name__} takes no cache")
        rows, lengths = len(prompts), [len(prompt) for prompt in prompts]
        shortest, longest = min(lengths), max(lengths)
        prefix = 0
        if shared:
            while prefix < shortest - 1 and len({prompt[prefix] for prompt in prompts}) == 1:
                prefix += 1
        if prefix:
            ids = torch.tensor([list(prompts[0][:prefix])], device=model.device)
            model(input_ids=ids, use_cache=True, **self.past, **accepted(model, logits_to_keep=1))
            self.cache.reorder_cache(torch.zeros(rows, dtype=torch.long))
        width = longest - prefix
        ids = torch.zeros(rows, width, dtype=torch.long)
        mask = torch.zeros(rows, prefix + width, dtype=torch.long)
        mask[:, :prefix] = 1
        for row, prompt in enumerate(prompts):
            rest = torch.tensor(list(prompt[prefix:]))
            ids[row, width - len(rest) :] = rest
            mask[row, prefix + width - len(rest) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, prefix:]
        self.ids, self.mask = ids.to(model.device), mask.to(model.device)
        self.positions = positions.to(model.device)

    def logits(self) -> torch.Tensor:
        """Logits [rows, vocabulary] of each row's next token."""
        arguments = accepted(self.model, position_ids=self.positions, logits_to_keep=1)
        # Models without attention read no earlier columns.
        mask = self.mask[:, -self.ids.shape[1] :] if "cache_params" in self.past else self.mask
        output = self.model(
            input_ids=self.ids, attention_mask=mask, use_cache=True, **self.past, **arguments
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def append(self, tokens: torch.Tensor) -> None:
        """Append a token, int64 [rows], to each row."""
        self.positions = self.positions[:, -1:] + 1
        self.ids = tokens.unsqueeze(1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows only, int64 [kept]; it copies the cache."""
        self.cache.reorder_cache(rows)
        self.ids, self.mask = self.ids[rows], self.mask[rows]
        self.positions = self.positions[rows]


class WholeSteps:
    """Rows of equal length, whose tokens are all run at every step.

    Args:
        model: A causal language model in eval mode.
        prompts: Token ids per row, all of one length.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.ids = torch.tensor([list(prompt) for prompt in prompts], device=model.device)

    def logits(self) -> torch.Tensor:
        """Logits [rows, vocabulary] of each row's next token."""
        arguments = accepted(self.model, logits_to_keep=1)
        logits: torch.Tensor = self.model(input_ids=self.ids, use_cache=False, **arguments).logits[
            :, -1
        ]
        return logits

    def append(self, tokens: torch.Tensor) -> None:
        """Append a token, int64 [rows], to each row."""
        self.ids = torch.cat([self.ids, tokens.unsqueeze(1)], dim=1)

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows only, int64 [kept]."""
        self.ids = self.ids[rows]


def steps_of(model: Any, prompts: Sequence[Sequence[int]], mode: BatchMode) -> Steps:
    """A batch of prompts, decoded by a mode; without padding all have one length."""
    if mode is BatchMode.UNCACHED:
        return WholeSteps(model, prompts)
    return CachedSteps(model, prompts, shared=mode is BatchMode.SHARED)
