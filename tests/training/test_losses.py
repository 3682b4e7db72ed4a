import inspect
import itertools
import math
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from distill.contracts.divergences import DIVERGENCES, PARAMETERS
from distill.models.forward import BLOCK_ROWS, chunk_rows
from distill.training import losses
from distill.training.cross_tokenizer import coarse_uld, likelihood_gap, shared_kl, uld
from distill.training.losses import (
    FUNCTIONS,
    coarse_divergence,
    cross_entropy,
    dense_divergence,
    hidden_cosine,
    hidden_mse,
    jsd,
    reverse_kl,
    skew_kl,
    sparse_cross_entropy,
)
from plain_divergences import PLAIN, plain_divergence

Loss = Callable[..., tuple[torch.Tensor, torch.Tensor]]

TENTH = 0.1
"""Value of every divergence's parameter."""
SETTINGS = {parameter.key: TENTH for parameter in PARAMETERS}
NAMES = sorted(PLAIN)


def bound(name: str) -> losses.Divergence:
    """A divergence as a loss takes it."""
    parameter = DIVERGENCES[name].parameter
    return partial(FUNCTIONS[name], **({parameter.name: TENTH} if parameter else {}))


def plain(name: str, p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The same as one would write it."""
    return plain_divergence(name, p, s, SETTINGS)


def of(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64)


TEACHER, STUDENT = of(0.5, 0.3, 0.2), of(0.2, 0.5, 0.3)  # the worked example

ROWS, WORDS, KEPT = 11, 13, 4
NOISE = torch.Generator().manual_seed(1)


def normal(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, generator=NOISE, dtype=torch.float64)


LOGITS = normal(ROWS, WORDS)
LOG_P = normal(ROWS, WORDS).log_softmax(-1)
LOG_P_FEWER = normal(ROWS, WORDS - 4).log_softmax(-1)  # another vocabulary
LOG_P_MORE = normal(ROWS, WORDS + 5).log_softmax(-1)
TOP = LOG_P.topk(KEPT)
TAIL = 1 - TOP.values.exp().sum(-1)
IDS = torch.randint(WORDS, (ROWS, KEPT), generator=NOISE)
IDS[:, 1] = IDS[:, 0]  # a word drawn twice
IDS[::2, 3] = 0  # padding
SHARES = torch.rand(ROWS, KEPT, generator=NOISE, dtype=torch.float64)
SHARES[::2, 3] = 0.0
WEIGHTS = 0.2 + torch.rand(ROWS, generator=NOISE, dtype=torch.float64)
SHARED = torch.arange(WORDS) % 3 != 1  # words of a vocabulary of its own and of the teacher's
TURNED = LOG_P_MORE[:, 2 : 2 + WORDS].where(SHARED, -torch.inf)  # the teacher's in its words
NATS = 0.1 + 3 * torch.rand(ROWS, generator=NOISE, dtype=torch.float64)


def reads(log_p: torch.Tensor, rows: slice) -> losses.Teacher:
    """A teacher that answers for tokens `rows` of a batch."""
    return lambda block: log_p[rows.start + block.start : rows.start + block.stop]


def sparse(
    logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    shares = SHARES[rows] * weights.unsqueeze(1)
    return sparse_cross_entropy(logits, IDS[rows], shares, temperature)


def hard(
    logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    return sparse_cross_entropy(logits, IDS[rows, :1], weights.unsqueeze(1), temperature)


def dense(
    name: str, logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    return dense_divergence(logits, reads(LOG_P, rows), bound(name), weights, temperature)


def coarse(
    name: str, logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    kept = TOP.indices[rows], TOP.values[rows], TAIL.log()[rows]
    return coarse_divergence(logits, *kept, bound(name), weights, temperature)


def sorted_by_rank(
    log_p: torch.Tensor,
    logits: torch.Tensor,
    rows: slice,
    weights: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    return uld(logits, reads(log_p, rows), weights, temperature)


def sorted_top(
    logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    return coarse_uld(logits, TOP.values.exp()[rows], TAIL[rows], weights, temperature)


def shared_words(
    logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    divergence = partial(shared_kl, shared=SHARED)
    return dense_divergence(logits, reads(TURNED, rows), divergence, weights, temperature)


def likelihoods(
    logits: torch.Tensor, rows: slice, weights: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spans of one token each."""
    spans = torch.arange(len(logits))
    return likelihood_gap(logits, IDS[rows, 0], spans, -NATS[rows], weights, temperature)


# Each loss of tokens `rows`, with logits of those rows, and per token as one would write it.
LOSSES: dict[str, Loss] = {
    "hard": hard,
    "sparse": sparse,
    **{f"dense {name}": partial(dense, name) for name in NAMES},
    **{f"coarse {name}": partial(coarse, name) for name in NAMES},
    "uld": partial(sorted_by_rank, LOG_P),
    "uld of fewer words": partial(sorted_by_rank, LOG_P_FEWER),
    "uld of more words": partial(sorted_by_rank, LOG_P_MORE),
    "coarse uld": sorted_top,
    "shared words": shared_words,
    "likelihoods": likelihoods,
}


def plain_coarse(name: str, s: torch.Tensor) -> torch.Tensor:
    kept = s.gather(1, TOP.indices)
    p = torch.cat([TOP.values.exp(), TAIL.unsqueeze(1)], 1)
    return plain(name, p, torch.cat([kept, 1 - kept.sum(-1, keepdim=True)], 1))


def plain_uld(p: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    wide = max(p.shape[1], s.shape[1])
    p, s = (functional.pad(x, (0, wide - x.shape[1])).sort(-1, descending=True)[0] for x in (p, s))
    return (p - s).abs().sum(-1)


def plain_coarse_uld(s: torch.Tensor) -> torch.Tensor:
    kept = s.sort(-1, descending=True)[0][:, :KEPT]
    return (TOP.values.exp() - kept).abs().sum(-1) + (TAIL - (1 - kept.sum(-1))).abs()


def plain_shared(s: torch.Tensor) -> torch.Tensor:
    p, s = TURNED.exp()[:, SHARED], s[:, SHARED]
    return (p * (p / s).log() - p + s).sum(-1)


def plain_gap(theirs: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The generalised KL of nats, a Bregman divergence."""
    return own - theirs + theirs * (theirs / own).log()


BY_HAND: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hard": lambda s: -s.log().gather(1, IDS[:, :1]).squeeze(1),
    "sparse": lambda s: -(SHARES * s.log().gather(1, IDS)).sum(-1),
    **{f"dense {name}": partial(plain, name, LOG_P.exp()) for name in NAMES},
    **{f"coarse {name}": partial(plain_coarse, name) for name in NAMES},
    "uld": partial(plain_uld, LOG_P.exp()),
    "uld of fewer words": partial(plain_uld, LOG_P_FEWER.exp()),
    "uld of more words": partial(plain_uld, LOG_P_MORE.exp()),
    "coarse uld": plain_coarse_uld,
    "shared words": plain_shared,
    "likelihoods": lambda s: plain_gap(NATS, -s.log().gather(1, IDS[:, :1]).squeeze(1)),
}
ALL = slice(0, ROWS)
each_loss = pytest.mark.parametrize("name", list(LOSSES))
each_divergence = pytest.mark.parametrize("name", NAMES)


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> torch.Tensor:
    leaf = at.detach().clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


# Cross-entropy, which other modules know by its own signature


def batch(
    rows: int, vocabulary: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(rows)
    logits = 4 * torch.randn(rows, vocabulary, generator=noise)
    return logits.to(dtype), torch.randint(vocabulary, (rows,), generator=noise)


@pytest.mark.parametrize("rows", [1, 4, 5, 37, 517])
def test_cross_entropy_equals_torchs_in_value_and_gradient(rows: int) -> None:
    assert chunk_rows(torch.zeros(1)) < 37  # so that several chunks are seen
    assert BLOCK_ROWS < 517  # and several blocks
    logits, targets = batch(rows, 53)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = cross_entropy(ours, targets, 12)
    wanted = functional.cross_entropy(theirs, targets, reduction="sum") / 12
    value.backward()
    wanted.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_cross_entropy_of_bf16_logits_is_summed_in_fp32() -> None:
    logits, targets = batch(300, 101, torch.bfloat16)
    ours, theirs = logits.clone().requires_grad_(), logits.float().requires_grad_()
    value = cross_entropy(ours, targets, torch.tensor(300))
    wanted = functional.cross_entropy(theirs, targets)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    assert ours.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=1e-2, atol=1e-6)


def test_huge_logits_overflow_nothing() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]])
    assert cross_entropy(logits, torch.tensor([0]), 1).item() == 0.0
    assert cross_entropy(logits, torch.tensor([2]), 1).item() == pytest.approx(2e4)


def test_micro_batches_add_up_to_the_mean_over_all_tokens() -> None:
    """Sums of 10, 24 and 6 nats over 5, 10 and 5 tokens are 2.0 per token, not 1.867."""
    parts = []
    for nats, tokens in ((10.0, 5), (24.0, 10), (6.0, 5)):
        # Two words, and a gap between their logits that costs nats / tokens for the second.
        gap = torch.tensor(nats / tokens).expm1().log()
        logits = torch.stack([gap.expand(tokens), torch.zeros(tokens)], dim=1)
        parts.append(cross_entropy(logits, torch.ones(tokens, dtype=torch.long), 20).item())
    assert sum(parts) == pytest.approx(2.0, abs=1e-6)


# What holds for every loss


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
@each_loss
def test_a_loss_is_the_formula_and_its_gradient_autograds(name: str, temperature: float) -> None:
    def by_hand(logits: torch.Tensor) -> torch.Tensor:
        return (WEIGHTS * BY_HAND[name]((logits / temperature).softmax(-1))).sum()

    def ours(logits: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](logits, ALL, WEIGHTS, temperature)[0]

    torch.testing.assert_close(ours(LOGITS), by_hand(LOGITS))
    torch.testing.assert_close(gradient(ours, LOGITS), gradient(by_hand, LOGITS))


@pytest.mark.slow
@each_loss
def test_a_gradient_is_the_slope_by_finite_differences(name: str) -> None:
    some = slice(0, 2)
    leaf = LOGITS[some].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda logits: LOSSES[name](logits, some, WEIGHTS[some], 1.3)[0], (leaf,)
    )


@pytest.mark.slow
@each_loss
def test_values_are_per_token_in_fp32_and_sum_to_the_loss(name: str) -> None:
    leaf = LOGITS.float().requires_grad_()
    loss, values = LOSSES[name](leaf, ALL, WEIGHTS.float())
    assert (loss.dtype, values.dtype) == (torch.float32, torch.float32)
    assert loss.requires_grad
    assert not values.requires_grad
    wanted = BY_HAND[name](LOGITS.softmax(-1)).float()
    if name in ("hard", "sparse"):
        assert values.shape == (ROWS, 1 if name == "hard" else KEPT)
        values = (values * (SHARES if name == "sparse" else 1)).sum(-1).float()
    torch.testing.assert_close(values, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [1, 4, 6, 8])
@each_loss
def test_chunks_and_blocks_of_any_size_give_the_same(
    name: str, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that do and do not hold whole chunks, and that do not divide the tokens."""

    def ours(logits: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](logits, ALL, WEIGHTS)[0]

    monkeypatch.setattr(losses, "chunk_rows", lambda logits: 100)
    whole = ours(LOGITS), gradient(ours, LOGITS)
    monkeypatch.setattr(losses, "chunk_rows", chunk_rows)
    monkeypatch.setattr(losses, "BLOCK_ROWS", blocks)
    torch.testing.assert_close((ours(LOGITS), gradient(ours, LOGITS)), whole)


@pytest.mark.slow
@each_loss
def test_halves_of_a_batch_add_up_to_it(name: str) -> None:
    """Weights are 1 / (tokens of the batch), so accumulation over uneven parts changes nothing."""
    share = torch.full((ROWS,), 1 / ROWS, dtype=torch.float64)
    leaf, whole = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    parts = []
    for rows in (slice(0, 3), slice(3, ROWS)):
        part = LOSSES[name](leaf[rows], rows, share[rows])[0]
        part.backward()
        parts.append(part.detach())
    total = LOSSES[name](whole, ALL, share)[0]
    total.backward()
    torch.testing.assert_close(parts[0] + parts[1], total.detach())
    torch.testing.assert_close(leaf.grad, whole.grad)


@pytest.mark.slow
@each_loss
def test_bf16_logits_get_fp32_values_and_a_bf16_gradient(name: str) -> None:
    logits, weights = LOGITS.bfloat16(), WEIGHTS.float()

    def ours(at: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](at, ALL, weights)[0]

    torch.testing.assert_close(ours(logits), ours(logits.float()))
    slope, exact = gradient(ours, logits), gradient(ours, logits.float())
    assert slope.dtype == torch.bfloat16
    assert torch.equal(slope, exact.bfloat16())


@each_loss
def test_a_factor_on_a_loss_scales_its_gradient_in_fp32(name: str) -> None:
    logits, weights = LOGITS.bfloat16(), WEIGHTS.float()
    once = gradient(lambda at: LOSSES[name](at, ALL, weights)[0], logits)
    scaled = gradient(lambda at: 0.7 * LOSSES[name](at, ALL, weights)[0], logits)
    assert torch.equal(scaled, (0.7 * once.float()).bfloat16())


@pytest.mark.slow
@each_loss
def test_logits_are_left_alone_and_weights_of_zero_drop_tokens(name: str) -> None:
    for logits in (LOGITS.clone(), LOGITS.float(), LOGITS.bfloat16()):
        before = logits.clone()
        weights = WEIGHTS.clone()
        weights[3] = 0.0
        slope = gradient(lambda at: LOSSES[name](at, ALL, weights)[0], logits)  # noqa: B023
        LOSSES[name](logits, ALL, weights, 2.0)
        assert torch.equal(logits, before)
        assert (slope.abs().amax(-1) > 0).tolist() == [row != 3 for row in range(ROWS)]


@each_loss
def test_no_tokens_are_no_loss(name: str) -> None:
    leaf = torch.zeros(0, WORDS, requires_grad=True)
    loss, values = LOSSES[name](leaf, slice(0, 0), WEIGHTS[:0])
    loss.backward()
    assert loss.item() == 0.0
    assert len(values) == 0
    assert leaf.grad.shape == (0, WORDS)


class Largest(TorchDispatchMode):
    """The most elements of any tensor wider than bf16 that torch makes."""

    elements = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.element_size() > 2:
                self.elements = max(self.elements, tensor.numel())
        return result


@each_loss
def test_no_fp32_tensor_of_the_logits_size_is_made_or_kept(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "BLOCK_ROWS", 4)
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    logits = LOGITS.bfloat16().requires_grad_()
    weights = WEIGHTS.float()
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with Largest() as largest, hooks:
        LOSSES[name](logits, ALL, weights, 2.0)[0].backward()
    assert [(tensor.dtype, tensor.shape) for tensor in kept] == [(torch.bfloat16, logits.shape)]
    assert 4 * WORDS <= largest.elements <= 4 * (WORDS + 5)  # one block of the widest teacher


def test_there_is_no_second_derivative_to_be_had_by_mistake() -> None:
    leaf = LOGITS.clone().requires_grad_()
    loss = sparse(leaf, ALL, WEIGHTS)[0]
    (slope,) = torch.autograd.grad(loss.square(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


# Worked numbers


@pytest.mark.parametrize(
    ("divergence", "nats"),
    [
        (bound("forward_kl"), 0.22380),
        (bound("reverse_kl"), 0.19379),
        (bound("total_variation"), 0.3),
        (partial(jsd, beta=0.5), 0.05087),
        (partial(jsd, beta=0.1), 0.01966),
        (partial(skew_kl, alpha=0.1), 0.17295),
    ],
)
def test_worked_divergences(divergence: losses.Divergence, nats: float) -> None:
    assert divergence(TEACHER.log(), STUDENT.log())[0].item() == pytest.approx(nats, abs=5e-6)
    logits = STUDENT.log().float() + 3  # of which the softmax is the student's
    loss, value = dense_divergence(
        logits, lambda rows: TEACHER.log().float()[rows], divergence, torch.tensor([2.0])
    )
    assert value.item() == pytest.approx(nats, abs=5e-6)
    assert loss.item() == pytest.approx(2 * nats, abs=1e-5)


@pytest.mark.parametrize(("temperature", "nats"), [(2.0, 0.21950), (0.7, 0.22395)])
def test_worked_kl_at_a_temperature(temperature: float, nats: float) -> None:
    """Both sides are tempered; T^2 comes with the weight."""
    log_p = (TEACHER.log() / temperature).log_softmax(-1)
    weight = torch.tensor([temperature**2])
    loss, value = dense_divergence(
        STUDENT.log(), lambda rows: log_p[rows], bound("forward_kl"), weight, temperature
    )
    assert loss.item() == pytest.approx(nats, abs=5e-6)
    assert value.item() * temperature**2 == pytest.approx(nats, abs=5e-6)
    # The same from sparse targets, less the teacher's entropy.
    every = torch.arange(3).unsqueeze(0)
    loss, nll = sparse_cross_entropy(STUDENT.log(), every, weight * log_p.exp(), temperature)
    entropy = -(log_p.exp() * log_p).sum()
    assert (loss - weight * entropy).item() == pytest.approx(nats, abs=5e-6)
    torch.testing.assert_close(nll, -(STUDENT.log() / temperature).log_softmax(-1))


def test_a_renormalised_top_k_pulls_a_perfect_student_away_and_a_tail_does_not() -> None:
    ids, kept = torch.tensor([[0, 1]]), of(0.5, 0.3)
    one = torch.ones(1)

    def renormalised(logits: torch.Tensor) -> torch.Tensor:
        return sparse_cross_entropy(logits, ids, kept / 0.8)[0]

    def bucketed(logits: torch.Tensor) -> torch.Tensor:
        tail = of(0.2).log()[0]
        return coarse_divergence(logits, ids, kept.log(), tail, bound("forward_kl"), one)[0]

    sharp = torch.tensor([[math.log(0.625), math.log(0.375), -1e4]], dtype=torch.float64)
    nothing = torch.zeros(1, 3, dtype=torch.float64)
    torch.testing.assert_close(gradient(renormalised, sharp), nothing)
    torch.testing.assert_close(gradient(renormalised, TEACHER.log()), of(-0.125, -0.075, 0.2))
    torch.testing.assert_close(gradient(bucketed, TEACHER.log()), nothing)
    assert bucketed(TEACHER.log()).item() == pytest.approx(0.0, abs=1e-12)
    assert gradient(bucketed, sharp).abs().max() > 0.1


def test_worked_uld() -> None:
    def distance(s: torch.Tensor, p: torch.Tensor) -> float:
        return uld(s.log(), lambda rows: p.log()[rows], torch.ones(1))[1].item()

    assert distance(STUDENT, TEACHER) == pytest.approx(0)  # blind to which word is which
    assert distance(of(0.1, 0.6, 0.3), TEACHER) == pytest.approx(0.1 + 0 + 0.1)
    assert distance(of(0.6, 0.4), TEACHER) == pytest.approx(0.1 + 0.1 + 0.2)
    assert distance(of(0.4, 0.1, 0.1, 0.4), TEACHER) == pytest.approx(0.1 + 0.1 + 0.1 + 0.1)
    two = coarse_uld(of(0.1, 0.6, 0.3).log(), of(0.5, 0.3), of(0.2)[0], torch.ones(1))[1]
    assert two.item() == pytest.approx(0.1 + 0 + 0.1)
    one = coarse_uld(of(0.4, 0.1, 0.1, 0.4).log(), of(0.5), of(0.5)[0], torch.ones(1))[1]
    assert one.item() == pytest.approx(0.1 + 0.1)


# Divergences


@each_divergence
def test_a_slope_is_s_times_the_derivative(name: str) -> None:
    s = LOGITS.softmax(-1).requires_grad_()
    plain(name, LOG_P.exp(), s).sum().backward()
    value, slope = bound(name)(LOG_P, s.detach().log())
    torch.testing.assert_close(value, plain(name, LOG_P.exp(), s).detach())
    torch.testing.assert_close(slope, s.detach() * s.grad)


@each_divergence
def test_divergences_leave_their_arguments_alone_and_vanish_at_equality(name: str) -> None:
    log_p, log_s = LOG_P.clone(), LOGITS.log_softmax(-1)
    before = log_s.clone()
    assert (bound(name)(log_p, log_s)[0] > 0.01).all()
    assert torch.equal(log_p, LOG_P)
    assert torch.equal(log_s, before)
    value, slope = bound(name)(log_p, log_p)
    torch.testing.assert_close(value, torch.zeros_like(value))
    centred = slope - log_p.exp() * slope.sum(-1, keepdim=True)
    torch.testing.assert_close(centred, torch.zeros_like(centred))


def test_each_row_of_the_table_has_its_function_and_a_plain_formula() -> None:
    assert set(DIVERGENCES) == set(FUNCTIONS) == set(NAMES)
    for name, row in DIVERGENCES.items():
        arguments = ["log_p", "log_s"] + ([row.parameter.name] if row.parameter else [])
        assert FUNCTIONS[name].__name__ == name
        assert list(inspect.signature(FUNCTIONS[name]).parameters) == arguments
    keys = [parameter.key for parameter in PARAMETERS]
    assert len({*keys, *DIVERGENCES}) == len(keys) + len(DIVERGENCES)


@each_divergence
def test_a_row_says_where_a_divergence_is_infinite(name: str) -> None:
    row, log_p = DIVERGENCES[name], of(0.6, 0.4, 0.0).log()
    parameter = row.parameter
    for value in [0.0, TENTH, 1.0] if parameter else [None]:
        settings = {} if parameter is None else {parameter.key: value}
        arguments = {} if parameter is None else {parameter.name: value}
        distance = FUNCTIONS[name](log_p, STUDENT.log(), **arguments)[0]
        assert bool(distance.isinf()) == row.infinite_with(settings)


def test_a_divergence_s_ends_are_the_kls() -> None:
    log_s = LOGITS.log_softmax(-1)
    for ours, theirs in (
        (jsd(LOG_P, log_s, 0.0), FUNCTIONS["forward_kl"](LOG_P, log_s)),
        (jsd(LOG_P, log_s, 1.0), reverse_kl(LOG_P, log_s)),
        (skew_kl(LOG_P, log_s, 0.0), FUNCTIONS["forward_kl"](LOG_P, log_s)),
        (skew_kl(LOG_P, log_s, 1.0), (torch.zeros(ROWS).double(), torch.zeros_like(log_s))),
    ):
        torch.testing.assert_close(ours, theirs)
    # And they are approached: jsd / beta and jsd / (1 - beta).
    near = 1e-6
    torch.testing.assert_close(
        jsd(LOG_P, log_s, near)[0] / near, jsd(LOG_P, log_s, 0.0)[0], rtol=1e-3, atol=0
    )
    torch.testing.assert_close(
        jsd(LOG_P, log_s, 1 - near)[0] / near, jsd(LOG_P, log_s, 1.0)[0], rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_divergence
def test_words_that_the_teacher_rules_out_make_no_nan(name: str, dtype: torch.dtype) -> None:
    log_p = of(0.6, 0.4, 0.0, 0.0).log().to(dtype)
    for logits in (of(0.2, 0.5, 0.1, 0.2).log(), torch.tensor([[0.0, 1.0, -2000.0, 500.0]])):
        s = logits.to(dtype).softmax(-1)
        value, slope = bound(name)(log_p, logits.to(dtype).log_softmax(-1))
        assert not value.isnan().any()
        assert not slope.isnan().any()
        if name == "reverse_kl":
            assert value.item() == math.inf
            assert slope[0, 2:].tolist() == [math.inf, math.inf]
        else:
            assert value.isfinite().all()
            assert slope.isfinite().all()
            assert (slope[s == 0] == 0).all() or name == "forward_kl"
    if name != "reverse_kl":
        p, s = log_p.exp(), of(0.2, 0.5, 0.1, 0.2).to(dtype).requires_grad_()
        wanted = plain(name, p, s)
        wanted.sum().backward()
        value, slope = bound(name)(log_p, s.detach().log())
        torch.testing.assert_close((value, slope), (wanted.detach(), s.detach() * s.grad))


@each_divergence
def test_fp32_divergences_survive_underflow(name: str) -> None:
    """Probabilities of e^-200 are 0 in fp32, on either side or both."""
    for gap_p, gap_s in ((200.0, 0.0), (0.0, 200.0), (200.0, 200.0), (80.0, 95.0)):
        exact_p = torch.tensor([[0.0, 1.0, -gap_p]], dtype=torch.float64).log_softmax(-1)
        exact_s = torch.tensor([[0.5, 0.0, -gap_s]], dtype=torch.float64).log_softmax(-1)
        value, slope = bound(name)(exact_p.float(), exact_s.float())
        torch.testing.assert_close((value, slope), tuple(
            part.float() for part in bound(name)(exact_p, exact_s)
        ), rtol=1e-5, atol=1e-7)  # fmt: skip


# Sparse targets


def test_cross_entropy_and_kl_share_one_softmax() -> None:
    targets, p = IDS[:, 2:3], TOP.values.exp()
    merged, nll = sparse_cross_entropy(
        LOGITS, torch.cat([targets, TOP.indices], 1), torch.cat([p[:, :1], 0.5 * p], 1)
    )
    first, alone = sparse_cross_entropy(LOGITS, targets, p[:, :1])
    second, others = sparse_cross_entropy(LOGITS, TOP.indices, 0.5 * p)
    torch.testing.assert_close(merged, first + second)
    torch.testing.assert_close(nll, torch.cat([alone, others], 1))


def test_a_word_drawn_twice_counts_twice() -> None:
    twice = sparse_cross_entropy(STUDENT.log(), torch.tensor([[2, 2, 0]]), of(0.5, 0.5, 0.0))
    once = sparse_cross_entropy(STUDENT.log(), torch.tensor([[2]]), of(1.0))
    assert twice[0].item() == pytest.approx(-math.log(0.3))
    torch.testing.assert_close(twice[0], once[0])
    slopes = [
        gradient(lambda at: sparse_cross_entropy(at, ids, shares)[0], STUDENT.log())  # noqa: B023
        for ids, shares in (
            (torch.tensor([[2, 2, 0]]), of(0.5, 0.5, 0.0)),
            (torch.tensor([[2]]), of(1.0)),
        )
    ]
    torch.testing.assert_close(slopes[0], of(0.2, 0.5, -0.7))
    torch.testing.assert_close(slopes[1], of(0.2, 0.5, -0.7))


def outcomes() -> Iterator[tuple[float, tuple[int, ...], torch.Tensor]]:
    """Every outcome of two draws from the teacher: its probability, words, and shares of them."""
    for words in itertools.product(range(3), repeat=2):
        chance = math.prod(TEACHER[0, word].item() for word in words)
        yield chance, words, torch.bincount(torch.tensor(words), minlength=3).double()[None] / 2


def dense_gradient(name: str, p: torch.Tensor) -> torch.Tensor:
    return gradient(
        lambda at: dense_divergence(at, lambda rows: p.log()[rows], bound(name), torch.ones(1))[0],
        STUDENT.log(),
    )


def test_sampled_counts_are_unbiased_for_forward_kl() -> None:
    assert sum(chance for chance, _, _ in outcomes()) == pytest.approx(1)
    expected = sum(
        chance
        * gradient(
            lambda at, words=words: sparse_cross_entropy(  # type: ignore[misc]
                at, torch.tensor([words]), of(0.5, 0.5)
            )[0],
            STUDENT.log(),
        )
        for chance, words, _ in outcomes()
    )
    torch.testing.assert_close(expected, dense_gradient("forward_kl", TEACHER))
    torch.testing.assert_close(expected, STUDENT - TEACHER)


def test_sampled_counts_are_unbiased_for_what_the_table_calls_linear_alone() -> None:
    # Reverse KL from counts is infinite whenever a word was not drawn, and here one never is.
    for _, _, shares in outcomes():
        assert reverse_kl(shares.log(), STUDENT.log())[0].item() == math.inf
    assert reverse_kl(TEACHER.log(), STUDENT.log())[0].item() < 0.2
    bias = {}
    for name in NAMES:
        # Shares are smoothed to make it finite, and the gradient's mean over outcomes is compared
        # with the gradient at the mean of the smoothed shares: a linear loss would have the same.
        mean = sum(
            chance * dense_gradient(name, 0.8 * shares + 0.2 / 3)
            for chance, _, shares in outcomes()
        )
        unbiased = dense_gradient(name, 0.8 * TEACHER + 0.2 / 3)
        bias[name] = ((mean - unbiased).abs().max() / unbiased.abs().max()).item()
    for name, size in bias.items():
        assert size == pytest.approx(0, abs=1e-12) if DIVERGENCES[name].linear else size > 0.02


# The whole vocabulary


def test_a_teacher_is_asked_for_blocks_in_order_and_without_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []
    made: list[weakref.ref[torch.Tensor]] = []

    def teacher(rows: slice) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        assert not any(block() is not None for block in made)  # the last one is gone by now
        asked.append((rows.start, rows.stop))
        log_p: torch.Tensor = head(states[rows]).log_softmax(-1)
        made.append(weakref.ref(log_p))
        return log_p

    tokens = 1030
    states, logits = torch.randn(tokens, 3, generator=torch.Generator()), torch.zeros(tokens, 2)
    head = torch.nn.Linear(3, 2)
    weights = torch.ones(tokens)
    leaf = logits.requires_grad_()
    loss, value = dense_divergence(leaf, teacher, bound("forward_kl"), weights)
    assert asked == [(0, 512), (512, 1024), (1024, 1030)]
    wanted = plain("forward_kl", head(states).softmax(-1), torch.full((tokens, 2), 0.5))
    torch.testing.assert_close(value, wanted.detach())
    loss.backward()
    assert head.weight.grad is None
    torch.testing.assert_close(leaf.grad, 0.5 - head(states).softmax(-1).detach())
    asked.clear()
    uld(leaf, teacher, weights)
    assert asked == [(0, 512), (512, 1024), (1024, 1030)]
    monkeypatch.setattr(losses, "BLOCK_ROWS", 1000)
    asked.clear()
    uld(leaf, teacher, weights)
    assert asked == [(0, 1000), (1000, 1030)]


@each_divergence
def test_a_narrower_teacher_gives_the_further_words_nothing(name: str) -> None:
    padded = functional.pad(LOG_P_FEWER, (0, 4), value=-math.inf)
    results = [
        dense_divergence(LOGITS, reads(log_p, ALL), bound(name), WEIGHTS)
        for log_p in (LOG_P_FEWER, padded)
    ]
    torch.testing.assert_close(results[0], results[1])
    if name == "reverse_kl":
        assert results[0][0].item() == math.inf
        return
    s = LOGITS.softmax(-1)
    torch.testing.assert_close(results[0][1], plain(name, padded.exp(), s))
    slope = gradient(
        lambda at: dense_divergence(at, reads(LOG_P_FEWER, ALL), bound(name), WEIGHTS)[0], LOGITS
    )
    wanted = gradient(
        lambda at: (WEIGHTS * plain(name, padded.exp(), at.softmax(-1))).sum(), LOGITS
    )
    torch.testing.assert_close(slope, wanted)


@each_divergence
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_mass_outside_the_compared_classes_costs_its_logarithm(
    name: str, temperature: float
) -> None:
    """D(p, s_c) - log S with the student's mass S on the classes, and its gradient."""
    classes = torch.tensor([0, 2, 3])
    log_p = torch.full((len(LOGITS), WORDS + 1), -math.inf, dtype=LOGITS.dtype)
    log_p[:, classes] = LOG_P[:, classes].log_softmax(-1)

    def ours(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return dense_divergence(
            at, reads(log_p, ALL), bound(name), WEIGHTS, temperature, None, classes
        )

    def formula(at: torch.Tensor) -> torch.Tensor:
        s = (at / temperature).softmax(-1)
        mass = s[:, classes].sum(-1, keepdim=True)
        divergence = plain(name, log_p[:, classes].exp(), s[:, classes] / mass)
        return divergence - mass.squeeze(1).log()

    torch.testing.assert_close(ours(LOGITS)[1], formula(LOGITS))
    slope = gradient(lambda at: ours(at)[0], LOGITS)
    torch.testing.assert_close(slope, gradient(lambda at: (WEIGHTS * formula(at)).sum(), LOGITS))
    if name == "forward_kl":  # the same as over all classes
        whole = dense_divergence(LOGITS, reads(log_p, ALL), bound(name), WEIGHTS, temperature)
        torch.testing.assert_close(ours(LOGITS), whole)


@each_divergence
def test_a_wider_teacher_s_further_words_are_dropped(name: str) -> None:
    wide = dense_divergence(LOGITS, reads(LOG_P_MORE, ALL), bound(name), WEIGHTS)
    cut = LOG_P_MORE[:, :WORDS]
    torch.testing.assert_close(
        wide, dense_divergence(LOGITS, reads(cut, ALL), bound(name), WEIGHTS)
    )
    torch.testing.assert_close(wide[1], plain(name, cut.exp(), LOGITS.softmax(-1)))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_jsd_equals_trls(beta: float, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL takes both sides' logits, and leaves out T^2 as these losses do."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer  # seconds, so only here

    teacher = 3 * LOG_P + 1
    divergence = partial(jsd, beta=beta)
    log_p = (teacher / temperature).log_softmax(-1)
    weights = torch.full((ROWS,), 1 / 40)

    def theirs(logits: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = GKDTrainer.generalized_jsd_loss(
            logits[None], teacher[None], beta=beta, temperature=temperature, num_items_in_batch=40
        )
        return loss

    def ours(logits: torch.Tensor) -> torch.Tensor:
        return dense_divergence(logits, reads(log_p, ALL), divergence, weights, temperature)[0]

    torch.testing.assert_close(ours(LOGITS), theirs(LOGITS), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        gradient(ours, LOGITS), gradient(theirs, LOGITS), rtol=1e-6, atol=1e-9
    )


# Kept tokens and a tail


@each_divergence
def test_merging_words_never_adds_to_a_divergence(name: str) -> None:
    whole = dense(name, LOGITS, ALL, WEIGHTS)[1]
    merged = [
        coarse_divergence(
            LOGITS,
            top.indices,
            top.values,
            (-top.values.exp().sum(-1)).log1p(),
            bound(name),
            WEIGHTS,
        )[1]
        for top in (LOG_P.topk(kept) for kept in (1, 2, 4, 8, WORDS - 1))
    ]
    for less, more in itertools.pairwise([*merged, whole]):
        assert (less <= more + 1e-9).all()
    assert (merged[0] < whole - 0.01).any()
    torch.testing.assert_close(merged[-1], whole)  # a tail of one word is that word


@each_divergence
def test_a_tail_of_one_word_changes_nothing(name: str) -> None:
    top = LOG_P.topk(WORDS - 1)
    tail = LOG_P.amin(-1)
    slope = gradient(
        lambda at: coarse_divergence(at, top.indices, top.values, tail, bound(name), WEIGHTS, 1.5)[
            0
        ],
        LOGITS,
    )
    torch.testing.assert_close(
        slope, gradient(lambda at: dense(name, at, ALL, WEIGHTS, 1.5)[0], LOGITS)
    )


@each_divergence
def test_an_empty_tail_loses_nothing(name: str) -> None:
    """Where the teacher's support is what was kept, the merged divergence is the whole one."""
    kept = TOP.values.log_softmax(-1)
    whole = torch.full_like(LOG_P, -math.inf).scatter(1, TOP.indices, kept)
    nothing = torch.full((ROWS,), -math.inf)

    def merged(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return coarse_divergence(at, TOP.indices, kept, nothing, bound(name), WEIGHTS)

    def full(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return dense_divergence(at, reads(whole, ALL), bound(name), WEIGHTS)

    torch.testing.assert_close(merged(LOGITS), full(LOGITS))
    if name == "reverse_kl":
        assert (merged(LOGITS)[1] == math.inf).all()
    else:
        torch.testing.assert_close(
            gradient(lambda at: merged(at)[0], LOGITS), gradient(lambda at: full(at)[0], LOGITS)
        )


@each_divergence
def test_a_student_sure_of_the_kept_words_has_a_finite_loss(name: str) -> None:
    """Its tail of e^-30 is below fp32's 1 - kept, and one of e^-200 below fp32 altogether."""
    ids, log_p, log_tail = torch.tensor([[1, 3]]), of(0.6, 0.3).log().float(), of(0.1).log()[0]
    for depth in (30.0, 200.0):
        logits = torch.full((1, 6), -depth)
        logits[0, [1, 3]] = torch.tensor([0.0, 0.5])

        def loss(at: torch.Tensor) -> torch.Tensor:
            return coarse_divergence(at, ids, log_p, log_tail, bound(name), torch.ones(1))[0]

        value, slope = loss(logits), gradient(loss, logits)
        assert value.isfinite()
        assert slope.isfinite().all()
        if depth == 30:
            torch.testing.assert_close(value, loss(logits.double()).float())
            torch.testing.assert_close(slope, gradient(loss, logits.double()).float())
        if name == "forward_kl":  # which wants the tail back, in equal parts
            tail = max(4 * math.exp(-depth), torch.finfo(torch.float32).tiny * math.exp(0.5))
            s = of(1.0, math.exp(0.5), tail) / (1 + math.exp(0.5))
            exact = plain("forward_kl", of(0.6, 0.3, 0.1), s).item()
            assert value.item() == pytest.approx(exact, rel=1e-5)
            if depth == 30:
                assert slope[0, [0, 2, 4, 5]].tolist() == pytest.approx([-0.1 / 4] * 4)


# Other vocabularies


def test_uld_from_the_top_is_a_lower_bound_of_uld() -> None:
    for log_p in (LOG_P, LOG_P_FEWER, LOG_P_MORE):
        whole = uld(LOGITS, reads(log_p, ALL), WEIGHTS)[1]
        merged = []
        for kept in (1, 2, 4, 8):
            top = log_p.exp().topk(kept).values
            merged.append(coarse_uld(LOGITS, top, 1 - top.sum(-1), WEIGHTS)[1])
        for less, more in itertools.pairwise([*merged, whole]):
            assert (less <= more + 1e-9).all()
        assert (merged[0] < whole - 0.01).any()
    top = LOG_P.exp().topk(WORDS - 1).values
    exact = coarse_uld(LOGITS, top, 1 - top.sum(-1), WEIGHTS)[1]
    torch.testing.assert_close(exact, uld(LOGITS, reads(LOG_P, ALL), WEIGHTS)[1])


def test_uld_sees_no_names_of_words() -> None:
    order = torch.randperm(WORDS, generator=torch.Generator().manual_seed(3))
    one = uld(LOGITS, reads(LOG_P, ALL), WEIGHTS)[1]
    torch.testing.assert_close(one, uld(LOGITS, reads(LOG_P[:, order], ALL), WEIGHTS)[1])
    torch.testing.assert_close(one, uld(LOGITS[:, order], reads(LOG_P, ALL), WEIGHTS)[1])
    gone = functional.pad(LOG_P, (0, 3), value=-math.inf)  # words of p = 0
    torch.testing.assert_close(one, uld(LOGITS, reads(gone, ALL), WEIGHTS)[1])


def test_shared_words_alone_are_told_apart() -> None:
    every = torch.ones(WORDS, dtype=torch.bool)
    all_shared = shared_kl(LOG_P, LOGITS.log_softmax(-1), every)
    torch.testing.assert_close(all_shared[0], plain("forward_kl", LOG_P.exp(), LOGITS.softmax(-1)))
    order = torch.arange(WORDS)
    order[~SHARED] = order[~SHARED].flip(0)  # other words change places
    torch.testing.assert_close(
        shared_words(LOGITS[:, order], ALL, WEIGHTS)[1], shared_words(LOGITS, ALL, WEIGHTS)[1]
    )


def test_shared_words_are_matched_at_the_teachers_own_probabilities() -> None:
    """Forward KL of the shared words alone would be less at their renormalised probabilities."""
    p = TURNED.exp()
    rest = (1 - p.sum(-1, keepdim=True)) / (~SHARED).sum()
    right = p.where(SHARED, rest).log()
    over = (p / p.sum(-1, keepdim=True))[:, SHARED]
    assert (plain("forward_kl", p[:, SHARED], over) < 0).all()
    assert (shared_words(right, ALL, WEIGHTS)[1].abs() < 1e-12).all()
    assert gradient(lambda at: shared_words(at, ALL, WEIGHTS)[0], right).abs().max() < 1e-12
    worse = right + 0.3 * normal(ROWS, WORDS)
    assert (shared_words(worse, ALL, WEIGHTS)[1] > 1e-3).all()
    # A student all of whose words are the teacher's too can do no better than that.
    all_own = torch.ones(over.shape[1], dtype=torch.bool)
    best, slope = shared_kl(TURNED[:, SHARED], over.log(), all_own)
    torch.testing.assert_close(slope / over, (1 - p.sum(-1, keepdim=True)).expand_as(over))
    assert best.isfinite().all()


def test_a_merge_worked_by_hand() -> None:
    """The teacher writes ab c at .5 and .4, the student a bc at .5 and .8: .2 against .4."""
    student = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], dtype=torch.float64)
    ids, spans = torch.tensor([0, 1]), torch.tensor([0, 0])
    log_p = torch.tensor([0.5, 0.4], dtype=torch.float64).log().sum(0, keepdim=True)

    def gap(at: torch.Tensor) -> torch.Tensor:
        return likelihood_gap(at, ids, spans, log_p, torch.ones(1))[0]

    assert gap(student.log()).item() == pytest.approx(0.21346, abs=1e-6)
    slope = 1 - math.log(0.2) / math.log(0.4)  # -.756471
    wanted = slope * (student - torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    torch.testing.assert_close(gradient(gap, student.log()), wanted)


# Spans of one to four tokens.
PARTS = torch.tensor([0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4])
PART_NATS = torch.tensor([0.3, 4.0, 2.0, 9.0, 0.0], dtype=torch.float64)
PART_WEIGHTS = WEIGHTS[:5]


def parts(logits: torch.Tensor, temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    return likelihood_gap(logits, IDS[:, 0], PARTS, -PART_NATS, PART_WEIGHTS, temperature)


def plain_nats(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Nats of each span, token by token."""
    each = (logits / temperature).softmax(-1)
    found = [torch.zeros((), dtype=logits.dtype) for _ in PART_NATS]
    for row, (token, span) in enumerate(zip(IDS[:, 0], PARTS, strict=True)):
        found[span] = found[span] - each[row, token].log()
    return torch.stack(found)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_spans_of_many_tokens_equal_brute_force(temperature: float) -> None:
    def by_hand(logits: torch.Tensor) -> torch.Tensor:
        own = plain_nats(logits, temperature)
        certain = PART_NATS == 0
        gaps = plain_gap(PART_NATS.where(~certain, 1.0), own)
        return (PART_WEIGHTS * gaps.where(~certain, own)).sum()

    loss, values = parts(LOGITS, temperature)
    torch.testing.assert_close(loss, by_hand(LOGITS))
    torch.testing.assert_close((PART_WEIGHTS * values).sum(), by_hand(LOGITS))
    ours = gradient(lambda at: parts(at, temperature)[0], LOGITS)
    torch.testing.assert_close(ours, gradient(by_hand, LOGITS))
    leaf = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda at: parts(at, temperature)[0], (leaf,))


def test_a_likelihood_gap_is_the_limit_of_binarised_kl() -> None:
    """ALM's KL of (p^(1/t), 1 - p^(1/t)) from the student's, times t, as t grows."""
    theirs, own = PART_NATS[:4], plain_nats(LOGITS)[:4]
    errors = []
    for t in (1e2, 1e4, 1e6):
        p, s = (torch.stack([(-a / t).exp(), -(-a / t).expm1()]) for a in (theirs, own))
        errors.append((t * (p * (p / s).log()).sum(0) - parts(LOGITS)[1][:4]).abs().max().item())
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-4


def test_a_likelihood_gap_is_zero_at_the_teachers_alone_and_cross_entropy_of_a_certain_one() -> (
    None
):
    own = plain_nats(LOGITS)
    right = likelihood_gap(LOGITS, IDS[:, 0], PARTS, -own, PART_WEIGHTS)[1]
    torch.testing.assert_close(right, torch.zeros_like(right))
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert (likelihood_gap(LOGITS, IDS[:, 0], PARTS, -factor * own, PART_WEIGHTS)[1] > 0).all()
    certain = torch.zeros(5)
    torch.testing.assert_close(
        likelihood_gap(LOGITS, IDS[:, 0], PARTS, certain, PART_WEIGHTS)[1], own
    )


def test_certain_students_and_impossible_texts_stay_finite() -> None:
    sure = torch.tensor([[100.0, 0.0, 0.0]]).requires_grad_()
    for log_p in (-2.0, -1e4, -math.inf):
        loss, _ = likelihood_gap(
            sure, torch.tensor([0]), torch.tensor([0]), torch.tensor([log_p]), torch.ones(1)
        )
        loss.backward()
        assert loss.isfinite()
        assert sure.grad.isfinite().all()


def test_no_spans_give_a_loss_of_zero() -> None:
    none, leaf = torch.zeros(0, dtype=torch.long), torch.zeros(0, 3).requires_grad_()
    loss, values = likelihood_gap(leaf, none, none, torch.zeros(0), torch.zeros(0))
    assert (loss.item(), len(values)) == (0.0, 0)
    loss.backward()


# Hidden states


def test_worked_hidden_losses() -> None:
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 0.0]])
    teacher = torch.tensor([[1.0, 0.0], [6.0, 8.0], [-2.0, 0.0]])
    torch.testing.assert_close(hidden_mse(student, teacher), torch.tensor([2.0, 12.5, 4.5]))
    wanted = torch.tensor([1 - 1 / math.sqrt(5), 0.0, 2.0])
    torch.testing.assert_close(hidden_cosine(student, teacher), wanted)


@pytest.mark.parametrize("loss", [hidden_mse, hidden_cosine])
def test_hidden_losses_are_differentiable_and_in_fp32(loss: Callable[..., torch.Tensor]) -> None:
    student, teacher = normal(5, 6), normal(5, 6)
    leaves = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, leaves)
    half = student.bfloat16().requires_grad_()
    value = loss(half, teacher.bfloat16())
    assert (value.shape, value.dtype) == ((5,), torch.float32)
    wanted = loss(student.bfloat16().double(), teacher.bfloat16().double()).float()
    torch.testing.assert_close(value, wanted)
    value.sum().backward()
    assert half.grad.dtype == torch.bfloat16
    assert (half.grad.abs().amax(-1) > 0).all()


def test_hidden_cosine_is_blind_to_scale_and_finite_at_zero() -> None:
    student, teacher = normal(5, 6), normal(5, 6)
    torch.testing.assert_close(hidden_cosine(7 * student, teacher), hidden_cosine(student, teacher))
    nothing = torch.zeros(1, 6, requires_grad=True)
    value = hidden_cosine(nothing, torch.ones(1, 6))
    value.sum().backward()
    assert value.item() == 1.0
    assert nothing.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "width"),
    # reverse KL is infinite at words that the teacher lacks
    [(name, WORDS) for name in NAMES]
    + [(name, width) for name in NAMES if name != "reverse_kl" for width in (WORDS - 4, WORDS + 5)],
)
def test_a_teachers_logits_are_normalised_on_the_way(name: str, width: int) -> None:
    raw = 5 + torch.randn(ROWS, width, generator=torch.Generator().manual_seed(4)).double()
    found = []
    for answer, theirs in ((raw, 0.7), ((raw / 0.7).log_softmax(-1), None)):
        leaf = LOGITS.clone().requires_grad_()
        loss, values = dense_divergence(
            leaf, reads(answer, slice(0, ROWS)), bound(name), WEIGHTS, 2.0, theirs
        )
        loss.backward()
        found.append((loss.detach(), values, leaf.grad))
    for mine, plain in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain)
