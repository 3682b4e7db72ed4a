import pytest
import torch
from torch.nn import functional

from distill.losses import chunk_rows, cross_entropy


def batch(
    rows: int, vocabulary: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(rows)
    logits = 4 * torch.randn(rows, vocabulary, generator=noise)
    return logits.to(dtype), torch.randint(vocabulary, (rows,), generator=noise)


@pytest.mark.parametrize("rows", [1, 4, 5, 37])
def test_cross_entropy_equals_torchs_in_value_and_gradient(rows: int) -> None:
    assert chunk_rows(torch.zeros(1)) < 37  # so that several chunks are seen
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
    value = cross_entropy(ours, targets, 300)
    wanted = functional.cross_entropy(theirs, targets)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    assert ours.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ours.grad.float(), theirs.grad, rtol=1e-2, atol=1e-6)


def test_cross_entropy_leaves_its_logits_alone() -> None:
    logits, targets = batch(9, 53)
    before = logits.clone()
    first = cross_entropy(logits, targets, 9)
    assert torch.equal(logits, before)
    assert torch.equal(first, cross_entropy(logits, targets, 9))


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    logits, targets = batch(3, 7)
    leaf = logits.clone().requires_grad_()
    cross_entropy(leaf, targets, 5).backward()

    def exact(at: torch.Tensor) -> torch.Tensor:
        return -at.log_softmax(-1).gather(1, targets.unsqueeze(1)).sum() / 5

    step = 1e-6
    for row in range(3):
        for column in range(7):
            up, down = logits.double(), logits.double()
            up[row, column] += step
            down[row, column] -= step
            slope = (exact(up) - exact(down)) / (2 * step)
            assert leaf.grad[row, column].item() == pytest.approx(slope.item(), abs=1e-6)


def test_a_weight_on_the_loss_scales_its_gradient() -> None:
    logits, targets = batch(6, 11)
    one, three = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    cross_entropy(one, targets, 6).backward()
    (3 * cross_entropy(three, targets, 6)).backward()
    torch.testing.assert_close(three.grad, 3 * one.grad)


def test_huge_logits_overflow_nothing() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]])
    assert cross_entropy(logits, torch.tensor([0]), 1).item() == 0.0
    assert cross_entropy(logits, torch.tensor([2]), 1).item() == pytest.approx(2e4)


def test_micro_batches_add_up_to_the_mean_over_all_tokens() -> None:
    """Sums of 10, 24 and 6 nats over 5, 10 and 5 tokens are 2.0 per token, not 1.867."""
    losses = []
    for nats, tokens in ((10.0, 5), (24.0, 10), (6.0, 5)):
        # Two words, and a gap between their logits that costs nats / tokens for the second.
        gap = torch.tensor(nats / tokens).expm1().log()
        logits = torch.stack([gap.expand(tokens), torch.zeros(tokens)], dim=1)
        losses.append(cross_entropy(logits, torch.ones(tokens, dtype=torch.long), 20).item())
    assert sum(losses) == pytest.approx(2.0, abs=1e-6)
