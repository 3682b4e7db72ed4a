"""One forward pass of a causal or a masked language model, with logits at chosen positions only.

The vocabulary head dominates small models, so it runs where logits are asked for and nowhere else.
Causal models take the positions themselves. Masked ones have no such argument, and their head is
more than a matrix: what their body hands to it is cut down to the chosen positions on the way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from distill.core.errors import UserError
from distill.models.attention import GROUPED

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


_packs: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
_WORTH = 0.05
"""Share of padding below which packing gains nothing."""


def _run_packed(model: Any, keep: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """As `run_model`, with the texts one after another in one row: nothing is spent on padding.

    They are apart in attention alone (`grouped_attention`), which is given one text's causal mask.
    """
    real, lengths = mask.bool(), mask.sum(1).tolist()
    longest = max(lengths)
    causal = torch.full((longest, longest), -torch.inf, device=ids.device).triu(1)
    places = torch.arange(longest, device=ids.device)
    return model(
        input_ids=ids[real].unsqueeze(0),
        position_ids=torch.cat([places[:length] for length in lengths]).unsqueeze(0),
        attention_mask=causal[None, None],
        row_lengths=lengths,
        logits_to_keep=keep[real].unsqueeze(0),
        use_cache=False,
    )


def packs(model: Any) -> bool:
    """Whether a causal model gives the same logits when texts are packed, by trying it once.

    Not every architecture hands what it is given down to its attention, or takes positions.
    """
    own = bare(model)
    if own not in _packs:
        ids = torch.tensor([[3, 4, 5, 6, 7], [5, 3, 0, 0, 0]], device=own.device)
        mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0]], device=own.device)
        training = own.training
        own.eval()
        try:
            with torch.no_grad():
                wanted = own(input_ids=ids, attention_mask=mask, use_cache=False).logits[mask == 1]
                found = _run_packed(own, mask == 1, ids, mask).logits.view_as(wanted)
            rounding = 1e-3 if wanted.dtype == torch.float32 else 0.05
            gap, scale = (found - wanted).float().abs().max(), wanted.float().std()
            _packs[own] = bool(gap <= rounding * scale)
        except (TypeError, ValueError, RuntimeError):
            _packs[own] = False
        finally:
            own.train(training)
    return _packs[own]


def _packing_pays(model: Any, inputs: dict[str, Any]) -> bool:
    """Whether there is padding, at the end of rows, in a model whose attention is our own."""
    if set(inputs) - {"output_hidden_states"} != {"input_ids", "attention_mask"}:
        return False
    if inputs.get("output_hidden_states"):  # which are wanted by row
        return False
    config, mask = getattr(bare(model), "config", None), inputs["attention_mask"]
    window = getattr(config, "sliding_window", None) or mask.shape[1]
    return (
        getattr(config, "_attn_implementation", None) == GROUPED
        and mask.shape[1] <= window
        and float(mask.float().mean()) < 1 - _WORTH
        and bool((mask.diff(dim=1) <= 0).all())
        and bool(mask.any(1).all())
        and packs(model)
    )


def run_model(model: Any, keep: torch.Tensor, **inputs: Any) -> Any:
    """The library's output, its logits [kept positions, vocabulary] in the order of `keep`.

    Where attention is `GROUPED` and the model allows it, texts are packed into one row.

    Args:
        model: Causal or masked; called itself, so that what wraps it takes part.
        keep: bool [batch, length].
        inputs: input_ids, attention_mask and what else the model takes.
    """
    if not fills_masks(model):
        if _packing_pays(model, inputs):
            return _run_packed(model, keep, inputs["input_ids"], inputs["attention_mask"])
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


BLOCK_ROWS = 512
"""Rows asked of a teacher at once: its output head wants many, the softmax few (`chunk_rows`)."""


def chunk_rows(logits: torch.Tensor) -> int:
    """Rows of a vocabulary softmax worked on at once: few on CPU, to stay in its cache."""
    return 4 if logits.device.type == "cpu" else 2048


def not_finite(model: Any, what: str) -> UserError:
    """The error for a model whose outputs are NaN or infinite."""
    name = getattr(model, "name_or_path", "") or "the model"
    return UserError(
        f"{name} gives {what} that are NaN or infinite; use precision fp32 or bf16 rather than "
        "fp16, no quantisation, or another model if its weights are at fault"
    )
