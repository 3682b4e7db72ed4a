import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from distill import evaluation
from distill.encoding import Example
from distill.evaluation import (
    answer_prompts,
    evaluate_model,
    held_out_metrics,
    reference_metrics,
    score_examples,
)
from distill.files import UserError
from distill.instructions import Instruction
from distill.sampling import Decoding, log_q
from distill.scores import (
    OutputHead,
    final_hidden,
    head_of,
    hidden_states,
    load_head,
    save_head,
    score_text,
)
from distill.statistics import token_mean, unigram_entropy
from distill.tokens import tokenizer_sha256

HEADS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {},
    "gpt2": {},
    "gemma2": {},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "phi": {},  # a bias
}


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
) -> tuple[list[dict[str, float]], list[dict[str, Any]], list[Example]]:
    scores = score_text(teacher, rows, settings, batch_size=7)
    head = head_of(teacher)
    examples = [Example(row["prompt_ids"], row["response_ids"]) for row in rows]
    states = [hidden_states(score["hidden"], head.weight.shape[1]) for score in scores]
    scored = score_examples(
        student, examples, 0, 5, states, head, Decoding(**settings)
    )  # batches of other sizes than the teacher's
    return scored, scores, examples


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
        assert ours["kl"] == pytest.approx((q.exp() * (q - p)).sum().item(), rel=2e-2)
        assert ours["agree"] == (q.argmax(-1) == p.argmax(-1)).sum().item()
    metrics = held_out_metrics(scored, examples, 100, scores, set())
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


def test_the_teacher_as_its_own_student_has_no_divergence() -> None:
    teacher = tiny.model("llama", seed=1).bfloat16()
    rows = [text([3, 1 + n], [5 * n, 7, 9 + n][: 1 + n % 3], n) for n in range(12)]
    scored, scores, examples = judged(teacher, teacher, rows, q_settings())
    metrics = held_out_metrics(scored, examples, 100, scores, set())
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


def test_metrics_by_hand() -> None:
    scored = [
        {"tokens": 5, "nats": 10.0, "kl": 1.0, "agree": 3.0},
        {"tokens": 10, "nats": 24.0, "kl": 2.0, "agree": 5.0},
        {"tokens": 5, "nats": 6.0, "kl": 3.0, "agree": 4.0},
    ]
    examples = [Example([1], [7] * 5), Example([1], [7] * 4 + [8] * 6), Example([1], [9] * 5)]
    teacher = [{"log_q": [-1.0] * 5}, {"log_q": [-1.6] * 10}, {"log_q": [-0.8] * 5}]
    metrics = held_out_metrics(scored, examples, 80, teacher, {7, 1})
    assert metrics["loss"] == pytest.approx(2.0)  # the mean of means is 1.867
    assert metrics["perplexity"] == pytest.approx(math.exp(2.0))
    assert metrics["bits_per_byte"] == pytest.approx(0.5 / math.log(2))
    assert metrics["unseen_token_share"] == pytest.approx(11 / 20)
    parts = [9 / 20, 6 / 20, 5 / 20]
    assert metrics["unigram_entropy"] == pytest.approx(-sum(p * math.log(p) for p in parts))
    assert metrics["loss_teacher"] == pytest.approx(25 / 20)
    assert metrics["kl_teacher"] == pytest.approx(6 / 20)
    assert metrics["top1_agreement"] == pytest.approx(12 / 20)
    assert metrics["identity"]["difference"] == pytest.approx((40 - 25 - 6) / 20)
    alone = held_out_metrics(scored, examples, 80, None, {7})
    names = ("loss_teacher", "kl_teacher", "kl_stderr", "top1_agreement", "identity")
    assert [alone[name] for name in names] == [None] * 5


def test_twenty_nats_over_forty_bytes() -> None:
    metrics = held_out_metrics(
        [{"tokens": 8, "nats": 20.0}], [Example([1], [2] * 8)], 40, None, set()
    )
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
    monkeypatch.setattr(evaluation, "instruction_sets", lambda size: {"fixed": items})
    spec = {
        "formatting": {"template": "{prompt}", "system": None},
        "text": {"decoding": q_settings()},
        "reference": {"max_tokens": 16},
        "generated_instructions": 200,
        "instruction_tokens": 4,
        "qualitative": 2,
        "batch_size": 3,
    }
    scores = score_text(teacher, rows, q_settings())
    trained = {token for row in rows for token in row["response_ids"]}
    return evaluate_model(
        model, words, rows, scores, head, tokenizer_sha256(own), ["A text."], trained, spec
    )


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
    assert sets[1:] == [("fixed", False), ("test", None), ("test", None)]
    fixed = same["instructions"]["fixed"]
    assert fixed["passed"] == sum(fixed["results"].values())
    assert fixed["results"]["hard"] is False


def test_log_q_of_a_saved_state_is_that_of_the_score() -> None:
    teacher = tiny.model("llama", seed=1)
    rows = [text([3, 1], [4, 5, 6]), text([9], [1, 2])]
    for row, score in zip(rows, score_text(teacher, rows, q_settings(0.7)), strict=True):
        states = hidden_states(score["hidden"], 32)
        logs = log_q(head_of(teacher).logits(states), Decoding(0.7))
        wanted = [logs[at, token].item() for at, token in enumerate(row["response_ids"])]
        assert score["log_q"] == pytest.approx(wanted, abs=1e-5)
