from typing import Any

import pytest
import torch

import tiny
from distill.contracts.schemas import LOSS_SCHEMA
from distill.core.errors import UserError
from distill.models.head_extraction import head_of
from distill.teacher.answer_loss import answer_losses
from distill.teacher.scoring import score_text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_an_answers_loss_is_the_models_mean_cross_entropy(kind: str, temperature: float) -> None:
    words, model = tiny.tokenizer(), tiny.model(kind)
    rows = tiny.uneven_rows(words, 6)
    states = score_text(model, rows)
    head = head_of(model)
    found = answer_losses(rows[::-1], states, head, temperature)
    assert [each["id"] for each in found] == [row["id"] for row in rows[::-1]]
    for row, each in zip(rows[::-1], found, strict=True):
        assert set(each) == set(LOSS_SCHEMA.names)
        ids = torch.tensor([[*row["prompt_ids"], *row["response_ids"]]])
        with torch.inference_mode():
            logits = model(ids).logits[0, len(row["prompt_ids"]) - 1 : -1] / temperature
        wanted = torch.nn.functional.cross_entropy(logits, torch.tensor(row["response_ids"]))
        assert each["loss"] == pytest.approx(float(wanted), rel=5e-3)  # states are kept in bf16
        tokens = len(row["response_ids"])
        scored = next(state["flops"] for state in states if state["id"] == row["id"])
        assert (each["tokens"], each["flops"]) == (tokens, 2 * 300 * 32 * tokens + scored)


def test_states_of_other_answers_are_refused() -> None:
    words, model = tiny.tokenizer(), tiny.model("llama")
    rows: list[dict[str, Any]] = tiny.uneven_rows(words, 2)
    states = score_text(model, rows)
    with pytest.raises(UserError, match="lack the present answer train-0000001"):
        answer_losses(rows, states[:1], head_of(model), 1.0)
    rows[1]["response_ids"] = rows[1]["response_ids"][1:]
    with pytest.raises(UserError, match="lack the present answer train-0000001"):
        answer_losses(rows, states, head_of(model), 1.0)
