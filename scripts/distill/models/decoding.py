"""The sampling distribution: logits to log q.

q is over the ids that have a token (see `distill.models.token_ids`). A model is not trained on the
other rows of its output matrix, so q gives them probability 0: it is the softmax of the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

_LIKELY = 512
"""Tokens sorted first for top-p: sorting all 49,152 takes longer than the teacher's step."""


@dataclass(frozen=True)
class Decoding:
    """A sampling distribution: temperature 0 means greedy; top_k 0 and top_p 1 cut nothing.

    Attributes:
        excluded: Ids without a token, which have probability 0. Not needed for logits of
            `OutputHead`, which are -inf there.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    excluded: tuple[int, ...] = ()

    @property
    def cuts(self) -> bool:
        """Whether top-k or top-p excludes tokens."""
        return bool(self.top_k) or self.top_p < 1


def log_q(
    logits: torch.Tensor, decoding: Decoding, drawn: torch.Tensor | None = None
) -> torch.Tensor:
    """Log-probabilities of the sampling distribution.

    Args:
        logits: [..., vocabulary].
        decoding: Its temperature must be above 0.
        drawn: int64 [...], the token that was drawn from q at each position; -1 for none. Logits
            that are computed again differ by rounding, so that a drawn token can be just outside
            the top-k or top-p set; then the set is extended to the tokens at least as likely as it.

    Returns:
        float32 [..., vocabulary]; -inf outside the top-k or top-p set and at excluded ids.
    """
    scores = cut_scores(logits, decoding)
    if drawn is not None and decoding.cuts:
        whole = cut_scores(logits, replace(decoding, top_k=0, top_p=1.0))
        least = whole.gather(-1, drawn.clamp_min(0).unsqueeze(-1))
        least = least.masked_fill(drawn.unsqueeze(-1) < 0, torch.inf)
        scores = torch.where(whole >= least, whole, scores)
    return torch.log_softmax(scores, dim=-1)


def without(logits: torch.Tensor, excluded: Sequence[int]) -> torch.Tensor:
    """Logits [..., vocabulary], -inf at excluded ids; the same tensor if there are none."""
    if not excluded:
        return logits
    return logits.index_fill(-1, torch.tensor(excluded, device=logits.device), -torch.inf)


def cut_scores(logits: torch.Tensor, decoding: Decoding) -> torch.Tensor:
    """Scores at the temperature, -inf at excluded ids and where top-k or top-p cut."""
    scores = without(logits, decoding.excluded).float()
    if decoding.temperature != 1.0:
        # From the largest down: a small temperature would leave it no digits.
        scores = (scores - scores.amax(-1, keepdim=True)) / decoding.temperature
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
