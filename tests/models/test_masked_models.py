"""Masked models: scoring, caches, the loss of training, evaluation and timing, by brute force."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import corpus_inputs
import masked_rows
import teaching
import tiny
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.evaluation.corpus import evaluate_on_corpus, one_at_a_time, pseudo_metrics
from distill.evaluation.held_out import held_out
from distill.evaluation.latency import measure_encoder
from distill.models.building import build_student, empty_student
from distill.models.encoding import OTHER_TOKENS, collate, encode_rows
from distill.models.flops import FlopModel
from distill.models.forward import run_model
from distill.models.heads import hidden_states, load_head
from distill.models.masking import Special, true_ids
from distill.models.opening import check_kind, load_model
from distill.models.rows import Example
from distill.models.tokenizers import load_tokenizer
from distill.targets.layers import layer_states
from distill.teacher.scoring import score_text
from distill.training.batches import Item, TargetReader
from distill.training.objective import Objective

FORMATTING = {"template": "{prompt}", "system": None}


@pytest.fixture(scope="module")
def words() -> Any:
    return corpus_inputs.wordpiece()


@pytest.fixture(scope="module")
def rows(words: Any) -> list[dict[str, Any]]:
    return masked_rows.rows(words, 9)


def log_probabilities(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """log p at the masked places of a row, alone in its batch, float64."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row["prompt_ids"]])).logits[0, row["positions"]]
    return torch.log_softmax(logits.double(), -1)


def nats(model: Any, row: dict[str, Any]) -> float:
    logs = log_probabilities(model, row)
    return float(-logs.gather(1, torch.tensor(row["response_ids"]).unsqueeze(1)).sum())


def test_a_batch_holds_labels_where_tokens_are_to_be_found(words: Any, rows: list[Any]) -> None:
    examples = encode_rows(rows, words, FORMATTING, tokenizer_sha256(words), 64)
    batch = collate(examples, words.pad_token_id)
    for number, row in enumerate(rows):
        own = batch["shift_labels"][number]
        assert torch.nonzero(own != -100).flatten().tolist() == row["positions"]
        assert own[row["positions"]].tolist() == row["response_ids"]
        read = int(batch["attention_mask"][number].sum())
        assert batch["input_ids"][number, :read].tolist() == row["prompt_ids"]


def test_chunks_in_other_tokens_are_refused(plain: Any, rows: list[Any], words: Any) -> None:
    with pytest.raises(UserError) as error:
        encode_rows(rows, plain, FORMATTING, tokenizer_sha256(words), 64)
    assert str(error.value) == OTHER_TOKENS


def test_masked_chunks_and_causal_models_do_not_meet(plain: Any, rows: list[Any]) -> None:
    masked = corpus_inputs.masked_model()
    masked.config.architectures = ["BertForMaskedLM"]
    check_kind(masked.config, rows, "bert")
    check_kind(tiny.config("gpt2"), tiny.uneven_rows(plain, 2), "gpt2")
    with pytest.raises(UserError, match=r"gpt2 is a causal .* name a masked model such as BERT"):
        check_kind(tiny.config("gpt2"), rows, "gpt2")
    with pytest.raises(UserError, match=r"bert is a masked .* name a causal model"):
        check_kind(masked.config, tiny.uneven_rows(plain, 2), "bert")


def test_states_are_those_that_the_output_matrix_gets(rows: list[Any]) -> None:
    model = corpus_inputs.masked_model()
    flops, width = FlopModel.from_model(model), 32
    matrix = model.get_output_embeddings()
    for row, made in zip(rows, score_text(model, rows, batch_size=4), strict=True):
        states = hidden_states(made["hidden"], width).float()
        assert made["tokens"] == len(states) == len(row["positions"])
        logits = torch.nn.functional.linear(states, matrix.weight, matrix.bias)
        found, exact = torch.log_softmax(logits, -1), log_probabilities(model, row)
        assert float((exact.exp() * (exact - found)).sum(1).max()) < 1e-3
        kept, length = len(row["positions"]), len(row["prompt_ids"])
        # Body, and the head's own layer (32 x 32) at the places kept; not its matrix.
        assert made["flops"] == flops.sequence_forward(length, 0) + 2 * 32 * 32 * kept


def test_layers_are_kept_at_masked_places(rows: list[Any]) -> None:
    model = corpus_inputs.masked_model()
    for row, made in zip(rows, layer_states(model, rows, [0, 3], "answer"), strict=True):
        with torch.inference_mode():
            ids = torch.tensor([row["prompt_ids"]])
            hidden = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states
        expected = torch.stack([hidden[layer][0, row["positions"]] for layer in (0, 3)], 1)
        torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["final_hidden", "dense"])
def test_training_minimises_kl_and_matches_the_last_layer(
    tmp_path: Path, words: Any, rows: list[Any], scheme: str
) -> None:
    teacher = corpus_inputs.masked_model(seed=1)
    method = {"ce": 0.5, "forward_kl": 2.0, "hidden": {"weight": 0.1, "layers": {"last": 3}}}
    cache = {"scheme": scheme, "hidden": {"layers": [3], "bits": 16}}
    plan = teaching.plan(method, cache)
    spec = teaching.spec_of(plan)
    files = teaching.teach(tmp_path, spec["shard"], teacher, words, rows)
    shard = teaching.shard_rows(files)
    assert [row["positions"] for row in shard] == [row["positions"] for row in rows]
    head = load_head(files.heads[0], torch.device("cpu")) if files.heads else None
    objective = Objective(spec["method"], spec["shard"]["cache"], head)
    reader = TargetReader(spec["method"], spec["shard"]["cache"], 300, 32)
    examples = encode_rows(shard, words, FORMATTING, tokenizer_sha256(words), 64)
    items = [Item(example, row) for example, row in zip(examples, shard, strict=True)]
    batch = reader.collate(items, words.pad_token_id)
    student = corpus_inputs.masked_model(seed=2, hidden_size=16, num_hidden_layers=2)
    torch.manual_seed(0)
    projections = objective.projections(16, 32)
    with torch.inference_mode():
        output = run_model(
            student, objective.logit_positions(batch), input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"], output_hidden_states=True,
        )  # fmt: skip
        loss, terms = objective(
            output.logits, output.hidden_states, projections, batch, objective.counts([batch])
        )
    tokens = sum(len(row["positions"]) for row in rows)
    ce = sum(nats(student, row) for row in rows) / tokens
    kl, gap = 0.0, 0.0
    for row in rows:
        p, s = log_probabilities(teacher, row), log_probabilities(student, row)
        kl += float((p.exp() * (p - s)).sum()) / tokens
        with torch.inference_mode():
            ids = torch.tensor([row["prompt_ids"]])
            theirs = teacher.base_model(input_ids=ids, output_hidden_states=True).hidden_states[3]
            own = student.base_model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
            own = projections["layer_last"](own[0, row["positions"]])
        gap += float(((own - theirs[0, row["positions"]]) ** 2).mean(1).sum()) / tokens
    assert float(terms["ce"]) == pytest.approx(ce, rel=1e-4)
    assert float(terms["forward_kl"]) == pytest.approx(kl, rel=2e-2, abs=2e-3)
    assert float(terms["hidden"]) == pytest.approx(gap, rel=2e-2)
    parts = 0.5 * terms["ce"] + 2.0 * terms["forward_kl"] + 0.1 * terms["hidden"]
    assert float(loss) == pytest.approx(float(parts), rel=1e-5)


@pytest.mark.slow
def test_perplexities_are_those_of_brute_force(words: Any, rows: list[Any]) -> None:
    model = corpus_inputs.masked_model()
    model.config.max_position_embeddings = 64
    spec = {
        "formatting": FORMATTING, "batch_size": 4, "reference": None, "mask": masked_rows.MASK,
        "pseudo_chunks": 3, "distribution": {"temperature": 1.0, "top_k": 0, "top_p": 1.0},
    }  # fmt: skip
    found = evaluate_on_corpus(model, words, rows, [], spec)
    tokens = sum(len(row["positions"]) for row in rows)
    loss = sum(nats(model, row) for row in rows) / tokens
    held = held_out(model, words, rows, [], None, tokenizer_sha256(words), {}, spec)
    assert held["loss"] == pytest.approx(loss, rel=1e-5)
    assert held["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert (held["tokens"], held["bits_per_byte"], held["identity"]) == (tokens, None, None)
    assert found["reference"]["loss"] is None
    assert found["instructions"] is None
    total, count = 0.0, 0
    for row in rows[:3]:
        true = true_ids(Example(row["prompt_ids"], row["response_ids"], row["positions"]))
        for place in range(1, len(true) - 1):
            seen = [*true]
            seen[place] = words.mask_token_id
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([seen])).logits[0, place].double()
            total, count = total - float(torch.log_softmax(logits, -1)[true[place]]), count + 1
    pseudo = found["pseudo"]
    assert (pseudo["chunks"], pseudo["tokens"]) == (3, count)
    assert pseudo["loss"] == pytest.approx(total / count, rel=1e-5)
    assert pseudo["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert pseudo["loss"] != pytest.approx(held["loss"], rel=1e-3)


def test_pseudo_perplexity_skips_what_is_no_word(words: Any) -> None:
    special = Special.of(words, "tests")
    chunk = Example([special.first, 9, special.last, 11, special.last], [9], [1])
    places = [made.positions for made in one_at_a_time(chunk, special)]
    assert places == [[1], [3]]
    model = corpus_inputs.masked_model()
    row = {"prompt_ids": chunk.prompt, "response_ids": [9], "positions": [1]}
    assert pseudo_metrics(model, words, [row], 2)["tokens"] == 2


def test_a_reference_text_is_masked_too(words: Any, rows: list[Any]) -> None:
    model = corpus_inputs.masked_model()
    spec = {
        "formatting": FORMATTING, "batch_size": 4, "mask": masked_rows.MASK, "pseudo_chunks": 1,
        "reference": {"max_tokens": 20},
    }  # fmt: skip
    found = evaluate_on_corpus(model, words, rows, list(tiny.SENTENCES), spec)
    held = held_out(model, words, rows, [], None, tokenizer_sha256(words), {}, spec)
    assert found["reference"]["passages"] == len(tiny.SENTENCES)
    assert found["reference"]["loss"] != held["loss"]


# Files: students, models, speed.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, words: Any) -> Path:
    place = tmp_path_factory.mktemp("bert")
    return tiny.save(place, corpus_inputs.masked_model(), words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "student",
    [
        {"init": "random", "config": {"hidden_size": 16, "num_hidden_layers": 1}},
        {"init": "random", "config": {"model_type": "roberta", "hidden_size": 16,
         "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}},
        {"init": "cut", "layers": 2},
        {"init": "pretrained"},
    ],
)  # fmt: skip
def test_students_of_a_masked_model_are_masked(
    tmp_path: Path, folder: Path, student: dict[str, Any]
) -> None:
    spec = {"layers": None, "config": {}, "seed": 0, **student}
    build_student(spec, folder, tmp_path / "manifest.json")
    model = load_model(tmp_path, precision="fp32", sequence=8)
    assert type(model).__name__.endswith("ForMaskedLM")
    assert load_tokenizer(tmp_path).mask_token_id is not None
    empty = empty_student(spec, folder)
    assert {name: tuple(p.shape) for name, p in empty.named_parameters()} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }


def test_parameters_that_are_not_as_stated_are_a_mistake(tmp_path: Path, folder: Path) -> None:
    spec: dict[str, Any] = {"init": "random", "layers": None, "seed": 0, "params": 9}
    spec |= {"config": {"hidden_size": 16, "num_hidden_layers": 1}}
    with pytest.raises(UserError, match=r"a student has \d+ parameters but its params says 9"):
        build_student(spec, folder, tmp_path / "manifest.json")


@pytest.mark.slow
def test_an_encoder_is_timed_by_its_forward_pass(folder: Path) -> None:
    record = measure_encoder(
        folder,
        length=16,
        scored=3,
        batch=2,
        repeats=3,
        warmup=1,
        threads=1,
        precision="fp32",
        device="cpu",
    )
    median = record["latency_median_s"]
    assert record["tokens_per_second_median"] == pytest.approx(32 / median)
    assert record["forward_ms"] == pytest.approx(1000 * median)
    flops = FlopModel.from_model(load_model(folder, precision="fp32", sequence=16))
    assert record["flops_per_token"] == flops.sequence_forward(16, 3) / 3
    assert (record["batch"], record["length"]) == (2, 16)
    with pytest.raises(UserError, match=r"sequences of 300 tokens exceed the context of 256"):
        measure_encoder(folder, length=300, scored=9, threads=1, precision="fp32", device="cpu")
