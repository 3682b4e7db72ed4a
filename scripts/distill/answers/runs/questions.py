"""Questions answered from the runs table, without a fitted law.

A question is a module with `KEY` and `answer`, a template `report/answers/<KEY>.j2` and a line
here. Losses are compared where they were measured or interpolated between measured sizes, never
beyond them. Each interval is for one comparison: of many comparisons some are clear by chance.
"""

from collections.abc import Sequence
from typing import Protocol

from distill.answers.answer import Answer
from distill.answers.measured import Measured
from distill.answers.runs import (
    at_equal_flops,
    at_equal_money,
    at_equal_samples,
    at_equal_seconds,
    benchmarks,
    cache_costs,
    controls,
    curation_effect,
    curation_exponent,
    doubling,
    energy_quality,
    error_bars,
    extrapolation,
    falling,
    flops_split,
    flops_split_scales,
    forgetting,
    initialisation,
    largest_size,
    learned,
    more_responses,
    pareto,
    prompts_or_epochs,
    students,
    summary,
    sweet_spot,
    task_metric,
)


class Question(Protocol):
    """A question's module."""

    KEY: str

    def answer(self, study: Measured) -> list[Answer]:
        """Its answers about one study."""


OF_SAMPLES: tuple[Question, ...] = (
    learned,
    summary,
    largest_size,
    doubling,
    error_bars,
    sweet_spot,
    extrapolation,
    falling,
    students,
    at_equal_samples,
    at_equal_flops,
    cache_costs,
    benchmarks,
)
"""Asked where runs are counted in samples, which a user's own table may leave empty."""
OF_ALL: tuple[Question, ...] = (
    pareto,
    energy_quality,
    flops_split,
    flops_split_scales,
    at_equal_seconds,
    at_equal_money,
    prompts_or_epochs,
    more_responses,
    initialisation,
    forgetting,
    task_metric,
    curation_effect,
    curation_exponent,
    controls,
)
"""Asked of every runs table."""


def answer_runs(study: Measured, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions of a runs table, in their order.

    Raises:
        UserError: The table or the stated cost lacks a needed column or has an impossible value.
    """
    return [answer for question in questions for answer in study.ask(question.answer)]
