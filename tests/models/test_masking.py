"""Masks: how many tokens, which, what stands in their place, and that a row has one mask."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpus_inputs
from distill.config.text import Mask
from distill.core.errors import UserError
from distill.core.keys import chosen
from distill.models.masking import Special, mask_chunk, true_ids

BERT = Mask().model_dump()


@pytest.fixture(scope="module")
def special() -> Special:
    return Special.of(corpus_inputs.wordpiece(), "the tests")


@pytest.mark.slow
@given(st.lists(st.integers(5, 299), min_size=2, max_size=60), st.integers(0, 9))
def test_a_masked_chunk_holds_its_true_tokens(chunk: list[int], seed: int) -> None:
    words = Special.of(corpus_inputs.wordpiece(), "the tests")
    made = mask_chunk("a", chunk, words, BERT | {"seed": seed})
    assert true_ids(made) == [words.first, *chunk, words.last]
    assert made.positions == sorted(set(made.positions or []))
    assert len(made.answer) == chosen(len(chunk), 0.15) == max(1, round(0.15 * len(chunk)))
    elsewhere = set(range(len(made.prompt))) - set(made.positions or [])
    whole = [words.first, *chunk, words.last]
    assert all(made.prompt[place] == whole[place] for place in elsewhere)


def test_a_row_has_one_mask_and_other_rows_and_seeds_have_others(special: Special) -> None:
    chunk = list(range(5, 125))
    first = mask_chunk("train-0000001", chunk, special, BERT)
    assert mask_chunk("train-0000001", chunk, special, BERT) == first
    assert mask_chunk("train-0000002", chunk, special, BERT).positions != first.positions
    assert mask_chunk("train-0000001", chunk, special, BERT | {"seed": 1}) != first


@pytest.mark.slow
def test_shares_are_those_of_bert(special: Special) -> None:
    """15 % of the tokens; of these 80 % hidden, 10 % random, 10 % as they are."""
    chunk = [7] * 100
    kinds: Counter[str] = Counter()
    places: Counter[int] = Counter()
    random = []
    for number in range(2000):
        made = mask_chunk(f"row-{number}", chunk, special, BERT)
        places.update(made.positions or [])
        for place in made.positions or []:
            shown = made.prompt[place]
            kinds["hidden" if shown == special.mask else "same" if shown == 7 else "random"] += 1
            random += [shown] if shown not in (7, special.mask) else []
    total = sum(kinds.values())
    assert total == 2000 * 15
    assert kinds["hidden"] / total == pytest.approx(0.8, abs=0.01)
    assert kinds["random"] / total == pytest.approx(0.1, abs=0.01)
    # Every place is chosen alike, and random tokens are ordinary words, all of them alike.
    counts = np.array([places[place] for place in range(1, 101)])
    assert abs(counts - 300).max() < 5 * np.sqrt(300 * 0.85)
    assert special.ordinary[random].all()
    assert len(set(random)) > 280


def test_the_end_of_a_document_is_never_to_be_found(special: Special) -> None:
    chunk = [special.last, 9] * 20
    for number in range(50):
        made = mask_chunk(f"row-{number}", chunk, special, BERT | {"share": 0.5})
        assert made.answer == [9] * 20


def test_a_tokenizer_without_a_mask_token_is_refused_in_one_sentence(plain: Any) -> None:
    with pytest.raises(UserError, match="has no cls and no sep and no mask token; name a masked"):
        Special.of(plain, "gpt2")


def test_shares_of_a_mask_are_checked() -> None:
    with pytest.raises(ValueError, match="shares of the same tokens"):
        Mask(hidden=0.8, random=0.3)
