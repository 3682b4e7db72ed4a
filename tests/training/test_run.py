"""Training, from the files that a job is handed to the student that it leaves behind."""

import gc
import itertools
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, TrainerCallback, TrainingArguments

import teaching
import tiny
from distill.contracts.energy import JOULES_PER_KWH
from distill.core.checksums import list_files, tokenizer_sha256
from distill.core.errors import UserError
from distill.core.files import read_json, sha256_of, write_json
from distill.models.attention import GROUPED
from distill.models.decoding import Decoding
from distill.models.encoding import collate, encode_rows
from distill.models.flops import FlopModel
from distill.models.rows import Example
from distill.models.sampling import sample_batch
from distill.runtime import meter
from distill.runtime.meter import Counter
from distill.training import run
from distill.training.batches import Item
from distill.training.build import build_trainer
from distill.training.checkpoints import prepare_folder
from distill.training.objective import Objective
from distill.training.trainer import PROJECTIONS, DistillationTrainer
from training_cases import (
    EXACT,
    KD,
    LAYERS,
    MATCHED,
    METHODS,
    RESUMED,
    distance,
    finish,
    soft_spec,
    spec,
    student,
    torch_state,
    train,
)

FORMATTING = {"template": "{prompt}", "system": None}


@pytest.fixture(autouse=True)
def _quick() -> None:
    """The library collects garbage before each training: 0.3 s, but for what is frozen."""
    gc.freeze()


@pytest.fixture(scope="module")
def teacher() -> Any:
    return teaching.big(attention=GROUPED)


def at_answers(model: Any, row: dict[str, Any], everywhere: bool = False) -> torch.Tensor:
    """float64 logits that predict a row's answer (or every token but the first)."""
    ids = list(row["prompt_ids"]) + list(row["response_ids"])
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0].double()
    return logits[0 if everywhere else len(row["prompt_ids"]) - 1 : -1]


def cross_entropy_of(model: Any, rows: Sequence[dict[str, Any]]) -> float:
    """Nats per answer token, one row at a time."""
    nats, tokens = 0.0, 0
    for row in rows:
        logs = at_answers(model, row).log_softmax(-1)
        nats -= float(logs[torch.arange(len(logs)), list(row["response_ids"])].sum())
        tokens += len(logs)
    return nats / tokens


@pytest.mark.slow
def test_eos_is_learned_although_padding_is_eos_too(tmp_path: Path, words: Any) -> None:
    eos = words.eos_token_id
    assert words.pad_token_id == eos
    rows = [tiny.text_row(words, n, f"{n}:", "Yes." * (1 + n % 3)) for n in range(24)]
    examples = encode_rows(rows, words, FORMATTING, tokenizer_sha256(words), 200)
    labels = collate(examples, words.pad_token_id)["shift_labels"]
    assert [int((row == eos).sum()) for row in labels] == [1] * 24

    def stopped(folder: Path) -> int:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        answers = sample_batch(
            model,
            [example.prompt for example in examples],
            stop_ids=[eos],
            max_new_tokens=30,
            decoding=Decoding(temperature=0.0),
            uniforms=None,
        )
        return sum(reason == "stop" for _, reason in answers)

    settings = spec(epochs=20, batch_size=8, learning_rate=2e-2)
    record, _ = train(tmp_path / "out", rows, words, settings)
    assert stopped(tmp_path / "initial") == 0
    assert stopped(tmp_path / "out") == 24
    assert record["losses"][-1] < 0.5 * record["losses"][0]


class Gradients(TrainerCallback):
    """Keeps the gradients of the first update."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        """Before the optimiser uses them."""
        if not self.found:
            self.found = {
                name: weight.grad.clone()
                for name, weight in model.named_parameters()
                if weight.grad is not None
            }


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_accumulated_micro_batches_equal_one_batch(
    tmp_path: Path, words: Any, teacher: Any, name: str
) -> None:
    method, cache = METHODS[name]
    rows = tiny.uneven_rows(words, 16)
    lengths = [len(row["response_ids"]) for row in rows]
    assert max(lengths) > 8 * min(lengths)
    spans = "spans" in method
    initial = student(tmp_path, words)
    if spans:
        initial = teaching.small(tmp_path, tiny.tokenizer(False, 270), vocabulary=270)
    gradients, losses, weights = [], [], []
    for micro in (None, 2):
        settings = soft_spec(method, cache, micro_batch_size=micro, max_grad_norm=1e9)
        files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:1], spans)
        seen = Gradients()
        one = build_trainer(
            initial, files.shard, settings, "small", tmp_path / "resume",
            **files.given, callbacks=[seen], keep=False,
        )  # fmt: skip
        one.train()
        gradients.append(seen.found)
        assert one.state.global_step == 1
        losses.append(next(entry for entry in one.state.log_history if "loss" in entry))
        weights.append({k: v.detach().clone() for k, v in one.model.state_dict().items()})
    size = distance(gradients[0], {k: torch.zeros_like(v) for k, v in gradients[0].items()})
    assert size > 1e-3
    assert distance(*gradients) < 2e-5 * size
    terms = [key for key in losses[0] if key == "loss" or key.startswith("terms/")]
    assert len(terms) == 1 + len([k for k, v in method.items() if v and k != "tokens"])
    for key in terms:
        assert losses[1][key] == pytest.approx(losses[0][key], rel=1e-5, abs=1e-7)
    moved = distance(weights[0], torch_state(initial, weights[0]))
    assert moved > 0.01
    # AdamW's first step is the gradient's sign: where that is all but 0, rounding decides.
    assert distance(*weights) < 0.02 * moved


def bare_trainer(folder: Path, model: Any, **method: float) -> DistillationTrainer:
    """A trainer without files."""
    settings = teaching.spec_of(teaching.plan(method or {"ce": 1.0}))["method"]
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[])
    return DistillationTrainer(
        Objective(settings), None, "fp32", FlopModel.from_model(model), model=model, args=arguments
    )


def loss_of(one: DistillationTrainer, model: Any, batch: dict[str, Any], times: int = 1) -> Any:
    """Its loss on a batch, as one of `times` equal micro-batches."""
    one.counts = one.objective.counts([batch] * times)
    return one.compute_loss(model, batch)


def some_examples(words: Any) -> list[Example]:
    rows = tiny.uneven_rows(words, 5)
    return encode_rows(rows, words, FORMATTING, tokenizer_sha256(words), 200)


@pytest.mark.slow
@pytest.mark.parametrize("attention", [GROUPED, "sdpa"])
def test_the_loss_is_that_of_the_answers_tokens_alone(
    tmp_path: Path, words: Any, attention: str
) -> None:
    model = tiny.model("llama", attention=attention)
    examples = some_examples(words)
    batch = collate(examples, words.pad_token_id)
    ours = loss_of(bare_trainer(tmp_path, model), model, batch).item()
    given = {key: batch[key] for key in ("input_ids", "attention_mask")}
    given["labels"] = batch["shift_labels"].roll(1, dims=1)  # the library shifts them itself
    assert ours == pytest.approx(model(**given).loss.item(), rel=1e-5)
    assert ours == pytest.approx(cross_entropy_of(model, tiny.uneven_rows(words, 5)), rel=1e-5)
    half = loss_of(bare_trainer(tmp_path, model, ce=0.5), model, batch).item()
    assert half == pytest.approx(ours / 2)
    of_two = loss_of(bare_trainer(tmp_path, model), model, batch, times=2)
    assert of_two.item() == pytest.approx(ours / 2)


@pytest.mark.slow
def test_what_stands_in_the_padding_changes_nothing(tmp_path: Path, words: Any) -> None:
    model = tiny.model("llama", attention=GROUPED)
    examples = some_examples(words)
    assert len({len(example.prompt + example.answer) for example in examples}) > 1
    found = []
    for pad in (0, 5, 250):
        model.zero_grad()
        loss = loss_of(bare_trainer(tmp_path, model), model, collate(examples, pad))
        loss.backward()
        found.append((loss.item(), model.lm_head.weight.grad.clone()))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, found[0][1])


def test_labels_are_the_answers_places() -> None:
    batch = collate([Example([7, 8], [9, 0]), Example([7], [4])], pad=0)
    assert batch["input_ids"].tolist() == [[7, 8, 9, 0], [7, 4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["shift_labels"].tolist() == [[-100, 9, 0, -100], [4, -100, -100, -100]]


def test_a_response_that_was_cut_has_no_eos(words: Any, chat: Any) -> None:
    eos = words.eos_token_id
    whole = tiny.text_row(words, 0, "Say it.", "The river runs past the old mill.")
    short = tiny.text_row(words, 1, "Say it.", "The river", finished=False)
    own = tokenizer_sha256(words)
    for digest in (own, None):  # the teacher's tokens, and text encoded anew
        first, second = encode_rows([whole, short], words, FORMATTING, digest, 100)
        assert first.answer[-1] == eos
        assert first.answer.count(eos) == 1
        assert eos not in second.answer
        limit = len(first.prompt) + len(first.answer) - 1
        (cut,) = encode_rows([whole], words, FORMATTING, digest, limit)
        assert cut.answer == first.answer[:-1]
    assert tokenizer_sha256(chat) != own
    (anew,) = encode_rows([whole], chat, FORMATTING, own, 100)
    assert anew.answer[-1] == chat.eos_token_id != eos


def test_the_teachers_own_tokens_are_used_where_they_can_be(words: Any) -> None:
    row = tiny.text_row(words, 0, "Say it.", "the")
    row["response_ids"] = [*words.convert_tokens_to_ids(list("the")), words.eos_token_id]
    same, anew = (
        encode_rows([row], words, FORMATTING, digest, 100)[0]
        for digest in (tokenizer_sha256(words), "another")
    )
    assert same.answer == row["response_ids"]
    assert anew.answer != same.answer
    assert words.decode(anew.answer) == words.decode(same.answer)


def test_a_prompt_without_room_or_tokens_is_a_user_error(words: Any) -> None:
    row = tiny.text_row(words, 3, "Say it.", "Yes.")
    own = tokenizer_sha256(words)
    with pytest.raises(UserError, match=r"train-0000003 .* no room in train\.max_length \(2\)"):
        encode_rows([row], words, FORMATTING, own, 2)
    with pytest.raises(UserError, match="train-0000003 has no tokens"):
        encode_rows([row | {"prompt_ids": []}], words, FORMATTING, own, 9)


@pytest.mark.slow
def test_a_seed_gives_the_same_weights_again_and_another_seed_another_order(
    tmp_path: Path, words: Any
) -> None:
    rows = tiny.uneven_rows(words, 16)
    settings = spec(batch_size=4, epochs=2)
    first, one = train(tmp_path / "one", rows, words, settings)
    again, two = train(tmp_path / "two", rows, words, settings)
    other, _ = train(tmp_path / "three", rows, words, settings | {"seed": 1})
    assert first["losses"] == again["losses"] != other["losses"]
    assert distance(one, two) == 0.0


# The losses of the first batch, from files, against the two models themselves.


def first_batch(one: DistillationTrainer) -> dict[str, float]:
    """Loss terms of all rows at once, before any update."""
    items: Sequence[Item] = one.train_dataset
    batch = one.data_collator(list(items))
    one.counts = one.objective.counts([batch])
    one.model.eval()
    with torch.no_grad():
        one.compute_loss(one.model, batch)
    return {name: float(value) for name, value in one.terms.items()}


SOFT: dict[str, tuple[dict[str, Any], float, float]] = {
    "final_hidden": (EXACT, 3e-3, 1e-3),
    "dense": ({"scheme": "dense"}, 3e-3, 1e-3),
    "top_k": ({"scheme": "top_k", "k": 7, "bits": 16}, 3e-3, 1e-3),
    "sampled": ({"scheme": "sampled", "draws": 255}, 0.0, 0.05),
}


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["answer", "all"])
@pytest.mark.parametrize("name", SOFT)
def test_what_is_read_from_files_is_the_teachers_distribution(
    tmp_path: Path, words: Any, teacher: Any, name: str, tokens: str
) -> None:
    cache, relative, absolute = SOFT[name]
    settings = soft_spec(KD | {"tokens": tokens}, cache | {"tokens": tokens})
    rows = tiny.uneven_rows(words, 12)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
    initial = student(tmp_path, words)
    one = build_trainer(initial, files.shard, settings, "s", tmp_path, files.heads)
    terms = first_batch(one)
    model = AutoModelForCausalLM.from_pretrained(initial).eval()
    assert terms.keys() == {"ce", "forward_kl"}
    assert terms["ce"] == pytest.approx(cross_entropy_of(model, rows), rel=1e-5)
    each = []
    for row in rows:
        everywhere = tokens == "all"
        log_q = at_answers(teacher, row, everywhere).log_softmax(-1)
        log_s = at_answers(model, row, everywhere).log_softmax(-1)
        if name == "top_k":
            kept = log_q.topk(7)
            log_q, log_s = kept.values.log_softmax(-1), log_s.gather(1, kept.indices)
        each.append((log_q.exp() * (log_q - log_s)).sum(-1))
    expected = float(torch.cat(each).mean())
    assert expected > 0.1
    assert terms["forward_kl"] == pytest.approx(expected, rel=relative, abs=absolute)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_stored_layers_and_final_states_are_the_teachers(
    tmp_path: Path, words: Any, teacher: Any, tokens: str
) -> None:
    method = MATCHED | {"embedding": {}, "tokens": tokens}
    settings = soft_spec(method, EXACT | {"tokens": tokens, "hidden": LAYERS})
    rows = tiny.uneven_rows(words, 12)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
    initial = student(tmp_path, words)
    one = build_trainer(initial, files.shard, settings, "s", tmp_path, files.heads)
    terms = first_batch(one)
    projections = getattr(one.model, PROJECTIONS)
    model = AutoModelForCausalLM.from_pretrained(initial).eval()
    hidden, final = [], []
    for row in rows:
        ids = torch.tensor([list(row["prompt_ids"]) + list(row["response_ids"])])
        first = 0 if tokens == "all" else len(row["prompt_ids"]) - 1
        with torch.inference_mode():
            theirs = teacher(ids, output_hidden_states=True).hidden_states
            own = model(ids, output_hidden_states=True).hidden_states
            assert torch.equal(teacher(ids).logits, teacher.lm_head(theirs[3]))
            for mine, yours in ((1, 1), (2, 3)):
                shown = projections[f"layer_{mine}"](own[mine][0])
                hidden.append(((shown - theirs[yours][0]) ** 2).mean(-1)[first:-1])
            shown = projections["embedding"](own[-1][0])
            final.append(((shown - theirs[-1][0]) ** 2).mean(-1)[first:-1])
    assert terms["hidden"] == pytest.approx(float(torch.cat(hidden).mean()), rel=1e-3)
    assert terms["embedding"] == pytest.approx(float(torch.cat(final).mean()), rel=1e-3)


@pytest.mark.slow
def test_a_student_with_another_tokenizer_learns_by_uld_alone(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    other = tiny.tokenizer(chat=False, vocabulary=270)
    assert tokenizer_sha256(other) != tokenizer_sha256(words)
    rows = tiny.uneven_rows(words, 8)
    initial = teaching.small(tmp_path, other, vocabulary=270)
    settings = soft_spec({"ce": 0.5, "uld": 1.0}, {"scheme": "dense"}, batch_size=4, epochs=2)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
    one = build_trainer(initial, files.shard, settings, "s", tmp_path)
    terms = first_batch(one)
    model, each = AutoModelForCausalLM.from_pretrained(initial).eval(), []
    own = [
        dict(row) | {
            "prompt_ids": other(row["prompt"]).input_ids,
            "response_ids": [*other(row["response"]).input_ids, other.eos_token_id],
        }
        for row in rows
    ]  # fmt: skip
    for mine, row in zip(own, rows, strict=True):
        p = at_answers(teacher, row).softmax(-1).sort(descending=True).values
        s = at_answers(model, mine).softmax(-1).sort(descending=True).values
        length = min(len(p), len(s))
        wide = torch.nn.functional.pad(s, (0, 30))
        each.append((p[:length] - wide[:length]).abs().sum(-1))
    assert any(len(mine["response_ids"]) > len(row["response_ids"]) for mine, row in zip(own, rows, strict=True))  # fmt: skip  # noqa: E501
    assert terms["uld"] == pytest.approx(float(torch.cat(each).mean()), rel=3e-3)
    assert terms["ce"] == pytest.approx(cross_entropy_of(model, own), rel=1e-5)
    record, _ = finish(tmp_path / "out", settings, initial, files)
    assert record["terms"]["ce"][-1] < record["terms"]["ce"][0]
    for method in (KD, {"ce": 1.0, "uld": 1.0, "total_variation": 1.0}, MATCHED):
        cache = {"scheme": "top_k", "k": 3, "hidden": LAYERS} if method is MATCHED else {"scheme": "dense"}  # fmt: skip  # noqa: E501
        refused = soft_spec(method, cache)
        with pytest.raises(UserError, match=r"tokenizer is not the teacher's.*\(spans, uld\)"):
            build_trainer(initial, files.shard, refused, "s", tmp_path)


def spelled(words: Any, ids: Sequence[int]) -> list[str]:
    """Tokens in byte-level letters, and the end as a letter of its own."""
    found: list[str] = words.convert_ids_to_tokens(list(ids))
    return [*found[:-1], "\n"]


def common_ends(one: list[str], other: list[str]) -> list[tuple[int, int]]:
    return [
        (i, j)
        for i in range(len(one) + 1)
        for j in range(len(other) + 1)
        if "".join(one[:i]) == "".join(other[:j])
    ]


@pytest.mark.slow
def test_a_student_with_another_tokenizer_learns_by_aligned_spans(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    other = tiny.tokenizer(chat=False, vocabulary=270)
    rows = tiny.uneven_rows(words, 8)
    initial = teaching.small(tmp_path, other, vocabulary=270)
    settings = soft_spec({"spans": 1.0}, EXACT, batch_size=8, epochs=4)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, aligned=True)
    one = build_trainer(initial, files.shard, settings, "s", tmp_path, **files.given)
    terms = first_batch(one)
    model, total, tokens, kinds = AutoModelForCausalLM.from_pretrained(initial).eval(), 0.0, 0, []
    pairs = [(words.get_vocab()[word], own) for word, own in other.get_vocab().items()]
    for row in rows:
        mine = dict(row) | {
            "prompt_ids": other(row["prompt"]).input_ids,
            "response_ids": [*other(row["response"]).input_ids, other.eos_token_id],
        }
        p, s = at_answers(teacher, row).log_softmax(-1), at_answers(model, mine).log_softmax(-1)
        ends = common_ends(
            spelled(words, row["response_ids"]), spelled(other, mine["response_ids"])
        )
        assert ends[-1] == (len(p), len(s))
        for (a, b), (c, d) in itertools.pairwise(ends):
            kinds.append((c - a, d - b))
            if kinds[-1] == (1, 1):
                theirs, own = (
                    logs[[pair[n] for pair in pairs]] for n, logs in ((0, p[a]), (1, s[b]))
                )
                total += float((theirs.exp() * (theirs - own) - theirs.exp() + own.exp()).sum())
                continue
            theirs, own = (
                -logs[range(*at), each["response_ids"][slice(*at)]].sum()
                for logs, at, each in ((p, (a, c), row), (s, (b, d), mine))
            )
            total += float(own - theirs + theirs * (theirs / own).log())
        tokens += len(s)
    assert {(1, 1), (1, 2)} < set(kinds)
    assert terms["spans"] == pytest.approx(total / tokens, rel=3e-3)
    record, _ = finish(tmp_path / "out", settings, initial, files)
    assert record["terms"]["spans"][-1] < record["terms"]["spans"][0]
    assert record["spans"] == {
        "student_tokens": 1.0, "teacher_tokens": 1.0, "words": kinds.count((1, 1)) / len(kinds),
    }  # fmt: skip


@pytest.mark.slow
def test_spans_of_one_tokenizer_or_of_no_common_text_are_refused(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    rows = tiny.uneven_rows(words, 3)
    settings = soft_spec({"spans": 1.0}, EXACT)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, aligned=True)
    same = student(tmp_path, words)
    with pytest.raises(
        UserError, match="tokenizer is the teacher's, so spans has nothing to align"
    ):
        build_trainer(same, files.shard, settings, "s", tmp_path, **files.given)
    loud = [row | {"response": row["response"].upper(), "finish_reason": "length"} for row in rows]
    lost = teaching.teach(tmp_path / "b", settings["shard"], teacher, words, loud, aligned=True)
    other = teaching.small(tmp_path / "c", tiny.tokenizer(False, 270), vocabulary=270)
    with pytest.raises(UserError, match="no span of any answer in common, so spans has nothing"):
        build_trainer(other, lost.shard, settings, "s", tmp_path, **lost.given)


# What is saved.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "wider", "lora"),
    [
        ("llama", 0, None), ("llama-tied", 5, None), ("gpt2", 0, None), ("gemma2", 5, None),
        ("llama", 0, {"rank": 2}),
    ],
)  # fmt: skip
def test_the_teachers_head_on_projected_states_becomes_the_students(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch,
    kind: str, wider: int, lora: dict[str, Any] | None,
) -> None:  # fmt: skip
    rows, held_out = tiny.uneven_rows(words, 16), tiny.uneven_rows(words, 5)
    teacher = teaching.big(vocabulary=300 + wider)
    settings = soft_spec(
        {"embedding": {"head": "teacher"}}, batch_size=8, epochs=6 if lora else 2, lora=lora,
        learning_rate=1.0 if lora else 1e-2, early_stopping={"patience": 9},
        warmup_ratio=0.95 if lora else 0.0,  # whose rate grows until the last updates spoil it
    )  # fmt: skip
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, held_out)
    initial, kept = student(tmp_path, words, kind=kind), []
    finished = run.finished_model

    def watched(one: DistillationTrainer) -> Any:
        kept.append(getattr(one.model, PROJECTIONS)["embedding"].weight.detach().clone())
        return finished(one)

    monkeypatch.setattr(run, "finished_model", watched)
    record, weights = finish(tmp_path / "out", settings, initial, files)
    assert not [name for name in weights if PROJECTIONS in name]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert saved.config.vocab_size == len(saved.get_input_embeddings().weight) == 300 + wider
    assert saved.config.tie_word_embeddings is False
    assert saved.get_input_embeddings().weight.shape[1] == 16
    ids = torch.tensor([[*rows[0]["prompt_ids"], *rows[0]["response_ids"]]])
    with torch.inference_mode():
        hidden = saved.base_model(ids).last_hidden_state
        expected = hidden @ kept[0].T @ teacher.lm_head.weight.T
        logits = saved(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert lora or record["terms"]["embedding"][-1] < record["terms"]["embedding"][0]
    if lora:  # whose checkpoints hold the projection apart
        assert record["best_update"] < record["updates"]
    # The validation loss was that of the head that was saved, not of the one trained by nothing.
    best = min(entry["loss"] for entry in record["validation"])
    assert cross_entropy_of(saved, held_out) == pytest.approx(best, rel=1e-5)


@pytest.mark.slow
def test_adapters_are_merged_and_all_else_stays(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tiny.uneven_rows(words, 16)
    settings = soft_spec(KD, batch_size=4, learning_rate=1e-2, lora={"rank": 4})
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
    initial, out, adapted = student(tmp_path, words), tmp_path / "out", []
    ids = torch.tensor([[*rows[0]["prompt_ids"], *rows[0]["response_ids"]]])
    finished = run.finished_model

    def watched(one: DistillationTrainer) -> Any:
        free = [name for name, weight in one.model.named_parameters() if weight.requires_grad]
        assert free
        assert all("lora_" in name for name in free)
        with torch.inference_mode():
            adapted.append(one.model.eval()(ids).logits.clone())
        merged = finished(one)
        with torch.inference_mode():
            adapted.append(merged(ids).logits.clone())
        return merged

    monkeypatch.setattr(run, "finished_model", watched)
    record, weights = finish(out, settings, initial, files)
    assert record["losses"][-1] < record["losses"][0]
    assert not [path.name for path in out.iterdir() if "adapter" in path.name]
    before = load_file(initial / "model.safetensors")
    assert weights.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], weights[name])}
    linear = {name for name in before if "_proj" in name}
    assert changed == linear
    saved = AutoModelForCausalLM.from_pretrained(out, attn_implementation=GROUPED).eval()
    with torch.inference_mode():
        again = saved(ids).logits
    assert torch.equal(again, adapted[1])
    torch.testing.assert_close(again, adapted[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_checkpointed_activations_change_nothing_but_the_work(
    tmp_path: Path, words: Any, teacher: Any, lora: dict[str, Any] | None
) -> None:
    rows = tiny.uneven_rows(words, 8)
    cache, found, calls = {"scheme": "top_k", "k": 5, "hidden": LAYERS}, [], []
    initial = student(tmp_path, words)
    method = {"ce": 0.5, "forward_kl": 0.5, "hidden": {"layers": {1: 1, 2: 3}}}
    for saving in (False, True):
        settings = soft_spec(method, cache, batch_size=4, gradient_checkpointing=saving, lora=lora)
        files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:1])
        one = build_trainer(
            initial, files.shard, settings, "s", tmp_path, **files.given, keep=False
        )
        parts = dict(one.model.named_modules())
        layer = next(part for name, part in parts.items() if name.endswith("layers.0.self_attn"))
        seen: list[int] = []
        layer.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        one.train()
        calls.append(len(seen))
        found.append([entry["loss"] for entry in one.state.log_history if "loss" in entry])
    # Of them one for the validation text, and two of the trial of logits at some positions.
    assert calls == [2 + 1 + 2, 4 + 1 + 2]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.slow
def test_work_is_counted_by_passes(tmp_path: Path, words: Any, teacher: Any) -> None:
    rows = tiny.uneven_rows(words, 8)
    initial = student(tmp_path, words)

    def flops(method: dict[str, Any], cache: dict[str, Any], **settings: Any) -> int:
        asked = soft_spec(method, cache, batch_size=4, epochs=2, **settings)
        files = teaching.teach(tmp_path, asked["shard"], teacher, words, rows)
        one = build_trainer(initial, files.shard, asked, "s", tmp_path, files.heads)
        one.state.global_step = 4
        counted = run.counted_work(one, asked["train"])
        assert counted["tokens_seen"] == 2 * counted["tokens_unique"]
        return int(counted["train_flops"])

    top = {"scheme": "top_k", "k": 3}
    plain = flops(KD, top)
    model = FlopModel.from_model(AutoModelForCausalLM.from_pretrained(initial))
    sizes = [(len(row["prompt_ids"]), len(row["response_ids"])) for row in rows]
    assert plain == 2 * sum(model.sequence_training(p + a, a) for p, a in sizes)
    assert flops(KD, top, lora={"rank": 2}) * 3 == plain * 2
    assert flops(KD, top, gradient_checkpointing=True) * 3 == plain * 4
    answers = sum(a for _, a in sizes)
    assert flops(KD, EXACT) == plain + 2 * 2 * 32 * 300 * answers  # the teacher's head, twice
    embedding = flops({"embedding": {"head": "teacher"}}, EXACT)  # needs no logits
    assert embedding == plain - 2 * 3 * model.head_per_token * answers
    everywhere = flops(KD | {"tokens": "all"}, top | {"tokens": "all"})
    more = sum(p + a - 1 for p, a in sizes) - answers
    assert everywhere == plain + 2 * 3 * model.head_per_token * more


# Stopping, going on, and what is told on the way.


@pytest.mark.slow
def test_early_stopping_keeps_the_best_weights(tmp_path: Path, words: Any, teacher: Any) -> None:
    held_out = tiny.uneven_rows(words, 7)
    for row in held_out:  # unlike the training rows, so that learning those too well does harm
        row["response_ids"] = list(reversed(row["response_ids"]))
    settings = soft_spec(
        {"ce": 0.03, "forward_kl": 0.01}, batch_size=8, micro_batch_size=2, epochs=40,
        learning_rate=3e-2, schedule="constant", early_stopping={"patience": 3, "every": 2},
    )  # fmt: skip
    rows = tiny.uneven_rows(words, 8)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, held_out)
    record, weights = finish(tmp_path / "out", settings, student(tmp_path, words), files)
    updates = [entry["update"] for entry in record["validation"]]
    losses = [entry["loss"] for entry in record["validation"]]
    best = losses.index(min(losses))
    assert updates == [2 * (number + 1) for number in range(len(updates))]
    assert 0 < best < len(losses) - 1
    assert record["best_update"] == updates[best]
    assert record["updates"] == updates[-1] == updates[best] + 2 * 3
    assert record["updates"] < 40
    assert len(record["losses"]) == record["updates"]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert distance(weights, dict(saved.state_dict())) == 0
    assert cross_entropy_of(saved, held_out) == pytest.approx(losses[best], rel=1e-5)
    tokens = sum(len(row["response_ids"]) for row in rows)
    assert record["tokens_seen"] == tokens * record["updates"]


@pytest.mark.slow
def test_a_training_stops_at_max_updates(tmp_path: Path, words: Any) -> None:
    rows = tiny.uneven_rows(words, 12)
    settings = spec(batch_size=4, epochs=9, max_updates=4)
    record, _ = train(tmp_path / "out", rows, words, settings)
    assert record["updates"] == len(record["losses"]) == 4
    tokens = sum(len(row["response_ids"]) for row in rows)
    assert record["tokens_seen"] == round(tokens * 4 / 3)
    assert record["best_update"] is None


@pytest.mark.slow
def test_tensorboard_shows_every_term(tmp_path: Path, words: Any, teacher: Any) -> None:
    method = KD | {"jsd": 1.0, "embedding": {}, "hidden": {"layers": {1: 3}}}
    settings = soft_spec(
        method, EXACT | {"hidden": LAYERS}, batch_size=8, early_stopping={"patience": 1}
    )
    rows = tiny.uneven_rows(words, 16)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    record, _ = finish(tmp_path / "out", settings, student(tmp_path, words), files)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert record["terms"].keys() == {"ce", "forward_kl", "jsd", "embedding", "hidden"}
    for name, curve in record["terms"].items():
        shown = [event.value for event in events.Scalars(f"train/terms/{name}")]
        assert shown == pytest.approx(curve, rel=1e-6)
    shown = [event.value for event in events.Scalars("train/loss")]
    assert shown == pytest.approx(record["losses"], rel=1e-6)
    assert events.Scalars("eval/loss")[0].value == pytest.approx(record["validation"][0]["loss"])


def failing_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loss of the `number`-th micro-batch fail as a kill would."""
    compute, calls = DistillationTrainer.compute_loss, []

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return compute(*args, **named)

    monkeypatch.setattr(DistillationTrainer, "compute_loss", failing)


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    method, cache, more = RESUMED[name]
    settings = soft_spec(method, cache, batch_size=4, micro_batch_size=2, checkpoint_updates=2, learning_rate=1e-2, **more)  # fmt: skip  # noqa: E501
    rows = tiny.uneven_rows(words, 24)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    initial, out = student(tmp_path, words), tmp_path / "out"
    whole, expected = finish(tmp_path / "whole", settings, initial, files)
    with monkeypatch.context() as patch:
        failing_at(11, patch)  # in the sixth and last update
        with pytest.raises(KeyboardInterrupt):
            finish(out, settings, initial, files)
    assert not (out / "training.json").exists()
    # A kill while the next checkpoint is written leaves a part of it.
    shutil.copytree(out / "resume" / "checkpoint-4", out / "resume" / "checkpoint-6")
    (out / "resume" / "checkpoint-6" / "checksums.json").unlink()  # comes last
    (out / "resume" / "checkpoint-6" / "trainer_state.json").write_text('{"epoch": ')
    (out / "resume" / "checkpoint-8").mkdir()
    record, again = finish(out, settings, initial, files)
    assert record["resumed_from"] == "checkpoint-4"
    assert len(record["losses"]) == record["updates"] == 6
    for key in ("losses", "terms", "validation", "best_update"):
        assert record[key] == whole[key], key
    assert distance(expected, again) == 0.0
    assert not list((out / "resume").glob("checkpoint-*"))
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert list(shown.values()) == pytest.approx(whole["losses"], rel=1e-6)


@pytest.mark.slow
def test_dropout_and_order_go_on_in_the_middle_of_a_later_epoch(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout needs the random numbers, a decaying schedule and Adam their state, each row once."""
    settings = soft_spec(
        KD, batch_size=4, micro_batch_size=2, checkpoint_updates=2, epochs=3, learning_rate=1e-2,
        schedule="cosine", warmup_ratio=0.2, weight_decay=0.1,
    )  # fmt: skip
    rows = tiny.uneven_rows(words, 18)  # the last update of an epoch is a half one
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.3)
    initial, out = student(tmp_path, words, kind="gpt2", **dropout), tmp_path / "out"
    seen: list[tuple[int, list[list[int]]]] = []
    compute = DistillationTrainer.compute_loss

    def watched(one: DistillationTrainer, model: Any, inputs: Any, **named: Any) -> Any:
        assert model.training
        seen.append((one.state.global_step, inputs["input_ids"].tolist()))
        return compute(one, model, inputs, **named)

    monkeypatch.setattr(DistillationTrainer, "compute_loss", watched)
    whole, expected = finish(tmp_path / "whole", settings, initial, files)
    order, seen[:] = list(seen), []
    assert whole["updates"] == 15
    orders = [[ids for at, ids in order if at // 5 == epoch] for epoch in range(3)]
    assert orders[0] != orders[1]
    other, _ = finish(tmp_path / "other", settings | {"seed": 1}, initial, files)
    assert other["losses"] != whole["losses"]
    seen[:] = []
    with monkeypatch.context() as patch:
        failing_at(17, patch)  # the ninth update, in the second epoch
        with pytest.raises(KeyboardInterrupt):
            finish(out, settings, initial, files)
    seen[:] = []
    record, again = finish(out, settings, initial, files)
    assert record["resumed_from"] == "checkpoint-8"
    assert seen == [each for each in order if each[0] >= 8]
    assert record["losses"] == whole["losses"]
    assert distance(expected, again) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_damaged_checkpoint_is_named_and_mended_by_deleting_it(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    settings = spec(batch_size=4, checkpoint_updates=2)
    files = teaching.teach(tmp_path, settings["shard"], None, words, tiny.uneven_rows(words, 16))
    initial, out = student(tmp_path, words), tmp_path / "out"
    whole, expected = finish(tmp_path / "whole", settings, initial, files)
    with monkeypatch.context() as patch:
        failing_at(4, patch)
        with pytest.raises(KeyboardInterrupt):
            finish(out, settings, initial, files)
    damaged = out / "resume" / "checkpoint-2" / file
    content = damaged.read_bytes()
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    for wrong in (bytes(altered), content[: len(content) // 2]):
        damaged.write_bytes(wrong)
        sentence = rf"{damaged} is not as it was written .*; delete {out / 'resume'} and run"
        with pytest.raises(UserError, match=sentence):
            finish(out, settings, initial, files)
        assert damaged.read_bytes() == wrong  # left for a look
    shutil.rmtree(out / "resume")
    record, again = finish(out, settings, initial, files)
    assert record["resumed_from"] is None
    assert record["losses"] == whole["losses"]
    assert distance(expected, again) == 0.0


@pytest.mark.slow
def test_a_damaged_input_costs_no_earlier_student(tmp_path: Path, words: Any) -> None:
    settings = spec(batch_size=4)
    files = teaching.teach(tmp_path, settings["shard"], None, words, tiny.uneven_rows(words, 8))
    initial, out = student(tmp_path, words), tmp_path / "out"
    write_json(initial / "manifest.json", {"schema": 1, "files": list_files(initial)})
    _, weights = finish(out, settings, initial, files)
    (out / "metrics.json").write_text("{}")
    listed = {entry["name"]: entry["sha256"] for entry in read_json(out / "training.json")["files"]}
    assert listed["model.safetensors"] == sha256_of(out / "model.safetensors")
    assert {"config.json", "tokenizer.json"} < set(listed)
    for damaged in (files.shard, initial / "model.safetensors"):
        content = damaged.read_bytes()
        damaged.write_bytes(content[:-9])
        with pytest.raises(UserError, match=rf"{damaged} is not .* delete .* run the workflow"):
            finish(out, settings, initial, files, tag="another")
        damaged.write_bytes(content)
        assert (out / "metrics.json").exists()
        assert distance(load_file(out / "model.safetensors"), weights) == 0.0


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_never_saved(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = run.finished_model

    def spoilt(trainer: Any) -> Any:
        """As by a last update whose gradient overflowed: no loss has seen it."""
        model = finished(trainer)
        model.get_input_embeddings().weight.data[0, 0] = torch.nan
        return model

    monkeypatch.setattr(run, "finished_model", spoilt)
    with pytest.raises(UserError, match=r"a weight of small at n = \d+ became NaN or infinite"):
        train(tmp_path / "out", tiny.uneven_rows(words, 4), words, spec())
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_training_whose_end_was_not_noted_is_not_done_again(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow may die between a job's end and its note of that; it deletes outputs first."""
    rows, settings = tiny.uneven_rows(words, 8), spec(batch_size=4)
    out = tmp_path / "out"
    record, weights = train(out, rows, words, settings)
    for name in ("model.safetensors", "config.json", "README.md", "training.json"):
        (out / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run, "build_trainer", lambda *_, **__: pytest.fail("trained again"))
        again, same = train(out, rows, words, settings)
    assert again == record
    assert distance(weights, same) == 0.0
    AutoModelForCausalLM.from_pretrained(out)
    (out / "resume" / "finished" / "record.json").unlink()  # killed while it was saved
    (out / "resume" / "finished" / "rest.bin").write_text("")
    _, anew = train(out, rows, words, settings)
    assert distance(weights, anew) == 0.0
    assert not (out / "rest.bin").exists()


@pytest.mark.slow
def test_seconds_and_energy_of_a_resumed_training_are_those_of_all_its_updates(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, settings = tiny.uneven_rows(words, 24), spec(batch_size=4, checkpoint_updates=4)
    step, used = DistillationTrainer.training_step, [5.0]

    def slow(*args: Any, **named: Any) -> Any:
        time.sleep(0.3)
        used[0] += 2 * JOULES_PER_KWH
        return step(*args, **named)

    monkeypatch.setattr(meter, "find_counters", lambda: [Counter(lambda: used[0], measured=True)])

    monkeypatch.setattr(DistillationTrainer, "training_step", slow)
    began = time.perf_counter()
    with monkeypatch.context() as patch:
        failing_at(6, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out", rows, words, settings)
    record, _ = train(tmp_path / "out", rows, words, settings)
    assert record["resumed_from"] == "checkpoint-4"
    assert 6 * 0.3 < record["train_seconds"] < time.perf_counter() - began
    assert record["energy_kwh"] == pytest.approx(6 * 2)
    assert (record["energy_from"], record["energy_watts_per_cpu"]) == ("measured", None)


@pytest.mark.slow
def test_energy_that_was_unknown_in_an_earlier_try_stays_unknown(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, settings = tiny.uneven_rows(words, 12), spec(batch_size=4, checkpoint_updates=1)
    with monkeypatch.context() as patch:
        patch.setattr(meter, "find_counters", lambda: [Counter(lambda: None, measured=True)])
        failing_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out", rows, words, settings)
    record, _ = train(tmp_path / "out", rows, words, settings)
    assert record["resumed_from"] == "checkpoint-2"
    assert (record["energy_kwh"], record["energy_from"]) == (None, None)
    assert record["train_seconds"] > 0


@pytest.mark.slow
def test_the_log_says_what_was_chosen_for_the_machine(
    tmp_path: Path, words: Any, teacher: Any, caplog: pytest.LogCaptureFixture
) -> None:
    method, cache, more = RESUMED["soft"]
    settings = soft_spec(method, cache, batch_size=4, micro_batch_size=2, **more)
    rows = tiny.uneven_rows(words, 4)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    with caplog.at_level(logging.INFO):
        finish(tmp_path / "out", settings, student(tmp_path, words), files)
    assert f"device cpu, precision fp32, attention {GROUPED}, optimizer adamw_torch" in caplog.text
    assert "2 rows x 2 an update" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("every", "kept"), [(2, [2, 4, 6]), (5, [5, 6]), (6, []), (500, [])])
def test_a_run_shorter_than_the_interval_has_no_checkpoint(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch,
    every: int, kept: list[int],
) -> None:  # fmt: skip
    method, cache, more = RESUMED["soft"]
    settings = soft_spec(method, cache, batch_size=4, checkpoint_updates=every, **more)
    rows = tiny.uneven_rows(words, 24)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    save, saved = DistillationTrainer._save_checkpoint, list[int]()

    def saving(self: Any, *args: Any, **named: Any) -> Any:
        saved.append(self.state.global_step)
        return save(self, *args, **named)

    monkeypatch.setattr(DistillationTrainer, "_save_checkpoint", saving)
    record, _ = finish(tmp_path / "out", settings, student(tmp_path, words), files)
    assert (saved, record["updates"]) == (kept, 6)


@pytest.mark.parametrize(
    ("name", "number"),
    [("projections", signal.SIGTERM), ("stopping", signal.SIGTERM), ("soft", signal.SIGINT)],
)
@pytest.mark.slow
def test_a_training_told_to_stop_saves_what_it_has_and_goes_on(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch,
    name: str, number: signal.Signals,
) -> None:  # fmt: skip
    """As SLURM tells it before the time limit; no checkpoint is due before the end."""
    method, cache, more = RESUMED[name]
    settings = soft_spec(method, cache, batch_size=4, micro_batch_size=2, learning_rate=1e-2, **more)  # fmt: skip  # noqa: E501
    rows = tiny.uneven_rows(words, 24)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    initial, out = student(tmp_path, words), tmp_path / "out"
    whole, expected = finish(tmp_path / "whole", settings, initial, files)
    compute, calls = DistillationTrainer.compute_loss, list[int]()
    before = signal.getsignal(number)

    def told(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:  # in the third update
            os.kill(os.getpid(), number)
        return compute(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", told)
        with pytest.raises(UserError, match=rf"{number.name}\) after 3 of 6 updates; the"):
            finish(out, settings, initial, files)
    assert len(calls) == 6
    assert signal.getsignal(number) is before
    assert not (out / "training.json").exists()
    record, again = finish(out, settings, initial, files)
    assert record["resumed_from"] == "checkpoint-3"
    for key in ("losses", "terms", "validation", "best_update"):
        assert record[key] == whole[key], key
    assert distance(expected, again) == 0.0


@pytest.mark.slow
def test_another_spec_begins_anew(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, settings = tiny.uneven_rows(words, 24), spec(batch_size=4, checkpoint_updates=2)
    with monkeypatch.context() as patch:
        failing_at(6, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out", rows, words, settings)
    assert (tmp_path / "out" / "resume" / "checkpoint-4").exists()
    record, _ = train(tmp_path / "out", rows, words, settings, tag="other")
    assert record["resumed_from"] is None
    assert record["updates"] == 6


@pytest.fixture(scope="module")
def stopped(words: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training that stopped early: settings, student, files, record and weights."""
    gc.freeze()
    folder = tmp_path_factory.mktemp("stopped")
    rows = tiny.uneven_rows(words, 8)
    other = [row | {"response_ids": list(reversed(row["response_ids"]))} for row in rows]
    settings = spec(
        batch_size=8, epochs=30, learning_rate=5e-2, schedule="constant",
        early_stopping={"patience": 3, "every": 1},
    )  # fmt: skip
    files = teaching.teach(folder, settings["shard"], None, words, rows, other)
    initial = student(folder, words)
    return settings, initial, files, *finish(folder / "whole", settings, initial, files)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["last update", "_load_best_model", "finished_model"])
def test_early_stopping_survives_a_kill(
    tmp_path: Path, stopped: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Killed when its patience is all but spent, or between the last update and the saving."""
    settings, initial, files, whole, expected = stopped
    out, last = tmp_path / "out", whole["updates"]
    assert whole["best_update"] + 3 == last < 30

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "last update":
            failing_at(last, patch)
        elif place == "finished_model":
            patch.setattr(run, place, killed)
        else:
            patch.setattr(DistillationTrainer, place, killed)
        with pytest.raises(KeyboardInterrupt):
            finish(out, settings, initial, files)
    record, again = finish(out, settings, initial, files)
    found = {"last update": last - 1, "_load_best_model": last, "finished_model": last}
    assert record["resumed_from"] == f"checkpoint-{found[place]}"
    for key in ("updates", "losses", "validation", "best_update", "train_flops"):
        assert record[key] == whole[key], key
    assert distance(expected, again) == 0.0


def test_preparing_keeps_a_matching_checkpoint_only(tmp_path: Path) -> None:
    for tag, kept in (("mine", True), ("other", False)):
        (tmp_path / "resume" / "checkpoint-2").mkdir(parents=True, exist_ok=True)
        (tmp_path / "resume" / "tag.txt").write_text("mine")
        (tmp_path / "model.safetensors").write_text("old")
        resume = prepare_folder(tmp_path, tag)
        assert (resume / "checkpoint-2").exists() is kept
        assert (resume / "tag.txt").read_text() == tag
        assert [path.name for path in tmp_path.iterdir()] == ["resume"]


@pytest.mark.slow
def test_a_students_folder_holds_model_card_and_record_and_nothing_stale(
    tmp_path: Path, words: Any
) -> None:
    folder = tmp_path / "out"
    (folder / "old").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "resume" / "checkpoint-9").mkdir(parents=True)
    (folder / "resume" / "tag.txt").write_text("another spec")
    rows = tiny.uneven_rows(words, 8)
    settings = spec(epochs=3, batch_size=4, checkpoint_updates=2)
    record, weights = train(folder, rows, words, settings, samples=8, seed=0)
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    assert {"training.json", "tensorboard"} <= names
    assert not {"adapter_config.json", "old"} & names
    assert {path.name for path in (folder / "resume").iterdir()} == {"finished", "tag.txt"}
    assert "# small after 8 responses of big" in (folder / "README.md").read_text()
    tokens = sum(len(row["response_ids"]) for row in rows)
    assert record["tokens_unique"] == tokens
    assert record["tokens_seen"] == 3 * tokens
    assert record["updates"] == len(record["losses"]) == 6
    assert record["losses"] == record["terms"]["ce"]
    assert record["resumed_from"] is None
    assert record["spec"] == json.loads(json.dumps(settings))
    assert record["train_flops"] > 6 * 3 * tokens * 16 * 300  # the head alone takes as much
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert distance({key: saved[key] for key in weights}, weights) == 0.0


def test_the_untrained_student_is_saved_as_it_is(tmp_path: Path, words: Any) -> None:
    initial = student(tmp_path, words)
    settings = {"formatting": FORMATTING}
    record, weights = finish(tmp_path / "out", settings, initial, None, samples=0, method="none")
    assert distance(weights, load_file(initial / "model.safetensors")) == 0.0
    zero = ("updates", "tokens_seen", "tokens_unique", "train_flops", "train_seconds")
    assert [record[key] for key in zero] == [0, 0, 0, 0, 0]
    assert (record["energy_kwh"], record["energy_from"]) == (0.0, None)
    assert "after 0 responses" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_a_user_error(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tiny.uneven_rows(words, 16)
    settings = spec(batch_size=4, epochs=9)
    settings["train"]["learning_rate"] = 1e30  # a config has at most 1
    seen: list[int] = []
    step = DistillationTrainer.training_step

    def counted(*args: Any, **named: Any) -> Any:
        seen.append(1)
        return step(*args, **named)

    monkeypatch.setattr(DistillationTrainer, "training_step", counted)
    with pytest.raises(UserError, match=r"became NaN or infinite; lower train\.learning_rate"):
        train(tmp_path / "out", rows, words, settings)
    assert not (tmp_path / "out" / "training.json").exists()
    assert len(seen) < 9 * 4  # nothing is computed with weights that are lost


@pytest.mark.slow
def test_a_validation_loss_that_is_no_number_is_a_user_error(tmp_path: Path, words: Any) -> None:
    rows = tiny.uneven_rows(words, 4)
    settings = spec(early_stopping={"patience": 1})
    settings["train"]["learning_rate"] = 1e30
    files = teaching.teach(tmp_path, settings["shard"], None, words, rows, rows)
    with pytest.raises(UserError, match=r"became NaN or infinite; lower train\.learning_rate"):
        finish(tmp_path / "out", settings, student(tmp_path, words), files)


def test_a_student_whose_context_is_too_short_is_a_user_error(tmp_path: Path, words: Any) -> None:
    student(tmp_path, words, max_position_embeddings=16)
    with pytest.raises(UserError, match="small reads at most 16 tokens"):
        train(tmp_path / "out", tiny.uneven_rows(words, 4), words, spec())


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 trains on a GPU")
def test_half_precision_needs_a_gpu(tmp_path: Path, words: Any) -> None:
    with pytest.raises(UserError, match=r"fp16 needs a GPU to train; set train\.precision to"):
        train(tmp_path / "out", tiny.uneven_rows(words, 4), words, spec(precision="fp16"))


@pytest.mark.slow
def test_a_layer_that_the_student_lacks_is_a_user_error(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    cache = {"scheme": "top_k", "k": 3, "hidden": LAYERS}
    settings = soft_spec({"ce": 1.0, "hidden": {"layers": {3: 1}}}, cache)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, tiny.uneven_rows(words, 4))
    with pytest.raises(UserError, match=r"small has layers 0 to 2 but .* layer 3; correct hidden"):
        finish(tmp_path / "out", settings, student(tmp_path, words), files)


@pytest.mark.slow
def test_mixed_precision_gives_nearly_the_same_loss(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    rows, found = tiny.uneven_rows(words, 8), []
    for precision in ("fp32", "bf16"):
        settings = soft_spec(KD, batch_size=4, precision=precision)
        files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows)
        record, weights = finish(tmp_path / precision, settings, student(tmp_path, words), files)
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        assert record["precision"] == precision
        found.append(record)
    assert found[0]["losses"] != found[1]["losses"]
    for name in ("ce", "forward_kl"):
        assert found[1]["terms"][name] == pytest.approx(found[0]["terms"][name], rel=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "rate"), [(None, 1e-3), ({"at": 64, "power": -0.5}, 2e-3)])
def test_the_learning_rate_follows_the_width(
    tmp_path: Path, words: Any, teacher: Any, rule: dict[str, float] | None, rate: float
) -> None:
    settings = teaching.spec_of(teaching.plan({"ce": 1.0}, train={"width_rule": rule}))
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, tiny.uneven_rows(words, 16))
    record, _ = finish(tmp_path / "out", settings, student(tmp_path, words), files)
    assert record["learning_rate"] == pytest.approx(rate)
