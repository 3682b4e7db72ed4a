"""A study's own instructions and prompts of templates, as the plan sees them."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.workflow.startup import check_instructions

TASKS: dict[str, Any] = {
    "templates": [{"prompt": "Name a {what} {number}.", "checks": {"contains": ["{what}"]}}],
    "slots": {"what": ["fox", "king"], "number": [str(number) for number in range(99)]},
}


def config(**evaluate: Any) -> dict[str, Any]:
    """A study of prompts from templates."""
    one = tiny.study()
    one["sources"]["tasks"] = TASKS
    one["prompts"] |= {"source": "tasks", "test": 12, "surplus": 1.0}
    for key in ("near_duplicate", "teacher", "temperature", "top_p"):
        one["prompts"].pop(key, None)
    own = {"source": "tasks", "published": 8, "more": 4}
    one["evaluate"] |= {"instructions": own} | evaluate
    return one


def test_held_out_prompts_with_checks_are_an_input_of_every_evaluation() -> None:
    plan = Plan(parse_study(config()))
    teacher = plan.runs[0].teacher
    files = plan.evaluation.inputs(teacher)["instructions"]
    assert files == plan.pool.test_prompts
    assert files[0].startswith("resources/prompts/tasks-")
    spec = plan.evaluation.spec(teacher)
    assert spec["instructions"]["published"] == 8
    assert "generated_instructions" not in spec
    assert plan.study.evaluate.asked == 12


def test_general_instructions_leave_specs_as_they_were() -> None:
    plan = Plan(parse_study(tiny.study()))
    teacher = plan.runs[0].teacher
    assert "instructions" not in plan.evaluation.spec(teacher)
    assert plan.evaluation.inputs(teacher)["instructions"] == []


def test_prompts_of_templates_are_near_duplicates_only_if_they_are_equal() -> None:
    assert Plan(parse_study(config())).pool.settings.near_duplicate == 1.0
    stated = config()
    stated["prompts"]["near_duplicate"] = 0.9
    assert Plan(parse_study(stated)).pool.settings.near_duplicate == 0.9


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"source": "tasks", "published": 10, "more": 4}, "prompts.test is 12; raise it"),
        ({"source": "tasks", "path": "x.jsonl"}, "give exactly one of source and path"),
        ({}, "give exactly one of source and path"),
        ({"path": "x", "checks": {"exact": "a"}}, "remove checks"),
    ],
)
def test_mistakes_are_one_sentence(own: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_study(config(instructions=own))


def test_prompts_without_checks_are_told() -> None:
    one = config()
    one["sources"]["tasks"] = TASKS | {"templates": ["Name a {what} {number}."]}
    with pytest.raises(UserError, match="the prompts of tasks have no checks"):
        parse_study(one)


def test_a_file_of_instructions_is_checked_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan(parse_study(config(instructions={"path": "own.jsonl", "published": 1, "more": 0})))
    with pytest.raises(UserError, match=r"own\.jsonl is not a file"):
        check_instructions(plan)
    words = '{"num_words": 500, "relation": "at least"}'
    kind = '["length_constraints:number_words"]'
    line = f'{{"prompt": "Go.", "instruction_id_list": {kind}, "kwargs": [{words}]}}\n'
    Path("own.jsonl").write_text(line)
    with pytest.raises(UserError, match="asks for at least 500 words, but evaluate"):
        check_instructions(plan)
    Path("own.jsonl").write_text(line.replace("500", "3"))
    check_instructions(plan)
    assert plan.evaluation.inputs(plan.runs[0].teacher)["instructions"] == ["own.jsonl"]
