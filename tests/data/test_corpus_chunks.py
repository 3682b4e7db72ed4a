"""A corpus in chunks: who is held out, what resembles it, nested parts, and lines as documents."""

import json
from pathlib import Path
from typing import Any

import pytest

import corpus_inputs
from distill.config.text import Mask
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_metadata, read_rows
from distill.core.rows.reading import join_lines
from distill.data.chunks import document_end
from distill.data.corpus_chunks import (
    chunk_corpus,
    drop_resembling,
    place_of,
    split_documents,
    take_chunks,
)
from distill.models.masking import true_ids
from distill.models.rows import Example

LINES = corpus_inputs.articles(150)
TEXTS = list(join_lines(LINES, corpus_inputs.BEGINS))
FEW = TEXTS[:60]


def spec(**settings: Any) -> dict[str, Any]:
    made = {"length": 20, "held_out": 0.1, "splits": ["test", "validation"], "seed": 0}
    return made | {"near_duplicate": 0.7} | settings


def text_spec(mask: bool, **settings: Any) -> dict[str, Any]:
    return {"corpus": spec(**settings), "mask": Mask().model_dump() if mask else None}


def cut(folder: Path, words: Any, texts: dict[str, list[str]], **settings: Any) -> dict[str, Path]:
    out = {name: folder / f"{name}.parquet" for name in ("test", "validation", "train")}
    out["record"] = folder / "documents.json"
    chunk_corpus(texts, words, spec(**settings), out)
    return out


def test_lines_become_articles() -> None:
    assert len(TEXTS) == 150
    assert all(text.lstrip().startswith("= The ") for text in TEXTS)
    assert sum(text.count(" = = History = = ") for text in TEXTS) == 150
    assert "\n".join(TEXTS).replace("\n", "") == "".join(LINES)
    lines = ["", " = A = \n", "", None, " one \n", " = B = \n"]
    assert list(join_lines(lines, "^ = .* = $")) == [" = A = \n\n\n one ", " = B = "]


def test_splits_are_apart_whole_and_by_the_documents_own_hash() -> None:
    made = split_documents({"train": [*TEXTS, TEXTS[0]]}, spec())
    sizes = {name: len(own) for name, own in made.items()}
    assert sum(sizes.values()) == 150  # the repeat is one document
    assert 5 <= sizes["test"] <= 30
    assert 5 <= sizes["validation"] <= 30
    assert set().union(*map(set, made.values())) == set(TEXTS)
    # More documents leave those held out as they were; another seed holds others out.
    fewer = split_documents({"train": TEXTS[:100]}, spec())
    for name in ("test", "validation"):
        assert set(fewer[name]) == set(made[name]) & set(TEXTS[:100])
    assert split_documents({"train": TEXTS}, spec(seed=1))["test"] != made["test"]
    for own in made.values():
        assert own == sorted(own, key=lambda text: place_of(text, 0))


def test_a_held_out_source_is_all_of_its_split_and_nowhere_trained_on() -> None:
    texts = {"train": TEXTS[:100], "test": TEXTS[90:110]}
    made = split_documents(texts, spec(splits=["test"]))
    assert set(made["test"]) == set(TEXTS[90:110])
    assert set(made["train"]) == set(TEXTS[:90])
    both = split_documents(texts, spec())
    assert 0 < len(both["validation"]) < 30
    assert not set(both["validation"]) & set(both["train"])


def test_documents_like_a_held_out_one_are_left_out() -> None:
    near = TEXTS[0] + " Once more ."
    kept, worst = drop_resembling([near, *TEXTS[1:20]], [TEXTS[0]], 0.7)
    assert kept == TEXTS[1:20]
    assert worst is None or worst < 0.7
    kept, worst = drop_resembling([near], [TEXTS[0]], 0.999)
    assert kept == [near]
    assert worst is not None
    assert 0.9 < worst < 0.999


@pytest.mark.slow
def test_chunks_are_the_documents_in_order_and_parts_are_nested(tmp_path: Path) -> None:
    words = corpus_inputs.wordpiece()
    files = cut(tmp_path, words, {"train": FEW})
    record = json.loads(files["record"].read_text())
    assert sum(record["documents"].values()) + record["left_out"] == 60
    assert record["unit"] == "documents"
    whole = [token for row in read_rows(files["train"]) for token in row["ids"]]
    assert len(whole) == 20 * record["chunks"]["train"]
    ended = [*map(len, split_at(whole, document_end(words)))]
    assert len(ended) > 20
    parts = []
    for first, rows in ((0, 30), (30, 30), (0, 60)):
        part = tmp_path / f"{first}-{rows}.parquet"
        take_chunks(files["train"], words, text_spec(True), "train", first, rows, part)
        parts.append(read_rows(part))
        assert read_metadata(part, "tokenizer_sha256") == tokenizer_sha256(words)
    assert parts[0] + parts[1] == parts[2]
    for number, row in enumerate(parts[2]):
        seen = Example(row["prompt_ids"], row["response_ids"], row["positions"])
        assert true_ids(seen)[1:-1] == whole[20 * number : 20 * number + 20]
        assert (row["row"], row["id"]) == (number, f"train-{number:07d}")
        assert row["teacher_flops"] == 0
        assert row["response"] == words.decode(true_ids(seen), skip_special_tokens=True)


@pytest.mark.slow
def test_parts_read_across_groups_of_a_file(tmp_path: Path, plain: Any) -> None:
    texts = [
        " ".join(str(n * 7919 % 99991) for n in range(k, k + 200)) for k in range(0, 6000, 200)
    ]
    settings = {"length": 3, "splits": ["test"], "held_out": 0.001, "near_duplicate": 1.0}
    files = cut(tmp_path, plain, {"train": texts}, **settings)
    whole = [row["ids"] for row in read_rows(files["train"])]
    assert len(whole) > 2 * 4096 + 30
    spec = text_spec(False, **settings)
    for first, rows in ((4000, 200), (4096, 10), (0, 8200)):
        take_chunks(files["train"], plain, spec, "train", first, rows, tmp_path / "part.parquet")
        part = read_rows(tmp_path / "part.parquet")
        assert [row["response_ids"] for row in part] == whole[first : first + rows]


def split_at(tokens: list[int], end: int) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for token in tokens:
        found[-1].append(token)
        if token == end:
            found.append([])
    return found[:-1]


@pytest.mark.slow
def test_chunks_for_a_causal_model_are_learned_whole(tmp_path: Path, plain: Any) -> None:
    files = cut(tmp_path, plain, {"train": FEW})
    take_chunks(files["test"], plain, text_spec(False), "test", 0, 5, tmp_path / "part.parquet")
    rows, chunks = read_rows(tmp_path / "part.parquet"), read_rows(files["test"])
    assert [row["response_ids"] for row in rows] == [chunk["ids"] for chunk in chunks[:5]]
    assert all(row["prompt_ids"] == [plain.eos_token_id] for row in rows)
    assert "positions" not in rows[0]


@pytest.mark.slow
def test_too_few_chunks_are_told_with_how_many_there_are(tmp_path: Path) -> None:
    words = corpus_inputs.wordpiece()
    files = cut(tmp_path, words, {"train": FEW})
    there = json.loads(files["record"].read_text())["chunks"]
    out = tmp_path / "part.parquet"
    with pytest.raises(
        UserError, match=f"gives {there['train']} chunks of 20 tokens, but .* set pool"
    ):
        take_chunks(files["train"], words, text_spec(True), "train", there["train"] - 3, 9, out)
    with pytest.raises(UserError, match="lower test, or raise held_out"):
        take_chunks(files["test"], words, text_spec(True), "test", 0, there["test"] + 1, out)
    assert not out.exists()


@pytest.mark.slow
def test_another_tokenizers_chunks_are_refused(tmp_path: Path, plain: Any) -> None:
    files = cut(tmp_path, plain, {"train": FEW})
    with pytest.raises(UserError, match="cut by another tokenizer"):
        take_chunks(
            files["train"],
            corpus_inputs.wordpiece(),
            text_spec(True),
            "train",
            0,
            4,
            tmp_path / "p",
        )
