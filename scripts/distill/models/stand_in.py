"""A model's architecture in fp32 with random weights: where trials compare two ways to run it.

The rounding of bf16 changes a trained model's logits by up to 0.2 of their spread, which would hide
or resemble a real difference. In fp32 rounding is 1e-5 of it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from distill.models.layers import cut_config, stacks_of

_MOST_LAYERS = 8
"""Layers of a stand-in, unless there are more kinds of them."""
_VOCABULARY = 512
"""Rows of a stand-in's embeddings: what a token is does not change how it is run."""
_SIMPLE = (bool, int, float, str)


def stand_in(model: Any) -> Any:
    """A model in eval mode that computes as another one does: itself if its weights are fp32.

    Args:
        model: The library's model, without wrappers.

    Returns:
        Else a new one of the same class and attention, on the same device, with fewer tokens and
        layers, but all kinds of layers.
    """
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    quantised = getattr(model, "is_quantized", False)
    if not quantised and all(weight.dtype == torch.float32 for weight in weights):
        return model
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    text = config.get_text_config()
    if chosen := _kinds_of_layers(model, text.num_hidden_layers):
        cut_config(text, chosen)
    text.vocab_size = min(text.vocab_size, _VOCABULARY)
    if isinstance(padding := getattr(text, "pad_token_id", None), int):
        text.pad_token_id = min(padding, text.vocab_size - 1)
    attention = model.config._attn_implementation
    with torch.inference_mode(False), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        with torch.device(model.device):
            made = type(model)._from_config(
                config, attn_implementation=attention, dtype=torch.float32
            )
        for weight in made.parameters():
            # A gate that begins at 0, or a gain of 1, would hide what is behind it.
            if weight.dim() == 1 or not weight.any():
                weight.add_(torch.randn_like(weight) * 0.1)
    return made.eval()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """In the block a model is in eval mode, without gradients and autocast."""
    training, kind = model.training, model.device.type
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            yield
    finally:
        model.train(training)


def _kinds_of_layers(model: Any, depth: int) -> list[int]:
    """Numbers of layers among which all kinds are; empty if the model has not one stack of them."""
    stacks = stacks_of(model, depth)
    if len(stacks) > 1 and hasattr(model, "get_decoder"):
        stacks = stacks_of(model.get_decoder(), depth)
    if len(stacks) != 1:
        return []
    first: dict[Any, int] = {}
    for number, layer in enumerate(stacks[0][2]):
        first.setdefault(_kind(layer), number)
    needed = max(first.values()) + 1
    return list(range(max(2, needed))) if needed <= _MOST_LAYERS else list(first.values())


def _kind(layer: Any) -> tuple[Any, ...]:
    """What a layer consists of, apart from its number."""
    return tuple(
        (
            name,
            type(module).__name__,
            tuple(
                (key, value)
                for key, value in sorted(vars(module).items())
                if isinstance(value, _SIMPLE) and key not in ("layer_idx", "layer_id", "training")
            ),
        )
        for name, module in layer.named_modules()
    )
