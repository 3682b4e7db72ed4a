"""What a study will not answer, said before its first job."""

from typing import Any

import pytest
import yaml

import tiny
from distill.config.checks.study import parse_study
from distill.plan.limits import limits_of
from distill.plan.study import Plan
from miniature import ROOT


def limits(block: dict[str, Any], **evaluate: Any) -> list[str]:
    config = tiny.study()
    config["runs"][0] |= block
    config["evaluate"] |= evaluate
    return limits_of(Plan(parse_study(config)))


FULL = {"samples": [8, 16, 24, 48], "draws": [0, 1]}


def test_sizes_students_and_repeats_are_counted() -> None:
    (students,) = limits(FULL)
    assert students.startswith("no law over size: there are 2 students of a method, a law needs 3")
    data, students = limits(FULL | {"samples": [8, 16, 24], "students": ["small"]})
    assert data.startswith("no law over data: there are 3 training-set sizes of a student and")
    assert "there is 1 student of a method" in students
    (_, _, repeats) = limits({"samples": [8], "draws": [0]})
    assert repeats.startswith("no error bars: no run is repeated")
    assert limits(FULL | {"draws": [0], "seeds": [0, 1]}) == limits(FULL)


def test_sizes_of_different_methods_do_not_add_up() -> None:
    config = tiny.study()
    config["methods"]["other"] = {"ce": 1.0, "train": {"epochs": 3}}
    block = config["runs"][0] | {"draws": [0]}
    config["runs"] = [
        block | {"samples": [8, 16]},
        block | {"samples": [24, 48], "methods": ["other"], "draws": [1]},
    ]
    data, _, repeats = limits_of(Plan(parse_study(config)))
    assert "2 training-set sizes" in data
    assert repeats.startswith("no error bars")


@pytest.mark.parametrize(
    ("evaluate", "sentence"),
    [
        ({"reference": None}, "no loss on a text that no teacher wrote"),
        ({"generated_instructions": 0}, "50 instructions distinguish only large"),
        (
            {"generated_instructions": 24},
            "whose 95 % interval reaches 20 points",
        ),
        (
            {"generated_instructions": 1},
            "reaches 50 points to either side; raise evaluate.",
        ),
    ],
)
def test_what_evaluate_leaves_out_is_told(evaluate: dict[str, Any], sentence: str) -> None:
    (_, line) = limits(FULL, **evaluate)
    assert sentence in line
    assert "evaluate." in line


def test_a_study_that_answers_all_has_no_limits() -> None:
    config = yaml.safe_load((ROOT / "studies/size_scaling.yaml").read_text())
    assert limits_of(Plan(parse_study(config))) == []
