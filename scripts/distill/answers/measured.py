"""A study's runs as its questions read them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from distill.answers.answer import Answer
from distill.stats.intervals import Spread
from distill.table.lines import (
    Line,
    Settings,
    lines_of,
    pooled_over,
    prepare_runs,
    question_lines,
)


@dataclass(frozen=True)
class Measured:
    """A runs table with what is known beside it. What is derived from it is computed once.

    Attributes:
        runs: The runs table (`distill.contracts.columns`); unknown columns may be null or missing,
            apart from student, method, loss and samples (or tokens_unique).
        references: references.json; empty where there is none.
        stated: What the user states, all optional: `cost`, `prices` {teacher_million_tokens, hour},
            `corpus_methods` (names of methods that train without a teacher), `methods` (the
            settings of each; default those of `references`).
    """

    runs: pd.DataFrame
    references: Mapping[str, Any] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    _answers: dict[Any, list[Answer]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def trained_here(self) -> bool:
        """Whether the runs are counted in samples; a user's own table leaves these empty."""
        return "samples" in self.runs and bool(self.runs["samples"].notna().any())

    @cached_property
    def table(self) -> pd.DataFrame:
        """The checked runs table (`prepare_runs`)."""
        return prepare_runs(self.runs)

    @cached_property
    def lines(self) -> list[Line]:
        """The runs of each student and method."""
        return lines_of(self.table)

    @cached_property
    def spread(self) -> Spread | None:
        """Spread of the loss between runs of a cell of `lines`, in nats."""
        return pooled_over(self.lines, "loss")

    @cached_property
    def parts(self) -> list[Line]:
        """The runs of each student and method of one initialisation and comparable epochs."""
        return question_lines(self.runs)

    @cached_property
    def part_spread(self) -> Spread | None:
        """Spread of the loss between runs of a cell of `parts`, in nats."""
        return pooled_over(self.parts, "loss")

    @cached_property
    def settings(self) -> Settings:
        """What is stated, with the methods of `references`."""
        stated = {name: value for name, value in self.stated.items() if value is not None}
        return {"methods": self.references.get("methods") or {}} | stated

    def ask(self, question: Callable[["Measured"], list[Answer]]) -> list[Answer]:
        """A question's answers, computed once.

        A user's own table has no config of runs, so its answers propose no change of one.
        """
        if question not in self._answers:
            answers = question(self)
            if not self.trained_here:
                answers = [_without_changes(answer) for answer in answers]
            self._answers[question] = answers
        return self._answers[question]


def _without_changes(answer: Answer) -> Answer:
    return replace(answer, needs=tuple(replace(need, change={}) for need in answer.needs))
