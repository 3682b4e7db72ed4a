"""Shards of a corpus: chunks of a stream of documents that no teacher wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_metadata, read_rows
from distill.data.cards import write_corpus_card
from distill.data.corpus_shards import build_corpus_shard, training_documents
from distill.models.encoding import encode_rows

TEXTS = [f"{number}: {tiny.SENTENCES[number % 5]}" * (1 + number % 4) for number in range(40)]
ROWS = [{"text": text} for text in TEXTS]
PASSAGES = 3


def spec(samples: int, draw: int = 0, tokens: int = 16) -> dict[str, Any]:
    made: dict[str, Any] = {"corpus": {"tokens": tokens, "passages": PASSAGES}, "draw": draw}
    return made | ({"order_seed": 0} if draw else {}) | {"samples": samples}


def build(folder: Path, words: Any, samples: int, draw: int = 0, **settings: Any) -> list[Any]:
    out = folder / f"{draw}-{samples}.parquet"
    build_corpus_shard(ROWS, ROWS, words, spec(samples, draw, **settings), out)
    return read_rows(out)


@pytest.mark.parametrize("draw", [0, 1])
def test_shards_are_nested_and_whole_documents_in_a_row(
    tmp_path: Path, plain: Any, draw: int
) -> None:
    large, small = build(tmp_path, plain, 60, draw), build(tmp_path, plain, 7, draw)
    assert large[:7] == small
    assert len(large) == 60
    stream = [token for row in large for token in row["response_ids"]]
    assert len(stream) == 60 * 16
    documents: list[list[int]] = [[]]
    for token in stream:
        if token == plain.eos_token_id:
            documents.append([])
        else:
            documents[-1].append(token)
    ids = {text: plain(text, add_special_tokens=False).input_ids for text in TEXTS}
    found = [next(text for text in TEXTS if ids[text] == document) for document in documents[:-1]]
    assert len(found) == len(set(found)) > 5
    assert any(ids[text][: len(documents[-1])] == documents[-1] for text in TEXTS)
    # The reference passages are the file's first rows; no chunk holds one.
    assert not set(found) & set(TEXTS[:PASSAGES])
    in_order = found == TEXTS[PASSAGES : PASSAGES + len(found)]
    assert in_order == (draw == 0)


def test_draws_permute_the_documents(tmp_path: Path, plain: Any) -> None:
    first = [build(tmp_path, plain, 5, draw)[0]["response_ids"] for draw in (0, 1, 2)]
    assert len({tuple(ids) for ids in first}) == 3


def test_reference_text_and_repeats_are_left_out_wherever_they_stand() -> None:
    rows = [{"text": text} for text in ("a", "b", "c", "b", " a \n", "d", "c")]
    assert training_documents(rows, [{"text": "a"}]) == ["b", "c", "d"]
    assert training_documents(rows, []) == ["a", "b", "c", " a \n", "d"]


def test_every_token_of_a_chunk_is_learned(tmp_path: Path, chat: Any) -> None:
    """Also under a chat template, which a chunk has no use for."""
    rows = build(tmp_path, chat, 9)
    digest = read_metadata(tmp_path / "0-9.parquet", "tokenizer_sha256")
    assert digest == tokenizer_sha256(chat)
    formatting = {"template": "chat", "system": "Be kind."}
    examples = encode_rows(rows, chat, formatting, digest, 17)
    assert [example.prompt for example in examples] == [[chat.eos_token_id]] * 9
    assert [example.answer for example in examples] == [row["response_ids"] for row in rows]
    assert sum(len(example.answer) for example in examples) == 9 * 16


def test_a_chunk_begins_with_bos_where_the_tokenizer_has_one(tmp_path: Path) -> None:
    words = tiny.tokenizer(chat=False, bos_token="<|im_start|>")
    (row,) = build(tmp_path, words, 1)
    assert row["prompt_ids"] == [words.bos_token_id] != [words.eos_token_id]


def test_a_shard_says_what_it_is_and_costs_no_teacher(tmp_path: Path, plain: Any) -> None:
    rows = build(tmp_path, plain, 20)
    assert all(list(row) == TEXT_SCHEMA.names for row in rows)
    assert all(row["teacher_flops"] == 0 and row["row"] is None for row in rows)
    ends = [row["response_ids"][-1] == plain.eos_token_id for row in rows]
    assert [row["finish_reason"] == "stop" for row in rows] == ends
    record = json.loads((tmp_path / "0-20.json").read_text())
    assert record["spec"] == spec(20)
    assert (record["rows"], record["tokens"], record["cache"]) == (20, 320, None)
    assert record["documents"] == len(TEXTS) - PASSAGES
    write_corpus_card("demo", "books", 16, tmp_path / "README.md")
    assert "# Chunks of books, 16 tokens each" in (tmp_path / "README.md").read_text()


def test_too_small_a_corpus_is_one_sentence(tmp_path: Path, plain: Any) -> None:
    stream = sum(len(plain(text, add_special_tokens=False).input_ids) + 1 for text in TEXTS[3:])
    most = stream // 16
    assert len(build(tmp_path, plain, most)) == most
    with pytest.raises(
        UserError, match=f"the 37 training documents .* give {most} chunks of 16 tokens, "
    ):
        build(tmp_path, plain, most + 1)
    assert not (tmp_path / f"0-{most + 1}.parquet").exists()
