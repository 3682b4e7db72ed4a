"""Losses of distillation: small functions of logits, averaged over real tokens."""

from typing import Any

import torch


def chunk_rows(logits: torch.Tensor) -> int:
    """Rows of a vocabulary softmax worked on at once: few on CPU, to stay in its cache."""
    return 4 if logits.device.type == "cpu" else 2048


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy whose gradient, softmax - onehot, is formed while the logits are at hand."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, normaliser: torch.Tensor
    ) -> torch.Tensor:
        gradient = torch.empty_like(logits)
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        size = chunk_rows(logits)
        for start in range(0, len(logits), size):
            block = logits[start : start + size].to(torch.float32, copy=True)  # worked on in place
            goal = targets[start : start + size].unsqueeze(1)
            top = block.amax(-1, keepdim=True)
            own = block.gather(1, goal)
            block.sub_(top).exp_()
            mass = block.sum(-1, keepdim=True)
            total += (mass.log() + top - own).sum()
            block.div_(mass * normaliser)
            block.scatter_add_(1, goal, (-1 / normaliser).expand_as(goal).to(block.dtype))
            gradient[start : start + size] = block
        ctx.save_for_backward(gradient)
        return total / normaliser

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        scale = outputs[0]
        return gradient if bool(scale == 1) else gradient * scale.to(gradient.dtype), None, None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, normaliser: torch.Tensor | float
) -> torch.Tensor:
    """Cross-entropy of target tokens: -(1 / normaliser) * sum_i log softmax(logits_i)[targets_i].

    Under gradient accumulation the normaliser is the number of target tokens of the whole batch,
    never a micro-batch's own: a mean of means would weight short answers more.

    Args:
        logits: [tokens, vocabulary], of target positions only.
        targets: int64 [tokens].
        normaliser: Number of target tokens of the batch.

    Returns:
        float32 scalar in nats per token.
    """
    norm = torch.as_tensor(normaliser, dtype=torch.float32, device=logits.device)
    loss: torch.Tensor = _CrossEntropy.apply(logits, targets, norm)
    return loss
