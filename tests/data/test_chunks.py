"""The chunker: an even cut of the stream, and chunks as rows of text, for both uses of a corpus."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.parquet import read_rows
from distill.data.chunks import chunk_row, chunks, document_end, tokenised
from distill.data.corpus_chunks import chunk_corpus, split_documents, take_chunks
from distill.data.corpus_shards import build_corpus_shard

TEXTS = [f"{number}: {tiny.SENTENCES[number % 5]}" * (1 + number % 4) for number in range(40)]


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8), st.integers(1, 7))
def test_chunks_are_the_stream_cut_evenly(documents: list[list[int]], tokens: int) -> None:
    stream = [token for document in documents for token in document]
    cut = list(chunks(documents, tokens))
    assert all(len(chunk) == tokens for chunk in cut)
    assert [token for chunk in cut for token in chunk] == stream[: len(stream) // tokens * tokens]


@pytest.mark.slow
def test_documents_are_tokenised_alike_alone_and_together(plain: Any) -> None:
    end = document_end(plain)
    assert end == plain.eos_token_id
    alone = [[*plain(text, add_special_tokens=False).input_ids, end] for text in TEXTS]
    assert list(tokenised(plain, TEXTS)) == alone
    assert list(tokenised(plain, [])) == []
    several = TEXTS * 60  # more than one call
    assert list(tokenised(plain, several)) == alone * 60


def test_a_row_says_whether_its_chunk_ends_with_a_document(plain: Any) -> None:
    end = document_end(plain)
    rows = [
        chunk_row(f"c{number}", number, ids, plain) for number, ids in enumerate([[5, 6], [5, end]])
    ]
    assert [row["finish_reason"] for row in rows] == ["length", "stop"]
    assert all(set(row) == set(TEXT_SCHEMA.names) for row in rows)
    assert [row["prompt_ids"] for row in rows] == [[end], [end]]


def test_both_uses_of_a_corpus_cut_the_same_documents_alike(tmp_path: Path, plain: Any) -> None:
    """A study's corpus in its own order, and a method's corpus of the same documents."""
    spec = {"length": 12, "held_out": 0.1, "splits": ["test"], "near_duplicate": 1.0, "seed": 0}
    names = ("test", "validation", "train", "record")
    out = {name: tmp_path / f"{name}.parquet" for name in names}
    chunk_corpus({"train": TEXTS}, plain, spec, out)
    text = {"corpus": spec, "mask": None}
    take_chunks(out["train"], plain, text, "train", 0, 9, tmp_path / "part.parquet")
    ordered = [{"text": text} for text in split_documents({"train": TEXTS}, spec)["train"]]
    shard = {"corpus": {"tokens": 12, "passages": 0}, "draw": 0, "samples": 9}
    build_corpus_shard(ordered, [], plain, shard, tmp_path / "shard.parquet")
    first, second = (read_rows(tmp_path / f"{name}.parquet") for name in ("part", "shard"))
    differing = {"id", "row"}
    assert [{key: row[key] for key in row if key not in differing} for row in first] == [
        {key: row[key] for key in row if key not in differing} for row in second
    ]
    assert [row["row"] for row in first] == list(range(9))
    assert [row["row"] for row in second] == [None] * 9


def test_a_control_token_that_a_document_spells_is_text(plain: Any) -> None:
    spelled = f"Sea {plain.eos_token} boat"
    (ids, other) = tokenised(plain, [spelled, "Boat."])
    end = document_end(plain)
    assert ids[-1] == other[-1] == end
    assert end not in ids[:-1]
    assert plain.decode(ids[:-1]) == spelled
