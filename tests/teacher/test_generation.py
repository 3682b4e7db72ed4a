import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import teaching
import tiny
from distill.contracts.schemas import STATES_SCHEMA, TEXT_SCHEMA
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.noise import row_uniforms
from distill.core.parquet import read_metadata, read_rows, write_rows
from distill.data.ready_made import ready_made_text
from distill.data.shards import build_shard
from distill.models.decoding import Decoding, log_q
from distill.models.drawing import pick
from distill.models.encoding import encode_rows
from distill.models.flops import FlopModel, count_parameters, model_size_mb
from distill.models.formatting import encoder
from distill.models.head_extraction import final_hidden, head_of, model_head
from distill.models.heads import hidden_states, teacher_log_q
from distill.models.opening import load_model, load_teacher
from distill.models.scored_text import check_tokens
from distill.models.tokenizers import load_tokenizer
from distill.teacher import generation
from distill.teacher.generation import generate_text, synthesise_prompts
from distill.teacher.scoring import score_text

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
        "prompt_kwh": 1.0,
        "prompt_kwh_estimated": 0.0,
    }


DECODING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 12, "seed": 0}


def generate_both(
    model: Any, words: Any, rows: list[dict[str, Any]], batch_size: int, **decoding: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Text and states."""
    spec = {
        "formatting": {"template": "chat", "system": None},
        "decoding": DECODING | {"batch_size": batch_size} | decoding,
    }
    return generate_text(model, words, rows, spec)


def generate(
    model: Any, words: Any, rows: list[dict[str, Any]], batch_size: int
) -> list[dict[str, Any]]:
    return generate_both(model, words, rows, batch_size)[0]


def ending(words: Any) -> Any:
    """A model that often ends its turn."""
    model = tiny.model("llama", tie_word_embeddings=False)
    model.lm_head.weight.data[words.eos_token_id] *= 3
    return model


@pytest.mark.slow
def test_text_depends_neither_on_batches_nor_on_other_rows(chat: Any) -> None:
    model, rows = ending(chat), [prompt(number) for number in range(9)]
    whole = generate(model, chat, rows, 9)

    def bare(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        timed = ("teacher_seconds", "teacher_kwh", "teacher_kwh_estimated")
        return [{k: v for k, v in row.items() if k not in timed} for row in answers]

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 8, 1.0), (0.8, 0, 0.9)]
)
def test_states_give_back_what_each_token_was_drawn_from(
    chat: Any, temperature: float, top_k: int, top_p: float
) -> None:
    """Drawn again from them with the same noise, the tokens are the same.

    Rows end at different times, so the batch shrinks while it is decoded.
    """
    model, rows = ending(chat).to(torch.bfloat16), [prompt(number) for number in range(9)]
    cut = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    decoding = Decoding(temperature, top_k, top_p)
    made, states = generate_both(model, chat, rows, 9, **cut)
    assert len({len(row["response_ids"]) for row in made}) > 3
    head, same, tokens = head_of(model), 0, 0
    for row, kept in zip(made, states, strict=True):
        assert kept["id"] == row["id"]
        assert kept["tokens"] == len(row["response_ids"])
        assert (kept["flops"], kept["seconds"], kept["kwh"]) == (0.0, 0.0, 0.0)
        hidden = hidden_states(kept["hidden"], 32)
        assert len(hidden) == kept["tokens"]
        noise = torch.from_numpy(row_uniforms(row["id"], 0, 12))[: len(hidden)]
        again = pick(head.logits(hidden), decoding, noise)
        same += int((again == torch.tensor(row["response_ids"])).sum())
        tokens += len(again)
    assert tokens > 50
    assert same == tokens


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, 345])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 20, 1.0), (0.8, 0, 0.8)]
)
def test_exact_states_give_the_teachers_own_loss(
    chat: Any, rows: int, temperature: float, top_k: int, top_p: float
) -> None:
    """That of plain float64, one row at a time; rows of a padded head are never drawn."""
    model = tiny.model("llama", vocabulary=rows, tie_word_embeddings=False)
    prompts, tokens = [prompt(number) for number in range(12)], len(chat)
    cut = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    spec = {
        "formatting": {"template": "chat", "system": None},
        "decoding": DECODING | {"batch_size": 5, "max_tokens": 20} | cut,
    }
    made, exact = generate_text(model, chat, prompts, spec, exact=True)
    again, rounded = generate_text(model, chat, prompts, spec)
    assert [row["response_ids"] for row in again] == [row["response_ids"] for row in made]
    decoding = Decoding(temperature, top_k, top_p)
    head, plain = model_head(model, chat), model.double()
    for row, one, two in zip(made, exact, rounded, strict=True):
        assert max(row["response_ids"]) < tokens
        assert len(one["hidden"]) == 2 * len(two["hidden"]) == 4 * 32 * len(row["response_ids"])
        drawn = torch.tensor(row["response_ids"])
        whole = torch.tensor([[*row["prompt_ids"], *row["response_ids"]]])
        with torch.inference_mode():
            logits = plain(whole).logits[0, len(row["prompt_ids"]) - 1 : -1, :tokens]
        expected = log_q(logits, decoding, drawn).gather(1, drawn.unsqueeze(1))
        for states, error in ((one, 1e-4), (two, 0.1)):
            hidden = hidden_states(states["hidden"], 32, states["tokens"])
            logs = teacher_log_q(head, hidden, decoding, drawn).gather(1, drawn.unsqueeze(1))
            torch.testing.assert_close(logs, expected, rtol=0, atol=error)


@pytest.mark.slow
def test_captured_states_are_those_of_a_teacher_forced_pass(chat: Any) -> None:
    model, rows = ending(chat), [prompt(number) for number in range(9)]
    made, captured = generate_both(model, chat, rows, 4)
    head, scored = head_of(model), score_text(model, made)
    assert [set(row) for row in captured] == [set(STATES_SCHEMA.names)] * 9
    for row, one, two in zip(made, captured, scored, strict=True):
        assert (one["id"], one["tokens"]) == (two["id"], two["tokens"])
        ids = torch.tensor([[*row["prompt_ids"], *row["response_ids"]]])
        with torch.inference_mode():
            exact = final_hidden(model, ids, None)[0, len(row["prompt_ids"]) - 1 : -1]
            log_p = torch.log_softmax(model(ids).logits[0, len(row["prompt_ids"]) - 1 : -1], -1)
        drawn = torch.tensor(row["response_ids"]).unsqueeze(1)
        for states in (hidden_states(one["hidden"], 32), hidden_states(two["hidden"], 32)):
            torch.testing.assert_close(states.float(), exact, rtol=2**-8, atol=1e-4)
            log_q = teacher_log_q(head, states, Decoding())
            assert float((log_p.exp() * (log_p - log_q)).sum(1).max()) < 1e-3
            own = log_q.gather(1, drawn)
            torch.testing.assert_close(own, log_p.gather(1, drawn), rtol=0, atol=0.1)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_teacher_that_ends_at_once_is_a_user_error(chat: Any) -> None:
    model, rows = tiny.model("phi"), [prompt(number) for number in range(8)]
    assert any(row["response"] for row in generate(model, chat, rows, 4))
    model.lm_head.bias.data[chat.eos_token_id] = 99.0
    with pytest.raises(UserError, match="answers each of the 8 prompts of a part with no text"):
        generate(model, chat, rows, 4)
    assert len(generate(model, chat, rows[:3], 4)) == 3  # may be an accident


def test_a_model_that_never_closes_its_turn_is_a_user_error(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(model: Any, prompts: list[Any], **_: Any) -> list[tuple[list[int], str]]:
        return [([70, 71], "length") for _ in prompts]

    monkeypatch.setattr(generation, "sample_batch", endless)
    with pytest.raises(UserError, match=r"only 0 of 100 Magpie turns .* prompts\.max_tokens \(24"):
        synthesise_prompts(tiny.model("llama"), chat, MAGPIE)


def test_ready_made_text_is_taken_as_it_is() -> None:
    (row,) = ready_made_text([prompt(1) | {"reference": "Yes."}], "faq")
    assert (row["response"], row["finish_reason"], row["teacher_flops"]) == ("Yes.", "stop", 0.0)
    assert row["response_ids"] is None
    with pytest.raises(UserError, match=r"faq: the prompt 'Write a poem.*has an empty response"):
        ready_made_text([prompt(1) | {"prompt": "Write a poem", "reference": " "}], "faq")


def test_a_ready_made_answer_is_cut_where_its_teacher_reads_no_further(plain: Any) -> None:
    formatting = {"template": "{prompt}", "system": None}
    source = prompt(1) | {"prompt": "How many?", "reference": "She counted seven boats."}
    asked, said = (
        plain(source[key], add_special_tokens=False).input_ids for key in ("prompt", "reference")
    )
    whole = len(asked) + len(said) + 1
    for context in (None, whole, whole + 1):
        (row,) = ready_made_text([source], "faq", plain, formatting, context)
        assert (row["response_ids"], row["finish_reason"]) == ([*said, plain.eos_token_id], "stop")
        assert row["response"] == source["reference"]
    for context, kept in ((whole - 1, said), (whole - 4, said[:-3]), (len(asked) + 1, said[:1])):
        (row,) = ready_made_text([source], "faq", plain, formatting, context)
        assert (row["prompt_ids"], row["response_ids"]) == (asked, kept)
        assert (row["finish_reason"], row["response"]) == ("length", plain.decode(kept))
        assert row["reference"] == source["reference"]
    with pytest.raises(UserError, match=rf"has {len(asked)} tokens .* at most {len(asked)}; lower"):
        ready_made_text([source], "faq", plain, formatting, len(asked))


def test_ready_made_text_carries_the_tokens_of_the_model_that_scores_it(chat: Any) -> None:
    formatting: dict[str, Any] = {"template": "chat", "system": "Be brief."}
    sources = [prompt(number) | {"reference": f"Yes, {number} boats."} for number in range(3)]
    rows = ready_made_text(sources, "faq", chat, formatting)
    encode = encoder(chat, **formatting)
    for row, source in zip(rows, sources, strict=True):
        assert row["response"] == row["reference"] == source["reference"]
        assert row["prompt_ids"] == encode(source["prompt"], None)
        assert row["response_ids"][-1] == chat.eos_token_id
        assert row["response_ids"].count(chat.eos_token_id) == 1
        assert chat.decode(row["response_ids"][:-1]) == source["reference"]
        assert (row["finish_reason"], row["teacher_flops"]) == ("stop", 0.0)
    model = tiny.model("llama")
    scored = score_text(model, rows)
    assert [row["tokens"] for row in scored] == [len(row["response_ids"]) for row in rows]


def test_a_rows_own_chat_is_read_and_passed_on(chat: Any) -> None:
    turns = json.dumps([{"role": "user", "content": "Hi?"}])
    source = prompt(1) | {"reference": "Yes.", "system": "Be kind.", "turns": turns}
    formatting: dict[str, Any] = {"template": "chat", "system": "Be brief."}
    spec = {"formatting": formatting, "decoding": DECODING | {"batch_size": 1, "max_tokens": 2}}
    ids = encoder(chat, **formatting)(source["prompt"], None, "Be kind.", turns)
    (own,) = ready_made_text([source], "faq", chat, formatting)
    ((drawn,), _) = generate_text(tiny.model("llama"), chat, [source], spec)
    for row in (own, drawn):
        assert row["prompt_ids"] == ids
        assert (row["system"], row["turns"]) == ("Be kind.", turns)
        (example,) = encode_rows([row | {"response_ids": None}], chat, formatting, None, 999, "n")
        assert list(example.prompt) == ids


def test_a_text_in_other_tokens_cannot_be_scored(tmp_path: Path, plain: Any, chat: Any) -> None:
    tiny.save(tmp_path / "model", tiny.model("llama"), plain)
    rows = tiny.uneven_rows(plain, 2)
    own = teaching.write_text(tmp_path / "own.parquet", rows, plain)
    other = teaching.write_text(tmp_path / "other.parquet", rows, chat)
    bare = tmp_path / "bare.parquet"
    write_rows(bare, [], TEXT_SCHEMA, tokenizer_sha256=None)
    check_tokens(own, tmp_path / "model")
    for path in (other, bare):
        with pytest.raises(UserError, match=r"cannot score .* name a teacher with the same tokeni"):
            check_tokens(path, tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
@pytest.mark.parametrize(("kind", "precision"), [("llama-tied", "bf16"), ("gpt2", "fp32")])
@pytest.mark.filterwarnings("ignore")
def test_a_quantised_teacher_writes_and_scores(
    tmp_path: Path, chat: Any, quantisation: str, kind: str, precision: str
) -> None:
    wide = {"n_embd": 64} if kind == "gpt2" else {"hidden_size": 64, "intermediate_size": 128}
    folder = tiny.save(tmp_path / "model", tiny.model(kind, initializer_range=0.1, **wide), chat)
    plain = load_model(folder, precision="fp32", sequence=128)
    spec = {"precision": precision, "quantisation": quantisation, "device_map": None}
    teacher = load_teacher(folder, spec, sequence=128)
    sizes = count_parameters(plain), FlopModel.from_model(plain)
    assert (count_parameters(teacher), FlopModel.from_model(teacher)) == sizes
    share = model_size_mb(teacher) / model_size_mb(
        load_model(folder, precision=precision, sequence=9)
    )
    assert share < {"nf4": 0.4, "int8": 0.6}[quantisation]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows, states = generate_both(teacher, chat, [prompt(number) for number in range(4)], 4)
        scored = score_text(teacher, rows)
    assert (count_parameters(teacher), FlopModel.from_model(teacher)) == sizes  # after a pass too
    head = head_of(teacher)
    assert head.weight.shape == (300, 64)
    assert head.weight.is_floating_point()
    flops, distances = sizes[1], []
    for row, one, two in zip(rows, states, scored, strict=True):
        assert one["tokens"] == two["tokens"] == len(row["response_ids"])
        length = len(row["prompt_ids"]) + len(row["response_ids"])
        assert two["flops"] == flops.sequence_forward(length, 0)
        assert row["teacher_flops"] >= flops.generation(len(row["prompt_ids"]), one["tokens"])
        captured, again = (
            teacher_log_q(head, hidden_states(each["hidden"], 64), Decoding())
            for each in (one, two)
        )
        assert float((captured.exp() * (captured - again)).sum(1).max()) < 0.02
        ids = torch.tensor([[*row["prompt_ids"], *row["response_ids"]]])
        with torch.inference_mode():
            exact = plain(ids).logits[0, len(row["prompt_ids"]) - 1 : -1].log_softmax(-1)
        distances.append((exact.exp() * (exact - again)).sum(1))
    distance = float(torch.cat(distances).mean())  # another teacher, but not a wrong one
    assert 1e-6 < distance < {"nf4": 0.1, "int8": 0.01}[quantisation]


def test_a_teacher_that_is_not_quantised_can_be_spread_over_devices(
    tmp_path: Path, plain: Any
) -> None:
    folder = tiny.save(tmp_path / "model", tiny.model("llama"), plain)
    spec = {"precision": "fp32", "quantisation": "none", "device_map": "auto"}
    spread = load_teacher(folder, spec, sequence=64)
    whole = load_teacher(folder, spec | {"device_map": None}, sequence=64)
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        torch.testing.assert_close(spread(ids).logits, whole(ids).logits)
    for device_map in ("auto", None):
        with pytest.raises(UserError, match="reads at most 256 tokens but up to 300"):
            load_teacher(folder, spec | {"device_map": device_map}, sequence=300)
    assert load_tokenizer(folder).pad_token_id == plain.pad_token_id


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
