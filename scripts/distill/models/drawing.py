"""Draw tokens from the sampling distribution, by inversion of one uniform each."""

import torch

from distill.models.decoding import Decoding, cut_scores, without

_ROWS = 16
"""Rows per draw on a CPU: 16 x 49,152 floats stay in its cache, a larger batch does not."""


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
    """Each row's most likely token, int64 [rows]; numpy on a CPU, ten times as fast as torch."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.float().numpy().argmax(-1))
    return scores.argmax(-1)


def pick(logits: torch.Tensor, decoding: Decoding, uniform: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row: the most likely at temperature 0, else a sample from q.

    Args:
        logits: [rows, vocabulary].
        decoding: The sampling distribution.
        uniform: float64 [rows], not needed at temperature 0.

    Returns:
        int64 [rows].
    """
    if decoding.temperature == 0:
        return likeliest(without(logits, decoding.excluded))
    assert uniform is not None
    size = _ROWS if logits.device.type == "cpu" else len(logits)
    drawn = [
        invert(torch.softmax(cut_scores(some, decoding), dim=-1), noise)
        for some, noise in zip(logits.split(size), uniform.split(size), strict=True)
    ]
    return torch.cat(drawn)
