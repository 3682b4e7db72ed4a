"""Sample text from a model's distribution, with separate random numbers for each row.

The teacher is a distribution q: softmax(logits / temperature), with top-k or top-p only if the
study sets them. One uniform per (row id, step, seed) selects the token by inversion of q. Hence a
row's text does not depend on the other rows of its batch, up to rounding in the matrix products.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from distill.models.attention import GROUPED
from distill.models.decoding import Decoding
from distill.models.drawing import pick
from distill.models.forward import not_finite

FinishReason = Literal["stop", "length"]


@contextmanager
def _last_head_inputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the inputs of a model's output head at the last position, [rows, width] per call."""
    entered: list[torch.Tensor] = []
    watch = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: entered.append(inputs[0][:, -1])
    )
    try:
        yield entered
    finally:
        watch.remove()


def _prompt_inputs(
    model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> tuple[DynamicCache, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prepare a batch of prompts: run their common prefix, and pad the rest.

    Returns:
        The cache with the common prefix; ids and positions [rows, rest] of the remaining tokens,
        padded on the left; the mask [rows, shared + rest].
    """
    rows, lengths = len(prompts), [len(prompt) for prompt in prompts]
    shortest, longest = min(lengths), max(lengths)
    # Padding is between the prefix and the rest, where a sliding window would count it.
    window = getattr(model.config, "sliding_window", None) or longest + max_new_tokens
    shared = 0
    if longest + max_new_tokens <= window:
        while shared < shortest - 1 and len({prompt[shared] for prompt in prompts}) == 1:
            shared += 1
    cache = decoding_cache(model)
    if shared:
        prefix = torch.tensor([list(prompts[0][:shared])], device=model.device)
        model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(rows)
    width = longest - shared
    ids = torch.zeros(rows, width, dtype=torch.long)
    mask = torch.zeros(rows, shared + width, dtype=torch.long)
    mask[:, :shared] = 1
    for row, prompt in enumerate(prompts):
        rest = torch.tensor(list(prompt[shared:]))
        ids[row, width - len(rest) :] = rest
        mask[row, shared + width - len(rest) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, shared:]
    return cache, ids.to(model.device), mask.to(model.device), positions.to(model.device)


@torch.inference_mode()
def sample_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    decoding: Decoding,
    uniforms: np.ndarray | None,
    on_step: Callable[[int], None] = lambda tokens: None,
    states: torch.Tensor | None = None,
) -> list[tuple[list[int], FinishReason]]:
    """Continue a batch of prompts with a cache, dropping rows from the batch as they finish.

    Args:
        model: A causal language model in eval mode.
        prompts: Token ids per row, none empty. Their common prefix is computed once.
        stop_ids: Tokens that end a response and are its last token.
        max_new_tokens: Largest number of tokens of a response.
        decoding: The sampling distribution.
        uniforms: [rows, max_new_tokens]; None for greedy decoding.
        on_step: Called with the number of new tokens at each step.
        states: If given, filled with the final hidden state of each sampled token: bf16
            [rows, max_new_tokens, width]; entries after a row's last token are undefined.

    Returns:
        Per row its new token ids, with the stop token if one was sampled, and the reason of the
        end.

    Raises:
        UserError: The model's logits are NaN or infinite.
    """
    device, rows = model.device, len(prompts)
    cache, ids, mask, positions = _prompt_inputs(model, prompts, max_new_tokens)
    noise = None if uniforms is None else torch.from_numpy(uniforms).to(device)

    tokens_of: list[list[int]] = [[] for _ in range(rows)]
    reasons: list[FinishReason] = ["length"] * rows
    alive = torch.arange(rows, device=device)  # row of `prompts` for each row of the batch
    running = torch.ones(rows, dtype=torch.bool, device=device)
    stops = torch.tensor(list(stop_ids), device=device)
    with _last_head_inputs(model) as entered:
        for step in range(max_new_tokens):
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            if not bool(torch.isfinite(logits.sum())):  # NaN and infinity propagate to the sum
                raise not_finite(model, "logits")
            if states is not None:
                states[alive.cpu(), step] = entered.pop().to(states)
            entered.clear()
            token = pick(logits, decoding, None if noise is None else noise[alive, step])
            ended = torch.isin(token, stops)
            for row, new, end, on in zip(
                alive.tolist(), token.tolist(), ended.tolist(), running.tolist(), strict=True
            ):
                if on:
                    tokens_of[row].append(new)
                    if end:
                        reasons[row] = "stop"
            on_step(int(running.sum()))
            running = running & ~ended
            left = int(running.sum())
            if left == 0:
                break
            positions = positions[:, -1:] + 1
            ids = token.unsqueeze(1)
            if left <= 0.9 * len(running):  # rarely, because it copies the cache
                keep = running.nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                alive, ids, mask, positions = alive[keep], ids[keep], mask[keep], positions[keep]
                running = running[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return list(zip(tokens_of, reasons, strict=True))


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
