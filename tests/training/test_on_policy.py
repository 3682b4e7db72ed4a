"""Training with a live teacher, on the text's answers and on the student's own."""

import gc
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback

import teaching
import tiny
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.noise import row_uniforms
from distill.models.attention import GROUPED
from distill.models.decoding import Decoding
from distill.models.flops import FlopModel
from distill.models.sampling import sample_batch
from distill.models.tokenizers import load_tokenizer
from distill.models.turns import turns_of
from distill.training.build import build_trainer
from distill.training.on_policy import LiveTeacher, own_answers
from distill.training.run import train_student
from distill.training.search import search_settings
from distill.training.trainer import DistillationTrainer
from objective_cases import divergence, softmax

EXACT = {"scheme": "final_hidden", "tokens": "all"}
MOST = 6


@pytest.fixture(autouse=True)
def _quick() -> None:
    """The library collects garbage before each training: 0.3 s, but for what is frozen."""
    gc.freeze()


@pytest.fixture(scope="module")
def words() -> Any:
    return tiny.tokenizer(chat=False)


@pytest.fixture(scope="module")
def teacher() -> Any:
    return teaching.big(attention=GROUPED)


def live_spec(
    method: dict[str, Any], share: float, seed: int = 0, q: float = 1.0, **train: Any
) -> dict[str, Any]:
    """A run's spec whose student writes a share of the answers."""
    asked = {"share": share, "max_tokens": MOST, "temperature": 0.8}
    plan = teaching.plan(
        method | {"on_policy": asked}, train=train,
        teacher={"temperature": q, "precision": "fp32"},
    )  # fmt: skip
    return teaching.spec_of(plan, seed)


def finish(
    out: Path, spec: dict[str, Any], initial: Path, files: teaching.Files
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Train from files; the record and the weights."""
    train_student(initial, files.shard, out / "training.json", spec, teaching.RUN, "tag", **files.given)  # fmt: skip  # noqa: E501
    return read_json(out / "training.json"), load_file(out / "model.safetensors")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return math.sqrt(sum(float(((one[k] - other[k]) ** 2).sum()) for k in one))


# Which updates are the student's.


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 1.0])
def test_a_share_of_the_updates_is_evenly_spaced(share: float) -> None:
    for seed in range(20):
        chosen = [own_answers(update, share, seed) for update in range(60)]
        assert chosen == [own_answers(update, share, seed) for update in range(60)]
        for first in range(0, 40, 7):
            for last in range(first, 60, 9):
                assert abs(sum(chosen[first:last]) - share * (last - first)) <= 1 + 1e-9


def test_every_update_is_the_students_as_often_as_its_share() -> None:
    for update in (0, 1, 7):
        chosen = sum(own_answers(update, 0.3, seed) for seed in range(1000))
        assert abs(chosen - 300) < 4 * math.sqrt(1000 * 0.3 * 0.7)


# The text's answers: as from a cache.


@pytest.mark.slow
def test_without_own_answers_training_is_that_from_a_cache(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    method, q = {"ce": 0.5, "forward_kl": 0.5, "tokens": "all", "temperature": 2.0}, 0.7
    rows, initial = tiny.uneven_rows(words, 8), teaching.small(tmp_path, words)
    train: dict[str, Any] = {"batch_size": 4, "epochs": 2, "learning_rate": 1e-2}
    read = teaching.spec_of(teaching.plan(method, EXACT, train, {"temperature": q}))
    cached = teaching.teach(tmp_path / "cached", read["shard"], teacher, words, rows)
    expected, weights = finish(tmp_path / "one", read, initial, cached)
    asked = live_spec(method, 0.0, q=q, **train)
    files = teaching.ask(tmp_path / "live", asked, teacher, words, rows)
    record, live = finish(tmp_path / "two", asked, initial, files)
    assert record["losses"][-1] < 0.9 * record["losses"][0]
    assert record["losses"] == pytest.approx(expected["losses"], rel=1e-4)
    assert record["terms"].keys() == expected["terms"].keys()
    moved = distance(weights, load_file(initial / "model.safetensors"))
    assert distance(live, weights) < 0.01 * moved
    for key in ("tokens_seen", "tokens_unique", "updates"):
        assert record[key] == expected[key]
    assert record["sampled_updates"] == record["sampled_tokens"] == 0
    # A cache's head is paid in training, the live teacher's beside it.
    flops, passes = FlopModel.from_model(teacher), 2
    sizes = [(len(row["prompt_ids"]), len(row["response_ids"])) for row in rows]
    scored = [p + a - 1 for p, a in sizes]
    heads = passes * flops.head_per_token * sum(scored)
    assert record["train_flops"] == expected["train_flops"] - heads
    forward = [flops.sequence_forward(p + a, n) for (p, a), n in zip(sizes, scored, strict=True)]
    assert record["target_flops"] == passes * sum(forward)
    assert "target_flops" not in expected


# The student's own answers.


def first_update(one: DistillationTrainer, size: int, number: int = 0) -> list[dict[str, Any]]:
    """The micro-batches of an update over all rows."""
    items = list(one.train_dataset)
    batches = [one.data_collator(items[first : first + size]) for first in range(0, len(items), size)]  # fmt: skip  # noqa: E501
    one.state.global_step = number
    made, _ = one.get_batch_samples(iter(batches), len(batches), torch.device("cpu"))
    return made


def answers_of(batches: Sequence[dict[str, Any]]) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer of each row."""
    found = []
    for batch in batches:
        labels = batch["shift_labels"].roll(1, dims=1)  # each at its own token
        for ids, mask, label in zip(
            batch["input_ids"], batch["attention_mask"], labels, strict=True
        ):
            real, own = mask.bool(), label != -100
            found.append((ids[real & ~own].tolist(), ids[own].tolist()))
    return found


WEIGHTS = {
    "forward_kl": 0.3, "reverse_kl": 0.2, "jsd": 2.0, "total_variation": 0.7, "skew_kl": 1.1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "temperature", "q"), [("answer", 2.0, 0.7), ("all", 1.0, 1.0)])
def test_the_losses_on_own_answers_equal_brute_force(
    tmp_path: Path, words: Any, teacher: Any, tokens: str, temperature: float, q: float
) -> None:
    settings = {"ce": 0.3, "temperature": temperature, "tokens": tokens, "jsd_beta": 0.1}
    spec = live_spec(settings | WEIGHTS, 0.99, q=q)
    rows, initial = tiny.uneven_rows(words, 6), teaching.small(tmp_path, words)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    one = build_trainer(initial, files.shard, spec, "s", tmp_path, teacher=files.teacher)
    batches = first_update(one, 4)
    loss = sum(one.compute_loss(one.model, batch) for batch in batches)
    loss.backward()
    assert one.terms.keys() == WEIGHTS.keys()  # no cross-entropy on what the student says itself

    student = AutoModelForCausalLM.from_pretrained(initial).double()
    head = teacher.lm_head.weight.double()
    answers, each = answers_of(batches), []
    assert [prompt for prompt, _ in answers] == [list(row["prompt_ids"]) for row in rows]
    for prompt, answer in answers:
        first = 0 if tokens == "all" else len(prompt) - 1
        ids = torch.tensor([prompt + answer])
        with torch.no_grad():
            states = teacher.base_model(ids).last_hidden_state[0, first:-1]
        theirs = states.bfloat16().double() @ head.T  # as a cache keeps them
        for scores, own in zip(theirs, student(ids).logits[0, first:-1], strict=True):
            p, s = softmax(scores, q * temperature), softmax(own, temperature)
            each.append([divergence(name, p, s, spec["method"]) for name in WEIGHTS])
    means = {name: torch.stack(part).mean() for name, part in zip(WEIGHTS, zip(*each, strict=True), strict=True)}  # fmt: skip  # noqa: E501
    for name, mean in means.items():
        assert float(one.terms[name]) == pytest.approx(mean.item(), rel=1e-3)
    expected = temperature**2 * sum(WEIGHTS[name] * mean for name, mean in means.items())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    found, reference = one.model.lm_head.weight.grad, student.lm_head.weight.grad
    assert float((found - reference).norm()) < 2e-3 * float(reference.norm())


@pytest.mark.slow
def test_own_answers_are_drawn_from_the_student_as_it_is(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    spec = live_spec({"forward_kl": 1.0}, 1.0, seed=3)
    rows, initial = tiny.uneven_rows(words, 5), teaching.small(tmp_path, words)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    one = build_trainer(initial, files.shard, spec, "s", tmp_path, teacher=files.teacher)
    # EOS, and the end in the generation config of the tiny student.
    stops = turns_of(load_tokenizer(initial)).stops
    found = {}
    for number in (0, 5):
        one.model.train()
        found[number] = answers_of(first_update(one, 3, number))
        assert one.model.training
        for row, (prompt, answer) in zip(rows, found[number], strict=True):
            noise = row_uniforms(f"{row['id']}\0{number}", 3, MOST)
            ((alone, _),) = sample_batch(
                one.model.eval(), [prompt], stop_ids=stops, max_new_tokens=MOST,
                decoding=Decoding(0.8), uniforms=noise[None],
            )  # fmt: skip
            assert prompt == list(row["prompt_ids"])
            assert answer == alone
            assert len(answer) == MOST or answer[-1] in stops
    assert found[0] != found[5]
    with torch.no_grad():
        one.model.lm_head.weight.mul_(-1)
    assert answers_of(first_update(one, 3, 5)) != found[5]


@pytest.mark.slow
@pytest.mark.parametrize(("teacher_rows", "student_rows"), [(330, 360), (360, 330)])
def test_own_answers_have_tokens_alone(
    tmp_path: Path, words: Any, teacher_rows: int, student_rows: int
) -> None:
    """Heads padded to different widths: ids without a token are not sampled, and reverse KL pushes
    the student's mass there down."""
    teacher = teaching.big(vocabulary=teacher_rows)
    spec = live_spec({"reverse_kl": 1.0, "jsd": 1.0}, 1.0, learning_rate=1e-2, batch_size=6)
    rows = tiny.uneven_rows(words, 12)
    initial = teaching.small(tmp_path, words, vocabulary=student_rows)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    one = build_trainer(initial, files.shard, spec, "s", tmp_path, teacher=files.teacher)
    with torch.no_grad():  # likely, but for the rows of tokens
        one.model.lm_head.weight[300:] += 3
    for number in range(4):
        answers = answers_of(first_update(one, 6, number))
        assert max(token for _, answer in answers for token in answer) < 300
    before = one.model.lm_head.weight.detach().clone()
    prompt = torch.tensor([list(rows[0]["prompt_ids"])])

    def lost() -> float:
        with torch.no_grad():
            return float(one.model.eval()(prompt).logits.softmax(-1)[..., 300:].sum())

    first = lost()
    one.train()
    assert not torch.equal(before, one.model.lm_head.weight)
    assert lost() < first


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_cut_teacher_gives_its_own_answers_some_probability(
    tmp_path: Path, words: Any, teacher: Any, share: float
) -> None:
    """And those of the student what it gives them."""
    asked = {"share": share, "max_tokens": MOST, "temperature": 0.8}
    cut = {"precision": "fp32", "top_k": 2}
    study = teaching.plan({"forward_kl": 1.0, "on_policy": asked}, teacher=cut)
    spec = teaching.spec_of(study)
    assert spec["teacher"]["drawn"] is True
    rows, initial = tiny.uneven_rows(words, 5), teaching.small(tmp_path, words)
    rows[3]["response_ids"] = None  # a curation corrupted it
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    one = build_trainer(initial, files.shard, spec, "s", tmp_path, teacher=files.teacher)
    batch = first_update(one, 5)[0]
    assert ("drawn" in batch) == (share == 0)
    logs = one.objective._teacher(batch, slice(None))
    labels = batch["shift_labels"][batch["soft_mask"]]
    inside = logs.gather(1, labels.unsqueeze(1)).squeeze(1).isfinite()
    corrupted = torch.zeros_like(batch["soft_mask"])
    corrupted[3] = share == 0
    ours = ~corrupted[batch["soft_mask"]]
    assert bool(inside[ours].all()) == (share == 0)
    assert not bool(inside.all())


class Gradients(TrainerCallback):
    """Keeps the gradients of the first update."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        """Before the optimiser uses them."""
        self.found = self.found or {k: w.grad.clone() for k, w in model.named_parameters()}


@pytest.mark.slow
def test_accumulated_micro_batches_equal_one_batch(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    rows, initial = tiny.uneven_rows(words, 16), teaching.small(tmp_path, words)
    gradients, entries = [], []
    for micro in (None, 2):
        spec = live_spec({"jsd": 1.0}, 1.0, micro_batch_size=micro, max_grad_norm=1e9)
        files = teaching.ask(tmp_path, spec, teacher, words, rows, rows[:1])
        seen = Gradients()
        one = build_trainer(
            initial, files.shard, spec, "s", tmp_path / "resume", **files.given, callbacks=[seen],
            keep=False,
        )  # fmt: skip
        one.train()
        assert one.state.global_step == 1
        gradients.append(seen.found)
        entries.append(next(entry for entry in one.state.log_history if "loss" in entry))
    size = distance(gradients[0], {k: torch.zeros_like(v) for k, v in gradients[0].items()})
    assert size > 1e-3
    assert distance(*gradients) < 2e-5 * size
    assert entries[1]["loss"] == pytest.approx(entries[0]["loss"], rel=1e-5)
    work = [key for key in entries[0] if key.startswith("live/")]
    assert len(work) == 4
    assert [entries[0][key] for key in work] == [entries[1][key] for key in work]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, words: Any, teacher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = live_spec(
        {"ce": 0.1, "forward_kl": 1.0}, 0.6, batch_size=2, micro_batch_size=1,
        checkpoint_updates=2, learning_rate=1e-2, lora={"rank": 2, "dropout": 0.2},
    )  # fmt: skip
    rows, initial = tiny.uneven_rows(words, 12), teaching.small(tmp_path, words)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    learned: list[Any] = []
    collate = LiveTeacher.collate

    def watched(live: LiveTeacher, items: Any, drawn: bool) -> Any:
        learned.extend(items)
        return collate(live, items, drawn)

    with monkeypatch.context() as patch:
        patch.setattr(LiveTeacher, "collate", watched)
        whole, expected = finish(tmp_path / "whole", spec, initial, files)
    chosen = [own_answers(update, 0.6, 0) for update in range(6)]
    assert 3 <= sum(chosen) <= 4
    assert whole["sampled_updates"] == sum(chosen)
    assert len(whole["terms"]["ce"]) == 6 - sum(chosen)
    # What each update learned, counted once more.
    own = [item for number, item in enumerate(learned) if chosen[number // 2]]
    sizes = [(len(item.example.prompt), len(item.example.answer)) for item in learned]
    student = FlopModel.from_model(AutoModelForCausalLM.from_pretrained(initial))
    asked = FlopModel.from_model(teacher)
    assert whole["sampled_tokens"] == sum(len(item.example.answer) for item in own)
    assert whole["tokens_seen"] == sum(a for _, a in sizes)
    assert whole["tokens_unique"] == sum(len(row["response_ids"]) for row in rows)
    assert whole["target_flops"] == sum(asked.sequence_forward(p + a, a) for p, a in sizes)
    written = sum(
        student.generation(len(item.example.prompt), len(item.example.answer)) for item in own
    )
    forward = sum(student.sequence_forward(p + a, a) for p, a in sizes)
    assert whole["train_flops"] == 2 * forward + written > 2 * forward

    compute, calls, out = DistillationTrainer.compute_loss, [], tmp_path / "out"

    def failing(*args: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 11:  # in the sixth and last update
            raise KeyboardInterrupt
        return compute(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "compute_loss", failing)
        with pytest.raises(KeyboardInterrupt):
            finish(out, spec, initial, files)
    record, again = finish(out, spec, initial, files)
    assert record["resumed_from"] == "checkpoint-4"
    differing = {key for key in whole if record[key] != whole[key]}
    # A process that computed more before has a higher peak already.
    assert differing - {"peak_memory_mb"} == {
        "resumed_from", "train_seconds", "energy_kwh", "energy_kwh_estimated",
    }  # fmt: skip
    assert distance(expected, again) == 0.0


@pytest.mark.slow
def test_mixed_precision_leaves_the_teacher_alone(tmp_path: Path, words: Any, teacher: Any) -> None:
    rows, initial = tiny.uneven_rows(words, 4), teaching.small(tmp_path, words)
    spec = live_spec({"forward_kl": 1.0}, 1.0, precision="bf16", gradient_checkpointing=True)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)
    one = build_trainer(initial, files.shard, spec, "s", tmp_path, teacher=files.teacher)
    assert one.precision == "bf16"
    (batch,) = first_update(one, 4)
    with torch.no_grad():
        output = teacher.base_model(batch["input_ids"], attention_mask=batch["attention_mask"])
    expected = output.last_hidden_state[batch["soft_mask"]].to(torch.bfloat16)
    assert torch.equal(batch["states"], expected)
    one.training_step(one.model, batch)
    gradient = one.model.lm_head.weight.grad
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())


@pytest.mark.slow
def test_a_search_asks_the_teacher_too(tmp_path: Path, words: Any, teacher: Any) -> None:
    method = {"jsd": 1.0, "on_policy": {"share": 1.0, "max_tokens": MOST}}
    space = {"train.learning_rate": {"low": 1e-3, "high": 1e-2}}
    plan = teaching.plan(method, search={"space": space, "trials": 1})
    spec, rows = plan.searches.spec("find"), tiny.uneven_rows(words, 10)
    files = teaching.ask(tmp_path, spec, teacher, words, rows[:8], rows[8:])
    search_settings(
        teaching.small(tmp_path, words), files.shard, tmp_path / "out" / "best.json", spec, "small",
        "tag", **files.given,
    )  # fmt: skip
    best = json.loads((tmp_path / "out" / "best.json").read_text())
    assert math.isfinite(best["loss"])
    assert best["trials"][0]["updates"] == 1


def test_what_cannot_be_asked_is_a_user_error(tmp_path: Path, words: Any, teacher: Any) -> None:
    rows, initial = tiny.uneven_rows(words, 4), teaching.small(tmp_path, words)
    spec = live_spec({"forward_kl": 1.0}, 1.0, max_length=200)
    files = teaching.ask(tmp_path, spec, teacher, words, rows)

    def build(given: dict[str, Any], folder: Path = initial) -> None:
        build_trainer(folder, files.shard, given, "s", tmp_path, teacher=files.teacher)

    longest = max(len(row["prompt_ids"]) for row in rows)
    short = spec | {"train": spec["train"] | {"max_length": longest + MOST - 1}}
    with pytest.raises(
        UserError, match=r"train-000000\d has .* raise that or lower on_policy\.max"
    ):
        build(short)
    other = teaching.small(tmp_path / "other", tiny.tokenizer(chat=False, vocabulary=270), vocabulary=270)  # fmt: skip  # noqa: E501
    with pytest.raises(UserError, match="tokenizer is not the teacher's"):
        build(spec, other)
