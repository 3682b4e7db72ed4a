"""What a question returns: numbers and a status. Sentences come from `distill.answers.wording`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from distill.laws.curves import label_of
from distill.table.lines import Line

Status = Literal["answered", "cannot_tell", "not_applicable"]


@dataclass(frozen=True)
class Need:
    """What a study lacks for an answer.

    Attributes:
        what: A stable key of the condition, such as `teachers`, `draws` or `corpus_method`.
        wanted: How many of it, or which, the answer takes; None where one fact is missing.
        present: How many, or which, the study has.
        change: The smallest change of the config that supplies it: key path to new value, such as
            `{"runs[].draws": [0, 1]}`; empty where no config can.
    """

    what: str
    wanted: Any = None
    present: Any = None
    change: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One answered question; plain data throughout.

    Attributes:
        question: A stable key; it is the name of the question's template too.
        about: teacher, student, method and label of the runs it is about; empty for the study.
        status: answered; cannot_tell (`needs` says what is missing); not_applicable.
        numbers: What was computed, with intervals (`Estimate.numbers`).
        needs: What is missing for an answer.
    """

    question: str
    about: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "answered"
    numbers: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()

    def record(self) -> dict[str, Any]:
        """Its entry of answers.json, without sentences."""
        keys = ("teacher", "student", "method", "label")
        return {
            "key": self.question,
            **{key: self.about.get(key) or None for key in keys},
            "status": self.status,
            "numbers": dict(self.numbers),
            "needs": [asdict(need) for need in self.needs],
        }


def about_line(line: Line) -> dict[str, Any]:
    """What an answer on one line of the runs table is about."""
    return {
        "teacher": line.teacher,
        "student": line.student,
        "method": line.method,
        "label": line.label,
    }


def about_group(selected: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer on a group of a law's runs is about."""
    names = {key: selected.get(key) or None for key in ("teacher", "student", "method")}
    return {**names, "label": label_of(selected)}
