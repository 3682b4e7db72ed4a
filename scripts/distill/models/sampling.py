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

from distill.models.batch_mode import decoding_mode
from distill.models.decoding import Decoding
from distill.models.drawing import pick
from distill.models.forward import not_finite
from distill.models.stepping import BatchMode, steps_of

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


def _together(prompts: Sequence[Sequence[int]], mode: BatchMode) -> list[list[int]]:
    """Row numbers of the batches in which a mode decodes."""
    if mode.pads:
        return [list(range(len(prompts)))]
    lengths = sorted({len(prompt) for prompt in prompts})
    return [[row for row, one in enumerate(prompts) if len(one) == size] for size in lengths]


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
    stopped: Callable[[Sequence[int]], bool] | None = None,
) -> list[tuple[list[int], FinishReason]]:
    """Continue a batch of prompts, dropping rows from the batch as they finish.

    Args:
        model: A causal language model in eval mode.
        prompts: Token ids per row, none empty.
        stop_ids: Tokens that end a response and are its last token.
        max_new_tokens: Largest number of tokens of a response.
        decoding: The sampling distribution.
        uniforms: [rows, max_new_tokens]; None for greedy decoding.
        on_step: Called with the number of new tokens at each step.
        states: If given, filled with the final hidden state of each sampled token: bf16
            [rows, max_new_tokens, width]; entries after a row's last token are undefined.
        stopped: Whether the new tokens of a row end its response, beside `stop_ids`.

    Returns:
        Per row its new token ids, with the stop token if one was sampled, and the reason of the
        end.

    Raises:
        UserError: The model's logits are NaN or infinite.
    """
    device, rows = model.device, len(prompts)
    noise = None if uniforms is None else torch.from_numpy(uniforms).to(device)
    tokens_of: list[list[int]] = [[] for _ in range(rows)]
    reasons: list[FinishReason] = ["length"] * rows
    stops = torch.tensor(list(stop_ids), device=device)
    mode = decoding_mode(model, max(map(len, prompts)) + max_new_tokens)
    for group in _together(prompts, mode):
        alive = torch.tensor(group, device=device)  # row of `prompts` for each row of the batch
        running = torch.ones(len(group), dtype=torch.bool, device=device)
        steps = steps_of(model, [prompts[row] for row in group], mode)
        for step in range(max_new_tokens):
            with _last_head_inputs(model) as entered:
                logits = steps.logits()
            if not bool(torch.isfinite(logits.sum())):  # NaN and infinity propagate to the sum
                raise not_finite(model, "logits")
            if states is not None:
                states[alive.cpu(), step] = entered[-1].to(states)
            token = pick(logits, decoding, None if noise is None else noise[alive, step])
            ended = torch.isin(token, stops)
            if stopped is not None:
                pairs = zip(alive.tolist(), token.tolist(), strict=True)
                by_text = [stopped([*tokens_of[row], new]) for row, new in pairs]
                ended |= torch.tensor(by_text, device=device)
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
            if left <= 0.9 * len(running):  # rarely, because it copies the cache
                rows_left = running.nonzero().squeeze(1)
                steps.select(rows_left)
                alive, token, running = alive[rows_left], token[rows_left], running[rows_left]
            steps.append(token)
    return list(zip(tokens_of, reasons, strict=True))
