import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.evaluation import answers
from distill.evaluation.answering import answer_prompts
from distill.evaluation.answers import ask_model
from distill.evaluation.held_out import (
    held_out,
    held_out_metrics,
    reference_metrics,
    score_examples,
)
from distill.evaluation.instructions import Instruction
from distill.evaluation.text_metrics import text_similarity
from distill.models.decoding import Decoding, log_q
from distill.models.formatting import encode_plain
from distill.models.head_extraction import final_hidden, head_of
from distill.models.heads import OutputHead, hidden_states, load_head, save_head, teacher_log_q
from distill.models.rows import Example
from distill.stats.tokens import expected_calibration_error, token_mean, unigram_entropy
from distill.teacher.scoring import score_text

HEADS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {},
    "gpt2": {},
    "gemma2": {},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "phi": {},  # a bias
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEADS)
def test_hidden_states_and_head_give_the_models_own_logits(tmp_path: Path, kind: str) -> None:
    model = tiny.model(kind, **HEADS[kind])
    ids = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        head = head_of(model)
        save_head(head, tmp_path / "head.safetensors")
        again = load_head(tmp_path / "head.safetensors", torch.device("cpu"))
        hidden = final_hidden(model, ids, None)
        wanted = model(ids).logits
        assert wanted.abs().max() > 0.1
        for one in (head, again):
            torch.testing.assert_close(one.logits(hidden), wanted, rtol=1e-5, atol=1e-5)


def test_a_head_that_is_more_than_a_matrix_is_a_user_error() -> None:
    model = tiny.model("llama")
    model.lm_head.register_forward_hook(lambda module, inputs, output: output**2)
    with pytest.raises(UserError, match="output head of llama is more than a matrix"):
        head_of(model)


def text(prompt: list[int], answer: list[int], number: int = 0) -> dict[str, Any]:
    return {"id": f"test-{number}", "prompt_ids": prompt, "response_ids": answer}


def q_settings(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> dict[str, Any]:
    return {"temperature": temperature, "top_k": top_k, "top_p": top_p}


def judged(
    teacher: Any, student: Any, rows: list[dict[str, Any]], settings: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[Example]]:
    """The student's scores, the teacher's log q and entropy per token, and the examples."""
    head, decoding = head_of(teacher), Decoding(**settings)
    examples = [Example(row["prompt_ids"], row["response_ids"]) for row in rows]
    kept = score_text(teacher, rows, batch_size=7)
    states = [hidden_states(row["hidden"], head.weight.shape[1]) for row in kept]
    scored = score_examples(
        student, examples, 0, 5, states, head, decoding
    )  # batches of other sizes than the teacher's
    own = []
    for row, state in zip(rows, states, strict=True):
        logs = teacher_log_q(head, state, decoding)
        chosen = torch.tensor(row["response_ids"]).unsqueeze(1)
        entropy = -torch.where(logs > -1e9, logs.exp() * logs, 0).sum(-1)
        own.append(
            {
                "id": row["id"],
                "log_q": logs.gather(1, chosen).squeeze(1).tolist(),
                "entropy": entropy.tolist(),
            }
        )
    return scored, own, examples


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [q_settings(), q_settings(0.7), q_settings(1.3, top_k=4), q_settings(top_p=0.8)]
)
def test_loss_minus_the_teachers_is_the_divergence_in_expectation(settings: dict[str, Any]) -> None:
    """Exactly: over all texts of two tokens, each weighted by the teacher's probability."""
    teacher = tiny.model("llama", vocabulary=7, seed=1)
    student = tiny.model("gpt2", vocabulary=7, seed=2)
    rows = [text([3, 1], [a, b], 7 * a + b) for a in range(7) for b in range(7)]
    scored, scores, _ = judged(teacher, student, rows, settings)
    weight, difference, divergence, entropy, surprise = (0.0,) * 5
    for ours, theirs in zip(scored, scores, strict=True):
        chance = math.exp(sum(theirs["log_q"]))
        if chance > 0:
            weight += chance
            difference += chance * (ours["nats"] + sum(theirs["log_q"]))
            divergence += chance * ours["kl"]
            entropy += chance * sum(theirs["entropy"])
            surprise -= chance * sum(theirs["log_q"])
    assert weight == pytest.approx(1, abs=1e-5)
    assert divergence > 0.1
    assert difference == pytest.approx(divergence, abs=1e-5)
    assert entropy == pytest.approx(surprise, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_losses_and_divergence_equal_brute_force(temperature: float) -> None:
    teacher, student = tiny.model("llama", seed=1), tiny.model("gpt2", seed=2)
    noise = torch.Generator().manual_seed(0)
    rows = [
        text(
            torch.randint(300, (2 + number,), generator=noise).tolist(),
            torch.randint(300, (1 + 4 * number % 11,), generator=noise).tolist(),
            number,
        )
        for number in range(9)
    ]
    settings = q_settings(temperature)
    scored, scores, examples = judged(teacher, student, rows, settings)
    for row, ours, theirs in zip(rows, scored, scores, strict=True):
        start, answer = len(row["prompt_ids"]), row["response_ids"]
        ids = torch.tensor([row["prompt_ids"] + answer])
        with torch.inference_mode():
            p = student(ids).logits[0, start - 1 : -1].log_softmax(-1)
            q = (teacher(ids).logits[0, start - 1 : -1] / temperature).log_softmax(-1)
        nats = -sum(p[place, token].item() for place, token in enumerate(answer))
        assert theirs["id"] == row["id"]
        assert ours["tokens"] == len(answer)
        assert ours["nats"] == pytest.approx(nats, rel=1e-5)
        drawn = [q[place, token].item() for place, token in enumerate(answer)]
        assert theirs["log_q"] == pytest.approx(drawn, rel=1e-2, abs=0.1)  # bf16 states
        assert ours["teacher_nats"] == pytest.approx(-sum(theirs["log_q"]), rel=1e-4)
        assert ours["kl"] == pytest.approx((q.exp() * (q - p)).sum().item(), rel=2e-2)
        assert ours["agree"] == (q.argmax(-1) == p.argmax(-1)).sum().item()
    metrics = held_out_metrics(scored, examples, 100, {})
    tokens = sum(len(row["response_ids"]) for row in rows)
    total = sum(ours["nats"] for ours in scored)
    own = -sum(sum(theirs["log_q"]) for theirs in scores)
    assert metrics["prompts"] == 9
    assert metrics["tokens"] == tokens
    assert metrics["loss"] == pytest.approx(total / tokens)
    assert metrics["perplexity"] == pytest.approx(math.exp(total / tokens))
    assert metrics["loss_teacher"] == pytest.approx(own / tokens)
    assert metrics["kl_teacher"] == pytest.approx(sum(item["kl"] for item in scored) / tokens)
    wanted = metrics["loss"] - metrics["loss_teacher"] - metrics["kl_teacher"]
    assert metrics["identity"]["difference"] == pytest.approx(wanted)
    z = metrics["identity"]["difference"] / metrics["identity"]["stderr"]
    assert metrics["identity"]["z"] == pytest.approx(z)


@pytest.mark.slow
@pytest.mark.parametrize(("teacher_rows", "student_rows"), [(340, 380), (380, 340), (300, 320)])
@pytest.mark.parametrize("settings", [q_settings(0.7), q_settings(top_k=30)])
def test_heads_padded_to_different_widths_equal_brute_force(
    teacher_rows: int, student_rows: int, settings: dict[str, Any]
) -> None:
    """q is over the 300 tokens; the student's probabilities are the softmax of all its rows."""
    teacher = tiny.model("llama", vocabulary=teacher_rows, seed=1)
    student = tiny.model("gpt2", vocabulary=student_rows, seed=2)
    head, decoding = head_of(teacher), Decoding(**settings)
    head.excluded = list(range(300, teacher_rows))
    noise = torch.Generator().manual_seed(0)
    examples, states, expected = [], [], []
    for number in range(7):
        prompt = torch.randint(300, (2 + number,), generator=noise).tolist()
        ids = torch.tensor([prompt + torch.randint(300, (5,), generator=noise).tolist()])
        first = len(prompt) - 1
        with torch.inference_mode():
            logits = teacher(ids).logits[0, first:-1, :300].double()
            p = student(ids).logits[0, first:-1].double().log_softmax(-1)
            states.append(final_hidden(teacher, ids, None)[0, first:-1])
        scores = logits / settings["temperature"]
        if settings["top_k"]:
            scores[scores < scores.topk(30).values[:, -1:]] = -math.inf
        q = scores.log_softmax(-1)
        answer = ids[0, first + 1 :].unsqueeze(1)
        examples.append(Example(prompt, answer.squeeze(1).tolist()))
        inside = q.gather(1, answer).isfinite()
        terms = q.exp() * (q.clamp_min(-1e9) - p[:, :300])
        expected.append(
            {
                "nats": float(-p.gather(1, answer).sum()),
                "teacher_nats": float(-q.gather(1, answer)[inside].sum()),
                "kl": float(terms.sum()),
                "cut": int((~inside).sum()),
            }
        )
    scored = score_examples(student, examples, 0, 3, states, head, decoding)
    for ours, wanted in zip(scored, expected, strict=True):
        assert ours["nats"] == pytest.approx(wanted["nats"], rel=1e-5)
        assert ours["kl"] == pytest.approx(wanted["kl"], rel=1e-4)
        if wanted["cut"] == 0:
            assert ours["teacher_nats"] == pytest.approx(wanted["teacher_nats"], rel=1e-5)
        else:  # a text of others
            assert math.isinf(ours["teacher_nats"])
    if settings["top_k"]:
        drawn = score_examples(student, examples, 0, 3, states, head, decoding, drawn=True)
        assert all(math.isfinite(item["teacher_nats"]) for item in drawn)
        assert [item["nats"] for item in drawn] == [item["nats"] for item in scored]


class Lookup(OutputHead):
    """Logits from a table, by the last token or by a state that is a number.

    As a model and as a head: nothing is computed, so nothing depends on what shares a batch.
    """

    device, training = torch.device("cpu"), False

    def __call__(
        self, input_ids: torch.Tensor, logits_to_keep: torch.Tensor | None = None, **_: Any
    ) -> Any:
        ids = input_ids if logits_to_keep is None else input_ids[logits_to_keep]
        return SimpleNamespace(logits=self.weight[ids])

    def parameters(self) -> list[torch.Tensor]:
        """None, so that trials run on the table itself."""
        return []

    def train(self, mode: bool = True) -> None:
        """Nothing to switch."""

    eval = train

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight[hidden[:, 0].long()]


def plain_scores(
    model: Lookup,
    examples: list[Example],
    states: list[torch.Tensor],
    head: Lookup,
    decoding: Decoding,
) -> list[dict[str, float]]:
    """The formulas as they stand, on whole matrices."""
    sums = []
    for example, state in zip(examples, states, strict=True):
        before = (example.prompt + example.answer)[len(example.prompt) - 1 : -1]
        logs = torch.log_softmax(model.weight[before].float(), dim=-1)
        own = log_q(head.logits(state), decoding)
        chosen = torch.tensor(example.answer).unsqueeze(1)
        width = min(own.shape[-1], logs.shape[-1])
        near, far = logs[:, :width], own[:, :width]
        columns = {
            "nats": -logs.gather(1, chosen),
            "teacher_nats": -own.gather(1, chosen),
            "kl": far.exp() * (far.clamp_min(-1e9) - near),
            "agree": far.argmax(-1) == near.argmax(-1),
        }
        sums.append({name: float(column.double().sum()) for name, column in columns.items()})
    return sums


@pytest.mark.slow
@pytest.mark.parametrize("words", [300, 290, 310])
@pytest.mark.parametrize(
    "settings", [q_settings(), q_settings(0.7), q_settings(1.3, top_k=40), q_settings(top_p=0.8)]
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_scoring_in_place_equals_the_formulas(
    precision: torch.dtype, settings: dict[str, Any], words: int
) -> None:
    """Over several blocks of rows and of batches, and with heads padded to different widths."""
    noise = torch.Generator().manual_seed(3)
    table = 20 + 3 * torch.randn(310, 310, generator=noise)
    model = Lookup(table[:300, :300].to(precision), None, 0.0, 1.0)
    table = table - 30 + torch.randn(310, 310, generator=noise)
    head = Lookup(table[:256, :words].to(precision), None, 0.0, 1.0)
    decoding = Decoding(**settings)
    chances = log_q(head.weight, decoding)[:, :290].exp() + 1e-30
    examples, states = [], []
    for number in range(8):
        prompt = torch.randint(290, (2 + number,), generator=noise).tolist()
        ids = [prompt[-1]]
        for _ in range(101 + 17 * number):
            row = chances[ids[-1] % 256] if number else torch.ones(290)  # at first, not from q
            ids.append(int(torch.multinomial(row, 1, generator=noise)))
        examples.append(Example(prompt, ids[1:]))
        states.append((torch.tensor(ids[:-1]) % 256).unsqueeze(1).bfloat16())
    found = score_examples(model, examples, 0, 5, states, head, decoding)
    assert sum(item["tokens"] for item in found[3:]) > 512  # a batch, longest first
    plain = plain_scores(model, examples, states, head, decoding)
    for ours, theirs in zip(found, plain, strict=True):
        assert theirs["kl"] > 10
        assert 0 < theirs["agree"] < ours["tokens"]
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-5)
    cut = settings["top_k"] or settings["top_p"] < 1
    assert math.isinf(plain[0]["teacher_nats"]) == bool(cut)
    alone = score_examples(model, examples, 0, 5)
    for ours, item in zip(found, alone, strict=True):
        assert set(item) == {"tokens", "nats", "confidence", "correct"}
        assert {name: ours[name] for name in item} == item


def test_scoring_in_place_finds_small_divergences() -> None:
    noise = torch.Generator().manual_seed(4)
    table = 20 + 3 * torch.randn(100, 100, generator=noise)
    for shift, size in ((0.0, 0.0), (7.0, 0.0), (0.0, 0.01)):
        own = table + shift + size * torch.randn(100, 100, generator=noise)
        model, head = Lookup(own, None, 0.0, 1.0), Lookup(table, None, 0.0, 1.0)
        examples = [Example([5], list(range(100)))]
        states = [torch.tensor([[5], *([token] for token in range(99))]).bfloat16()]
        found = score_examples(model, examples, 0, 1, states, head, Decoding())[0]
        q, p = (part[[5, *range(99)]].double().log_softmax(-1) for part in (table, own))
        wanted = (q.exp() * (q - p)).sum().item()
        assert (wanted > 1e-3) == (size > 0)
        assert found["kl"] == pytest.approx(wanted, rel=1e-2, abs=1e-4)


def test_a_temperature_near_zero_keeps_its_digits() -> None:
    table = 20 + 3 * torch.randn(100, 100, generator=torch.Generator().manual_seed(5))
    own = Lookup(table.roll(1, 0), None, 0.0, 1.0)
    ids = table.argmax(-1).tolist()[:40]
    states = [torch.arange(40).unsqueeze(1).bfloat16()]
    head, cold = Lookup(table, None, 0.0, 1.0), Decoding(temperature=1e-6)
    found = score_examples(own, [Example([0], ids)], 0, 1, states, head, cold)[0]
    assert found["teacher_nats"] == pytest.approx(0.0, abs=1e-6)
    assert found["kl"] == pytest.approx(found["nats"], rel=1e-5)  # q is at one token


@pytest.mark.slow
def test_confidence_is_of_the_likeliest_token_and_correct_if_the_text_has_it() -> None:
    model = tiny.model("gpt2", seed=2)
    noise = torch.Generator().manual_seed(0)
    examples = []
    for number in range(6):
        ids = torch.randint(300, (3 + number,), generator=noise).tolist()
        answer: list[int] = []
        for step in range(4 + 2 * number):  # every other token is the model's own choice
            with torch.inference_mode():
                best = model(torch.tensor([ids + answer])).logits[0, -1].argmax().item()
            other = torch.randint(300, (1,), generator=noise).item()
            answer.append(int(best if step % 2 else other))
        examples.append(Example(ids, answer))
    scored = score_examples(model, examples, 0, 4)
    for example, ours in zip(examples, scored, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([example.prompt + example.answer])).logits[0]
        chances, best = logits[len(example.prompt) - 1 : -1].softmax(-1).max(-1)
        assert ours["confidence"] == pytest.approx(chances.tolist(), rel=1e-5)
        assert ours["correct"] == (best == torch.tensor(example.answer)).tolist()
        assert all(ours["correct"][1::2])
    metrics = held_out_metrics(scored, examples, 100, {})
    confidence = [value for item in scored for value in item["confidence"]]
    correct = [value for item in scored for value in item["correct"]]
    assert {metrics["ece"]} | set(correct) > {True, False}
    wanted = expected_calibration_error(confidence, correct)
    assert (metrics["ece"], metrics["ece_bins"]) == (wanted["ece"], wanted["bins"])
    assert sum(part["count"] for part in metrics["ece_bins"]) == metrics["tokens"]


def test_the_teacher_as_its_own_student_has_no_divergence() -> None:
    teacher = tiny.model("llama", seed=1).bfloat16()
    rows = [text([3, 1 + n], [5 * n, 7, 9 + n][: 1 + n % 3], n) for n in range(12)]
    scored, _, examples = judged(teacher, teacher, rows, q_settings())
    metrics = held_out_metrics(scored, examples, 100, {})
    assert metrics["kl_teacher"] == pytest.approx(0, abs=1e-3)
    assert metrics["top1_agreement"] == 1
    assert metrics["loss"] == pytest.approx(metrics["loss_teacher"], abs=1e-3)
    assert metrics["identity"]["difference"] == pytest.approx(0, abs=1e-3)


def test_divergence_sees_the_teachers_temperature() -> None:
    teacher = tiny.model("llama", seed=1)
    rows = [text([3, 1], [4, 5, 6])]
    found = [judged(teacher, teacher, rows, q_settings(t))[0][0]["kl"] for t in (1.0, 0.7)]
    with torch.inference_mode():
        logits = teacher(torch.tensor([[3, 1, 4, 5, 6]])).logits[0, 1:4]
    q, p = (logits / 0.7).log_softmax(-1), logits.log_softmax(-1)
    assert found[0] == pytest.approx(0, abs=1e-2)
    assert found[1] == pytest.approx((q.exp() * (q - p)).sum().item(), rel=2e-2)


def test_a_teacher_is_scored_at_the_temperature_that_it_writes_at() -> None:
    teacher = tiny.model("llama", seed=1)
    (scored,) = score_examples(teacher, [Example([3, 1], [4, 5, 6])], 0, 1, temperature=0.7)
    with torch.inference_mode():
        logits = teacher(torch.tensor([[3, 1, 4, 5, 6]])).logits[0, 1:4]
    logs = (logits / 0.7).log_softmax(-1)
    nats = -logs[range(3), [4, 5, 6]].sum().item()
    assert scored["nats"] == pytest.approx(nats, rel=1e-5)
    assert scored["confidence"] == pytest.approx(logs.amax(-1).exp().tolist(), rel=1e-5)


_OF_TEACHER = ("teacher_nats", "kl", "agree", "floor")


def test_metrics_by_hand() -> None:
    scored = [
        {"tokens": 5, "nats": 10.0, "teacher_nats": 5.0, "kl": 1.0, "agree": 3.0, "floor": 0.1,
         "confidence": [0.9] * 5, "correct": [True] * 5},
        {"tokens": 10, "nats": 24.0, "teacher_nats": 16.0, "kl": 2.0, "agree": 5.0, "floor": 0.3,
         "confidence": [0.9] * 5 + [0.2] * 5, "correct": [True, False] * 5},
        {"tokens": 5, "nats": 6.0, "teacher_nats": 4.0, "kl": 3.0, "agree": 4.0, "floor": 0.6,
         "confidence": [0.2] * 5, "correct": [False] * 5},
    ]  # fmt: skip
    examples = [Example([1], [7] * 5), Example([1], [7] * 4 + [8] * 6), Example([1], [9] * 5)]
    metrics = held_out_metrics(scored, examples, 80, {7: 1, 1: 1})
    assert metrics["loss"] == pytest.approx(2.0)  # the mean of means is 1.867
    assert metrics["perplexity"] == pytest.approx(math.exp(2.0))
    assert metrics["bits_per_byte"] == pytest.approx(0.5 / math.log(2))
    assert metrics["ece"] == pytest.approx(0.5 * abs(0.8 - 0.9) + 0.5 * abs(0.2 - 0.2))
    assert metrics["ece_bins"] == [
        pytest.approx({"confidence": 0.2, "accuracy": 0.2, "count": 10}),
        pytest.approx({"confidence": 0.9, "accuracy": 0.8, "count": 10}),
    ]
    assert metrics["unseen_token_share"] == pytest.approx(11 / 20)
    parts = [9 / 20, 6 / 20, 5 / 20]
    assert metrics["unigram_entropy"] == pytest.approx(-sum(p * math.log(p) for p in parts))
    assert metrics["loss_teacher"] == pytest.approx(25 / 20)
    assert metrics["kl_teacher"] == pytest.approx(6 / 20)
    assert metrics["top1_agreement"] == pytest.approx(12 / 20)
    assert metrics["kl_floor"] == pytest.approx(1 / 20)
    assert metrics["identity"]["difference"] == pytest.approx((40 - 25 - 6) / 20)
    borrowed = held_out_metrics(scored, examples, 80, {7: 1, 1: 1}, own_text=False)
    assert borrowed["identity"] is None  # it holds for text from q alone
    assert borrowed["kl_teacher"] == metrics["kl_teacher"]
    without = [{key: item[key] for key in item if key not in _OF_TEACHER} for item in scored]
    alone = held_out_metrics(without, examples, 80, {7: 1})
    names = ("loss_teacher", "kl_teacher", "kl_stderr", "kl_floor", "top1_agreement", "identity")
    assert [alone[name] for name in names] == [None] * 6
    assert alone["ece"] == metrics["ece"]


def test_twenty_nats_over_forty_bytes() -> None:
    scored = {"tokens": 8, "nats": 20.0, "confidence": [0.5] * 8, "correct": [True] * 8}
    metrics = held_out_metrics([scored], [Example([1], [2] * 8)], 40, {})
    assert metrics["ece"] == 0.5
    assert metrics["bits_per_byte"] == pytest.approx(0.7213, abs=5e-5)
    assert metrics["loss_stderr"] == 0.0
    assert metrics["unseen_token_share"] == 1.0


def test_token_mean_is_the_classical_one_for_equal_lengths() -> None:
    values = np.random.default_rng(0).normal(3, 1, 40)
    mean, error = token_mean(list(values * 6), [6] * 40)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / math.sqrt(40))


def test_the_error_of_a_token_mean_is_what_resampled_prompts_show() -> None:
    noise = np.random.default_rng(1)
    tokens = noise.integers(5, 60, 200)
    sums = tokens * (2 + noise.normal(0, 0.5, 200)) + noise.normal(0, 3, 200)
    mean, error = token_mean(list(sums), [int(count) for count in tokens])
    assert mean == pytest.approx(sums.sum() / tokens.sum())
    rows = noise.integers(200, size=(4000, 200))
    spread = (sums[rows].sum(1) / tokens[rows].sum(1)).std()
    assert error == pytest.approx(spread, rel=0.06)


def test_unigram_entropy_of_equal_frequencies_is_the_log_of_their_number() -> None:
    assert unigram_entropy([3] * 8) == pytest.approx(math.log(8))
    assert unigram_entropy([5, 0]) == 0.0


@pytest.mark.parametrize("bos", [False, True])
def test_a_passage_stands_alone_after_bos(bos: bool) -> None:
    words = tiny.tokenizer(chat=False, **{"bos_token": "<|endoftext|>"} if bos else {})
    model = tiny.model("llama")
    passages = [tiny.SENTENCES[0], tiny.SENTENCES[2] * 3, "ü", "Sea"]
    found = reference_metrics(model, words, passages, 12, 3)
    nats, tokens, covered = 0.0, 0, 0
    for passage in passages:
        ids = words(passage, add_special_tokens=False).input_ids[:12]
        whole = [words.bos_token_id, *ids] if bos else ids
        if len(whole) < 2:
            continue
        with torch.inference_mode():
            logs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        nats -= sum(logs[at, token].item() for at, token in enumerate(whole[1:]))
        tokens += len(whole) - 1
        covered += len(words.decode(whole[1:]).encode())
    assert found["tokens"] == tokens
    assert found["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / covered, rel=1e-5)


@pytest.mark.slow
def test_answers_come_in_the_order_of_their_prompts(chat: Any) -> None:
    model = tiny.model("llama")
    prompts = [(sentence, None) for sentence in (*tiny.SENTENCES, "Hi?", "x" * 60)]
    formatting = {"template": "chat", "system": None}
    together = answer_prompts(model, chat, prompts, formatting, 6, batch_size=3)
    alone = [answer_prompts(model, chat, [one], formatting, 6)[0] for one in prompts]
    assert together == alone
    assert len({answer["text"] for answer in together}) == len(prompts)
    assert all(answer["tokens"] <= 6 for answer in together)


def evaluate(
    monkeypatch: pytest.MonkeyPatch, model: Any, words: Any, head: OutputHead, teacher: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    own = tiny.tokenizer(chat=False)
    rows = [tiny.text_row(own, n, f"{n}?", tiny.SENTENCES[n]) for n in range(4)]
    items = [Instruction("easy", "Say so.", ("length_constraints:number_words",),
                         ({"relation": "at least", "num_words": 0},)),
             Instruction("hard", "Say more.", ("length_constraints:number_words",),
                         ({"relation": "at least", "num_words": 999},))]  # fmt: skip
    monkeypatch.setattr(answers, "instruction_sets", lambda size: {"fixed": items})
    spec = {
        "formatting": {"template": "{prompt}", "system": None},
        "distribution": q_settings(),
        "written": True,
        "reference_answers": 3,
        "generated_instructions": 200,
        "instruction_tokens": 4,
        "qualitative": 2,
        "batch_size": 3,
    }
    rows[0]["reference"], rows[3]["reference"] = "A boat.", "Beyond the limit."
    states = score_text(teacher, rows)
    trained = Counter(token for row in rows for token in row["response_ids"])
    heldout = held_out(model, words, rows, states, head, tokenizer_sha256(own), trained, spec)
    found, responses = ask_model(model, words, rows, spec)
    return found | {"heldout": heldout}, responses


@pytest.mark.slow
def test_divergence_is_measured_between_equal_tokens_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = tiny.model("llama", seed=1)
    head = head_of(teacher)
    plain, other = tiny.tokenizer(chat=False), tiny.tokenizer(chat=False, vocabulary=290)
    same, responses = evaluate(monkeypatch, teacher, plain, head, teacher)
    anew, _ = evaluate(monkeypatch, teacher, other, head, teacher)
    assert same["heldout"]["kl_teacher"] == pytest.approx(0, abs=1e-2)
    assert same["heldout"]["unseen_token_share"] == 0
    assert anew["heldout"]["kl_teacher"] is None
    assert anew["heldout"]["loss"] > 0
    sets = [(answer["set"], answer["passed"]) for answer in responses]
    assert sets[1:] == [("fixed", False), ("test", None), ("test", None), ("reference", None)]
    wanted = text_similarity(["A boat."], [responses[-1]["text"]])
    assert same["answers"] == wanted
    fixed = same["instructions"]["fixed"]
    assert fixed["passed"] == sum(fixed["results"].values())
    assert fixed["results"]["hard"] is False


def test_a_control_token_that_a_passage_spells_is_text() -> None:
    words = tiny.tokenizer(chat=False)
    model = tiny.model("llama")
    spelled = f"Sea {words.eos_token} boat"
    found = reference_metrics(model, words, [spelled], 40, 1)
    ids = encode_plain(words, spelled)
    assert words.eos_token_id not in ids
    assert words.decode(ids) == spelled
    assert found["tokens"] == len(ids) - (words.bos_token_id is None)
