"""Which tokenizer, chat settings and ends a study's models read and learn, in its specs."""

from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan
from pools import prompts_of

OTHER = {"path": "models/other"}


def plan(**changes: Any) -> Plan:
    """The plan of the tiny study with some entries changed, such as teachers__big__stop."""
    config = tiny.study()
    for key, value in changes.items():
        *path, last = key.split("__")
        place = config
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return Plan(parse_study(config))


def specs(made: Plan) -> dict[str, Any]:
    """Specs of the text, a student and its evaluation."""
    run = next(run for run in made.runs if run.samples)
    return {
        "text": made.text.spec("big"),
        "student": made.training.spec(run),
        "metrics": made.evaluation.run_spec(run),
    }


def test_settings_that_are_not_set_are_in_no_spec() -> None:
    text = specs(plan())["text"]
    assert list(text["formatting"]) == ["template", "system"]
    assert not {"stop", "thinking", "thinking_end", "chat_template_kwargs"} & {*text["decoding"]}
    assert not {"stop", "tokens"} & {*specs(plan())["student"]}
    assert "date" not in prompts_of(plan()).spec


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"prompts__date": "2031-02-03"}, ("formatting", "date"), "2031-02-03"),
        (
            {"teachers__big__chat_template_kwargs": {"enable_thinking": False}},
            ("formatting", "settings"),
            {"enable_thinking": False},
        ),
    ],
)
def test_what_formats_a_prompt_is_in_every_spec(
    changes: dict[str, Any], place: tuple[str, str], value: Any
) -> None:
    made = plan(**changes)
    for spec in specs(made).values():
        assert spec[place[0]][place[1]] == value
    assert prompts_of(made).spec[place[1]] == value  # Magpie reads the template too
    assert prompts_of(made).key != prompts_of(plan()).key
    assert made.text.key("big") != plan().text.key("big")


def test_one_teachers_template_variables_leave_the_others_alone() -> None:
    made = plan(teachers__calm__chat_template_kwargs={"enable_thinking": False})
    assert specs(made) == specs(plan())
    assert made.text.key("calm") != plan().text.key("calm")


def test_texts_that_end_a_response_are_learned_and_evaluated() -> None:
    made = specs(plan(teachers__big__stop=["\nQ:"]))
    assert made["text"]["decoding"]["stop"] == ["\nQ:"]
    assert (made["student"]["stop"], made["metrics"]["stop"]) == (["\nQ:"], ["\nQ:"])


def test_dropped_thinking_is_scored_again_without_it() -> None:
    for mode, drawn in (("train", True), ("keep", True), ("drop", False)):
        made = plan(teachers__big__thinking=mode)
        decoding = made.text.spec("big")["decoding"]
        assert (decoding["thinking"], decoding["thinking_end"]) == (mode, "</think>")
        assert made.text.origin("big").writes == made.text.origin("big").sampled == drawn
        assert ("/own/" in made.scorers.test_states("big")[0]) == drawn
        assert made.evaluation.spec("big")["written"] == drawn


def test_a_trained_teacher_is_asked_as_it_was_trained() -> None:
    trained = {"student": "small", "teacher": "big", "method": "sft", "samples": 16}
    settings = {"enable_thinking": False}
    made = plan(teachers__big__chat_template_kwargs=settings, teachers__pupil={"trained": trained})
    assert made.teachers.formatting("pupil")["settings"] == settings
    own = plan(
        teachers__big__chat_template_kwargs=settings,
        teachers__pupil={"trained": trained, "chat_template_kwargs": {"a": 1}},
    )
    assert own.teachers.formatting("pupil")["settings"] == {"a": 1}


def test_the_texts_tokenizer_is_read_where_it_is_another() -> None:
    same, run = plan(), plan().runs[0]
    assert same.training.tokenizer(run) == []
    other = plan(sources__other=OTHER, students__small__source="other")
    small = next(run for run in other.runs if run.student == "small")
    fresh = next(run for run in other.runs if run.student == "fresh")
    assert other.training.tokenizer(small) == [other.teachers.file("big")]
    assert other.training.tokenizer(fresh) == []
    assert len(other.training.spec(small)["tokens"]) == 8
    assert "tokens" not in other.training.spec(fresh)
    untrained = next(r for r in other.runs if r.student == "small" and r.samples == 0)
    assert other.training.spec(untrained)["tokens"] == other.training.spec(small)["tokens"]


def test_another_scorer_reads_the_texts_tokenizer() -> None:
    made = plan(sources__other=OTHER, teachers__rival={"source": "other"})
    assert made.scorers.tokenizer("big", "big") == made.scorers.tokenizer("big", "calm") == []
    assert made.scorers.tokenizer("big", "rival") == [made.teachers.file("big")]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompts__date": "tomorrow"}, "'tomorrow' is not a date; write it as"),
        ({"prompts__date": "2031-02-30"}, "is not a date"),
        ({"teachers__big__stop": [""]}, r"teachers\.big\.stop"),
        (
            {"teachers__big__thinking": "drop", "teachers__big__top_k": 5},
            "thinking: drop needs the whole distribution",
        ),
        ({"teachers__big__thinking": "hide"}, r"teachers\.big\.thinking"),
        ({"teachers__faq": {"text": "faq", "stop": ["a"]}}, "stop has no effect on the responses"),
        ({"teachers__faq": {"text": "faq", "thinking": "drop"}}, "thinking has no effect on"),
        (
            {"teachers__big__chat_template_kwargs": {"a": 1}, "prompts__template": "alpaca",
             "prompts__source": "faq"},
            "chat_template_kwargs are variables of a chat template, but prompts.template is",
        ),
    ],
)  # fmt: skip
def test_settings_without_sense_are_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        plan(**changes)
