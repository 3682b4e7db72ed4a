import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainingArguments

import tiny
from distill import training
from distill.attention import GROUPED
from distill.encoding import Example, collate, encode_rows
from distill.files import UserError
from distill.sampling import Decoding, sample_batch
from distill.tokens import tokenizer_sha256
from distill.training import DistillationTrainer, train_student

FORMATTING = {"template": "{prompt}", "system": None}
RUN = {
    "study": "demo",
    "student": "small",
    "teacher": "big",
    "init": "random",
    "method": "sft",
    "samples": 16,
    "draw": 0,
    "seed": 0,
}


def spec(seed: int = 0, **train: Any) -> dict[str, Any]:
    settings = {
        "epochs": 1,
        "batch_size": 16,
        "micro_batch_size": None,
        "learning_rate": 1e-3,
        "schedule": "linear",
        "warmup_ratio": 0.0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_length": 200,
        "precision": "fp32",
        "checkpoint_updates": 0,
    }
    return {
        "formatting": FORMATTING,
        "method": {"ce": 1.0},
        "train": settings | train,
        "seed": seed,
    }


def train(
    folder: Path,
    rows: list[dict[str, Any]] | None,
    words: Any,
    settings: dict[str, Any],
    **run: Any,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Train a tiny model; its record and weights."""
    initial = folder.parent / "initial"
    if not initial.exists():
        tiny.save(initial, tiny.model("llama", initializer_range=0.05), words)
    shard = None
    if rows is not None:
        shard = tiny.shard(folder.parent / f"{folder.name}.parquet", words, rows)
    tag = run.pop("tag", "tag")
    train_student(initial, shard, folder / "training.json", settings, RUN | run, tag)
    record = json.loads((folder / "training.json").read_text())
    return record, load_file(folder / "model.safetensors")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return math.sqrt(sum(float(((one[k] - other[k]) ** 2).sum()) for k in one))


@pytest.fixture(scope="module")
def words() -> Any:
    return tiny.tokenizer(chat=False)


def test_eos_is_learned_although_padding_is_eos_too(tmp_path: Path, words: Any) -> None:
    eos = words.eos_token_id
    assert words.pad_token_id == eos
    rows = [tiny.text_row(words, n, f"{n}:", "Yes." * (1 + n % 3)) for n in range(24)]
    examples = encode_rows(rows, words, FORMATTING, tokenizer_sha256(words), 200)
    labels = collate(examples, words.pad_token_id)["labels"]
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

    settings = spec(epochs=20, batch_size=8, learning_rate=1e-2)
    record, _ = train(tmp_path / "out", rows, words, settings)
    assert stopped(tmp_path / "initial") == 0
    assert stopped(tmp_path / "out") == 24
    assert record["losses"][-1] < 0.5 * record["losses"][0]


def test_accumulated_micro_batches_equal_one_batch(tmp_path: Path, words: Any) -> None:
    rows = tiny.uneven_rows(words, 48)
    lengths = [len(row["response_ids"]) for row in rows]
    assert max(lengths) > 8 * min(lengths)
    whole, one = train(tmp_path / "whole", rows, words, spec())
    split, other = train(tmp_path / "split", rows, words, spec(micro_batch_size=2))
    assert whole["updates"] == split["updates"] == 3
    assert split["losses"] == pytest.approx(whole["losses"], abs=1e-4)
    moved = distance(load_file(tmp_path / "initial" / "model.safetensors"), one)
    assert moved > 0.1
    assert distance(one, other) < 1e-3 * moved


def trainer(folder: Path, model: Any, **method: float) -> DistillationTrainer:
    return DistillationTrainer(
        method or {"ce": 1.0},
        bf16=False,
        model=model,
        args=TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[]),
    )


def some_examples(words: Any) -> list[Example]:
    rows = tiny.uneven_rows(words, 5)
    return encode_rows(rows, words, FORMATTING, tokenizer_sha256(words), 200)


@pytest.mark.parametrize("attention", [GROUPED, "sdpa"])
def test_the_loss_is_that_of_the_answers_tokens_alone(
    tmp_path: Path, words: Any, attention: str
) -> None:
    model = tiny.model("llama", attention=attention)
    examples = some_examples(words)
    batch = collate(examples, words.pad_token_id)
    ours = trainer(tmp_path, model).compute_loss(model, batch).item()
    names = ("input_ids", "attention_mask", "labels")
    assert ours == pytest.approx(model(**{key: batch[key] for key in names}).loss.item(), rel=1e-5)
    nats, tokens = 0.0, 0
    for example in examples:
        logs = model(torch.tensor([example.prompt + example.answer])).logits[0].log_softmax(-1)
        for place, token in enumerate(example.answer, len(example.prompt)):
            nats -= logs[place - 1, token].item()
            tokens += 1
    assert ours == pytest.approx(nats / tokens, rel=1e-5)
    half = trainer(tmp_path, model, ce=0.5).compute_loss(model, batch).item()
    assert half == pytest.approx(ours / 2)
    of_more = trainer(tmp_path, model).compute_loss(
        model, batch, num_items_in_batch=torch.tensor(2 * tokens)
    )
    assert of_more.item() == pytest.approx(ours / 2)


def test_what_stands_in_the_padding_changes_nothing(tmp_path: Path, words: Any) -> None:
    model = tiny.model("llama", attention=GROUPED)
    examples = some_examples(words)
    assert len({len(example.prompt + example.answer) for example in examples}) > 1
    found = []
    for pad in (0, 5, 250):
        model.zero_grad()
        loss = trainer(tmp_path, model).compute_loss(model, collate(examples, pad))
        loss.backward()
        found.append((loss.item(), model.lm_head.weight.grad.clone()))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, found[0][1])


def test_labels_are_the_answers_places() -> None:
    batch = collate([Example([7, 8], [9, 0]), Example([7], [4])], pad=0)
    assert batch["input_ids"].tolist() == [[7, 8, 9, 0], [7, 4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 9, 0], [-100, 4, -100, -100]]
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


def test_a_seed_gives_the_same_weights_again_and_another_seed_another_order(
    tmp_path: Path, words: Any
) -> None:
    rows = tiny.uneven_rows(words, 16)
    settings = spec(batch_size=4, epochs=2)
    first, one = train(tmp_path / "one", rows, words, settings)
    _, two = train(tmp_path / "two", rows, words, settings)
    third, three = train(tmp_path / "three", rows, words, settings | {"seed": 1})
    assert distance(one, two) == 0.0
    assert distance(one, three) > 0.0
    assert first["losses"][0] != third["losses"][0]


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
    assert not {"adapter_config.json", "old", "resume", "saving"} & names
    assert "# small after 8 responses of big" in (folder / "README.md").read_text()
    tokens = sum(len(row["response_ids"]) for row in rows)
    assert record["tokens_unique"] == tokens
    assert record["tokens_seen"] == 3 * tokens
    assert record["updates"] == len(record["losses"]) == 6
    assert record["resumed_from"] is None
    assert record["spec"] == settings
    assert record["train_flops"] > 6 * 3 * tokens * 32 * 300  # the head alone takes as much
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert distance({key: saved[key] for key in weights}, weights) == 0.0


def test_the_untrained_student_is_saved_as_it_is(tmp_path: Path, words: Any) -> None:
    settings = {"formatting": FORMATTING}
    record, weights = train(tmp_path / "out", None, words, settings, samples=0, method="none")
    assert distance(weights, load_file(tmp_path / "initial" / "model.safetensors")) == 0.0
    zero = ("updates", "tokens_seen", "tokens_unique", "train_flops", "train_seconds")
    assert [record[key] for key in zero] == [0, 0, 0, 0, 0]
    assert "after 0 responses" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("tag", "resumed"), [("tag", "checkpoint-4"), ("other", None)])
def test_a_killed_training_goes_on_where_it_was(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch, tag: str, resumed: str | None
) -> None:
    rows = tiny.uneven_rows(words, 24)
    settings = spec(batch_size=4, checkpoint_updates=2)
    _, whole = train(tmp_path / "whole", rows, words, settings)
    compute, calls = DistillationTrainer.compute_loss, []

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return compute(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", failing)
        with pytest.raises((KeyboardInterrupt, UserError)):
            train(tmp_path / "out", rows, words, settings)
    assert not (tmp_path / "out" / "training.json").exists()
    record, again = train(tmp_path / "out", rows, words, settings, tag=tag)
    assert record["resumed_from"] == resumed
    assert len(record["losses"]) == record["updates"] == 6
    assert distance(whole, again) == 0.0


def test_preparing_keeps_a_matching_checkpoint_only(tmp_path: Path) -> None:
    for tag, kept in (("mine", True), ("other", False)):
        (tmp_path / "resume" / "checkpoint-2").mkdir(parents=True, exist_ok=True)
        (tmp_path / "resume" / "tag.txt").write_text("mine")
        (tmp_path / "model.safetensors").write_text("old")
        resume = training._prepare_folder(tmp_path, tag)
        assert (resume / "checkpoint-2").exists() is kept
        assert (resume / "tag.txt").read_text() == tag
        assert [path.name for path in tmp_path.iterdir()] == ["resume"]


def test_a_loss_that_is_no_number_is_a_user_error(tmp_path: Path, words: Any) -> None:
    rows = tiny.uneven_rows(words, 16)
    settings = spec(batch_size=4, learning_rate=1e30)
    with pytest.raises(UserError, match=r"became NaN or infinite; lower train\.learning_rate"):
        train(tmp_path / "out", rows, words, settings)
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_student_whose_context_is_too_short_is_a_user_error(tmp_path: Path, words: Any) -> None:
    small = tiny.model("llama", max_position_embeddings=16)
    tiny.save(tmp_path / "initial", small, words)
    with pytest.raises(UserError, match="small reads at most 16 tokens"):
        train(tmp_path / "out", tiny.uneven_rows(words, 4), words, spec())


def test_mixed_precision_gives_nearly_the_same_loss(tmp_path: Path, words: Any) -> None:
    model = tiny.model("llama", attention=GROUPED)
    batch = collate(some_examples(words), words.pad_token_id)
    single = trainer(tmp_path, model)
    mixed = trainer(tmp_path, model)
    mixed.bf16 = True
    found = []
    for one in (single, mixed):
        with one.compute_loss_context_manager():
            loss, output = one.compute_loss(model, batch, return_outputs=True)
        found.append((loss, output.logits.dtype))
    assert [dtype for _, dtype in found] == [torch.float32, torch.bfloat16]
    assert found[1][0].item() == pytest.approx(found[0][0].item(), rel=2e-2)
    assert partial(collate, pad=0)([Example([1], [2])])["labels"].tolist() == [[-100, 2]]
