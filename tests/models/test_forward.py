"""Logits at chosen positions are the model's own there, whatever its head; and what enters it."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import corpus_inputs
import tiny
from distill.core.errors import UserError
from distill.models.attention import GROUPED
from distill.models.flops import FlopModel
from distill.models.forward import (
    fills_masks,
    head_inputs,
    is_masked,
    model_class,
    packs,
    run_model,
)
from distill.models.head_extraction import final_hidden, head_of

MASKED = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "pad_token_id": 0},
    "electra": {"embedding_size": 16, "pad_token_id": 0},
    "modernbert": {"pad_token_id": 0, "global_attn_every_n_layers": 1, "cls_token_id": 1},
}


def batch(rows: int = 3, length: int = 11) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, a mask of padding on the right, and positions to keep."""
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (rows, length), generator=dice)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    keep = (torch.rand(rows, length, generator=dice) < 0.3) & mask.bool()
    return ids, mask, keep


@pytest.mark.slow
@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_models_logits_at_some_positions_are_its_own(kind: str) -> None:
    model = corpus_inputs.masked_model(kind, **MASKED[kind])
    ids, mask, keep = batch()
    with torch.inference_mode():
        whole = model(input_ids=ids, attention_mask=mask).logits
        part = run_model(model, keep, input_ids=ids, attention_mask=mask, output_hidden_states=True)
        again = model(input_ids=ids, attention_mask=mask).logits
    assert part.logits.shape == (int(keep.sum()), 300)
    torch.testing.assert_close(part.logits, whole[keep])
    assert torch.equal(again, whole)  # nothing is left behind
    assert part.hidden_states[-1].shape[:2] == ids.shape


@pytest.mark.slow
@pytest.mark.parametrize("kind", MASKED)
def test_what_enters_the_output_matrix_gives_the_logits(kind: str) -> None:
    model = corpus_inputs.masked_model(kind, **MASKED[kind])
    ids, mask, keep = batch()
    with torch.inference_mode():
        head = head_of(model)
        logits = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(
            head.logits(head_inputs(model, ids, mask, keep)), logits[keep], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            head.logits(final_hidden(model, ids, mask)), logits, rtol=1e-4, atol=1e-5
        )


MIXED: dict[str, dict[str, Any]] = {
    "convbert": {"embedding_size": 32},
    "fnet": {"pad_token_id": 0},
    "bert": {},
}
"""Masked models that mix padding into the text before it, and one that does not."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", MIXED)
def test_padding_changes_nothing(kind: str) -> None:
    model = corpus_inputs.masked_model(kind, **MIXED[kind])
    ids, mask, keep = batch()
    alone = [
        model(input_ids=row[: some.sum()].unsqueeze(0)).logits[0, places[: some.sum()]]
        for row, some, places in zip(ids, mask, keep, strict=True)
    ]
    found = run_model(model, keep, input_ids=ids, attention_mask=mask, output_hidden_states=True)
    torch.testing.assert_close(found.logits, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert found.hidden_states[-1].shape[:2] == ids.shape
    with torch.inference_mode():
        head = head_of(model)
        entering = head.logits(head_inputs(model, ids, mask, keep))
    torch.testing.assert_close(entering, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_head_that_is_more_than_a_matrix_is_refused() -> None:
    small = {"embedding_size": 16, "true_hidden_size": 32, "intra_bottleneck_size": 32}
    model = corpus_inputs.masked_model("mobilebert", **small)
    with pytest.raises(UserError, match="the output head of mobilebert is more than a matrix"):
        head_of(model)


def test_a_causal_model_is_run_as_it_was() -> None:
    model = tiny.model("llama")
    ids, mask, keep = batch()
    with torch.inference_mode():
        whole = model(input_ids=ids, attention_mask=mask).logits
        part = run_model(model, keep, input_ids=ids, attention_mask=mask).logits
    torch.testing.assert_close(part, whole[keep])


def test_a_model_says_which_kind_it_is() -> None:
    model = corpus_inputs.masked_model()
    assert fills_masks(model)
    assert fills_masks(torch.nn.Sequential()) is False
    assert not fills_masks(tiny.model("gpt2"))
    model.config.architectures = [type(model).__name__]
    assert is_masked(model.config)
    assert not is_masked(tiny.config("llama"))


def test_gradients_pass_through_the_cut_head() -> None:
    model = corpus_inputs.masked_model()
    ids, mask, keep = batch()
    run_model(model, keep, input_ids=ids, attention_mask=mask).logits.sum().backward()
    cut = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    model(input_ids=ids, attention_mask=mask).logits[keep].sum().backward()
    whole = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(cut) == len(whole) > 20
    for one, other in zip(cut, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_grouped_attention_sees_both_sides_and_no_padding(kind: str) -> None:
    settings: dict[str, Any] = MASKED[kind]
    plain = corpus_inputs.masked_model(kind, **settings)
    ids, mask, _ = batch()
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=mask).logits
        plain.set_attn_implementation(GROUPED)
        found = plain(input_ids=ids, attention_mask=mask).logits
        changed = ids.clone()
        changed[0, -1] = 7
        ahead = plain(input_ids=changed, attention_mask=mask).logits
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ahead[0, 0], found[0, 0])


def test_flops_of_a_masked_model_are_counted_to_the_last_operation() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = corpus_inputs.masked_model()
    model.set_attn_implementation("eager")
    ids = torch.arange(5, 18).unsqueeze(0)
    keep = torch.zeros_like(ids, dtype=torch.bool)
    keep[0, [2, 5, 9]] = True
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run_model(model, keep, input_ids=ids, attention_mask=None)
    assert counter.get_total_flops() == FlopModel.from_model(model).sequence_forward(13, 3)


CONVOLVED = {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention", "conv"]}


def padded_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of 12, 5, 9 and 1 tokens."""
    dice = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(5, 290, (4, 12), generator=dice), torch.ones(4, 12, dtype=torch.long)
    for row, length in enumerate((12, 5, 9, 1)):
        mask[row, length:] = 0
    return ids, mask, (torch.rand(4, 12, generator=dice) < 0.5) & mask.bool()


def learned(model: Any, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of a loss."""
    model.zero_grad()
    (logits**2).mean().backward()
    return {name: weights.grad.clone() for name, weights in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
def test_packed_rows_give_the_logits_and_gradients_of_padded_ones(
    kind: str,
) -> None:
    model = tiny.model(kind, attention=GROUPED)
    ids, mask, keep = padded_batch()
    plain = model(input_ids=ids, attention_mask=mask, logits_to_keep=keep, use_cache=False).logits
    seen: list[torch.Size] = []
    model.get_input_embeddings().register_forward_hook(lambda *given: seen.append(given[2].shape))
    packed = run_model(model, keep, input_ids=ids, attention_mask=mask).logits
    assert packs(model)
    assert seen[-1][:2] == (1, 27)  # nothing was spent on padding
    torch.testing.assert_close(packed, plain.view_as(packed), rtol=1e-5, atol=1e-6)
    wanted = learned(model, plain)
    for name, slope in learned(model, packed).items():
        torch.testing.assert_close(slope, wanted[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_rows_are_padded_where_packing_would_be_wrong_or_for_nothing() -> None:
    ids, mask, keep = padded_batch()
    model = tiny.model("llama", attention=GROUPED)
    cases = [
        (model, torch.ones_like(mask), {}),
        (model, mask.flip(1), {}),
        (model, mask, {"output_hidden_states": True}),
        (tiny.model("llama", attention="sdpa"), mask, {}),
        (
            tiny.model("mistral", attention=GROUPED, sliding_window=8, num_key_value_heads=2),
            mask,
            {},
        ),
        (tiny.model("bloom", attention=GROUPED, n_head=4), mask, {}),
        (tiny.model("lfm2", attention=GROUPED, **CONVOLVED), mask, {}),
    ]
    for tried, some, further in cases:
        seen: list[torch.Size] = []
        hook = tried.get_input_embeddings().register_forward_hook(
            lambda *given, seen=seen: seen.append(given[2].shape)
        )
        given = {"input_ids": ids, "attention_mask": some, **further}
        logits = run_model(tried, keep & some.bool(), **given).logits
        assert seen[-1][:2] == ids.shape
        hook.remove()
        whole = tried(**given).logits[keep & some.bool()]
        torch.testing.assert_close(logits.view_as(whole), whole, rtol=1e-4, atol=1e-5)


def test_a_batch_without_padding_needs_no_mask() -> None:
    model = tiny.model("llama", attention=GROUPED)
    ids = torch.arange(8).view(2, 4)
    keep = torch.ones(2, 4, dtype=torch.bool)
    with torch.no_grad():
        logits = run_model(model, keep, input_ids=ids, attention_mask=None).logits
        expected = model(input_ids=ids).logits
    assert torch.allclose(logits.view_as(expected), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["bert", "roberta", "electra", "rembert", "roformer", "gemma3_text"]
)
@pytest.mark.parametrize("causal", [True, False])
def test_a_model_that_sees_what_it_predicts_is_refused(kind: str, causal: bool) -> None:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 20}
    direction = {"is_decoder": causal, "use_bidirectional_attention": not causal}
    config = AutoConfig.for_model(kind, **small, **heads, **direction, initializer_range=0.5)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    ids = torch.arange(4, 12).unsqueeze(0)
    with torch.inference_mode():
        gap = model(input_ids=ids).logits[:, :4] - model(input_ids=ids[:, :4]).logits
    assert bool(gap.abs().max() < 1e-4) == causal
    if causal:
        assert model_class(config) is AutoModelForCausalLM
        return
    with pytest.raises(UserError, match=f"a {kind} model that attends to later tokens, so it sees"):
        model_class(config)
