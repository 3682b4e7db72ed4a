from typing import Any

import pytest

import tiny
from distill.core.noise import row_uniforms
from distill.evaluation.answering import answer_prompts, draw_answers, likeness
from distill.evaluation.text_metrics import text_similarity

FORMATTING = {"template": "{prompt}\n", "system": None}
SETTINGS = {
    "temperature": 0.7, "top_k": 50, "top_p": 0.95, "max_tokens": 8, "seed": 0, "batch_size": 2
}  # fmt: skip


def rows() -> list[dict[str, Any]]:
    return [
        {"id": f"test-{number}", "prompt": sentence, "context": None, "reference": sentence}
        for number, sentence in enumerate(tiny.SENTENCES)
    ]


def drawn(words: Any, chosen: list[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
    model = tiny.model("llama", initializer_range=0.1)
    return draw_answers(model, words, chosen, FORMATTING, SETTINGS | settings)


@pytest.mark.slow
def test_an_answer_depends_on_its_row_and_the_seed_alone(plain: Any) -> None:
    together = drawn(plain, rows())
    assert len(together) == 5
    assert len({answer["text"] for answer in together}) == 5
    assert all(answer["tokens"] <= 8 for answer in together)
    assert drawn(plain, rows()[::-1])[::-1] == together
    assert drawn(plain, rows()[3:4], batch_size=1) == together[3:4]
    assert drawn(plain, rows(), seed=1) != together
    renamed = [row | {"id": "other"} for row in rows()]
    assert drawn(plain, renamed) != together


@pytest.mark.slow
def test_drawn_answers_are_cut_as_asked_and_greedy_ones_need_no_noise(plain: Any) -> None:
    model = tiny.model("llama", initializer_range=0.1)
    prompts = [(row["prompt"], None) for row in rows()]
    greedy = answer_prompts(model, plain, prompts, FORMATTING, 8)
    assert drawn(plain, rows(), temperature=0) == greedy
    assert drawn(plain, rows(), top_k=1) == greedy
    assert drawn(plain, rows(), top_p=1e-9) == greedy
    noise = [row_uniforms(row["id"], 0, 8) for row in rows()]
    assert all((own < 1).all() for own in noise)
    assert drawn(plain, rows(), temperature=5.0, top_k=0, top_p=1.0) != greedy


def test_likeness_is_that_of_answers_and_references() -> None:
    answers = [{"text": "A boat on the river runs."}] * 5
    wanted = text_similarity([row["reference"] for row in rows()], [answers[0]["text"]] * 5)
    assert likeness(rows(), answers) == wanted
    assert likeness([], []) is None
    with pytest.raises(ValueError, match=r"shorter|longer"):
        likeness(rows(), answers[:2])
