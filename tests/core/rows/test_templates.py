"""Rows built from templates."""

import re
from collections import Counter
from itertools import product
from typing import Any

import pytest

from distill.config.text import Source
from distill.core.errors import UserError
from distill.core.rows.templates import combinations, fill, template_rows

SLOTS: dict[str, Any] = {
    "who": ["fox", "king"],
    "verb": [{"now": "runs", "past": "ran"}, {"now": "sits", "past": "sat"}],
    "place": ["lake", "farm", "hill"],
}
PAST = {
    "prompt": "Past: the {who} {verb.now} at the {place}.",
    "checks": {"contains": ["{who}", "{verb.past}"], "regex": r"^\w{2,9}"},
}
WHERE = {"prompt": "Where is the {who}?"}


def test_all_combinations_come_once_and_only_they() -> None:
    rows = list(template_rows([PAST], SLOTS, None, 0))
    wanted = {
        f"Past: the {who} {verb['now']} at the {place}."
        for who, verb, place in product(SLOTS["who"], SLOTS["verb"], SLOTS["place"])
    }
    assert len(rows) == 12
    assert {row["prompt"] for row in rows} == wanted


def test_checks_hold_the_words_of_their_prompt_and_quantifiers_stay() -> None:
    for row in template_rows([PAST], SLOTS, None, 0):
        who, past = row["checks"]["contains"]
        assert who in row["prompt"]
        assert {"ran": "runs", "sat": "sits"}[past] in row["prompt"]
        assert row["checks"]["regex"] == r"^\w{2,9}"


def test_templates_share_the_rows_as_evenly_as_they_can() -> None:
    rows = [row["prompt"][:5] for row in template_rows([PAST, WHERE], SLOTS, 9, 0)]
    assert Counter(rows) == {"Past:": 7, "Where": 2}
    assert rows[:4] == ["Past:", "Where", "Past:", "Where"]


def test_the_seed_decides_the_draw() -> None:
    draws = [[row["prompt"] for row in template_rows([PAST], SLOTS, 6, s)] for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_draw_from_very_many_combinations_does_not_list_them() -> None:
    slots = {f"s{place}": [str(word) for word in range(100)] for place in range(8)}
    prompt = " ".join("{" + name + "}" for name in slots)
    assert combinations([prompt], slots) == [100**8]
    assert len({row["prompt"] for row in template_rows([{"prompt": prompt}], slots, 50, 0)}) == 50


def test_equal_prompts_of_two_templates_are_told() -> None:
    with pytest.raises(UserError, match="make the same prompt"):
        list(template_rows([WHERE, WHERE], SLOTS, None, 0))


def test_nested_values_are_filled_and_others_stay() -> None:
    filled = fill({"a": ["{who}", 3], "{who}": {"b": "{x}"}}, {"who": "fox"})
    assert filled == {"a": ["fox", 3], "fox": {"b": "{x}"}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"templates": ["A {cat}"]}, "{cat} is not one of the slots"),
        ({"templates": ["A {verb}"]}, "{verb} has no word"),
        ({"templates": ["A {verb.done}"]}, "{verb.done} has no word"),
        (
            {"templates": [{"prompt": "A {who}", "checks": {"exact": "{place}"}}]},
            "{place} is in its checks but not in the prompt",
        ),
        ({"rows": 13}, "templates make only 12 prompts"),
        ({"slots": SLOTS | {"who": []}}, "slots.who has no words"),
        ({"slots": SLOTS | {"who": ["fox", "fox"]}}, "slots.who holds a word twice"),
        ({"fields": {"prompt": "x"}}, "templates make prompts; remove fields"),
        ({"templates": [{"prompt": "A", "checks": {}}]}, "give at least one of contains"),
        (
            {"templates": [{"prompt": "A", "checks": {"regex": "("}}]},
            "is not a regular expression",
        ),
    ],
)
def test_a_malformed_source_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Source.model_validate({"templates": [PAST], "slots": SLOTS} | change)


def test_a_source_knows_its_rows() -> None:
    assert Source.model_validate({"templates": [PAST], "slots": SLOTS}).known_rows == 12
    source = Source.model_validate({"templates": [PAST], "slots": SLOTS, "rows": 5})
    assert source.known_rows == 5
    assert source.is_data
    assert source.columns == {"prompt"}
