"""A study's own instructions: held-out prompts with checks, data sets, files of IFEval's form."""

import json
from pathlib import Path
from typing import Any

import pytest

from distill.contracts.instructions import Instruction, least_words, read_ifeval
from distill.contracts.schemas import DATA_SCHEMA, PROMPT_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import write_rows
from distill.evaluation.instructions import check_response, own_instructions


def prompts(folder: Path, checks: list[dict[str, Any] | None]) -> Path:
    """A part of prompts, one for each entry of checks."""
    rows = [
        {
            "id": f"test-{place}", "row": place, "prompt": f"Ask {place}",
            "reference": f"It is {place}", "checks": entry and json.dumps(entry),
        }
        for place, entry in enumerate(checks)
    ]  # fmt: skip
    write_rows(folder / "part.parquet", rows, PROMPT_SCHEMA)
    return folder / "part.parquet"


def test_prompts_with_checks_are_instructions_in_their_order(tmp_path: Path) -> None:
    entries = [{"contains": ["a"]}, None, {"regex": "b"}, {"exact": "c"}]
    sets = own_instructions([prompts(tmp_path, entries)], {"published": 2, "more": 1})
    assert [item.id for item in sets["fixed"]] == ["test-0", "test-2"]
    assert [item.id for item in sets["large"]] == ["test-3"]
    assert check_response(sets["large"][0], "C.")
    assert sets["fixed"][0].row is not None
    assert sets["fixed"][0].row["prompt"] == "Ask 0"
    only = own_instructions([prompts(tmp_path, entries)], {"published": 3, "more": 0})
    assert list(only) == ["fixed"]


def test_the_checks_of_the_config_take_the_row_s_answer(tmp_path: Path) -> None:
    settings = {"published": 2, "more": 0, "checks": {"number": "{response}", "exact": None}}
    sets = own_instructions([prompts(tmp_path, [None, None])], settings)
    assert check_response(sets["fixed"][1], "I say 1")
    assert not check_response(sets["fixed"][1], "I say 0")


def test_a_data_set_answers_by_its_response(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    write_rows(file, [{"prompt": "Capital of France?", "response": "Paris"}], DATA_SCHEMA)
    settings = {"published": 1, "more": 0, "checks": {"exact": "{response}"}}
    (item,) = own_instructions([file], settings)["fixed"]
    assert check_response(item, "paris")


def test_too_few_instructions_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1 instructions have checks, but published and more are 5"):
        own_instructions([prompts(tmp_path, [{"exact": "a"}, None])], {"published": 5, "more": 0})


def ifeval(folder: Path, *lines: Any) -> Path:
    """A file of JSON lines; texts are written as they are."""
    file = folder / "own.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file.write_text("\n".join(texts))
    return file


WORDS = {
    "key": 7,
    "prompt": "Say much.",
    "instruction_id_list": ["length_constraints:number_words", "punctuation:no_comma"],
    "kwargs": [{"num_words": 3, "relation": "at least", "keywords": None}, {}],
}


def test_a_file_of_the_form_of_ifeval_is_read_with_its_nulls(tmp_path: Path) -> None:
    file = ifeval(tmp_path, WORDS)
    (item,) = own_instructions([file], {"path": str(file), "published": 1, "more": 0})["fixed"]
    assert item.id == "7"
    assert check_response(item, "one two three")
    assert not check_response(item, "one, two three")
    assert not check_response(item, "one two")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 1: not an instruction of IFEval's form"),
        ({"prompt": "x"}, "line 1: not an instruction of IFEval's form"),
        (WORDS | {"kwargs": [{}]}, "2 instruction ids have 1 kwargs"),
        (
            WORDS | {"instruction_id_list": ["a:b", "punctuation:no_comma"]},
            "a:b is not a constraint",
        ),
        (
            WORDS | {"kwargs": [{"num_words": 3}, {}]},
            "needs num_words, relation, but has",
        ),
        (
            {
                "prompt": "x",
                "instruction_id_list": ["length_constraints:number_sentences"],
                "kwargs": [{"num_sentences": 1, "relation": "at least"}],
            },
            "needs data of NLTK",
        ),
    ],
)
def test_a_malformed_line_is_one_sentence(tmp_path: Path, line: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_ifeval(ifeval(tmp_path, line))


def test_two_lines_of_one_key_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two lines have the same key"):
        read_ifeval(ifeval(tmp_path, WORDS, WORDS))


def test_least_words_bound_what_right_answers_need() -> None:
    many = {"num_words": 40, "relation": "at least"}
    few = {"num_words": 40, "relation": "less than"}
    kind = ("length_constraints:number_words",)
    assert least_words(Instruction("x", "x", kind, (many,))) == 40
    assert least_words(Instruction("x", "x", kind, (few,))) == 1
    assert least_words(Instruction("x", "x", checks={"contains": ["a b", "c"]})) == 3
    assert least_words(Instruction("x", "x", checks={"exact": "a b c d"})) == 4
