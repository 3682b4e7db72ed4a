"""The questions that the runs table answers by itself, without a fitted law.

Losses are compared where they were measured or read off between measured sizes, never beyond them.
Where the conditions for a claim do not hold, the answer is "Cannot tell, because …; needs …".
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from distill.answers.runs.at_equal_costs import compare_at_equal_money, compare_at_equal_seconds
from distill.answers.runs.controls import controls
from distill.answers.runs.curation_effect import curation_effect
from distill.answers.runs.energy_quality import quality_per_kwh
from distill.answers.runs.flops_split import flops_split
from distill.answers.runs.forgetting import what_was_forgotten
from distill.answers.runs.initialisation import worth_of_init
from distill.answers.runs.pareto import pareto_fronts
from distill.answers.runs.prompts_or_epochs import prompts_or_epochs
from distill.answers.runs.task_metric import task_metric
from distill.table.lines import Settings, pooled_over, question_lines


def answer_table_questions(
    runs: pd.DataFrame, references: Mapping[str, Any] | None, settings: Settings
) -> list[dict[str, Any]]:
    """Answer what the runs table says of fronts, energy, FLOPs, methods, epochs, starts, curation.

    Args:
        runs: the runs table (`distill.contracts.columns`); unknown columns may be null or
            missing, apart from student, method, loss and samples (or tokens_unique).
        references: references.json; None when there is none.
        settings: all optional: `prices` {teacher_million_tokens, hour}, `corpus_methods` (names
            of methods that train without a teacher), `methods` (the settings of each; default
            those of `references`), `generated_instructions` (items of the larger set of them).

    Returns:
        Records of `distill.answers.record.record`, in the order of the questions; plain JSON.
        Losses are nats per token, intervals 90 %.

    Raises:
        UserError: the table lacks a needed column or holds an impossible value.
    """
    known = {"methods": (references or {}).get("methods") or {}}
    known |= {name: value for name, value in settings.items() if value is not None}
    lines = question_lines(runs)
    spread = pooled_over(lines, "loss")
    return [
        *pareto_fronts(lines),
        *quality_per_kwh(lines, references),
        *flops_split(lines, known),
        *compare_at_equal_seconds(lines, spread),
        *compare_at_equal_money(lines, spread, known),
        *prompts_or_epochs(lines, spread, known),
        *worth_of_init(lines, spread, known),
        *what_was_forgotten(lines),
        *task_metric(lines, references, known),
        *curation_effect(lines),
        *controls(lines, spread, known),
    ]
