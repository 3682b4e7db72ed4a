"""A model's scored answers to instructions and held-out prompts."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.contracts.run import AT_ONCE
from distill.evaluation.answering import answer_prompts, draw_answers, likeness
from distill.evaluation.instructions import (
    DUMMY_RESPONSE,
    Instruction,
    check_response,
    instruction_sets,
    own_instructions,
)
from distill.models.formatting import asked
from distill.stats.tokens import wilson_interval


def _pass_rate(items: Sequence[Instruction], passed: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson_interval(sum(passed), len(passed))
    return {
        "total": len(passed),
        "passed": sum(passed),
        "rate": sum(passed) / len(passed),
        "low": low,
        "high": high,
        "results": {item.id: ok for item, ok in zip(items, passed, strict=True)},
        "dummy": {item.id: check_response(item, DUMMY_RESPONSE) for item in items},
    }


def ask_model(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    validation: Sequence[dict[str, Any]] = (),
    instructions: Sequence[str | Path] = (),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A model's answers to verifiable instructions and to held-out prompts.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        rows: The teacher's held-out text.
        spec: formatting, generated_instructions or instructions, instruction_tokens,
            reference_answers and qualitative; answers, where those compared with references are
            drawn; and stop, texts that end an answer.
        validation: Text for the validation prompts, whose answers are compared apart.
        instructions: Files of the study's own instructions, see `own_instructions`.

    Returns:
        instructions, answers and answers_validation; and the responses to instructions and to the
        held-out prompts that were asked.
    """
    metrics: dict[str, Any] = {}
    own = spec.get("instructions")
    sets = (
        own_instructions(instructions, own)
        if own
        else instruction_sets(spec["generated_instructions"])
    )
    examples = list(rows[: spec["qualitative"]])
    compared = [row for row in rows[: spec["reference_answers"]] if row["reference"]]
    settings = spec.get("answers")
    greedy = examples if settings else [*examples, *compared]
    prompts: list[tuple[str | None, ...]] = [
        asked(item.row) if item.row else (item.prompt, None)
        for items in sets.values()
        for item in items
    ]
    prompts += [asked(row) for row in greedy]
    logging.info("answering %d prompts", len(prompts))
    at_once = settings["batch_size"] if settings else AT_ONCE
    formatting, most = spec["formatting"], spec["instruction_tokens"]
    stop = spec.get("stop", ())
    answers = answer_prompts(model, tokenizer, prompts, formatting, most, at_once, stop=stop)
    responses, place = [], 0
    metrics["instructions"] = {}
    for name, items in sets.items():
        passed = []
        for item in items:
            answer = answers[place]
            passed.append(check_response(item, answer["text"]))
            responses.append(
                {"set": name, "id": item.id, "prompt": item.prompt, **answer, "passed": passed[-1]}
            )
            place += 1
        metrics["instructions"][name] = _pass_rate(items, passed)
    tuned = [row for row in validation if row["reference"]]
    if settings:
        logging.info("drawing %d answers", len(compared) + len(tuned))
        answers += draw_answers(model, tokenizer, [*compared, *tuned], formatting, settings, stop)
    rest = [("test", row) for row in examples] + [("reference", row) for row in compared]
    rest += [("validation", row) for row in tuned]
    for (name, row), answer in zip(rest, answers[place:], strict=True):
        responses.append(
            {"set": name, "id": row["id"], "prompt": row["prompt"], **answer, "passed": None}
        )
    ends = place + len(examples), place + len(examples) + len(compared)
    metrics["answers"] = likeness(compared, answers[slice(*ends)])
    metrics["answers_validation"] = likeness(tuned, answers[ends[1] :])
    return metrics, responses
