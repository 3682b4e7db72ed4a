"""The sampling distribution: logits to log q, and drawing from it."""

from dataclasses import dataclass

import torch

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
