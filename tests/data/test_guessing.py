"""Which columns of a file hold what."""

from typing import Any

import pytest

from distill.core.rows.guessing import guess_fields

CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
LONG = "Some words about a boat."


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"question": "Why?", "answer": "So."}, {"prompt": "question", "response": "answer"}),
        (
            {"id": "x7", "Question ": "Why?", "Answer": LONG},
            {"prompt": "Question ", "response": "Answer"},
        ),
        (
            {"instruction": "Say it.", "input": "A boat.", "output": "So."},
            {"prompt": "instruction", "context": "input", "response": "output"},
        ),
        ({"input": "Why?", "output": "So."}, {"prompt": "input", "response": "output"}),
        (
            {"instruction": "Why?", "context": None, "response": "So.", "category": "qa"},
            {"prompt": "instruction", "response": "response"},
        ),
        ({"prompt": "Why?", "completion": "So."}, {"prompt": "prompt", "response": "completion"}),
        ({"Frage": "Warum?", "Antwort": "Darum."}, {"prompt": "Frage", "response": "Antwort"}),
        ({"": 0, "Frage": "Warum?"}, {"prompt": "Frage"}),
        ({"text": "Why?"}, {"prompt": "text"}),
        (
            {"system": "Be short.", "prompt": "Why?", "response": "So."},
            {"prompt": "prompt", "response": "response", "system": "system"},
        ),
        ({"messages": CHAT, "source": "a"}, {"prompt": "messages"}),
        (
            {"id": "1", "conversations": [{"from": "human", "value": "Why?"}]},
            {"prompt": "conversations"},
        ),
        ({"talk": CHAT}, {"prompt": "talk"}),
        (
            {"prompt": CHAT[:1], "completion": CHAT[1:]},
            {"prompt": "prompt", "response": "completion"},
        ),
        (
            {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
            {"prompt": "prompt", "response": "chosen"},
        ),
        (
            {"question": "Why?", "answers": {"text": ["So."], "answer_start": [0]}},
            {"prompt": "question", "response": "answers.text[0]"},
        ),
        ({"qa": {"q": "Why?", "a": "So."}}, {"prompt": "qa.q", "response": "qa.a"}),
        ({"id": 3, "score": "0.5"}, {}),
    ],
)  # fmt: skip
def test_fields_are_guessed_from_names_and_values(
    row: dict[str, Any], fields: dict[str, str]
) -> None:
    assert guess_fields([row, row]) == fields


def test_values_decide_where_names_do_not() -> None:
    rows = [{"a1": str(number), "b1": f"Why {number}?", "c1": LONG} for number in range(5)]
    assert guess_fields(rows) == {"prompt": "b1", "response": "c1"}
    assert guess_fields([{"context": ""}, {"prompt": "Why?", "context": ""}]) == {
        "prompt": "prompt"
    }
    assert guess_fields(["no object"]) == {}
