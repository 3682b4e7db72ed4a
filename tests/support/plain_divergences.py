"""Divergences as one would write them, of probabilities, for autograd to differentiate."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from distill.contracts.divergences import DIVERGENCES


def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """KL(a || b) of distributions [..., classes], without the classes where a = 0."""
    some = a > 0
    return (a * (a.where(some, 1.0) / b.where(some, 1.0)).log()).sum(-1)


def jsd(p: torch.Tensor, s: torch.Tensor, beta: float) -> torch.Tensor:
    mixed = beta * p + (1 - beta) * s
    return beta * kl(p, mixed) + (1 - beta) * kl(s, mixed)


PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "forward_kl": kl,
    "reverse_kl": lambda p, s: kl(s, p),
    "jsd": jsd,
    "total_variation": lambda p, s: (p - s).abs().sum(-1) / 2,
    "skew_kl": lambda p, s, alpha: kl(p, alpha * p + (1 - alpha) * s),
}
"""By name, of p, s and the row's parameter, if any."""


def plain_divergence(
    name: str, p: torch.Tensor, s: torch.Tensor, method: Mapping[str, Any]
) -> torch.Tensor:
    """D(p, s) of two distributions over the same classes, with a method's settings."""
    parameter = DIVERGENCES[name].parameter
    return PLAIN[name](p, s, *([method[parameter.key]] if parameter else []))
