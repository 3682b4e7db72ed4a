"""The sampling distribution: logits to log q."""

from dataclasses import dataclass

import torch

_LIKELY = 512
"""Tokens sorted first for top-p: sorting all 49,152 takes longer than the teacher's step."""


@dataclass(frozen=True)
class Decoding:
    """A sampling distribution: temperature 0 means greedy; top_k 0 and top_p 1 cut nothing."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    @property
    def cuts(self) -> bool:
        """Whether top-k or top-p excludes tokens."""
        return bool(self.top_k) or self.top_p < 1


def log_q(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Log-probabilities of the sampling distribution.

    Args:
        logits: [..., vocabulary].
        decoding: Its temperature must be above 0.

    Returns:
        float32 [..., vocabulary]; -inf outside the top-k or top-p set.
    """
    return torch.log_softmax(cut_scores(logits, decoding), dim=-1)


def cut_scores(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
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
    """Whether a token is outside the smallest set of most likely tokens with mass `top_p`.

    Only the `_LIKELY` most likely tokens are sorted, or all if these have too little mass.
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
