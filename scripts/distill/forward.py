"""One forward pass of a causal or a masked language model, with logits at chosen positions only.

The vocabulary head dominates small models, so it runs where logits are asked for and nowhere else.
Causal models take the positions themselves. Masked ones have no such argument, and their head is
more than a matrix: what their body hands to it is cut down to the chosen positions on the way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

_MASKED = ("ForMaskedLM", "ForPreTraining")


def is_masked(config: Any) -> bool:
    """Whether the model that a config describes fills in masked tokens, by the class it names."""
    names = getattr(config, "architectures", None) or []
    return any(name.endswith(_MASKED) for name in names)


def model_class(config: Any) -> Any:
    """The library's class that opens a model: a masked or a causal one, as its config says."""
    return AutoModelForMaskedLM if is_masked(config) else AutoModelForCausalLM


def bare(model: Any) -> Any:
    """The library's model below what wraps it: several processes, adapters."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def fills_masks(model: Any) -> bool:
    """Whether a model, wrapped or not, fills in masked tokens."""
    return type(bare(model)).__name__.endswith(_MASKED)


@contextmanager
def _head_at(model: Any, keep: torch.Tensor) -> Iterator[None]:
    """Within it, the head of a masked model sees the states at `keep` [batch, length] alone."""

    def cut(_module: Any, _given: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[keep]
        return output

    hook = bare(model).base_model.register_forward_hook(cut)
    try:
        yield
    finally:
        hook.remove()


def run_model(model: Any, keep: torch.Tensor, **inputs: Any) -> Any:
    """The library's output, its logits [kept positions, vocabulary] in the order of `keep`.

    Args:
        model: Causal or masked; called itself, so that what wraps it takes part.
        keep: bool [batch, length].
        inputs: input_ids, attention_mask and what else the model takes.
    """
    if not fills_masks(model):
        return model(**inputs, logits_to_keep=keep, use_cache=False)
    with _head_at(model, keep):
        return model(**inputs)


def head_inputs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor | None, keep: torch.Tensor
) -> torch.Tensor:
    """What the matrix of the output head is multiplied with, [kept positions, width].

    In a causal model that is the body's last state; in a masked one the head's own layers come
    between.
    """
    if not fills_masks(model):
        output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: torch.Tensor = output.last_hidden_state[keep]
        return states
    found: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, given: found.append(given[0])
    )
    try:
        run_model(model, keep, input_ids=ids, attention_mask=mask)
    finally:
        hook.remove()
    return found[0]
