"""Checks of answers: each against answers that pass and that fail."""

from typing import Any

import pytest

from distill.config.answer_checks import AnswerChecks
from distill.contracts.instructions import TYPES
from distill.evaluation.checkers.number import numbers_in
from distill.evaluation.instruction_templates import INSTRUCTION_TYPES
from distill.evaluation.instructions import CHECKERS, Instruction, check_response

FENCED = '```json\n{"age": 3}\n```'
SCHEMA = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}
PASS: list[tuple[str, Any, str]] = [
    ("contains", ["fox", "the lake"], "A FOX ran to the  lake."),
    ("excludes", ["cat"], "A category of dogs."),
    ("regex", r"^[^.]+\.$", " One sentence.\n"),
    ("exact", "New York", "new  york."),
    ("number", "so it is 1,234.5", "First 3, then $1234.50."),
    ("number", -2, "It is \u22122"),
    ("json_schema", SCHEMA, FENCED),
    ("json_schema", SCHEMA, '{"age": 3}'),
    ("ifeval", {"punctuation:no_comma": {}}, "No such sign here."),
]
FAIL: list[tuple[str, Any, str]] = [
    ("contains", ["fox", "lake"], "Foxes at the lake"),
    ("excludes", ["cat"], "The cat."),
    ("excludes", ["cat"], " "),
    ("regex", r"^[^.]+\.$", "One. Two."),
    ("exact", "New York", "York"),
    ("number", 12, "12, no, 13"),
    ("number", 12, "twelve"),
    ("json_schema", SCHEMA, '{"age": "3"}'),
    ("json_schema", SCHEMA, "age: 3"),
    ("ifeval", {"punctuation:no_comma": {}}, "One, two."),
]


@pytest.mark.parametrize(("name", "argument", "answer"), PASS)
def test_right_answers_pass(name: str, argument: Any, answer: str) -> None:
    assert check_response(Instruction("x", "x", checks={name: argument}), answer)


@pytest.mark.parametrize(("name", "argument", "answer"), FAIL)
def test_wrong_answers_fail(name: str, argument: Any, answer: str) -> None:
    assert not check_response(Instruction("x", "x", checks={name: argument}), answer)


def test_all_checks_must_pass() -> None:
    both = Instruction("x", "x", checks={"contains": ["fox"], "regex": r"\?$"})
    assert check_response(both, "A fox?")
    assert not check_response(both, "A fox.")
    assert not check_response(both, "A dog?")


def test_numbers_are_read_with_signs_separators_and_exponents() -> None:
    assert numbers_in("1,234 and -5.5, .25; 2e3 but 1,23") == [1234, -5.5, 0.25, 2000, 1, 23]


def test_every_check_of_the_config_has_a_module_and_the_constraints_agree() -> None:
    assert set(CHECKERS) == set(AnswerChecks.model_fields)
    assert set(TYPES) == set(INSTRUCTION_TYPES)


def test_the_arguments_of_constraints_are_those_of_the_package() -> None:
    from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT

    for name, arguments in TYPES.items():
        assert sorted(arguments) == sorted(INSTRUCTION_DICT[name](name).get_instruction_args_keys())


def test_a_reference_without_a_number_is_a_fault_of_the_instruction() -> None:
    with pytest.raises(ValueError, match="x: 'none' holds no number"):
        check_response(Instruction("x", "x", checks={"number": "none"}), "3")
