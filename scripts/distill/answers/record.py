"""The record of an answered question."""

from collections.abc import Mapping
from typing import Any

from distill.laws.curves import label_of
from distill.table.lines import Line


def law_record(
    question: str,
    selected: Mapping[str, Any] | None,
    answer: str,
    evidence: str,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    """An entry of answers.json about a group of runs; None for the whole study."""
    out = record(question, None, answer, evidence, numbers)
    if selected is not None:
        for key in ("teacher", "student", "method"):
            out[key] = selected.get(key) or None
        out["label"] = label_of(selected)
    return out


def cannot_tell(
    question: str,
    selected: Mapping[str, Any] | None,
    because: str,
    needs: str,
    evidence: str = "",
    numbers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The entry of a question that the runs do not answer, with what would answer it."""
    text = f"Cannot tell, because {because}; needs {needs}."
    return law_record(
        question, selected, text, evidence, {**(numbers or {}), "cannot_tell": True, "needs": needs}
    )


def record(
    question: str, line: Line | None, answer: str, evidence: str, numbers: dict[str, Any]
) -> dict[str, Any]:
    """Return an entry of answers.json; `line` is whom it is about, None for the whole study."""
    return {
        "question": question,
        "teacher": line.teacher if line else None,
        "student": line.student if line else None,
        "method": line.method if line else None,
        "label": line.label if line else None,
        "answer": answer,
        "evidence": evidence,
        "numbers": numbers,
    }
