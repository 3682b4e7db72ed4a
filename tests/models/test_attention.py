from typing import Any

import pytest
import torch
from torch.nn import functional

import tiny
from distill.models.attention import GROUPED, grouped_attention


def padded(left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(300, (3, 12), generator=noise)
    mask = torch.ones(3, 12, dtype=torch.long)
    if left:
        mask[0, :5] = mask[2, :1] = 0
    else:
        mask[0, 7:] = mask[2, 11:] = 0
    return ids, mask


def run(kind: str, attention: str, left: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = tiny.model(kind, seed=1, attention=attention)
    assert model.config._attn_implementation == attention
    ids, mask = padded(left)
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[mask == 1]
    (logits**2).mean().backward()
    return logits.detach(), {name: part.grad for name, part in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("llama", ["eager", "sdpa"]),
        ("gpt2", ["eager", "sdpa"]),
        ("qwen2", ["eager", "sdpa"]),
        ("gemma2", ["eager"]),
    ],
)
def test_grouped_attention_equals_the_librarys(kind: str, others: list[str], left: bool) -> None:
    logits, gradients = run(kind, GROUPED, left)
    for other in others:
        wanted, slopes = run(kind, other, left)
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
        for name, slope in slopes.items():
            torch.testing.assert_close(gradients[name], slope, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_soft_cap_of_gemma_matters_here() -> None:
    capped = tiny.model("gemma2", attention=GROUPED)
    free = tiny.model("gemma2", attention=GROUPED, attn_logit_softcapping=None)
    ids, _ = padded(left=False)
    assert (capped(ids).logits - free(ids).logits).abs().max() > 1e-2


@pytest.mark.parametrize("scaling", [None, 0.3])
def test_grouped_queries_attend_to_their_own_key_head(scaling: float | None) -> None:
    noise = torch.Generator().manual_seed(0)
    query = torch.randn(2, 6, 5, 8, generator=noise)
    key, value = (torch.randn(2, 3, 7, 8, generator=noise) for _ in range(2))
    module: Any = None
    output, weights = grouped_attention(module, query, key, value, None, scaling)
    wanted = functional.scaled_dot_product_attention(
        query, key, value, scale=scaling, enable_gqa=True
    )
    torch.testing.assert_close(output, wanted.transpose(1, 2))
    assert weights is None


def test_dropout_drops_attention_weights() -> None:
    ones = torch.ones(1, 2, 4, 8)
    module: Any = None
    torch.manual_seed(0)
    output, _ = grouped_attention(module, ones, ones, ones, None, dropout=0.5)
    assert output.unique().numel() > 1
    same, _ = grouped_attention(module, ones, ones, ones, None)
    torch.testing.assert_close(same, torch.ones_like(same))


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast_leaves_scores_unrounded(given: torch.dtype) -> None:
    """Scores rounded to bf16 would put an error of 4 % into these gradients.

    Rotary positions make queries and keys fp32; models without have them in bf16.
    """
    noise = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, 24, 32, generator=noise) for heads in (4, 2, 2))
    query, key = ((6 * query).to(given), (key + 3).to(given))
    query, key = query.float().requires_grad_(), key.float().requires_grad_()
    module: Any = None

    def slopes(value: torch.Tensor, low: bool) -> tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            kind = given if low else torch.float32
            output, _ = grouped_attention(module, query.to(kind), key.to(kind), value, None)
        return torch.autograd.grad(output.float().square().sum(), (query, key))

    for exact, found in zip(slopes(value, False), slopes(value.bfloat16(), True), strict=True):
        assert (found - exact).norm() < 0.01 * exact.norm()
