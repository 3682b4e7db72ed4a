"""The key-value cache of decoding: layers that grow by several columns at once."""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from distill.models.attention import GROUPED

STEP = 16
"""Columns by which a layer grows: on average half as many are computed for nothing, and one step in
16 copies the cache."""


class SteppedLayer(DynamicLayer):
    """Keys and values [batch, heads, columns, width], of which the first `filled` columns count."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.filled = 0

    def _columns(self, new: int) -> int:
        """Number of columns after `new` more are filled."""
        return -(-(self.filled + new) // STEP) * STEP

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill further columns; return all columns, of which the unfilled ones are 0."""
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
        """Number of filled columns."""
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a mask must cover for `query_length` more tokens, and their offset."""
        return self._columns(query_length), 0


def decoding_cache(model: Any) -> DynamicCache:
    """An empty cache for a model: with `SteppedLayer` for GROUPED attention, else the library's."""
    cache = DynamicCache(config=model.config)
    if model.config._attn_implementation == GROUPED:
        cache.layers = [
            SteppedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
    return cache
