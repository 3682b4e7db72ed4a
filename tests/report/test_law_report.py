"""What the report says about laws and questions."""

from typing import Any

from distill.answers.laws import claims
from distill.report.laws import law_parts, law_section
from figure_study import study_laws


def record(
    key: str, question: str, answer: str, label: str | None = None, status: str = "answered",
    **numbers: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "key": key, "question": question, "answer": answer, "label": label, "evidence": "by hand",
        "status": status, "numbers": numbers,
    }  # fmt: skip


def test_the_chosen_laws_stand_in_the_tables_over_students_first() -> None:
    document = study_laws()
    best = [law for law in document["laws"] if law["best"]]
    section = law_section(document)
    rows = section["coefficients"]["rows"]
    assert len(rows) == len(best)
    over = [row[0] for row in rows if "size" in row[0]]
    assert over == [row[0] for row in rows][: len(over)]
    assert {"kd · by total size", "sft · by non-embedding size"} <= set(over)
    assert section["over_size"]
    assert len(section["judged"]["rows"]) == sum(law["holdout"] is not None for law in best)
    flagged = [
        law for law in best if not all(c["identifiable"] for c in law["coefficients"].values())
    ]
    assert sum("not identifiable" in row[3] for row in rows) == len(flagged)


def test_no_law_leaves_the_tables_empty() -> None:
    section = law_section({"laws": [], "refused": []})
    assert not section["any"]
    assert not section["coefficients"]["rows"]


def test_what_cannot_be_told_is_said_once_and_apart() -> None:
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
    untold = {name: [(one["answer"], one["label"]) for one in records]
              for name, records in found["untold"].items()}  # fmt: skip
    assert untold == {"Is it so?": [("Unknown.", "a; b")], "How much?": [("Too little.", "")]}
    assert [(entry["claim"], entry["verdict"]) for entry in found["claims"]] == [
        ("All is well", "contradicted")
    ]


def test_the_advice_comes_first() -> None:
    answers = {"answers": [record("so", "So?", "Yes."), record("advice", "What next?", "This.")]}
    assert list(law_parts(None, answers)["open_questions"]) == ["What next?", "So?"]
