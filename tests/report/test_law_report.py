"""What the report says about laws and questions."""

from typing import Any

import pytest

from distill.answers.laws import claims
from distill.report.laws import law_parts, law_section
from figure_study import study_laws
from report_page import render, tables_of


def record(
    key: str, question: str, answer: str, label: str | None = None, status: str = "answered",
    **numbers: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "key": key, "question": question, "answer": answer, "label": label, "evidence": "by hand",
        "status": status, "numbers": numbers,
    }  # fmt: skip


@pytest.mark.slow
def test_the_chosen_laws_stand_in_the_tables_over_students_first() -> None:
    document = study_laws()
    best = [law for law in document["laws"] if law["best"]]
    section = law_section(document)
    coefficients, held_out = tables_of(render("laws.html.j2", laws=section, figures={}))
    assert len(coefficients) == len(best)
    names = [row["law"] for row in coefficients]
    over = [name for name in names if "size" in name]
    assert over == names[: len(over)]
    assert {"kd · by total size", "sft · by non-embedding size"} <= set(over)
    assert section["over_size"]
    assert len(held_out) == sum(law["holdout"] is not None for law in best)
    flagged = [
        law for law in best if not all(c["identifiable"] for c in law["coefficients"].values())
    ]
    column = "coefficients (90 % interval)"
    assert sum("not identifiable" in row[column] for row in coefficients) == len(flagged)


@pytest.mark.slow
def test_refusals_and_points_left_out_are_shown_with_their_laws() -> None:
    document = study_laws()
    law = next(law for law in document["laws"] if law["best"])
    law["dropped"] = [{"reason": "its loss is not finite"}]
    refusal = {"name": "data_power", "target": "loss", "selected": law["selected"], "reason": "few"}
    page = render(
        "laws.html.j2",
        laws=law_section({**document, "refused": [refusal, refusal]}),
        figures={},
    )
    assert "Laws that were not fitted, and why (1)" in page
    assert "data_power (loss): few <span" in page
    assert "loss: 1 point left out, the first because its loss is not finite." in page


def test_no_law_leaves_the_tables_empty() -> None:
    section = law_section({"laws": [], "refused": []})
    assert not section["any"]
    page = render("laws.html.j2", laws=section, figures={})
    assert tables_of(page) == []
    assert "No law could be fitted" in page


def test_missing_answers_are_listed_once_and_apart() -> None:
    answers = {
        "answers": [
            record("so", "Is it so?", "Unknown.", "a", "cannot_tell"),
            record("so", "Is it so?", "Unknown.", "b", "cannot_tell"),
            record("so", "Is it so?", "Cannot tell is what it says.", "c"),
            record("much", "How much?", "Too little.", None, "cannot_tell"),
            record("much", "How much (in all)?", "Enough."),
            record(claims.KEY, "All is well", "It is not.", verdict="contradicted"),
        ]
    }
    found = law_parts(None, answers)
    # By status, whatever the words are; by the sentence of the question.
    shown = {name: [one["label"] for one in found["open_questions"][name]] for name in
             found["open_questions"]}  # fmt: skip
    assert shown == {"Is it so?": ["c"], "How much (in all)?": [None]}
    unanswered = {name: [(one["answer"], one["labels"]) for one in records]
                  for name, records in found["unanswered"].items()}  # fmt: skip
    assert unanswered == {
        "Is it so?": [("Unknown.", ["a", "b"])],
        "How much?": [("Too little.", [])],
    }
    verdicts = [(entry["question"], entry["numbers"]["verdict"]) for entry in found["claims"]]
    assert verdicts == [("All is well", "contradicted")]
    page = render("questions.html.j2", **found)
    assert 'Unknown. <span class="note">(a; b)</span>' in page
    assert "<strong>All is well.</strong> It is not." in page


def test_the_advice_comes_first() -> None:
    answers = {"answers": [record("so", "So?", "Yes."), record("advice", "What next?", "This.")]}
    assert list(law_parts(None, answers)["open_questions"]) == ["What next?", "So?"]
