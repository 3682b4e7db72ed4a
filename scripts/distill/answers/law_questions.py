"""Answers to the questions of a study of size from its fitted laws, or what they lack.

Everything is a function of the runs table and laws.json; nothing is fitted here. Intervals are
90 %. An answer that the conditions of a claim do not allow has the status `cannot_tell`, its
numbers, and what it needs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from distill.answers.answer import Answer
from distill.answers.laws.advice import advice_answers
from distill.answers.laws.against_scratch import scratch_answers
from distill.answers.laws.allocation import allocation_answers
from distill.answers.laws.claims import claim_answers
from distill.answers.laws.collapse import collapse_answers
from distill.answers.laws.common_text import CommonText, curation_differences, scratch_differences
from distill.answers.laws.compute_optimal import compute_optimal_answers, costs_of
from distill.answers.laws.data_needed import data_answers
from distill.answers.laws.exponents import exponent_answers, method_differences
from distill.answers.laws.pilot import pilot_answers
from distill.answers.laws.predicted import predicted_answers
from distill.answers.laws.reach import reach_answer
from distill.answers.laws.related_scores import score_answers
from distill.answers.laws.teacher_ratio import teacher_ratio_answers
from distill.answers.own_table import applicable
from distill.laws.fitted import FittedLaw
from distill.laws.runs import trained_rows


def answer_law_questions(
    runs: pd.DataFrame,
    document: Mapping[str, Any],
    references: Mapping[str, Any] | None,
    stated: Mapping[str, Any],
) -> list[Answer]:
    """Answer what the fitted laws can answer.

    Args:
        runs: The runs table, or a table of points of laws (`own_table`).
        document: laws.json.
        references: references.json; teachers' params and flops_per_token are read, and of a user's
            own table whether it has any (`own_table`, `distils`).
        stated: From the config: pretraining_tokens {teacher: D_T}, corpus_methods (methods that
            train without a teacher), target_loss (nats per token or None). All may be missing.

    Returns:
        The advice first, then every question. A user's own table has no config of runs, so its
        answers propose no change of one.
    """
    rows, laws = trained_rows(runs, references), [FittedLaw(one) for one in document["laws"]]
    corpus, text = list(stated.get("corpus_methods") or []), CommonText(document["common_text"])
    costs = costs_of(runs, rows, references)
    measured = [
        *teacher_ratio_answers(rows),
        *collapse_answers(rows, laws),
        *data_answers(rows, laws, stated.get("target_loss")),
        *scratch_answers(rows, corpus, costs, text),
        *compute_optimal_answers(rows, laws, costs, stated.get("pretraining_tokens") or {}, corpus),
        *allocation_answers(rows, laws, document),
        *score_answers(rows, laws, document, stated.get("target_loss")),
        *curation_differences(rows, text),
    ]
    answers = [
        reach_answer(rows),
        *predicted_answers(rows, laws, document),
        *exponent_answers(rows, laws),
        *method_differences(rows, laws, corpus),
        *scratch_differences(rows, corpus, text),
        *measured,
        *pilot_answers(rows, laws),
        *claim_answers(rows, laws, corpus, measured),
    ]
    answers = applicable(answers, references)
    answers = [*advice_answers(rows, laws, answers), *answers]
    if "samples" in rows and rows["samples"].notna().any():
        return answers
    return [_without_changes(answer) for answer in answers]


def _without_changes(answer: Answer) -> Answer:
    return replace(answer, needs=tuple(replace(need, change={}) for need in answer.needs))
