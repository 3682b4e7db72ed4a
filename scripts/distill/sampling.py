"""Draw text from a model's sampling distribution, each row from noise of its own.

The teacher is a distribution q: softmax(logits / temperature), cut to top-k or top-p only where a
study asks for it. One uniform per (row id, step, seed) picks the token by inversion of q, so a
row's text does not depend on which rows share its batch, but for rounding in the matrix products.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from distill.files import UserError
from distill.rows import row_uniforms as row_uniforms
from distill.stepped_cache import decoding_cache

FinishReason = Literal["stop", "length"]
_ROWS = 16
"""Rows a CPU draws for at once: 16 x 49,152 floats stay in its cache, a whole batch does not."""

_LIKELY = 512
"""Words put in order for top-p before all are: sorting 49,152 takes longer than the teacher."""


@dataclass(frozen=True)
class Decoding:
    """A sampling distribution: temperature 0 means greedy; top_k 0 and top_p 1 cut nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def cuts(self) -> bool:
        """Whether words are left out."""
        return bool(self.top_k) or self.top_p < 1


def log_q(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Log-probabilities of the sampling distribution.

    Args:
        logits: [..., vocabulary].
        decoding: Its temperature must be above 0.

    Returns:
        float32 [..., vocabulary]; -inf outside the top-k or top-p set.
    """
    return torch.log_softmax(_cut_scores(logits, decoding), dim=-1)


def _cut_scores(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Scores at the temperature, -inf where top-k or top-p cut."""
    scores = logits.float()
    if decoding.temperature != 1.0:
        scores = scores / decoding.temperature
    if decoding.top_k:
        k = min(decoding.top_k, scores.shape[-1])
        least = scores.topk(k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if decoding.top_p < 1.0:
        scores = scores.masked_fill(_outside(scores, decoding.top_p), -torch.inf)
    return scores


def _outside(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """Whether a word is outside the smallest set of the likeliest that holds `top_p`.

    Only the likeliest `_LIKELY` words are put in order, all of them where those hold too little.
    """
    rows = scores.view(-1, scores.shape[-1])
    probabilities = torch.softmax(rows, dim=-1)
    outside = torch.ones_like(rows, dtype=torch.bool)
    left = torch.arange(len(rows), device=rows.device)
    for count in sorted({min(_LIKELY, rows.shape[-1]), rows.shape[-1]}):
        order = rows[left].topk(count, dim=-1).indices
        sums = probabilities[left].gather(-1, order).cumsum(-1)
        before = torch.nn.functional.pad(sums[:, :-1], (1, 0))
        outside[left] = outside[left].scatter(-1, order, before >= top_p)
        left = left[sums[:, -1] < top_p]
        if not len(left):
            break
    return outside.view(scores.shape)


def invert(probabilities: torch.Tensor, uniform: torch.Tensor, block: int = 256) -> torch.Tensor:
    """The token at which the cumulative probability first exceeds each row's uniform.

    Blocks of the vocabulary are summed first and only the chosen block is accumulated, in float64:
    a float32 running sum over 49,152 tokens would never draw the rarest ones.

    Args:
        probabilities: [rows, vocabulary], non-negative.
        uniform: float64 [rows] in [0, 1).
        block: Tokens per block.

    Returns:
        int64 [rows].
    """
    rows, vocabulary = probabilities.shape
    padded = torch.nn.functional.pad(probabilities, (0, -vocabulary % block))
    blocks = padded.view(rows, -1, block)
    sums = blocks.sum(-1).double().cumsum(-1)
    target = uniform.unsqueeze(1) * sums[:, -1:]
    chosen = torch.searchsorted(sums, target, right=True).clamp_max(sums.shape[1] - 1)
    before = torch.where(chosen > 0, sums.gather(1, (chosen - 1).clamp_min(0)), 0.0)
    inside = blocks.gather(1, chosen.unsqueeze(2).expand(-1, 1, block)).squeeze(1).double()
    rest = (target - before).clamp_min(0)  # below 0 by rounding: the first token with any mass
    within = torch.searchsorted(inside.cumsum(-1), rest, right=True)
    # Rounding may push the target past the block's own sum: the last token with any mass is meant.
    last = block - 1 - (inside > 0).flip(1).int().argmax(1, keepdim=True)
    return (chosen * block + torch.minimum(within, last)).squeeze(1)


def likeliest(scores: torch.Tensor) -> torch.Tensor:
    """Each row's likeliest token, int64 [rows]; on CPU by numpy, ten times as fast as torch's."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.float().numpy().argmax(-1))
    return scores.argmax(-1)


def pick(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row: the likeliest at temperature 0, else drawn from q.

    Args:
        logits: [rows, vocabulary].
        decoding: The sampling distribution.
        uniform: float64 [rows], not needed at temperature 0.

    Returns:
        int64 [rows].
    """
    if decoding.temperature == 0:
        return likeliest(logits)
    assert uniform is not None
    size = _ROWS if logits.device.type == "cpu" else len(logits)
    drawn = [
        invert(torch.softmax(_cut_scores(some, decoding), dim=-1), noise)
        for some, noise in zip(logits.split(size), uniform.split(size), strict=True)
    ]
    return torch.cat(drawn)


@contextmanager
def head_inputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what enters a model's output head at the last position: [rows, width] each time."""
    entered: list[torch.Tensor] = []
    watch = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: entered.append(inputs[0][:, -1])
    )
    try:
        yield entered
    finally:
        watch.remove()


def not_finite(model: Any, what: str) -> UserError:
    """The error for a model whose outputs are NaN or infinite."""
    name = getattr(model, "name_or_path", "") or "the model"
    return UserError(
        f"{name} gives {what} that are NaN or infinite; use precision fp32 or bf16 rather than "
        "fp16, no quantisation, or another model if its weights are at fault"
    )


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
        prompts: Token ids per row, none empty. What all rows begin with is computed once.
        stop_ids: Tokens that end a response; kept as its last token.
        max_new_tokens: Most tokens of a response.
        decoding: The sampling distribution.
        uniforms: [rows, max_new_tokens]; None for greedy decoding.
        on_step: Called with the number of tokens made at each step.
        states: Filled with the final hidden state that each token was drawn from, if given:
            bf16 [rows, max_new_tokens, width]; what lies behind a row's last token is undefined.

    Returns:
        Per row its new token ids, with the stop token if one was drawn, and why it ended.

    Raises:
        UserError: The model's logits are NaN or infinite, so that no token could be drawn.
    """
    device = model.device
    rows = len(prompts)
    lengths = [len(prompt) for prompt in prompts]
    shortest, longest = min(lengths), max(lengths)
    # Padding lies between what is shared and the rest, where a sliding window would count it.
    window = getattr(model.config, "sliding_window", None) or longest + max_new_tokens
    shared = 0
    if longest + max_new_tokens <= window:
        while shared < shortest - 1 and len({prompt[shared] for prompt in prompts}) == 1:
            shared += 1
    cache = decoding_cache(model)
    if shared:
        prefix = torch.tensor([list(prompts[0][:shared])], device=device)
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
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, shared:].to(device)
    ids, mask = ids.to(device), mask.to(device)
    noise = None if uniforms is None else torch.from_numpy(uniforms).to(device)

    made: list[list[int]] = [[] for _ in range(rows)]
    reasons: list[FinishReason] = ["length"] * rows
    alive = torch.arange(rows, device=device)  # which row of `prompts` each row of the batch is
    running = torch.ones(rows, dtype=torch.bool, device=device)
    stops = torch.tensor(list(stop_ids), device=device)
    with head_inputs(model) as entered:
        for step in range(max_new_tokens):
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            if not bool(torch.isfinite(logits.sum())):  # one pass; NaN and infinity both survive it
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
                    made[row].append(new)
                    if end:
                        reasons[row] = "stop"
            on_step(int(running.sum()))
            running = running & ~ended
            left = int(running.sum())
            if left == 0:
                break
            positions = positions[:, -1:] + 1
            ids = token.unsqueeze(1)
            if left <= 0.9 * len(running):  # copying the cache costs, so not at every row that ends
                keep = running.nonzero().squeeze(1)
                cache.batch_select_indices(keep)
                alive, ids, mask, positions = alive[keep], ids[keep], mask[keep], positions[keep]
                running = running[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return list(zip(made, reasons, strict=True))
