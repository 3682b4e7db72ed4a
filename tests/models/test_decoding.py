"""The sampling distribution q: ids without a token, cuts, and tokens that were drawn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import tiny
from distill.models.decoding import Decoding, cut_scores, log_q
from distill.models.drawing import pick
from distill.models.heads import (
    OutputHead,
    hidden_states,
    load_head,
    save_head,
    state_bytes,
    state_dtype,
    teacher_log_q,
)
from distill.models.sampling import sample_batch
from distill.models.token_ids import full_width, ids_without_token

NOISE = torch.Generator().manual_seed(0)
HOLES = (2, 5, 8, 9)


def gapped(ids: dict[str, int]) -> Any:
    """A tokenizer of these tokens and ids."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(ids, unk_token="a")))


def test_ids_beyond_the_tokenizer_and_holes_in_it_have_no_token(chat: Any) -> None:
    words = gapped({"a": 0, "b": 1, "c": 3, "d": 4, "e": 6, "f": 7})
    assert len(words) == 6  # fewer than its last id
    assert ids_without_token(words, 10) == list(HOLES)
    assert ids_without_token(words, 7) == [2, 5]
    assert (full_width(words), full_width(words, 10), full_width(words, 5)) == (8, 8, 5)
    assert ids_without_token(chat, len(chat)) == []
    assert ids_without_token(chat, len(chat) + 2) == [len(chat), len(chat) + 1]


def test_added_tokens_have_an_id() -> None:
    words = tiny.tokenizer(chat=False, vocabulary=290)
    words.add_tokens(["<one>"], special_tokens=True)
    words.add_tokens(["two"])
    assert len(words) == 292
    assert ids_without_token(words, 294) == [292, 293]


def plain_q(logits: torch.Tensor, decoding: Decoding, ids: list[int]) -> torch.Tensor:
    """q of one position in float64, over the ids with a token."""
    q = torch.zeros(len(logits), dtype=torch.float64)
    p = torch.softmax(logits[ids].double() / decoding.temperature, -1)
    order = p.argsort(descending=True).tolist()
    kept, mass = [], 0.0
    for place in order[: decoding.top_k or None]:
        kept.append(place)
        mass += float(p[place])
    if decoding.top_p < 1:
        whole, kept, mass = mass, [], 0.0
        for place in order[: decoding.top_k or None]:
            if mass < decoding.top_p:
                kept.append(place)
                mass += float(p[place]) / whole
    for place in kept:
        q[ids[place]] = p[place]
    return q / q.sum()


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(excluded=HOLES),
        Decoding(0.7, excluded=HOLES),
        Decoding(1.3, top_k=4, excluded=HOLES),
        Decoding(0.9, top_p=0.8, excluded=HOLES),
        Decoding(0.8, top_k=5, top_p=0.9, excluded=HOLES),
    ],
)
def test_q_is_over_the_ids_with_a_token(decoding: Decoding) -> None:
    logits = 2 * torch.randn(50, 10, generator=NOISE)
    logits[:, HOLES[0]] += 8  # an untrained row can have most of the plain softmax
    ids = [number for number in range(10) if number not in HOLES]
    q = log_q(logits, decoding).exp().double()
    for row, scores in zip(q, logits, strict=True):
        torch.testing.assert_close(row, plain_q(scores, decoding, ids), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
def test_no_id_without_a_token_is_drawn(temperature: float) -> None:
    logits = torch.randn(400, 10, generator=NOISE)
    logits[:, list(HOLES)] += 5
    uniform = torch.rand(400, generator=NOISE, dtype=torch.float64)
    drawn = pick(logits, Decoding(temperature, excluded=HOLES), uniform)
    assert not set(drawn.tolist()) & set(HOLES)
    assert set(pick(logits, Decoding(temperature), uniform).tolist()) & set(HOLES)
    if temperature == 0:
        rest = [number for number in range(10) if number not in HOLES]
        assert drawn.tolist() == [rest[place] for place in logits[:, rest].argmax(-1).tolist()]


@pytest.mark.slow
def test_a_padded_model_samples_tokens_alone() -> None:
    model = tiny.model("llama", vocabulary=340)
    excluded = tuple(range(300, 340))
    noise = torch.rand(6, 20, generator=NOISE, dtype=torch.float64).numpy()
    prompts = [[5, 6 + number] for number in range(6)]
    settings: dict[str, Any] = {"stop_ids": [2], "max_new_tokens": 20, "uniforms": noise}
    made = sample_batch(model, prompts, decoding=Decoding(excluded=excluded), **settings)
    assert max(token for new, _ in made for token in new) < 300
    plain = sample_batch(model, prompts, decoding=Decoding(), **settings)
    assert max(token for new, _ in plain for token in new) >= 300


CUTS = [Decoding(top_k=5), Decoding(0.7, top_k=5), Decoding(top_p=0.7), Decoding(0.8, 20, 0.9)]


@pytest.mark.slow
@pytest.mark.parametrize("decoding", CUTS)
def test_rounding_never_puts_a_drawn_token_outside_its_own_distribution(
    decoding: Decoding,
) -> None:
    """With logits computed again, a cut excludes tokens that were drawn; not with these known."""
    logits = 4 * torch.randn(4000, 40, generator=NOISE)
    uniform = torch.rand(4000, generator=NOISE, dtype=torch.float64)
    drawn = pick(logits, decoding, uniform)
    again = logits + 0.02 * torch.randn(4000, 40, generator=NOISE)
    nats = -log_q(again, decoding).gather(1, drawn.unsqueeze(1))
    assert bool(nats.isinf().any())
    extended = log_q(again, decoding, drawn)
    assert bool(extended.gather(1, drawn.unsqueeze(1)).isfinite().all())
    torch.testing.assert_close(extended.exp().sum(1), torch.ones(4000))
    inside = ~nats.squeeze(1).isinf()
    assert torch.equal(extended[inside], log_q(again, decoding)[inside])
    # Elsewhere the set has the tokens at least as likely as the drawn one, and no others.
    for row in (~inside).nonzero().squeeze(1).tolist():
        scores = again[row]
        kept = scores >= scores[drawn[row]]
        assert torch.equal(extended[row].isfinite(), kept)


def test_positions_without_a_drawn_token_keep_the_cut() -> None:
    logits, decoding = torch.randn(9, 30, generator=NOISE), Decoding(top_k=3)
    nothing = torch.full((9,), -1)
    assert torch.equal(log_q(logits, decoding, nothing), log_q(logits, decoding))
    assert torch.equal(log_q(logits, Decoding(), nothing), log_q(logits, Decoding()))
    one = nothing.clone()
    one[4] = logits[4].argmin()
    mixed = log_q(logits, decoding, one)
    assert mixed.isfinite().sum(1).tolist() == [3, 3, 3, 3, 30, 3, 3, 3, 3]


@pytest.mark.parametrize(("bias", "cap"), [(False, 0.0), (True, 3.0)])
def test_a_saved_head_gives_ids_without_a_token_nothing(
    tmp_path: Path, bias: bool, cap: float
) -> None:
    weight = torch.randn(10, 6, generator=NOISE)
    offset = torch.randn(10, generator=NOISE) if bias else None
    head = OutputHead(weight, offset, cap, 0.5, HOLES)
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors", torch.device("cpu"))
    assert again.excluded == list(HOLES)
    states = torch.randn(20, 6, generator=NOISE)
    whole = OutputHead(weight, offset, cap, 0.5).logits(states)
    assert torch.equal(again.logits(states), head.logits(states))
    assert bool(head.logits(states)[:, list(HOLES)].isneginf().all())
    expected = log_q(whole, Decoding(0.8, excluded=HOLES))
    assert torch.equal(teacher_log_q(again, states, Decoding(0.8)), expected)
    save_head(OutputHead(weight, offset, cap, 0.5), tmp_path / "whole.safetensors")
    assert load_head(tmp_path / "whole.safetensors", torch.device("cpu")).excluded == []


def test_exact_states_are_those_of_the_model() -> None:
    states = torch.randn(5, 7, generator=NOISE)
    assert state_dtype(torch.float32, exact=False) == torch.bfloat16
    assert state_dtype(torch.bfloat16, exact=True) == torch.bfloat16
    for model_dtype in (torch.float32, torch.float16):
        dtype = state_dtype(model_dtype, exact=True)
        blob = state_bytes(states.to(model_dtype), dtype)
        assert len(blob) == 4 * 5 * 7
        assert torch.equal(hidden_states(blob, 7, 5), states.to(model_dtype).float())
    rounded = state_bytes(states)
    assert torch.equal(hidden_states(rounded, 7, 5), states.to(torch.bfloat16))


def test_scores_are_those_at_the_temperature() -> None:
    logits = torch.randn(3, 10, generator=NOISE)
    scores = cut_scores(logits, Decoding(0.5))
    torch.testing.assert_close(scores.softmax(-1), (logits / 0.5).softmax(-1))
    assert (scores.amax(-1) == 0).all()
