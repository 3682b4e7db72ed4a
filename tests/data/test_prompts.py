import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.contracts.schemas import DATA_SCHEMA
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.parquet import read_metadata, read_rows, write_rows
from distill.data.near_duplicates import (
    check_near_duplicates,
    drop_near_duplicates,
    jaccard,
    nearest_pairs,
    shingles,
)
from distill.data.prompts import filter_part, keep_part, slice_part

WORDS = ["river", "bread", "sky", "boat", "mill", "oven", "gull", "spring", "poem", "light", "why"]


def row(prompt: str, context: str | None = None, name: str = "x") -> dict[str, Any]:
    return {"id": name, "prompt": prompt, "context": context, "response": "r"}


def spec(rows: int, part: int = 0) -> dict[str, Any]:
    return {"split": "train", "part": part, "rows": rows, "first": 16 * part, "near_duplicate": 0.7}


def some(count: int, seed: int = 0) -> list[dict[str, Any]]:
    noise = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if rows and noise.random() < 0.3:
            prompt = noise.choice(rows)["prompt"] + noise.choice(["", "!", " now", " sea"])
        else:
            prompt = " ".join(noise.choices(WORDS, k=8))
        rows.append(row(prompt, name=f"row-{number}"))
    return rows


def test_shingles_ignore_case_punctuation_and_white_space() -> None:
    assert shingles("Hello,  WORLD") == shingles("hello world") == {
        "hello", "ello ", "llo w", "lo wo", "o wor", " worl", "world"
    }  # fmt: skip
    assert shingles("Hi") == {"hi"}
    assert jaccard(shingles("abcdef"), shingles("abcdeg")) == pytest.approx(1 / 3)


def test_near_duplicates_are_dropped_and_others_kept() -> None:
    rows = [
        row("Write a poem about the sea in spring, please."),
        row("write a poem, about the sea in spring please"),
        row("Write a poem about the sea in spring, please!!", "With this context, rather long."),
        row("How do I bake bread without an oven at home?"),
    ]
    assert drop_near_duplicates(rows, [], 0.7) == [rows[0], rows[2], rows[3]]
    assert drop_near_duplicates(rows, [rows[3]], 0.7) == [rows[0], rows[2]]


@pytest.mark.slow
def test_what_is_kept_equals_brute_force() -> None:
    rows, kept = some(120), list[dict[str, Any]]()
    for one in rows:
        grams = shingles(one["prompt"] + " ")
        if all(jaccard(grams, shingles(other["prompt"] + " ")) < 0.7 for other in kept):
            kept.append(one)
    assert len(kept) < 100
    assert drop_near_duplicates(rows, [], 0.7) == kept


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab ", max_size=12), max_size=12), st.integers(0, 12))
def test_filtering_never_depends_on_later_rows(prompts: list[str], cut: int) -> None:
    rows = [row(prompt, name=str(number)) for number, prompt in enumerate(prompts)]
    kept = drop_near_duplicates(rows, [], 0.7)
    first = drop_near_duplicates(rows[:cut], [], 0.7)
    assert kept[: len(first)] == first
    assert all(int(one["id"]) >= cut for one in kept[len(first) :])


@pytest.mark.slow
def test_a_part_has_its_rows_numbered_within_the_split() -> None:
    cost = {"flops": 50.0, "seconds": 5.0, "kwh": 0.5, "kwh_estimated": 0.2}
    kept = filter_part(some(60), [], spec(10, part=2), cost)
    assert [one["row"] for one in kept] == list(range(32, 42))
    assert kept[0]["id"] == "train-0000032"
    assert sum(one["prompt_flops"] for one in kept) == pytest.approx(50.0)
    assert sum(one["prompt_seconds"] for one in kept) == pytest.approx(5.0)
    assert sum(one["prompt_kwh"] for one in kept) == pytest.approx(0.5)
    assert sum(one["prompt_kwh_estimated"] for one in kept) == pytest.approx(0.2)
    assert kept == filter_part(some(60)[:50], [], spec(10, part=2), cost)
    earlier = filter_part(some(60), [], spec(10, part=2), {"flops": 50.0, "seconds": 5.0})
    assert {one["prompt_kwh"] for one in earlier} == {None}


def test_too_few_prompts_name_the_surplus() -> None:
    rows = [row("The very same prompt, again and again.")] * 5
    with pytest.raises(UserError, match=r"train part 0: 1 of 5 .* 2 are needed.*prompts\.surplus"):
        filter_part(rows, [], spec(2), {"flops": 0.0, "seconds": 0.0})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_nearest_pairs_equals_brute_force(seed: int) -> None:
    rows = some(90, seed)
    test, train = rows[::3], [one for place, one in enumerate(rows) if place % 3]
    found = nearest_pairs(test, train, 0.7)
    pairs, worst = [], 0.0
    for one in test:
        for other in train:
            near = jaccard(shingles(one["prompt"] + " "), shingles(other["prompt"] + " "))
            worst = max(worst, near)
            if near >= 0.7:
                pairs.append([one["id"], other["id"], round(near, 4)])
    assert pairs
    assert sorted(found["pairs"]) == sorted(pairs)
    assert found["worst_similarity"] == worst
    assert (found["test_prompts"], found["train_prompts"]) == (30, 60)


def sliced(folder: Path, rows: list[dict[str, Any]], **spec: Any) -> list[dict[str, Any]]:
    """One raw part of a data set."""
    data = [{name: entry.get(name) for name in DATA_SCHEMA.names} for entry in rows]
    write_rows(
        folder / "rows.parquet",
        data,
        DATA_SCHEMA,
        data={"usable": len(rows), "read": len(rows), "left_out": {}},
    )
    wanted = {"slice": 0, "candidates": 20, "part_size": 2, "seed": 0, "max_tokens": 12, **spec}
    slice_part(folder / "rows.parquet", folder / "raw.parquet", wanted, "faq")
    return read_rows(folder / "raw.parquet")


def test_parts_of_a_data_set_are_slices_of_one_order(tmp_path: Path) -> None:
    rows = [row(f"prompt {number}") for number in range(50)] + [row("far too long " * 9)]

    def part(place: int, seed: int = 0) -> list[str]:
        return [one["prompt"] for one in sliced(tmp_path, rows, slice=place, seed=seed)]

    order = part(0) + part(1) + part(2)
    assert [len(part(place)) for place in range(3)] == [20, 20, 10]
    assert sorted(order) == sorted(one["prompt"] for one in rows[:50])
    assert part(0) == part(0) != part(0, seed=1)
    digest = [hashlib.sha256(f"0:{number}".encode()).digest() for number in range(50)]
    assert order == [f"prompt {number}" for number in sorted(range(50), key=digest.__getitem__)]
    with pytest.raises(UserError, match=r"faq has 50 prompts of at most .*; lower prompts\.pool"):
        part(3)


def test_a_long_context_and_a_long_chat_make_a_long_prompt(tmp_path: Path) -> None:
    contexts = (None, "", "three more words", "four words are more")
    rows = [row("three word prompt") | {"context": context} for context in contexts]
    kept = [one["context"] for one in sliced(tmp_path, rows, max_tokens=6)]
    assert sorted(kept, key=str) == ["", None, "three more words"]
    turns = json.dumps([{"role": "user", "content": "four words are more"}])
    chats = [row("three word prompt") | entry for entry in ({}, {"turns": turns}, {"system": "Go"})]
    assert [one["system"] for one in sliced(tmp_path, chats, max_tokens=4)] == ["Go", None]


def test_a_data_set_at_its_end_does_not_ask_for_a_surplus(tmp_path: Path) -> None:
    same = [row("The very same prompt, again and again." + "!" * number) for number in range(9)]

    def told(candidates: int) -> str:
        sliced(tmp_path, same, candidates=candidates)
        with pytest.raises(UserError) as caught:
            keep_part(tmp_path / "raw.parquet", [], tmp_path / "part.parquet", spec(2))
        return str(caught.value)

    few = "1 of 5 candidate prompts are not near-duplicates, but 2 are needed; "
    # From 4.5 on two prompts ask for all 9 rows.
    assert told(5).endswith(f"{few}raise prompts.surplus to 4.51")
    assert "the data set has no more: lower prompts.pool or test" in told(9)


def test_the_report_on_near_duplicates_has_the_numbers_of_rows(tmp_path: Path) -> None:
    sliced(tmp_path, [row("A prompt about the sea"), row("Something else, far away")])
    keep_part(tmp_path / "raw.parquet", [], tmp_path / "part.parquet", spec(2))
    parts = [tmp_path / "part.parquet"]
    check_near_duplicates(parts, parts, 0.7, tmp_path / "report.json")
    report = read_json(tmp_path / "report.json")
    assert (report["test_prompts"], len(report["pairs"])) == (2, 2)
    assert report["data"] == {"usable": 2, "read": 2, "left_out": {}, "fitting": 2}


def test_what_stands_before_a_prompt_goes_with_it(tmp_path: Path) -> None:
    turns = json.dumps([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}])
    sliced(tmp_path, [row("A prompt of a chat") | {"system": "Be brief.", "turns": turns}])
    keep_part(tmp_path / "raw.parquet", [], tmp_path / "part.parquet", spec(1))
    (kept,) = read_rows(tmp_path / "part.parquet")
    assert (kept["system"], kept["turns"], kept["reference"]) == ("Be brief.", turns, "r")
    counts = {"usable": 1, "read": 1, "left_out": {}, "fitting": 1}
    assert read_metadata(tmp_path / "part.parquet", "data") == counts


def test_prompts_that_differ_in_earlier_turns_are_not_near_duplicates() -> None:
    chats = [
        row("Go on, please.") | {"turns": json.dumps([{"role": "user", "content": words}])}
        for words in ("Write a poem about the sea.", "How do I bake bread without an oven?")
    ]
    assert drop_near_duplicates(chats, [], 0.7) == chats


def test_at_a_similarity_of_one_only_equal_texts_are_dropped() -> None:
    texts = [
        "The fox runs near the lake.",
        "The fox runs near the farm.",
        "the FOX runs near the lake",
    ]
    rows = [{"prompt": text, "context": None} for text in [*texts, texts[1]]]
    kept = drop_near_duplicates(rows, [{"prompt": texts[1], "context": None}], 1.0)
    assert [row["prompt"] for row in kept] == [texts[0]]
