"""Losses of distillation: functions of the student's logits at the target positions.

Every loss is a weighted sum over tokens. The weights, float32, hold 1/(target tokens of the whole
batch), so that gradient accumulation adds up; a method's own weight; and T^2 where a method needs
it: at temperature T logits are divided by T, which makes gradients about T^2 times smaller (Hinton
2015, arXiv 1503.02531, section 2), and no loss here compensates for that.

Values are in nats, except total variation and ULD, which are differences of probability. They are
computed in float32 (in float64 from float64 logits). The gradient is formed together with the
value, a few rows at a time, so that a large vocabulary costs one gradient in the logits' dtype and
no float32 tensor of their size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from distill.contracts.divergences import DIVERGENCES
from distill.models.forward import BLOCK_ROWS, chunk_rows

Divergence = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""f(log_p, log_s), each [rows, classes], to (value [rows], slope [rows, classes])."""
Teacher = Callable[[slice], torch.Tensor]
"""The teacher's log-probabilities at the loss's temperature, float32 [rows, its vocabulary]."""
Step = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""(logits over T, free to be overwritten; weights; further inputs), each of a few rows, to
(values, shaped as the weights; gradient of the weighted sum with respect to the logits over T)."""


class _Formed(torch.autograd.Function):
    """A loss whose gradient is computed in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        weights: torch.Tensor,
        temperature: float,
        step: Step,
        inputs: Callable[[slice], tuple[torch.Tensor, ...]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        weights = weights.to(dtype)
        values, gradient = torch.empty_like(weights), torch.empty_like(logits)
        size = chunk_rows(logits)
        for first in range(0, len(logits), BLOCK_ROWS):
            last = min(first + BLOCK_ROWS, len(logits))
            block_inputs = inputs(slice(first, last))
            for start in range(first, last, size):
                rows = slice(start, min(start + size, last))
                part = slice(rows.start - first, rows.stop - first)
                scaled = logits[rows].to(dtype, copy=True)
                if temperature != 1:
                    scaled.div_(temperature)
                values[rows], change = step(
                    scaled, weights[rows], *(one[part] for one in block_inputs)
                )
                if temperature != 1:
                    change.div_(temperature)
                gradient[rows] = change
            del block_inputs  # before the next block is made
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(values)
        return (weights * values).sum(), values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        scale = outputs[0]
        return gradient if bool(scale == 1) else gradient * scale, None, None, None, None


def weighted_loss(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_t weights_t value_t with its gradient formed at once, and the values detached.

    Args:
        arguments: Logits [tokens, vocabulary], weights, temperature, the `Step`, and a function
            from a slice of rows to the step's further inputs.
    """
    loss, values = _Formed.apply(*arguments)
    return loss, values


# Losses linear in the teacher's probabilities
def _sparse_step(
    scaled: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    top = scaled.amax(-1, keepdim=True)
    chosen_logits = scaled.gather(1, ids)
    mass = scaled.sub_(top).exp_().sum(-1, keepdim=True)
    nll = mass.log() + top - chosen_logits
    scaled.mul_(weights.sum(-1, keepdim=True) / mass)
    return nll, scaled.scatter_add_(1, ids, -weights)


def sparse_cross_entropy(
    logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_tk weights_tk nll_tk, with nll_tk = -log softmax(logits_t / T)[ids_tk].

    Every loss that is linear in the teacher's probabilities, in one softmax: cross-entropy of
    target tokens; forward KL to a teacher less its entropy, a constant (Hinton 2015, section 2),
    with weights p on its most likely tokens, or counts / draws of sampled ones (Anshumann 2025,
    arXiv 2503.16870), whose gradient is then unbiased; and mixtures, ids and weights side by side.
    The gradient is (sum_k w softmax(z / T) - w at ids) / T. Weights p renormalised over the k most
    likely tokens have their optimum at those, with no mass elsewhere: use `coarse_divergence`.

    Args:
        logits: [tokens, vocabulary], of target positions only.
        ids: int64 [tokens, k], may repeat in a row. Padding is id 0 with weight 0.
        weights: float32 [tokens, k].
        temperature: T.

    Returns:
        The loss, and nll [tokens, k] detached, both float32 in nats.
    """
    return weighted_loss(logits, weights, temperature, _sparse_step, lambda block: (ids[block],))


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
    weights = (1 / norm).expand(len(targets), 1)
    return sparse_cross_entropy(logits, targets.unsqueeze(1), weights)[0]


# Divergences of a teacher p from a student s over the same classes
def _finite(log_p: torch.Tensor) -> torch.Tensor:
    """log p with -inf replaced by a finite value, so that 0 log 0 is 0 and not NaN."""
    return log_p.clamp(min=torch.finfo(log_p.dtype).min)


def _mixture(p: torch.Tensor, s: torch.Tensor, share: float) -> torch.Tensor:
    """share p + (1 - share) s, kept above 0, where both have underflowed."""
    return torch.lerp(s, p, share).clamp_(min=torch.finfo(s.dtype).tiny)


def forward_kl(log_p: torch.Tensor, log_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p || s) = sum p (log p - log s), in nats; slope -p.

    Source: Hinton 2015, section 2: soft-target cross-entropy less the teacher's entropy. A p of
    less than unit mass is used unchanged.

    Args:
        log_p: [rows, classes], the teacher's; -inf where p = 0.
        log_s: [rows, classes], the student's; finite.

    Returns:
        The divergence [rows], and slope = s * dD/ds [rows, classes], from which the gradient with
        respect to the student's logits at temperature T is (slope - s * slope.sum(-1)) / T.
    """
    p = log_p.exp()
    value = (_finite(log_p) - log_s).mul_(p).sum(-1)
    return value, p.neg_()


def reverse_kl(log_p: torch.Tensor, log_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(s || p) = sum s (log s - log p), in nats; slope s (log s - log p + 1).

    Source: MiniLLM (Gu 2024, arXiv 2306.08543), section 2; here per token, as in GKD (Agarwal
    2024, arXiv 2306.13649), section 2. A class with p = 0 makes value and slope +inf, and the
    gradient NaN: not for teachers with cut tails. `dense_divergence` compares the teacher's tokens.

    Args and returns: as of `forward_kl`.
    """
    s = log_s.exp().clamp_(min=torch.finfo(log_s.dtype).tiny)  # never 0 * inf
    slope = (log_s - log_p).mul_(s)
    value = slope.sum(-1)
    return value, slope.add_(s)


def jsd(log_p: torch.Tensor, log_s: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """beta KL(p || m) + (1 - beta) KL(s || m), m = beta p + (1 - beta) s, in nats.

    Slope (1 - beta) s (log s - log m). Source: generalised Jensen-Shannon divergence, GKD (Agarwal
    2024, arXiv 2306.13649), equation 1. As in TRL, whose trainer this equals, beta = 0 means
    forward and beta = 1 reverse KL: the limits of D / beta and D / (1 - beta). D itself goes to 0
    at both ends, so that a small beta needs a large weight.

    Args and returns: as of `forward_kl`, and beta in [0, 1].
    """
    if beta == 0:
        return forward_kl(log_p, log_s)
    if beta == 1:
        return reverse_kl(log_p, log_s)
    p, s = log_p.exp(), log_s.exp()
    log_m = _mixture(p, s, beta).log_()
    slope = (log_s - log_m).mul_(s).mul_(1 - beta)
    value = beta * (_finite(log_p) - log_m).mul_(p).sum(-1) + slope.sum(-1)
    return value, slope


def total_variation(log_p: torch.Tensor, log_s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sum |p - s| / 2, a difference of probability in [0, 1]; slope s sign(s - p) / 2.

    Source: f-DISTILL (Wen 2023, arXiv 2307.15190), total variation distance, per token.

    Args and returns: as of `forward_kl`.
    """
    s = log_s.exp()
    difference = s - log_p.exp()
    value = difference.abs().sum(-1) / 2
    return value, difference.sign_().mul_(s).div_(2)


def skew_kl(
    log_p: torch.Tensor, log_s: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(p || m), m = alpha p + (1 - alpha) s, in nats; slope -(1 - alpha) p s / m.

    Source: DistiLLM (Ko 2024, arXiv 2402.03898), skew KL divergence, there with alpha = 0.1. At
    alpha = 0 it is forward KL; it is at most -log alpha.

    Args and returns: as of `forward_kl`, and alpha in [0, 1].
    """
    if alpha == 0:
        return forward_kl(log_p, log_s)
    p, s = log_p.exp(), log_s.exp()
    m = _mixture(p, s, alpha)
    slope = s.div_(m).mul_(p).mul_(alpha - 1)
    return (_finite(log_p) - m.log_()).mul_(p).sum(-1), slope


FUNCTIONS: dict[str, Callable[..., tuple[torch.Tensor, torch.Tensor]]] = {
    name: globals()[name] for name in DIVERGENCES
}
"""The functions above by the names that configs use; each takes its row's parameter, if any."""


# Divergences over the whole vocabulary, and over its k most likely tokens and the rest
def logit_gradient(s: torch.Tensor, slope: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted gradient with respect to the logits of s. Overwrites s and slope.

    Args:
        s: Student's probabilities, [rows, classes].
        slope: Derivative of the divergence by log s, [rows, classes].
        weights: [rows].

    Returns:
        [rows, classes].
    """
    return slope.sub_(s.mul_(slope.sum(-1, keepdim=True))).mul_(weights.unsqueeze(1))


def _aligned(log_p: torch.Tensor, width: int) -> torch.Tensor:
    """Drop columns, or add columns with p = 0, to a width of `width`."""
    missing = max(width - log_p.shape[1], 0)
    return torch.nn.functional.pad(log_p[:, :width], (0, missing), value=-torch.inf)


def _dense_step(
    divergence: Divergence,
    theirs: float | None,
    classes: torch.Tensor | None,
    scaled: torch.Tensor,
    weights: torch.Tensor,
    log_p: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    log_s, log_p = scaled.log_softmax(-1), log_p.to(scaled.dtype)
    if theirs is not None:
        log_p = log_p.div(theirs).log_softmax(-1)
    if classes is None:
        value, slope = divergence(_aligned(log_p, log_s.shape[1]), log_s)
        return value, logit_gradient(log_s.exp_(), slope, weights)
    inside = log_s[:, classes]
    log_mass = inside.logsumexp(-1, keepdim=True)
    inside -= log_mass
    value, slope = divergence(log_p[:, classes], inside)
    s, change = inside.exp_(), log_s.exp_().mul_(weights.unsqueeze(1))
    change[:, classes] -= s * weights.unsqueeze(1)  # of -log_mass
    change[:, classes] += logit_gradient(s, slope, weights)
    return value - log_mass.squeeze(1), change


def dense_divergence(
    logits: torch.Tensor,
    teacher: Teacher,
    divergence: Divergence,
    weights: torch.Tensor,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    classes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_t weights_t D(p_t, softmax(logits_t / T)) over the whole vocabulary.

    The teacher is evaluated `BLOCK_ROWS` = 512 tokens at a time (the last block may be shorter), in
    order and without gradients, so that it can compute log p from hidden states on demand;
    only one block is held in memory. Heads padded to different widths over one
    tokenizer are aligned on the student's: ids that the teacher lacks have p = 0, and what it has
    beyond is dropped, not renormalised. Reverse KL is infinite at p = 0, so it compares `classes`
    alone, D(p, s_c) - log S with s_c = s / S on the classes, whose mass is S: as in forward KL,
    KL(p || s) = KL(p || s_c) - log S, mass outside the classes costs -log S.

    Args:
        logits: [tokens, vocabulary], of target positions only.
        teacher: From a slice of tokens to log p at temperature T, float32 [rows, its vocabulary].
        divergence: One of `FUNCTIONS`, its parameter bound by functools.partial.
        weights: float32 [tokens].
        temperature: T, of the student's logits.
        teacher_temperature: If given, the teacher answers with logits of any dtype, which are
            divided by this and normalised a few rows at a time: no float32 tensor of a block.
        classes: int64 ids of both vocabularies outside which p = 0; None for all of the student's.

    Returns:
        The loss, and D [tokens] detached, both float32, in the divergence's unit.
    """
    step = partial(_dense_step, divergence, teacher_temperature, classes)
    return weighted_loss(logits, weights, temperature, step, lambda block: (teacher(block),))


def coarse_step(
    divergence: Divergence,
    scaled: torch.Tensor,
    weights: torch.Tensor,
    ids: torch.Tensor,
    log_p: torch.Tensor,
    log_tail: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `Step` of a divergence over k tokens (ids, log_p [rows, k]) and the tail [rows]."""
    kept_logits = scaled.gather(1, ids)
    top = scaled.amax(-1, keepdim=True)
    others = scaled.sub_(top).exp_().scatter_(1, ids, 0.0)
    # The tail is summed, not 1 - kept mass, so it is exact where the kept tokens have nearly all.
    rest = others.sum(-1, keepdim=True).clamp_(min=torch.finfo(scaled.dtype).tiny)
    masses = torch.cat([kept_logits - top, rest.log()], dim=1)
    log_s = masses.log_softmax(-1)
    classes = torch.cat([log_p, log_tail.unsqueeze(1)], dim=1).to(log_s.dtype)
    value, slope = divergence(classes, log_s)
    change = logit_gradient(log_s.exp_(), slope, weights)
    # A class's share of the gradient falls to its tokens in proportion to their mass.
    others.div_(rest).mul_(change[:, -1:]).scatter_(1, ids, change[:, :-1])
    return value, others


def coarse_divergence(
    logits: torch.Tensor,
    ids: torch.Tensor,
    log_p: torch.Tensor,
    log_tail: torch.Tensor,
    divergence: Divergence,
    weights: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """sum_t weights_t D over k + 1 classes: k kept tokens, and all the others as one.

    The student's tail is the sum of its other tokens' mass, kept above 0. Merging classes never
    adds to a divergence (data-processing inequality), so this is a lower bound of the dense one:
    equal where the student spreads its tail as the teacher does or, but for reverse KL, where the
    teacher's tail is empty. Unlike a renormalised top k its optimum keeps the teacher's p on the
    kept tokens. Gradient, with g_c = dD/ds_c and S = sum_c s_c g_c: s_j (g_j - S) / T for a kept
    token, s_j (g_tail - S) / T for any other. The bias of a renormalised top k, which the tail
    as a separate class removes: Anshumann 2025, arXiv 2503.16870.

    Args:
        logits: [tokens, vocabulary], of target positions only.
        ids: int64 [tokens, k], distinct in a row; k < vocabulary.
        log_p: float32 [tokens, k], the teacher's at temperature T, not renormalised.
        log_tail: float32 [tokens], log of the teacher's remaining mass; -inf for none.
        divergence: One of `FUNCTIONS`, its parameter bound by functools.partial.
        weights: float32 [tokens].
        temperature: T, of the student's logits.

    Returns:
        The loss, and D [tokens] detached, both float32, in the divergence's unit.
    """
    step = partial(coarse_step, divergence)
    return weighted_loss(
        logits,
        weights,
        temperature,
        step,
        lambda block: (ids[block], log_p[block], log_tail[block]),
    )


# Hidden states
def _wide(states: torch.Tensor) -> torch.Tensor:
    return states if states.dtype == torch.float64 else states.float()


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean over the width of (student - teacher)^2, per token.

    Source: hint loss of FitNets (Romero 2015, arXiv 1412.6550), there half the squared norm. Plain
    torch: gradients flow to both and to a projection that the caller applied.

    Args:
        student: [tokens, width].
        teacher: [tokens, width].

    Returns:
        float32 [tokens], in squared units of the states.
    """
    return (_wide(student) - _wide(teacher)).square().mean(-1)


def hidden_cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine of the angle between student's and teacher's state, per token.

    Source: cosine embedding loss of DistilBERT (Sanh 2019, arXiv 1910.01108), section 2. Blind to
    scale. Plain torch, as `hidden_mse`.

    Args:
        student: [tokens, width].
        teacher: [tokens, width].

    Returns:
        float32 [tokens], in [0, 2].
    """
    return 1 - torch.nn.functional.cosine_similarity(_wide(student), _wide(teacher), dim=-1)
