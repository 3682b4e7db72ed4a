"""Verifiable instructions: two sets of prompts and their strict check.

The vocabulary and the checkers are those of IFEval (Zhou 2023), as packaged by if-verifiable.
Only the types that need neither the network nor NLTK data are used.
"""

import functools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import read_json
from distill.evaluation.instruction_templates import INSTRUCTION_TYPES, MAKERS
from distill.runtime.imports import quick_imports

FIXED_COUNT = 50
"""Number of hand-written instructions that ship with the project."""
FIXED_PATH = Path(__file__).with_name("instructions_50.json")
"""The file of hand-written instructions."""
DUMMY_RESPONSE = "This is a plain sentence that says nothing about the request."
"""One answer to every prompt; its pass rate is the floor that a model has to beat.

It is not the best constant answer: shorter ones without words meet more of the upper bounds.
"""


@dataclass(frozen=True)
class Instruction:
    """A request together with the constraints that its answer has to meet.

    `instruction_id_list` names the constraint types in IFEval's vocabulary and `kwargs` holds the
    arguments of each, in the same order.
    """

    id: str
    prompt: str
    instruction_id_list: tuple[str, ...]
    kwargs: tuple[dict[str, Any], ...]


def fixed_instructions() -> list[Instruction]:
    """Return the hand-written instructions, in file order.

    Raises:
        UserError: the file is missing, is not JSON, or does not hold 50 unique ids.
    """
    records = read_json(FIXED_PATH)
    count = len({record["id"] for record in records})
    if not count == len(records) == FIXED_COUNT:
        raise UserError(
            f"{FIXED_PATH} holds {len(records)} instructions with {count} unique ids, not "
            f"{FIXED_COUNT}; restore the file that ships with the project"
        )
    return [
        Instruction(
            id=record["id"],
            prompt=record["prompt"],
            instruction_id_list=tuple(record["instruction_id_list"]),
            kwargs=tuple(record["kwargs"]),
        )
        for record in records
    ]


def generated_instructions(count: int, seed: int) -> list[Instruction]:
    """Return `count` instructions of one constraint each, drawn from templates.

    The prompts are unique and differ from the hand-written ones. Every run of 23 items holds each
    type once, so any prefix is balanced to within one item per type. The first k of a larger draw
    with the same seed are the draw of k.

    Raises:
        UserError: `count` is more than the templates can make distinct (about 2,700).
    """
    rng = random.Random(seed)
    seen = {item.prompt for item in fixed_instructions()}
    block: list[str] = []
    items: list[Instruction] = []
    for number in range(1, count + 1):
        if not block:
            block = rng.sample(INSTRUCTION_TYPES, len(INSTRUCTION_TYPES))
        kind = block.pop()
        for _ in range(1000):
            prompt, kwargs = MAKERS[kind](rng)
            if prompt not in seen:
                break
        else:
            raise UserError(
                f"{count} generated instructions are too many for the templates; "
                f"ask for at most {number - 1}"
            )
        seen.add(prompt)
        items.append(Instruction(f"generated-{number:04d}", prompt, (kind,), (kwargs,)))
    return items


@functools.cache
def _checkers() -> dict[str, Any]:
    with quick_imports():  # NLTK is below, and would take scipy along
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    return {kind: INSTRUCTION_DICT[kind] for kind in INSTRUCTION_TYPES}


def check_response(instruction: Instruction, response: str) -> bool:
    """Whether `response` meets every constraint, by the strict rule of IFEval (Zhou 2023).

    An empty response fails, as does one that is only white space or an open thinking block. The
    detection of languages is seeded, so the verdict depends on the arguments alone. As in IFEval,
    a text without any letter passes a response-language constraint.

    Raises:
        ValueError: the instruction has an unknown type or lacks an argument, or has one too many.
        Exception: whatever a checker raises, which is a fault of the instruction.
    """
    from if_verifiable.common import strip_thinking
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    text = strip_thinking(response)
    verdicts = []
    for kind, kwargs in zip(instruction.instruction_id_list, instruction.kwargs, strict=True):
        if kind not in INSTRUCTION_TYPES:
            raise ValueError(f"{instruction.id}: {kind} is not one of the instruction types in use")
        checker = _checkers()[kind](kind)
        checker.build_description(**kwargs)
        argument_names = set(checker.get_instruction_args_keys())
        if set(kwargs) != argument_names:
            raise ValueError(
                f"{instruction.id}: {kind} needs {sorted(argument_names)}, has {list(kwargs)}"
            )
        verdicts.append(bool(text) and bool(checker.check_following(text)))
    return bool(verdicts) and all(verdicts)


def dummy_results(count: int) -> dict[str, dict[str, bool]]:
    """Per set of `instruction_sets` and instruction id, whether the dummy answer meets it."""
    return {
        name: {item.id: check_response(item, DUMMY_RESPONSE) for item in items}
        for name, items in instruction_sets(count).items()
    }


def instruction_sets(count: int) -> dict[str, list[Instruction]]:
    """The 50 fixed instructions and `count` generated ones, by the names that records use.

    Without generated ones there is only the fixed set.
    """
    sets = {"fixed": fixed_instructions()}
    return sets | ({"large": generated_instructions(count, seed=0)} if count else {})
