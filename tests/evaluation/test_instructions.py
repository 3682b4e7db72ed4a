import functools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from if_verifiable.common import evaluate_instructions
from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

from distill.config.evaluation import MOST_INSTRUCTIONS
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.evaluation import instructions
from distill.evaluation.instruction_templates import INSTRUCTION_TYPES
from distill.evaluation.instructions import (
    DUMMY_RESPONSE,
    Instruction,
    check_response,
    fixed_instructions,
    generated_instructions,
    instruction_sets,
)
from instruction_witness import MOST_TOKENS, estimated_tokens, violation, witness

SCRIPTS = Path(__file__).parents[2] / "scripts"
NEEDS_NLTK_DATA = {
    "length_constraints:number_sentences",
    "change_case:capital_word_frequency",
}
SEED = 0


@functools.cache
def both_sets() -> tuple[Instruction, ...]:
    return (*fixed_instructions(), *generated_instructions(240, SEED))


def single(kind: str, **kwargs: object) -> Instruction:
    return Instruction("x", "x", (kind,), (kwargs,))


def test_the_fixed_set_is_fifty_unique_requests() -> None:
    items = fixed_instructions()
    assert len(items) == 50
    assert [item.id for item in items] == [f"fixed-{n:02d}" for n in range(1, 51)]
    assert len({item.prompt for item in items}) == 50


@pytest.mark.parametrize("change", ["short", "long", "repeated"])
def test_a_fixed_file_of_another_size_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    records = json.loads(instructions.FIXED_PATH.read_text(encoding="utf-8"))
    if change == "short":
        records.pop()
    elif change == "long":
        records.append({**records[0], "id": "fixed-51"})
    else:
        records[1]["id"] = records[0]["id"]
    write_json(tmp_path / "fixed.json", records)
    monkeypatch.setattr(instructions, "FIXED_PATH", tmp_path / "fixed.json")
    with pytest.raises(UserError, match="50"):
        fixed_instructions()


def test_the_types_are_all_of_ifeval_but_those_that_need_nltk_data() -> None:
    assert set(INSTRUCTION_TYPES) == set(INSTRUCTION_DICT) - NEEDS_NLTK_DATA
    for items in (fixed_instructions(), generated_instructions(240, SEED)):
        used = {kind for item in items for kind in item.instruction_id_list}
        assert used == set(INSTRUCTION_TYPES)


def test_generated_prompts_are_unique_and_new() -> None:
    items = generated_instructions(1000, SEED)
    prompts = {item.prompt for item in items}
    assert len(prompts) == 1000
    assert not prompts & {item.prompt for item in fixed_instructions()}
    assert [item.id for item in items[:2]] == ["generated-0001", "generated-0002"]


def test_generated_set_is_balanced_over_types() -> None:
    for count in (50, 200, 240):
        items = generated_instructions(count, SEED)
        each = Counter(kind for item in items for kind in item.instruction_id_list)
        assert max(each.values()) - min(each.values()) <= 1


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    items = generated_instructions(240, SEED)
    for count in (0, 1, 22, 23, 24, 200):
        assert generated_instructions(count, SEED) == items[:count]


def test_seeds_differ() -> None:
    assert generated_instructions(23, 1) != generated_instructions(23, 2)


def test_more_items_than_the_templates_can_tell_apart_is_a_user_error() -> None:
    with pytest.raises(UserError, match="ask for at most"):
        generated_instructions(5000, SEED)


@pytest.mark.slow
def test_the_config_allows_as_many_items_as_the_templates_make() -> None:
    assert len(instruction_sets(MOST_INSTRUCTIONS)["large"]) == MOST_INSTRUCTIONS
    with pytest.raises(UserError, match=f"ask for at most {MOST_INSTRUCTIONS}"):
        instruction_sets(MOST_INSTRUCTIONS + 1)


def test_without_generated_items_there_is_one_set() -> None:
    assert {name: len(items) for name, items in instruction_sets(0).items()} == {"fixed": 50}


@pytest.mark.slow
def test_every_item_has_a_short_witness() -> None:
    for item in both_sets():
        response = witness(item)
        assert check_response(item, response), item
        assert estimated_tokens(response) <= MOST_TOKENS, item


@pytest.mark.slow
def test_a_violation_of_any_constraint_fails() -> None:
    for item in both_sets():
        for kind, kwargs in zip(item.instruction_id_list, item.kwargs, strict=True):
            assert not check_response(item, violation(kind, kwargs))
            assert not check_response(single(kind, **kwargs), violation(kind, kwargs))


def test_the_checker_uses_the_arguments_as_given() -> None:
    for item in both_sets():
        for kind, kwargs in zip(item.instruction_id_list, item.kwargs, strict=True):
            checker = INSTRUCTION_DICT[kind](kind)
            checker.build_description(**kwargs)
            used = checker.get_instruction_args() or {}
            ordered = {key: sorted(v) if isinstance(v, list) else v for key, v in kwargs.items()}
            assert used == ordered


def test_the_prompt_states_its_arguments() -> None:
    names = {"es": "Spanish", "fr": "French", "de": "German", "it": "Italian", "pt": "Portuguese"}
    for item in both_sets():
        for kind, kwargs in zip(item.instruction_id_list, item.kwargs, strict=True):
            for value in kwargs.values():
                for part in value if isinstance(value, list) else [value]:
                    said = names[part] if kind == "language:response_language" else str(part)
                    assert said in item.prompt


def test_pattern_arguments_hold_no_special_characters() -> None:
    for item in both_sets():
        for kwargs in item.kwargs:
            words = [*kwargs.get("keywords", []), *kwargs.get("forbidden_words", [])]
            words += [kwargs[key] for key in ("keyword", "section_spliter") if key in kwargs]
            assert all(word.isascii() and word.isalpha() for word in words)


@pytest.mark.parametrize("response", ["", "  \n\t ", "<think> still going"])
def test_an_empty_response_fails_every_item(response: str) -> None:
    assert not any(check_response(item, response) for item in both_sets())


@pytest.mark.slow
def test_the_verdict_is_that_of_the_library() -> None:
    responses = [DUMMY_RESPONSE, *(witness(item) for item in both_sets()[:50])]
    for item in fixed_instructions():
        for response in responses[:: len(item.id)]:
            _, scores = evaluate_instructions(
                response,
                list(item.instruction_id_list),
                list(item.kwargs),
                item.prompt,
                INSTRUCTION_DICT,
            )
            assert check_response(item, response) == (scores.binary_strict == 1.0)


def test_every_constraint_of_a_pair_counts() -> None:
    pair = Instruction("x", "x", ("punctuation:no_comma", "startend:quotation"), ({}, {}))
    assert check_response(pair, '"yes"')
    assert not check_response(pair, '"yes, no"')
    assert not check_response(pair, "yes")


@pytest.mark.parametrize("kind", sorted(NEEDS_NLTK_DATA | {"no:such_type"}))
def test_a_type_that_is_not_in_use_raises(kind: str) -> None:
    with pytest.raises(ValueError, match="not one of the instruction types"):
        check_response(single(kind), "text")


def test_a_missing_argument_raises() -> None:
    with pytest.raises(ValueError, match="needs"):
        check_response(single("length_constraints:number_words", num_words=3), "text")


@pytest.mark.parametrize("response", ["text", ""])
def test_a_wrong_argument_raises(response: str) -> None:
    item = single("length_constraints:number_words", num_words=3, relation="about")
    with pytest.raises(ValueError, match="supported relation"):
        check_response(item, response)


def test_an_exception_of_a_checker_is_not_a_fail() -> None:
    item = single("keywords:existence", keywords=["(unclosed"])
    with pytest.raises(Exception, match="unterminated"):
        check_response(item, "text")


@pytest.mark.slow
def test_the_floor_of_the_dummy_is_low_but_not_zero() -> None:
    sets = instruction_sets(240)
    assert {name: len(items) for name, items in sets.items()} == {"fixed": 50, "large": 240}
    for items in sets.values():
        met = [check_response(item, DUMMY_RESPONSE) for item in items]
        assert 0.02 < sum(met) / len(met) < 0.4


DETECT = """
import json
from distill.evaluation.instructions import Instruction, check_response
texts = ["casa total", "radio man", "radio para", "animal una", "total hotel", "hotel vida"]
texts += ["no die", "con musica"]
kinds = [("language:response_language", {"language": code}) for code in ("es fr de it pt").split()]
kinds += [("change_case:english_lowercase", {})]
print(json.dumps([
    [check_response(Instruction("x", "x", (kind,), (kwargs,)), text) for kind, kwargs in kinds]
    for text in texts
]))
"""


@pytest.mark.slow
def test_language_detection_is_the_same_in_two_processes() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", DETECT],
            cwd=SCRIPTS,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert any(any(row) for row in json.loads(runs[0].stdout))


@pytest.mark.slow
def test_language_detection_does_not_depend_on_the_order_of_calls() -> None:
    items = [single("language:response_language", language=code) for code in ("es", "pt", "it")]
    texts = ["casa total", "radio man", "radio para", "hotel vida", "no die", "con musica"]
    forward = [check_response(item, text) for item in items for text in texts]
    backward = [check_response(item, text) for item in items[::-1] for text in texts[::-1]]
    assert forward == backward[::-1]


def test_importing_the_module_is_cheap() -> None:
    heavy = ["torch", "transformers", "datasets", "scipy", "nltk", "langdetect"]
    code = "import sys, distill.evaluation.instructions; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
