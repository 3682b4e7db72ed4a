"""Verifiable instructions: two sets of prompts and their strict check.

The general sets are in the vocabulary of IFEval (Zhou 2023), as packaged by if-verifiable; only
types that need neither the network nor NLTK data are used. A study may have instructions of its
own, in a file of IFEval's form or as prompts of a data set with checks.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.contracts.instructions import Instruction, read_ifeval
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.parquet import read_rows
from distill.core.rows.templates import fill
from distill.evaluation.checkers import contains, exact, excludes, ifeval, json_schema, regex
from distill.evaluation.checkers import number as number_checker
from distill.evaluation.instruction_templates import INSTRUCTION_TYPES, MAKERS

CHECKERS: Mapping[str, Any] = {
    "contains": contains,
    "excludes": excludes,
    "regex": regex,
    "exact": exact,
    "number": number_checker,
    "json_schema": json_schema,
    "ifeval": ifeval,
}
"""The module of each key of the config's `checks`."""
FIXED_COUNT = 50
"""Number of hand-written instructions that ship with the project."""
FIXED_PATH = Path(__file__).with_name("instructions_50.json")
"""The file of hand-written instructions."""
DUMMY_RESPONSE = "This is a plain sentence that says nothing about the request."
"""One answer to every prompt; its pass rate is the floor that a model has to beat.

It is not the best constant answer: shorter ones without words meet more of the upper bounds.
"""


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


def check_response(instruction: Instruction, response: str) -> bool:
    """Whether `response` meets every check; one by IFEval is strict.

    Raises:
        ValueError: A check has an unknown name or constraint, lacks an argument, or has one too
            many.
        Exception: Whatever a checker raises, which is a fault of the instruction.
    """
    if unused := [
        kind for kind in instruction.instruction_id_list if kind not in INSTRUCTION_TYPES
    ]:
        raise ValueError(
            f"{instruction.id}: {unused[0]} is not one of the instruction types in use"
        )
    checks = instruction.arguments
    try:
        return bool(checks) and all(
            CHECKERS[name].passes(response, argument) for name, argument in checks.items()
        )
    except ValueError as error:
        raise ValueError(f"{instruction.id}: {error}") from error


def instruction_sets(count: int) -> dict[str, list[Instruction]]:
    """The 50 fixed instructions and `count` generated ones, by the names that records use.

    Without generated ones there is only the fixed set.
    """
    sets = {"fixed": fixed_instructions()}
    return sets | ({"large": generated_instructions(count, seed=0)} if count else {})


def own_instructions(
    files: Sequence[str | Path], settings: Mapping[str, Any]
) -> dict[str, list[Instruction]]:
    """A study's own instructions, by the names that records use.

    Args:
        files: One file of IFEval's form, as JSON lines; or Parquet files of a data set's rows.
        settings: As of the config's `evaluate.instructions`.

    Returns:
        The first `published` as `fixed`, and the next `more`, if any, as `large`.

    Raises:
        UserError: A line is malformed, or there are too few.
    """
    first, more = settings["published"], settings["more"]
    if settings.get("path"):
        items: Iterable[Instruction] = read_ifeval(files[0])
    else:
        items = _checked_prompts(read_rows(files), settings.get("checks"))
    found = [item for item, _ in zip(items, range(first + more), strict=False)]
    if len(found) < first + more:
        raise UserError(
            f"config: evaluate.instructions: {len(found)} instructions have checks, but published "
            f"and more are {first} and {more}; lower them, or give more instructions"
        )
    return {"fixed": found[:first]} | ({"large": found[first:]} if more else {})


def _checked_prompts(
    rows: Iterable[Mapping[str, Any]], checks: Mapping[str, Any] | None
) -> Iterator[Instruction]:
    """Rows as instructions: by their own checks, or by `checks` with the row's fields filled in."""
    for number, row in enumerate(rows):
        met = checks or json.loads(row.get("checks") or "null")
        if not met:
            continue
        words = {key: row[key] for key in ("prompt", "context") if row.get(key)}
        if answer := row.get("reference") or row.get("response"):
            words["response"] = answer
        filled = {name: value for name, value in fill(met, words).items() if value is not None}
        name = str(row.get("id") or f"row-{number:07d}")
        yield Instruction(name, row["prompt"], checks=filled, row=row)
