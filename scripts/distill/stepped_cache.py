"""A key-value cache that grows by steps of columns, so that a decoding step copies nothing.

The library's dynamic cache concatenates, which on a CPU moves the whole cache through memory at
every token. Its static cache needs the final length at the outset and computes on all of it. Here a
tensor has room for a few more columns; attention runs over all of them, as a product over a part
of the columns would copy them first, and the mask hides those not yet filled.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from distill.attention import GROUPED

STEP = 16
"""Columns that a layer grows by: half as many are computed in vain on average, and the cache is
copied at one step of 16."""


class SteppedLayer(DynamicLayer):
    """Keys and values [batch, heads, columns, width], of which the first `filled` columns count."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.filled = 0

    def _columns(self, new: int) -> int:
        """Columns there will be once `new` more are filled."""
        return -(-(self.filled + new) // STEP) * STEP

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill further columns; return all, also those not yet filled, which are 0."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        new = key_states.shape[2]
        more = self._columns(new) - self.keys.shape[2]
        if more:
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, more))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more))
        self.keys[:, :, self.filled : self.filled + new] = key_states
        self.values[:, :, self.filled : self.filled + new] = value_states
        self.filled += new
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns filled."""
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a mask must cover when `query_length` more are filled, and the first one."""
        return self._columns(query_length), 0


def decoding_cache(model: Any) -> DynamicCache:
    """An empty cache for a model: by steps where our own attention reads it, else the library's."""
    cache = DynamicCache(config=model.config)
    if model.config._attn_implementation == GROUPED:
        cache.layers = [
            SteppedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
    return cache
