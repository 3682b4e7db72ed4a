"""Losses against a teacher with another tokenizer: ULD by rank, and spans of equal text.

Conventions are those of `distill.training.losses`.
"""

import math

import numpy as np
import torch

from distill.training.losses import (
    Teacher,
    coarse_step,
    forward_kl,
    logit_gradient,
    sparse_cross_entropy,
    total_variation,
    weighted_loss,
)

_CERTAIN = 1e-6
"""Least nats of a span under the student: float32 cannot resolve likelihoods nearer to 1."""
_LEAST = math.log(torch.finfo(torch.float32).tiny)
"""Least log-likelihood of a span under the teacher, whose stored probabilities may underflow."""


def _descending(values: torch.Tensor) -> torch.Tensor:
    """Each row sorted, largest first. On CPU, numpy sorts rows of floats many times faster."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.neg().numpy())).neg_()
    return values.sort(-1, descending=True).values


def _order(values: torch.Tensor) -> torch.Tensor:
    """Indices of each row's entries, largest first."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(values.neg().numpy()))
    return values.argsort(-1, descending=True)


def _uld_step(
    scaled: torch.Tensor, weights: torch.Tensor, log_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    s = scaled.softmax(-1)
    order = _order(s)
    p = _descending(log_p.to(s.dtype).exp())
    width = max(s.shape[1], p.shape[1])
    difference = torch.nn.functional.pad(s.gather(1, order), (0, width - s.shape[1]))
    difference[:, : p.shape[1]].sub_(p)
    value = difference.abs().sum(-1)
    slope = scaled.scatter_(1, order, difference[:, : s.shape[1]].sign_()).mul_(s)
    return value, logit_gradient(s, slope, weights)


def uld(
    logits: torch.Tensor, teacher: Teacher, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_t weights_t sum_i |p_(i) - s_(i)|: L1 between probabilities sorted from the largest.

    Universal Logit Distillation (Boizard 2024, arXiv 2402.12030), for any two vocabularies: the
    Wasserstein distance under equal costs, in closed form by sorting. The smaller vocabulary is
    padded with zeros. Which token of equal logits comes first is arbitrary, and so is its gradient.

    Args:
        logits: [tokens, vocabulary], of target positions only, aligned with the teacher's.
        teacher: As of `dense_divergence`, over its own vocabulary.
        weights: float32 [tokens].
        temperature: T, of the student's logits.

    Returns:
        The loss, and the distance [tokens] detached, both float32, in [0, 2] per token.
    """
    return weighted_loss(logits, weights, temperature, _uld_step, lambda block: (teacher(block),))


def _distance(log_p: torch.Tensor, log_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    value, slope = total_variation(log_p, log_s)
    return value.mul_(2), slope.mul_(2)


def _coarse_uld_step(
    scaled: torch.Tensor, weights: torch.Tensor, log_p: torch.Tensor, log_tail: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    ids = scaled.topk(log_p.shape[1]).indices
    return coarse_step(_distance, scaled, weights, ids, log_p, log_tail)


def coarse_uld(
    logits: torch.Tensor,
    p_sorted: torch.Tensor,
    tail: torch.Tensor,
    weights: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_t weights_t (sum_{i<=k} |p_(i) - s_(i)| + |tail of p - tail of s|).

    `uld` from the k most likely tokens of each and the mass of all others: by the triangle
    inequality a lower bound of it.

    Args:
        logits: [tokens, vocabulary], of target positions only, aligned with the teacher's.
        p_sorted: float32 [tokens, k], the teacher's largest probabilities at temperature T, from
            the largest; k < vocabulary.
        tail: float32 [tokens], its remaining mass.
        weights: float32 [tokens].
        temperature: T, of the student's logits.

    Returns:
        As of `uld`.
    """
    return weighted_loss(
        logits,
        weights,
        temperature,
        _coarse_uld_step,
        lambda block: (p_sorted[block].log(), tail[block].log()),
    )


def shared_kl(
    log_p: torch.Tensor, log_s: torch.Tensor, shared: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_c p_c (log p_c - log s_c) - p_c + s_c over the tokens c of both vocabularies, in nats.

    Slope s_c - p_c there, 0 elsewhere. As GOLD (TRL's `GOLDTrainer`) compares the tokens that two
    vocabularies share, there by a Jensen-Shannon divergence of probabilities that sum to less than
    1. KL of such falls below 0, and its optimum is not p; the last two terms make it a divergence
    again (generalised KL, a Bregman divergence): at least 0, and 0 only at s = p on the shared
    tokens, hence with equal mass on all others. Forward KL where all tokens are shared. The other
    tokens are not distinguished; GOLD compares them by rank, as `uld`.

    Args:
        log_p: [rows, classes], the teacher's in the student's tokens; -inf where p = 0 or unknown.
        log_s: [rows, classes], the student's; finite.
        shared: bool [classes], the tokens of both.

    Returns:
        As of `forward_kl`.
    """
    value, slope = forward_kl(log_p, log_s)
    s = log_s.exp().mul_(shared)
    return value + (slope + s).sum(-1), slope.add_(s)


def likelihood_gap(
    logits: torch.Tensor,
    ids: torch.Tensor,
    spans: torch.Tensor,
    log_p: torch.Tensor,
    weights: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_k weights_k (b_k - a_k + a_k log(a_k / b_k)) of spans k of text.

    a = -log p and b = -log s are the nats of a span under teacher and student, the sums over its
    tokens on either side. Approximate likelihood matching (ALM, Minixhofer 2025, arXiv 2503.20083):
    KL of the span's likelihood against all other texts', from p^(1/t), 1 - p^(1/t) to s^(1/t),
    1 - s^(1/t). Here it is times t, in the limit of large t: rounding does not cancel 1 - p
    (`binary_kl_temp_limit` of the authors' tokenkit, whose default is t = 100 without the factor).
    At least 0, and 0 only at s = p; cross-entropy where the teacher is certain. The gradient is
    (1 - a / b) times that of cross-entropy of the span's tokens. ALM's debiasing of spans that end
    inside a word is left out.

    Args:
        logits: [tokens, vocabulary], the student's for the tokens of all spans.
        ids: int64 [tokens], those tokens.
        spans: int64 [tokens], the span of each.
        log_p: float32 [spans], log-likelihood under the teacher at temperature T.
        weights: float32 [spans].
        temperature: T, of the student's logits.

    Returns:
        The loss, and the term of each span [spans] detached, both float32 in nats.
    """
    ids = ids.unsqueeze(1)
    with torch.no_grad():
        each = sparse_cross_entropy(logits, ids, torch.zeros_like(ids), temperature)[1].squeeze(1)
        student_nll = each.new_zeros(len(log_p)).index_add_(0, spans, each).clamp_(min=_CERTAIN)
    teacher_nll = -log_p.to(student_nll.dtype).clamp(min=_LEAST)
    value = student_nll - teacher_nll + torch.xlogy(teacher_nll, teacher_nll / student_nll)
    slope = weights * (1 - teacher_nll / student_nll)
    # Linear in the logits' gradient: slope times cross-entropy has the same gradient.
    loss, _ = sparse_cross_entropy(logits, ids, slope[spans].unsqueeze(1), temperature)
    return loss + (weights * value - slope * student_nll).sum(), value
