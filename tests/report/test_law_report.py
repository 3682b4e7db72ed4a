"""What the report says about laws and questions."""

from typing import Any

from distill.answers.laws.claims import CLAIM
from distill.report.laws import law_parts, law_section
from figure_study import study_laws


def record(question: str, answer: str, label: str | None = None, **numbers: Any) -> dict[str, Any]:
    return {
        "question": question, "answer": answer, "label": label, "evidence": "by hand",
        "numbers": numbers,
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
            record("Is it so?", "Cannot tell, because no.", "a"),
            record("Is it so?", "Cannot tell, because no.", "b"),
            record("Is it so?", "It is.", "c"),
            record("How much?", "Too little.", None, cannot_tell=True),
            record(f"{CLAIM}all is well", "It is not.", None, verdict="contradicted"),
        ]
    }
    found = law_parts(None, answers)
    assert [entry["answer"] for entry in found["open_questions"]["Is it so?"]] == ["It is."]
    assert found["untold"]["Is it so?"] == [{"answer": "Cannot tell, because no.", "label": "a; b"}]
    assert "How much?" not in found["open_questions"]
    assert [(entry["claim"], entry["verdict"]) for entry in found["claims"]] == [
        ("all is well", "contradicted")
    ]
