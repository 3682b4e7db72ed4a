"""Trimmed vocabularies against the full model that they stand for."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import objective_cases
import teaching
import tiny
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.parquet import read_rows
from distill.evaluation.held_out import score_examples
from distill.models.building import build_student, empty_student
from distill.models.decoding import Decoding
from distill.models.flops import count_parameters
from distill.models.head_extraction import final_hidden, head_of
from distill.models.rows import Example
from distill.models.token_ids import full_width
from distill.models.vocabulary import (
    Vocabulary,
    add_spread,
    count_tokens,
    expand_model,
    most_frequent,
    trim_model,
)
from distill.training.batches import Item
from distill.training.objective import Objective
from distill.training.run import train_student

KEPT = sorted({0, 1, 2, *range(40, 140, 3)})


def random_logs(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return torch.log_softmax(scores, -1)


def spread_out(vocabulary: Vocabulary, logits: torch.Tensor) -> torch.Tensor:
    """The full log-probabilities that a student's logits (spread included) stand for."""
    own = torch.log_softmax(logits, -1)
    full = [
        own[:, vocabulary.kept.index(word)]
        if word in vocabulary.kept
        else own[:, -1] - math.log(vocabulary.dropped)
        for word in range(vocabulary.full)
    ]
    return torch.stack(full, 1)


def test_frequent_ids_are_kept_then_special_ones_then_low_ones() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt_ids": [9, 9, 7], "response_ids": [5, 9]},
        {"prompt_ids": None, "response_ids": [7]},
    ]
    counts = count_tokens(rows)
    assert counts == {9: 3, 7: 2, 5: 1}
    assert most_frequent(counts, [11], 3, 12).kept == [7, 9, 11]
    assert most_frequent(counts, [11], 6, 12).kept == [0, 1, 5, 7, 9, 11]
    with pytest.raises(UserError, match="12 ids is not smaller than the full one"):
        most_frequent(counts, [], 12, 12)
    assert most_frequent(counts, [11], 6, 12, excluded=[0, 2]).kept == [1, 3, 5, 7, 9, 11]


def test_the_full_vocabulary_ends_with_the_last_token(plain: Any) -> None:
    """Rows that pad a head get no share of the mass of dropped tokens."""
    assert len(plain) == 300
    assert full_width(plain) == full_width(plain, 340) == full_width(plain, 300) == 300
    assert full_width(plain, 290) == 290  # tokens were added, and the model was not resized


@pytest.mark.slow
@pytest.mark.parametrize("init", ["random", "pretrained"])
def test_a_student_trimmed_from_a_padded_model_has_no_row_beyond_the_tokenizer(
    tmp_path: Path, plain: Any, init: str
) -> None:
    tiny.save(tmp_path / "source", tiny.model("llama", vocabulary=340), plain)
    rows = tiny.uneven_rows(plain, 8)
    text = teaching.write_text(tmp_path / "counted.parquet", rows, plain)
    config = {"hidden_size": 16, "num_hidden_layers": 2} if init == "random" else None
    settings = {
        "init": init, "source": {}, "layers": None, "seed": 0, "config": config,
        "vocabulary": {"size": 60},
    }  # fmt: skip
    build_student(settings, tmp_path / "source", tmp_path / "initial" / "manifest.json", [text])
    vocabulary = Vocabulary.load(tmp_path / "initial")
    assert vocabulary is not None
    assert (vocabulary.full, vocabulary.dropped) == (300, 240)
    empty = empty_student(settings, tmp_path / "source", saved=True)
    assert empty.config.vocab_size == 300
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "initial")
    add_spread(model, vocabulary)
    ids = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        small = spread_out(vocabulary, model(vocabulary.ids[ids]).logits.flatten(0, 1).double())
        expand_model(model, vocabulary, plain)
        full = torch.log_softmax(model(ids).logits.flatten(0, 1).double(), -1)
    assert full.shape[1] == 300
    torch.testing.assert_close(small, full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "gpt2", "qwen2"])
def test_a_trimmed_model_and_its_expansion_have_the_same_probabilities(
    kind: str, plain: Any
) -> None:
    vocabulary = Vocabulary(KEPT, 300)
    model = trim_model(tiny.model(kind), vocabulary, plain)
    assert model.config.vocab_size == len(KEPT) + 1
    ids = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    add_spread(model, vocabulary)
    with torch.inference_mode():
        small = spread_out(vocabulary, model(vocabulary.ids[ids]).logits.flatten(0, 1).double())
    whole = count_parameters(model)[0] - vocabulary.width  # the constant is no parameter
    expand_model(model, vocabulary, plain)
    with torch.inference_mode():
        full = torch.log_softmax(model(ids).logits.flatten(0, 1).double(), -1)
    torch.testing.assert_close(small, full, rtol=1e-5, atol=1e-5)
    assert small.exp().sum(1).tolist() == pytest.approx([1.0] * 18)
    assert count_parameters(model)[0] - vocabulary.repeated(model) == whole


def test_the_floor_is_the_divergence_to_the_best_that_the_vocabulary_can_say() -> None:
    vocabulary, q = Vocabulary(KEPT, 300), random_logs(6, 300).exp()
    best = spread_out(vocabulary, vocabulary.coarse(q.log()))
    expected = (q * (q.log() - best)).sum(1)
    torch.testing.assert_close(vocabulary.floor(q, q.log()), expected)
    assert expected.min() > 0.01
    even = q.clone()
    even[:, vocabulary.ids == vocabulary.other] = 1e-3
    torch.testing.assert_close(
        vocabulary.floor(even, even.log()), torch.zeros(6, dtype=torch.float64)
    )


def test_a_wider_head_is_padding_and_no_text() -> None:
    vocabulary = Vocabulary(KEPT, 290)
    logs = random_logs(4, 300)
    found = vocabulary.coarse(logs).exp()
    assert found.sum(1).tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(found[:, 3], logs[:, KEPT[3]].exp())


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["final_hidden", "dense", "sampled", "top_k"])
@pytest.mark.parametrize("ce", [0.0, 0.4])
def test_losses_are_those_of_the_full_vocabulary(scheme: str, ce: float) -> None:
    extra: dict[str, Any] = {"sampled": {"draws": 40}, "top_k": {"k": 6}}.get(scheme, {})
    study = teaching.plan({"ce": ce, "forward_kl": 0.7}, {"scheme": scheme, **extra})
    spec = teaching.spec_of(study)
    made = objective_cases.case(spec["method"], spec["shard"]["cache"])
    width = objective_cases.VOCABULARY
    vocabulary = Vocabulary(list(range(0, width, 2)), width)
    items = [Item(vocabulary.encode(item.example), item.row) for item in made.items]
    batch = made.reader.collate(items, 0)
    generator = torch.Generator().manual_seed(4)
    shape = (*batch["input_ids"].shape, vocabulary.width)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    objective = Objective(spec["method"], spec["shard"]["cache"], made.objective.head, vocabulary)
    keep = objective.logit_positions(batch)
    loss, terms = objective(logits[keep], None, None, batch, objective.counts([batch]))
    # The same by the full model: the loss of the project without a vocabulary, on spread logits.
    full = torch.stack([spread_out(vocabulary, part) for part in logits])
    whole = Objective(spec["method"], spec["shard"]["cache"], made.objective.head)
    counts = whole.counts([made.batch])
    other, wanted = whole(full[whole.logit_positions(made.batch)], None, None, made.batch, counts)
    gradient = torch.autograd.grad(loss, logits)[0]
    expected = torch.autograd.grad(other, logits)[0]
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    if ce:
        assert float(terms["ce"]) == pytest.approx(float(wanted["ce"]), rel=1e-5)
    if scheme in ("sampled", "top_k"):
        assert float(terms["forward_kl"]) == pytest.approx(float(wanted["forward_kl"]), rel=1e-5)
    else:  # between classes: less by what no student with this vocabulary can reach
        assert float(terms["forward_kl"]) < float(wanted["forward_kl"])


@pytest.mark.slow
def test_a_trimmed_student_is_trained_small_and_opens_with_the_full_tokenizer(
    tmp_path: Path, plain: Any
) -> None:
    words = plain
    teacher, rows = teaching.big(), tiny.uneven_rows(words, 16)
    held_out = tiny.uneven_rows(words, 5)
    study = teaching.plan(
        {"ce": 0.5, "forward_kl": 0.5}, {"scheme": "sampled", "draws": 40},
        {"batch_size": 8, "epochs": 3, "learning_rate": 1e-2, "early_stopping": {"patience": 9}},
    )  # fmt: skip
    spec = teaching.spec_of(study)
    files = teaching.teach(tmp_path, spec["shard"], teacher, words, rows, held_out)
    tiny.save(tmp_path / "source", tiny.model("llama-tied"), words)
    settings = {
        "init": "random", "source": {}, "layers": None, "seed": 0,
        "config": {"hidden_size": 16, "num_hidden_layers": 2}, "vocabulary": {"size": 60},
    }  # fmt: skip
    text = teaching.write_text(tmp_path / "counted.parquet", rows, words)
    build_student(settings, tmp_path / "source", tmp_path / "initial" / "manifest.json", [text])
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "initial")
    assert small.config.vocab_size == 61
    out = tmp_path / "out" / "training.json"
    train_student(tmp_path / "initial", files.shard, out, spec, teaching.RUN, "t", **files.given)
    record, vocabulary = read_json(out), Vocabulary.load(tmp_path / "out")
    assert vocabulary is not None
    assert set(words.all_special_ids) <= set(vocabulary.kept)
    assert record["losses"][-1] < record["losses"][0]
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    opened = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert opened.eos_token_id == saved.config.eos_token_id == words.eos_token_id
    assert len(saved.get_input_embeddings().weight) == 300
    assert count_parameters(saved)[0] - vocabulary.repeated(saved) == count_parameters(small)[0]
    # The loss that stopped training, in the small vocabulary, is the saved model's over all words.
    examples = [Example(row["prompt_ids"], row["response_ids"]) for row in held_out]
    with torch.inference_mode():
        states = [
            final_hidden(teacher, torch.tensor([one.prompt + one.answer]), None)[
                0, len(one.prompt) - 1 : -1
            ]
            for one in examples
        ]
    scored = score_examples(
        saved, examples, 0, 4, states, head_of(teacher), Decoding(1.0, 0, 1.0), vocabulary
    )
    tokens = sum(item["tokens"] for item in scored)
    best = min(entry["loss"] for entry in record["validation"])
    assert sum(item["nats"] for item in scored) / tokens == pytest.approx(best, rel=1e-5)
    assert 0 < sum(item["floor"] for item in scored) < sum(item["kl"] for item in scored)
    assert len(read_rows(files.shard)) == 16


def test_heads_that_are_more_than_a_matrix_are_refused(plain: Any) -> None:
    with pytest.raises(UserError, match="soft cap, so its vocabulary cannot be trimmed"):
        trim_model(tiny.model("gemma2"), Vocabulary(KEPT, 300), plain)


def test_unsound_methods_for_a_trimmed_student_are_refused() -> None:
    from distill.config.checks.study import parse_study

    config = tiny.study()
    config["students"]["small"]["vocabulary"] = {"size": 100, "teacher": "big"}
    config["caches"] = {"soft": {"scheme": "top_k_tail", "k": 4}}
    config["methods"] = {"own": {"forward_kl": 1.0}}
    block = {"students": ["small"], "teachers": ["big"], "methods": ["own"], "samples": [16]}
    config["runs"] = [block | {"caches": ["soft"]}]
    with pytest.raises(UserError, match=r"methods\.own with students\.small: the tail of"):
        parse_study(config)
    config["caches"]["soft"] = {"scheme": "final_hidden"}
    parse_study(config)
    config["methods"]["own"]["temperature"] = 2.0
    with pytest.raises(UserError, match="form one class only at temperature 1"):
        parse_study(config)
    config["methods"]["own"] = {"uld": 1.0}
    with pytest.raises(UserError, match="uld, spans and the teacher's head need the full"):
        parse_study(config)
    config["methods"]["own"] = {"forward_kl": 1.0}
    config["prompts"]["validation"] = 0
    with pytest.raises(
        UserError, match=r"students\.small.vocabulary: ids are counted in the answers"
    ):
        parse_study(config)
