from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from distill.core.errors import UserError
from distill.models import batching as row_batches
from distill.models.attention import GROUPED
from distill.models.batching import batches, padded
from distill.models.decoding import Decoding
from distill.models.flops import FlopModel
from distill.models.head_extraction import final_hidden, head_of
from distill.models.heads import (
    OutputHead,
    hidden_states,
    load_head,
    save_head,
    state_bytes,
    teacher_log_q,
)
from distill.models.rows import scored_positions
from distill.teacher import scoring
from distill.teacher.scoring import score_text

CPU = torch.device("cpu")
HEADS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-tied": {},
    "gpt2": {},
    "gemma2": {},  # a soft cap
    "phi": {},  # a bias
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 3.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEADS)
def test_a_saved_head_gives_the_models_own_logits(tmp_path: Path, kind: str) -> None:
    model = tiny.model(kind, **HEADS[kind])
    head = head_of(model)
    assert head.is_matrix is (kind in ("llama", "llama-tied", "gpt2"))
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors", CPU)
    ids = torch.randint(3, 300, (2, 11), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        hidden = final_hidden(model, ids, None)
        for one in (head, again):
            torch.testing.assert_close(one.logits(hidden), expected, rtol=1e-5, atol=1e-5)
        if not head.is_matrix:  # so the rest mattered
            bare = hidden @ head.weight.T
            assert float((bare - expected).abs().max()) > 0.1


def test_a_head_keeps_its_precision(tmp_path: Path) -> None:
    model = tiny.model("llama").to(torch.bfloat16)
    save_head(head_of(model), tmp_path / "head.safetensors")
    head = load_head(tmp_path / "head.safetensors", CPU)
    assert head.weight.dtype == torch.bfloat16
    assert torch.equal(head.weight, model.lm_head.weight)
    assert head.logits(torch.ones(1, 32)).dtype == torch.bfloat16


def test_a_head_that_is_more_than_a_matrix_is_a_user_error(plain: Any) -> None:
    class Odd(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return super().forward(states).square()

    model = tiny.model("llama")
    model.lm_head = Odd(32, 300, bias=False)
    with pytest.raises(
        UserError, match=r"output head of llama is more than a matrix.* use another"
    ):
        head_of(model)
    with pytest.raises(UserError, match="more than a matrix"):
        score_text(model, tiny.uneven_rows(plain, 2))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["answer", "all"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_are_the_states_of_each_row_by_itself(plain: Any, kind: str, tokens: str) -> None:
    model = tiny.model(kind, attention=GROUPED)
    rows = tiny.uneven_rows(plain, 9)
    flops = FlopModel.from_model(model)
    head = head_of(model)
    scored = score_text(model, rows, tokens, batch_size=4)
    assert [row["id"] for row in scored] == [row["id"] for row in rows]
    for row, made in zip(rows, scored, strict=True):
        ids = [*row["prompt_ids"], *row["response_ids"]]
        first = 0 if tokens == "all" else len(row["prompt_ids"]) - 1
        assert made["tokens"] == len(ids) - 1 - first
        assert made["flops"] == flops.sequence_forward(len(ids), 0)
        assert made["seconds"] > 0
        with torch.inference_mode():
            alone = final_hidden(model, torch.tensor([ids]), None)[0, first:-1]
            logits = model(torch.tensor([ids])).logits[0, first:-1]
        states = hidden_states(made["hidden"], 32)
        torch.testing.assert_close(states.float(), alone, rtol=2**-8, atol=1e-4)
        # What the head makes of them is the distribution that predicts each token of the answer.
        q = teacher_log_q(head, states, Decoding()).exp()
        p = torch.softmax(logits, -1)
        assert float((p * (p / q).log()).sum(1).max()) < 1e-3


def test_positions_predict_what_is_scored() -> None:
    row = {"prompt_ids": [5, 6, 7], "response_ids": [8, 9]}
    assert list(scored_positions(row, "answer")) == [2, 3]  # they predict 8 and 9
    assert list(scored_positions(row, "all")) == [0, 1, 2, 3]


def test_batches_hold_each_row_once_and_rows_of_like_length(plain: Any) -> None:
    rows = tiny.uneven_rows(plain, 11)
    made = batches(rows, 4, CPU)
    assert [len(batch) for batch in made] == [4, 4, 3]
    assert sorted(sum(made, [])) == list(range(11))  # noqa: RUF017
    lengths = [len(rows[n]["prompt_ids"]) + len(rows[n]["response_ids"]) for batch in made for n in batch]  # fmt: skip  # noqa: E501
    assert lengths == sorted(lengths, reverse=True)
    ids, mask = padded([rows[n] for n in made[0]], CPU)
    for own, real, number in zip(ids, mask, made[0], strict=True):
        row = rows[number]
        whole = [*row["prompt_ids"], *row["response_ids"]]
        assert own[: len(whole)].tolist() == whole
        assert real.tolist() == [1] * len(whole) + [0] * (len(own) - len(whole))


def test_states_are_stored_as_bf16() -> None:
    states = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    blob = state_bytes(states)
    assert len(blob) == 2 * 5 * 7
    assert torch.equal(hidden_states(blob, 7), states.to(torch.bfloat16))


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 0, 1.0), (0.6, 4, 1.0), (1.3, 0, 0.8)])  # fmt: skip  # noqa: E501
def test_q_is_the_sampling_distribution(temperature: float, top_k: int, top_p: float) -> None:
    generator = torch.Generator().manual_seed(0)
    head = OutputHead(torch.randn(50, 7, generator=generator), None, 0.0, 1.0)
    states = torch.randn(6, 7, generator=generator).to(torch.bfloat16)
    q = teacher_log_q(head, states, Decoding(temperature, top_k, top_p)).exp().double()
    for row, state in zip(q, states.double(), strict=True):
        p = torch.softmax(head.weight.double() @ state / temperature, -1)
        ranked = p.sort(descending=True)
        kept = top_k or 50
        if top_p < 1:
            kept = int((ranked.values.cumsum(0) < top_p).sum()) + 1
        expected = torch.zeros(50, dtype=torch.float64)
        expected[ranked.indices[:kept]] = ranked.values[:kept] / ranked.values[:kept].sum()
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-9)


def test_longer_rows_are_fewer_to_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_batches, "TOKENS", 24)
    rows = [{"prompt_ids": [1], "response_ids": [2] * number} for number in (29, 11, 11, 7, 3, 3)]
    assert batches(rows, 3, CPU) == [[0], [1, 2], [3, 4, 5]]
    assert batches(rows, 3, torch.device("cuda")) == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "gemma2", "phi", "bloom"])
@pytest.mark.parametrize("attention", ["eager", GROUPED])
def test_what_all_rows_begin_with_is_run_once(
    kind: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.model(kind, attention=attention)
    rows = [
        {
            "id": str(number),
            "prompt_ids": [*range(20, 32), *range(50, 50 + number)],
            "response_ids": list(range(70, 71 + 5 * number)),
        }
        for number in range(5)
    ]
    score_text(model, rows[:1])  # the model's trials
    read: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda module, given: read.append(given[0].numel())
    )
    shared = score_text(model, rows)
    tokens = sum(read)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "_shared", lambda *_: 0)
        read.clear()
        alone = score_text(model, rows)
    whole = kind in ("gemma2", "bloom")  # a window that slides, no such cache
    assert tokens == sum(read) - (0 if whole else 4 * 11)
    for one, two in zip(shared, alone, strict=True):
        assert one["tokens"] == two["tokens"] == len(one["hidden"]) // 64
        ours, plain = (hidden_states(each["hidden"], 32).float() for each in (one, two))
        torch.testing.assert_close(ours, plain, rtol=2**-7, atol=1e-2)
    assert score_text(model, rows, "all")[0]["tokens"] == 12
