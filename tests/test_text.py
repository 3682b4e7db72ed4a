from pathlib import Path
from typing import Any

import pytest

import tiny
from distill import text
from distill.files import UserError, read_json
from distill.flops import FlopModel
from distill.parquet import read_metadata, read_rows, write_rows
from distill.schemas import TEXT_SCHEMA
from distill.shards import build_shard
from distill.text import generate_text, ready_made_text, synthesise_prompts

MAGPIE = {
    "split": "train",
    "part": 0,
    "candidates": 5,
    "batch_size": 4,
    "max_tokens": 24,
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": 0,
    "system": None,
}


def prompt(number: int) -> dict[str, Any]:
    return {
        "id": f"train-{number:07d}",
        "row": number,
        "prompt": tiny.SENTENCES[number % 5][: 8 + 5 * number],
        "context": None,
        "reference": None,
        "prompt_flops": 100.0 * number,
        "prompt_seconds": 1.0,
    }


def generate(
    model: Any, words: Any, rows: list[dict[str, Any]], batch_size: int
) -> list[dict[str, Any]]:
    decoding = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 12, "seed": 0}
    return generate_text(
        model,
        words,
        rows,
        {
            "formatting": {"template": "chat", "system": None},
            "decoding": decoding | {"batch_size": batch_size},
        },
    )


def ending(words: Any) -> Any:
    """A model that often ends its turn."""
    model = tiny.model("llama", tie_word_embeddings=False)
    model.lm_head.weight.data[words.eos_token_id] *= 3
    return model


def test_text_depends_neither_on_batches_nor_on_other_rows(chat: Any) -> None:
    model, rows = ending(chat), [prompt(number) for number in range(9)]
    whole = generate(model, chat, rows, 9)

    def bare(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "teacher_seconds"} for row in answers]

    assert bare(whole) == bare(generate(model, chat, rows, 2))
    assert bare(whole[3:6]) == bare(generate(model, chat, rows[3:6], 2))
    assert [row["id"] for row in whole] == [row["id"] for row in rows]
    assert {row["finish_reason"] for row in whole} == {"stop", "length"}
    flops = FlopModel.from_model(model)
    for row, source in zip(whole, rows, strict=True):
        stopped = row["finish_reason"] == "stop"
        assert (row["response_ids"][-1] == chat.eos_token_id) is stopped
        assert stopped or len(row["response_ids"]) == 12
        body = row["response_ids"][: -1 if stopped else None]
        assert row["response"] == chat.decode(body, skip_special_tokens=True)
        own = flops.generation(len(row["prompt_ids"]), len(row["response_ids"]))
        assert row["teacher_flops"] == source["prompt_flops"] + own
        assert chat.decode(row["prompt_ids"]).endswith("<|im_start|>assistant\n")


def test_magpie_keeps_turns_that_were_closed(chat: Any) -> None:
    model = ending(chat)
    kept, cost = synthesise_prompts(model, chat, MAGPIE)
    assert len(kept) == 5
    assert all(row["prompt"].strip() and "<|" not in row["prompt"] for row in kept)
    numbers = [int(row["id"].rsplit("-", 1)[1]) for row in kept]
    assert numbers == sorted(set(numbers))
    assert cost["flops"] > 0
    fewer, _ = synthesise_prompts(model, chat, MAGPIE | {"candidates": 3})
    assert fewer == kept[:3]
    other, _ = synthesise_prompts(model, chat, MAGPIE | {"part": 1})
    assert [row["prompt"] for row in other] != [row["prompt"] for row in kept]


def test_a_model_that_never_closes_its_turn_is_a_user_error(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(model: Any, prompts: list[Any], **_: Any) -> list[tuple[list[int], str]]:
        return [([70, 71], "length") for _ in prompts]

    monkeypatch.setattr(text, "sample_batch", endless)
    with pytest.raises(UserError, match=r"only 0 of 100 Magpie turns .* prompts\.max_tokens \(24"):
        synthesise_prompts(tiny.model("llama"), chat, MAGPIE)


def test_ready_made_text_is_taken_as_it_is() -> None:
    (row,) = ready_made_text([prompt(1) | {"reference": "Yes."}], "faq")
    assert (row["response"], row["finish_reason"], row["teacher_flops"]) == ("Yes.", "stop", 0.0)
    assert row["response_ids"] is None
    with pytest.raises(UserError, match=r"faq: the prompt 'Write a poem.*has an empty response"):
        ready_made_text([prompt(1) | {"prompt": "Write a poem", "reference": " "}], "faq")


def test_a_shard_holds_the_asked_rows_in_order(tmp_path: Path, plain: Any) -> None:
    rows = tiny.uneven_rows(plain, 8)
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for part, path in enumerate(parts):
        write_rows(path, rows[4 * part : 4 * part + 4], TEXT_SCHEMA, tokenizer_sha256="abc")
    out = tmp_path / "n3.parquet"
    build_shard(parts, [6, 0, 3], {"samples": 3}, out)
    assert read_rows(out) == [rows[6], rows[0], rows[3]]
    assert read_metadata(out, "tokenizer_sha256") == "abc"
    record = read_json(tmp_path / "n3.json")
    assert (record["rows"], record["finished"], record["spec"]) == (3, 3, {"samples": 3})
    tokens = sum(len(rows[number]["response_ids"]) for number in (6, 0, 3))
    assert record["teacher_tokens"] == tokens
    with pytest.raises(UserError, match="lacks pool row 8"):
        build_shard(parts, [8], {}, out)
