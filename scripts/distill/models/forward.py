"""One forward pass of a causal or masked language model, with logits at chosen positions only.

The vocabulary head dominates small models, so it runs only at the positions whose logits are
needed. Causal models accept these positions as an argument. For masked models, a hook selects the
positions of the body's output before the head runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultimodalLM,
)

from distill.core.errors import UserError
from distill.core.model_files import MASKED, later_tokens_fault, sees_later_tokens
from distill.models.attention import GROUPED, close_logits
from distill.models.positions import depends_on_length, windows
from distill.models.stand_in import evaluating, stand_in


def is_masked(config: Any) -> bool:
    """Whether a config describes a masked language model, by its architecture's name."""
    names = getattr(config, "architectures", None) or []
    return any(name.endswith(MASKED) for name in names)


def model_class(config: Any) -> Any:
    """The library's class that opens a model: for masked, causal, or else multimodal models.

    Raises:
        UserError: A model that is not masked attends to later tokens.
    """
    if is_masked(config):
        return AutoModelForMaskedLM
    if sees_later_tokens(config.to_dict()):
        raise UserError(f"the model {config.name_or_path} {later_tokens_fault(config.model_type)}")
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    multimodal = type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING
    return AutoModelForMultimodalLM if multimodal and not causal else AutoModelForCausalLM


def bare(model: Any) -> Any:
    """The library's model without wrappers for several processes or adapters."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def fills_masks(model: Any) -> bool:
    """Whether a model, wrapped or not, is a masked language model."""
    return type(bare(model)).__name__.endswith(MASKED)


@contextmanager
def _head_at(model: Any, keep: torch.Tensor) -> Iterator[None]:
    """In the block, the head of a masked model gets only the states at `keep` [batch, length]."""

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
"""Smallest share of padding at which packing is faster."""


def _run_packed(model: Any, keep: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    """Like `run_model`, with all texts concatenated to one row, without padding.

    Attention (`grouped_attention`) separates the texts; its mask is the causal mask of one text.
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
    """Whether a causal model gives the same logits for packed texts, from one trial.

    Some architectures do not pass extra arguments to their attention, or accept no positions.
    """
    base = bare(model)
    if base not in _packs:
        trial = stand_in(base)
        ids = torch.tensor([[3, 4, 5, 6, 7], [5, 3, 0, 0, 0]], device=base.device)
        mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0]], device=base.device)
        try:
            with evaluating(trial):
                expected = trial(input_ids=ids, attention_mask=mask, use_cache=False).logits
                packed = _run_packed(trial, mask == 1, ids, mask).logits
            _packs[base] = close_logits(packed.flatten(0, -2), expected[mask == 1])
        except (TypeError, ValueError, RuntimeError):
            _packs[base] = False
    return _packs[base]


def _packing_pays(model: Any, inputs: dict[str, Any]) -> bool:
    """Whether packing saves time and works: right padding and GROUPED attention."""
    if set(inputs) - {"output_hidden_states"} != {"input_ids", "attention_mask"}:
        return False
    if inputs["attention_mask"] is None:  # nothing is padded
        return False
    if inputs.get("output_hidden_states"):  # their reader expects one row per text
        return False
    config, mask = getattr(bare(model), "config", None), inputs["attention_mask"]
    return (
        getattr(config, "_attn_implementation", None) == GROUPED
        and mask.shape[1] <= min(windows(config), default=mask.shape[1])
        and float(mask.float().mean()) < 1 - _WORTH
        and bool((mask.diff(dim=1) <= 0).all())
        and bool(mask.any(1).all())
        and packs(model)
    )


def _equal_lengths(model: Any, ids: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """Row numbers to be run apart, because padding or its batch's length changes a row's logits.

    One group of all rows for other models.
    """
    everything = [torch.arange(len(ids), device=ids.device)]
    config = getattr(bare(model), "config", None)
    if mask is None or config is None:
        return everything
    if not depends_on_length(config, ids.shape[1]) and not _padding_counts(model, mask):
        return everything
    lengths = mask.sum(1)
    return [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]


_padded: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _padding_counts(model: Any, mask: torch.Tensor) -> bool:
    """Whether padding changes the logits of a masked model before it, from one trial.

    Convolutions (ConvBERT) and Fourier transforms (FNet) mix padding into the text. A causal model
    cannot see padding behind its text.
    """
    if not fills_masks(model) or bool(mask.all()):
        return False
    base = bare(model)
    if base not in _padded:
        trial = stand_in(base)
        ids = torch.tensor([[3, 4, 5, 6, 7, 3], [5, 3, 7, 4, 0, 0]], device=base.device)
        some = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]], device=base.device)
        with evaluating(trial):
            padded = trial(input_ids=ids, attention_mask=some).logits[1, :4]
            alone = trial(input_ids=ids[1:, :4], attention_mask=some[1:, :4]).logits[0]
        _padded[base] = not close_logits(padded, alone)
    return _padded[base]


def _run_apart(
    model: Any, keep: torch.Tensor, groups: Sequence[torch.Tensor], inputs: dict[str, Any]
) -> Any:
    """Like `run_model`, for groups of rows [group] of equal length, without padding.

    `hidden_states`, if asked for, are [batch, length, width] again, 0 behind a row's end.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    others = {key: inputs[key] for key in inputs if key not in ("input_ids", "attention_mask")}
    logits: dict[int, torch.Tensor] = {}
    layers: list[Any] = []
    for rows in groups:
        length = int(mask[rows[0]].sum())
        part = keep[rows, :length]
        output = run_model(model, part, input_ids=ids[rows, :length], **others)
        pieces = output.logits.view(-1, output.logits.shape[-1]).split(part.sum(1).tolist())
        logits |= dict(zip(rows.tolist(), pieces, strict=True))
        for number, states in enumerate(getattr(output, "hidden_states", None) or ()):
            if number == len(layers):
                layers.append(states.new_zeros(*ids.shape, states.shape[-1]))
            layers[number] = layers[number].index_put(
                (rows,), torch.nn.functional.pad(states, (0, 0, 0, ids.shape[1] - length))
            )
    joined = torch.cat([logits[row] for row in range(len(ids))])
    return SimpleNamespace(logits=joined, hidden_states=tuple(layers) or None)


_selecting: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _selects_positions(model: Any) -> bool:
    """Whether a causal model gives logits at a mask [batch, length] of positions, from a trial."""
    base = bare(model)
    if base not in _selecting:
        trial = stand_in(base)
        ids = torch.tensor([[3, 4, 5, 6], [5, 3, 4, 3]], device=base.device)
        keep = torch.tensor([[True, False, True, True], [False] * 3 + [True]], device=base.device)
        try:
            with evaluating(trial):
                expected = trial(input_ids=ids, use_cache=False).logits[keep]
                logits = trial(input_ids=ids, logits_to_keep=keep, use_cache=False).logits
            same = logits.numel() == expected.numel()
            _selecting[base] = same and close_logits(logits.view_as(expected), expected)
        except (TypeError, ValueError, RuntimeError, IndexError):
            _selecting[base] = False
    return _selecting[base]


def run_model(model: Any, keep: torch.Tensor, **inputs: Any) -> Any:
    """Run a model; the output's logits are [kept positions, vocabulary] in the order of `keep`.

    With `GROUPED` attention, texts are packed into one row if the model supports it.

    Args:
        model: A causal or masked model; it may be wrapped.
        keep: bool [batch, length], the positions whose logits are needed.
        inputs: input_ids, attention_mask and other arguments of the model.
    """
    groups = _equal_lengths(model, inputs["input_ids"], inputs.get("attention_mask"))
    if len(groups) > 1:
        return _run_apart(model, keep, groups, inputs)
    if not fills_masks(model):
        if _packing_pays(model, inputs):
            return _run_packed(model, keep, inputs["input_ids"], inputs["attention_mask"])
        if _selects_positions(model):
            return model(**inputs, logits_to_keep=keep, use_cache=False)
        output = model(**inputs, use_cache=False)
        output.logits = output.logits[keep]
        return output
    with _head_at(model, keep):
        return model(**inputs)


def head_inputs(
    model: Any, ids: torch.Tensor, mask: torch.Tensor | None, keep: torch.Tensor
) -> torch.Tensor:
    """Inputs of the output head's matrix, [kept positions, width].

    For a causal model these are the body's last states; a masked model's head has further layers
    between them.
    """
    groups = _equal_lengths(model, ids, mask)
    if len(groups) > 1 and mask is not None:
        states_of: dict[int, torch.Tensor] = {}
        for rows in groups:
            length = int(mask[rows[0]].sum())
            part = keep[rows, :length]
            pieces = head_inputs(model, ids[rows, :length], None, part)
            states_of |= dict(zip(rows.tolist(), pieces.split(part.sum(1).tolist()), strict=True))
        return torch.cat([states_of[row] for row in range(len(ids))])
    if not fills_masks(model) and _body_suffices(model):
        output = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: torch.Tensor = output.last_hidden_state[keep]
        return states
    return _entering_head(model, keep, input_ids=ids, attention_mask=mask)


def no_matrix(config: Any) -> UserError:
    """The error for a model whose logits are more than a matrix times its last states."""
    return UserError(
        f"the output head of {config.model_type} is more than a matrix, so soft targets cannot be "
        "had from its hidden states; use another teacher architecture"
    )


def _entering_head(model: Any, keep: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """What the output head's matrix gets in a forward pass, [kept positions, width].

    Raises:
        UserError: No matrix of the head gets anything.
    """
    head_states: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, inputs: head_states.append(inputs[0])
    )
    try:
        if fills_masks(model):
            run_model(model, keep, **inputs)
        else:
            model(**inputs, use_cache=False)
    finally:
        hook.remove()
    if not head_states:  # MobileBERT multiplies with its matrix and another one
        raise no_matrix(bare(model).config)
    states = head_states[0]
    if not fills_masks(model):
        states = states.view(*keep.shape, -1)[keep]
    return states.view(-1, states.shape[-1])


_bodies: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


@torch.no_grad()
def _body_suffices(model: Any) -> bool:
    """Whether a causal model's last states are what its output matrix gets, from one trial.

    Some have layers in between (BERT as a decoder), or no separate body (Llama 4).
    """
    if model not in _bodies:
        ids = torch.tensor([[3, 4, 5, 6]], device=model.device)
        keep, mask = torch.ones_like(ids, dtype=torch.bool), torch.ones_like(ids)
        body = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        states = getattr(body, "last_hidden_state", None)
        entering = _entering_head(model, keep, input_ids=ids, attention_mask=mask)
        _bodies[model] = states is not None and (
            states.shape[-1] == entering.shape[-1]
            and torch.allclose(states[0].float(), entering.float(), rtol=1e-2, atol=1e-2)
        )
    return _bodies[model]


BLOCK_ROWS = 512
"""Rows per call of a teacher's output head; the softmax works on fewer (`chunk_rows`)."""


def chunk_rows(logits: torch.Tensor) -> int:
    """Rows per call of a vocabulary softmax: few on a CPU, to stay in its cache."""
    return 4 if logits.device.type == "cpu" else 2048


def not_finite(model: Any, what: str) -> UserError:
    """The error for a model whose outputs are NaN or infinite."""
    name = getattr(model, "name_or_path", "") or "the model"
    return UserError(
        f"{name} gives {what} that are NaN or infinite; use precision fp32 or bf16 rather than "
        "fp16, no quantisation, or another model if its weights are at fault"
    )
