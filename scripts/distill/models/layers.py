"""The layers of a model: their stack of modules, and the config entries that depend on them."""

import re
from typing import Any

import torch

from distill.core.errors import UserError

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Entries of a config that hold the number of layers."""
_NUMBERS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices")
"""Entries of a config that list layers by their numbers."""
_FIRST = ("first_k_dense_replace",)
"""Entries of a config that count layers from the first one."""
_OTHER_LISTS = re.compile("token_id|limit|multiplier|factor|section|architectures|attention_types")
"""Names of lists in a config that have no entry per layer, whatever their length."""


def evenly_spaced(count: int, layers: int) -> list[int]:
    """Indices of `count` evenly spaced layers of `layers`, including the first and the last.

    Raises:
        UserError: `count` exceeds `layers`.
    """
    if count > layers:
        raise UserError(
            f"a student keeps {count} layers of a model that has {layers}; lower layers"
        )
    if count == 1:
        return [0]
    return [round(step * (layers - 1) / (count - 1)) for step in range(count)]


def stacks_of(body: Any, depth: int) -> list[tuple[Any, str, Any]]:
    """The lists of `depth` modules inside a module, with their parents and names."""
    return [
        (parent, name, module)
        for parent in body.modules()
        for name, module in parent.named_children()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]


def lists_by_layer(config: Any) -> list[str]:
    """Entries of a config that have one value per layer."""
    depth = getattr(config, "num_hidden_layers", None)
    return [
        key
        for key, value in config.to_dict().items()
        if isinstance(value, list) and len(value) == depth and not _OTHER_LISTS.search(key)
    ]


def cut_config(config: Any, chosen: list[int]) -> None:
    """Reduce a config to the layers `chosen`, in place: depth, lists by layer, layer numbers."""
    by_layer = lists_by_layer(config)
    for key, value in config.to_dict().items():
        if key in _NUMBERS and isinstance(value, list):
            setattr(config, key, [new for new, old in enumerate(chosen) if old in value])
        elif key in _FIRST and isinstance(value, int):
            setattr(config, key, sum(old < value for old in chosen))
        elif key in by_layer:
            setattr(config, key, [value[old] for old in chosen])
    if types := getattr(config, "attention_types", None):  # GPT-Neo: [[[kind, ...], repeats], ...]
        kinds = [kind for group, repeats in types for _ in range(repeats) for kind in group]
        config.attention_types = [[[kinds[old]], 1] for old in chosen]
    for key in DEPTH_KEYS:
        if key in config.to_dict():
            setattr(config, key, len(chosen))
