"""Keep some layers of a model, with all entries of its config that depend on a layer's number."""

import re
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from distill.core.errors import UserError
from distill.models.forward import fills_masks
from distill.models.weights import open_weights

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Entries of a config that hold the number of layers."""
_NUMBERS = ("mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices")
"""Entries of a config that list layers by their numbers."""
_FIRST = ("first_k_dense_replace",)
"""Entries of a config that count layers from the first one."""
_OTHER_LISTS = re.compile("token_id|limit|multiplier|factor|section|architectures|attention_types")
"""Names of lists in a config that have no entry per layer, whatever their length."""
_TOKENS = 64
"""Length of the text on which a saved student is compared."""


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


def _stacks(body: Any, depth: int) -> list[tuple[Any, str, Any]]:
    """The lists of `depth` modules inside a module, with their parents and names."""
    return [
        (parent, name, module)
        for parent in body.modules()
        for name, module in parent.named_children()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]


def cut(model: Any, count: int) -> Any:
    """Reduce a model to `count` evenly spaced layers, in place.

    Raises:
        UserError: It has fewer layers, or not one stack of them.
    """
    config = model.config.get_text_config()
    depth = config.num_hidden_layers
    stacks = _stacks(model, depth)
    if len(stacks) > 1 and hasattr(model, "get_decoder"):
        stacks = _stacks(model.get_decoder(), depth)
    if len(stacks) != 1:
        raise UserError(
            f"a {model.config.model_type} model has {len(stacks)} stacks of layers where one is "
            "expected, so no student can be cut from it; use init: random or pretrained"
        )
    parent, name, stack = stacks[0]
    chosen = evenly_spaced(count, depth)
    setattr(parent, name, torch.nn.ModuleList([stack[number] for number in chosen]))
    try:
        cut_config(config, chosen)
        config.validate()
    except (ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise UserError(
            f"no student can be cut to {count} layers from this {model.config.model_type} model "
            f"({reason}); use another number of layers, or init: pretrained or random"
        ) from None
    return model


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


@torch.inference_mode()
def check_saved(model: Any, folder: Any, how: str) -> None:
    """Check that a saved model, opened again, gives the logits of the model that was saved.

    What a layer computes can depend on its number (scales, positions, kinds of attention), which
    changes when layers are left out.

    Args:
        model: The model in fp32, which was saved.
        folder: Its directory.
        how: What was done to it, for the error.

    Raises:
        UserError: It cannot be opened, or its logits differ.
    """
    opened: Any = None
    try:
        opened = open_weights(folder, dtype=torch.float32).eval()
    except (UserError, ValueError, ArithmeticError, LookupError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
    if opened is not None:
        config = model.config.get_text_config()
        generator = torch.Generator().manual_seed(0)
        context = getattr(config, "max_position_embeddings", None) or _TOKENS
        shape = (1, max(2, min(_TOKENS, context // 2)))
        ids = torch.randint(config.vocab_size, shape, generator=generator)
        # A cache has a place per layer number.
        plain = {} if fills_masks(model) else {"use_cache": False}
        before, after = (each.eval()(input_ids=ids, **plain).logits for each in (model, opened))
        gap = float((before - after).abs().max())
        if gap <= 1e-3 * float(before.std()) or not bool(before.isfinite().all()):
            return
        reason = f"its logits differ by up to {gap:.2g}"
    raise UserError(
        f"a student {how} a {model.config.model_type} model is another one when it is opened "
        f"again ({reason}), because its layers depend on their number; use init: pretrained or "
        "random, or another number of layers"
    )
