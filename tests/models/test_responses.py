"""Texts that end a response, and what becomes of thinking."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
import token_families as families
from distill.core.noise import row_uniforms
from distill.evaluation.answering import answer_prompts
from distill.models.decoding import Decoding
from distill.models.opening import load_model
from distill.models.responses import Responses, StopStrings, Thinking
from distill.models.sampling import sample_batch
from distill.models.tokenizers import load_tokenizer
from distill.teacher.generation import generate_text

PLAIN: dict[str, Any] = {"template": "{prompt}", "system": None}
DECODING: dict[str, Any] = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 24, "batch_size": 4, "seed": 0,
}  # fmt: skip


def asked(row: int) -> dict[str, Any]:
    """A row of a prompt part."""
    costs = ("flops", "seconds", "kwh", "kwh_estimated")
    return {
        "id": str(row), "row": row, "prompt": tiny.SENTENCES[row], "context": None,
        "reference": None, **{f"prompt_{name}": 0.0 for name in costs},
    }  # fmt: skip


def ids_of(words: Any, text: str) -> list[int]:
    ids: list[int] = words(text, add_special_tokens=False).input_ids
    return ids


def test_a_text_ends_a_response_wherever_its_tokens_are_cut(plain: Any) -> None:
    stops = StopStrings(plain, ["\nQ:", "###"])
    ids = ids_of(plain, "The old mill.\nQ: and more")
    reached = [stops.reached(ids[:length]) for length in range(1, len(ids) + 1)]
    first = reached.index(True)
    assert "\nQ:" in plain.decode(ids[: first + 1])
    assert "\nQ:" not in plain.decode(ids[:first])
    assert stops.cut(plain.decode(ids[: first + 1])) == "The old mill."
    assert stops.cut("no end") == "no end"
    assert not StopStrings(plain, [])
    assert StopStrings(plain, []).cut("same") == "same"


@pytest.mark.slow
def test_generation_stops_at_a_text(tmp_path: Path, plain: Any) -> None:
    folder = families.saved(tmp_path, plain, 0, seed=3)
    model, words = load_model(folder, precision="fp32", sequence=64), load_tokenizer(folder)
    noise = np.stack([row_uniforms(str(row), 0, 24) for row in range(4)])
    prompts = [ids_of(words, text) for text in tiny.SENTENCES[:4]]
    arguments: dict[str, Any] = {
        "stop_ids": (0,), "max_new_tokens": 24, "decoding": Decoding(), "uniforms": noise,
    }  # fmt: skip
    whole = sample_batch(model, prompts, **arguments)
    text = words.decode(whole[0][0])
    stop = text[3:6]
    stops = StopStrings(words, [stop])
    cut = sample_batch(model, prompts, stopped=stops.reached, **arguments)
    for (ids, _), (short, reason) in zip(whole, cut, strict=True):
        assert short == ids[: len(short)]
        assert (reason == "stop") == (stops.reached(short) or short[-1] == 0)
        assert not stops.reached(short[:-1])
    assert len(cut[0][0]) < len(whole[0][0])
    rows = [asked(row) for row in range(4)]
    spec = {"formatting": PLAIN, "decoding": DECODING | {"stop": [stop]}}
    written, states = generate_text(model, words, rows, spec)
    assert [row["response_ids"] for row in written] == [ids for ids, _ in cut]
    assert (written[0]["response"], written[0]["finish_reason"]) == (
        text[: text.find(stop)],
        "stop",
    )
    assert [row["tokens"] for row in states] == [len(ids) for ids, _ in cut]
    greedy = answer_prompts(model, words, [(tiny.SENTENCES[0], None)], PLAIN, 24)[0]
    end = greedy["text"][2:4]
    short = answer_prompts(model, words, [(tiny.SENTENCES[0], None)], PLAIN, 24, stop=[end])[0]
    assert short["text"] == greedy["text"][: greedy["text"].find(end)]
    assert short["finish_reason"] == "stop"


@pytest.fixture(scope="module")
def thinker() -> Any:
    """A tokenizer in which </think> is one added token, as of Qwen 3."""
    words = tiny.tokenizer(chat=True)
    words.add_tokens(["<think>", "</think>"])
    return words


@pytest.mark.parametrize("whole", [True, False])
def test_thinking_ends_behind_its_mark_and_white_space(
    thinker: Any, chat: Any, whole: bool
) -> None:
    words = thinker if whole else chat  # one token, or spelled by several
    ids = ids_of(words, "<think>\nTwo boats.\n</think>\n\nSeven.")
    for mode in ("keep", "drop"):
        length = Thinking(words, mode, "</think>").length([], ids, True)
        assert words.decode(ids[:length]) == "<think>\nTwo boats.\n</think>\n\n"
        assert words.decode(ids[length:]) == "Seven."
    assert Thinking(words, "train", "</think>").length([], ids, True) == 0
    assert Thinking(words, None, "").length([], ids, True) == 0


def test_thinking_that_was_cut_is_no_response(thinker: Any) -> None:
    thinking = Thinking(thinker, "drop", "</think>")
    open_ids, answer = ids_of(thinker, "<think>\nTwo boats"), ids_of(thinker, "Seven.")
    assert thinking.length([], open_ids, False) == len(open_ids)
    assert thinking.length(open_ids[:2], answer, False) == len(answer)  # begun by the template
    assert thinking.length([], answer, False) == 0
    assert thinking.length([], answer, True) == 0


def test_what_becomes_of_thinking_is_a_setting(thinker: Any) -> None:
    prompt, end = [5, 6], thinker.eos_token_id
    ids = [*ids_of(thinker, "<think>Two.</think>\nSeven."), end]
    length = Thinking(thinker, "drop", "</think>").length(prompt, ids, True)
    read = {
        mode: Responses(thinker, "chat", {"thinking": mode, "thinking_end": "</think>"}).read(
            prompt, ids, "stop"
        )
        for mode in ("train", "keep", "drop")
    }
    assert read["train"] == (prompt, 0, "<think>Two.</think>\nSeven.")
    assert read["keep"] == ([*prompt, *ids[:length]], length, "Seven.")
    assert read["drop"] == (prompt, length, "Seven.")


@pytest.mark.slow
def test_states_are_of_the_response_alone(tmp_path: Path, thinker: Any) -> None:
    """With `keep`, the teacher's states are those of the answer behind the thinking."""
    folder = families.saved(tmp_path, thinker, seed=1)
    model, words = load_model(folder, precision="fp32", sequence=128), load_tokenizer(folder)
    formatting = {"template": "chat", "system": None}

    def written(**thinking: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        spec = {"formatting": formatting, "decoding": DECODING | thinking}
        (row,), states = generate_text(model, words, [asked(0)], spec)
        return row, states

    train, whole = written()
    # Any text may end the thinking: here the second token that this model draws.
    mark = words.decode(train["response_ids"][1:2])
    keep, behind = written(thinking="keep", thinking_end=mark)
    drop, none = written(thinking="drop", thinking_end=mark)
    first = len(keep["prompt_ids"]) - len(train["prompt_ids"])
    assert first >= 2
    assert keep["prompt_ids"] + keep["response_ids"] == train["prompt_ids"] + train["response_ids"]
    assert drop["response_ids"] == keep["response_ids"]
    assert (drop["prompt_ids"], none) == (train["prompt_ids"], [])
    assert behind[0]["tokens"] == len(keep["response_ids"])
    assert behind[0]["hidden"] == whole[0]["hidden"][2 * model.config.hidden_size * first :]
