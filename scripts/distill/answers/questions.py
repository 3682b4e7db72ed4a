"""All answers of a study: from its runs table, and from the laws fitted to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from distill.answers.law_questions import answer_law_questions
from distill.answers.laws.related_scores import TASK
from distill.answers.measured import Measured
from distill.answers.own_table import applicable, merge_groups, reading_answers
from distill.answers.runs import task_metric
from distill.answers.runs.questions import OF_ALL, OF_SAMPLES, answer_runs
from distill.answers.wording import worded, wording_of


def answer_questions(
    runs: pd.DataFrame,
    references: dict[str, Any],
    laws: Mapping[str, Any],
    stated: Mapping[str, Any],
    templates: str | Path,
) -> dict[str, Any]:
    """Answer every question that a study can be asked, as the content of answers.json.

    Args:
        runs: The runs table; of a user's own table `samples` is null.
        references: references.json.
        laws: laws.json.
        stated: What the user states: cost, prices, pretraining_tokens, target_loss; and
            corpus_methods, the methods that train without a teacher.
        templates: The folder of the questions' templates.

    Returns:
        `{"schema": 1, "answers": [...]}`, records of `distill.answers.wording.worded`.
    """
    own = bool(references.get("own_table"))
    if own:
        stated = {**stated, "corpus_methods": references.get("corpus_methods") or []}
    study = Measured(runs, references, stated)
    answers = [
        *reading_answers(references),
        *(answer_runs(study, OF_SAMPLES) if study.trained_here else ()),
        *answer_law_questions(runs, laws, references, stated),
        *applicable(answer_runs(study, OF_ALL), references),
    ]
    if own and any(answer.question == TASK for answer in answers):
        # Its scores have no floor to be compared with, but they are there.
        answers = [answer for answer in answers if answer.question != task_metric.KEY]
    wording = wording_of(templates, own, bool(references.get("distils", True)))
    records = worded(answers, wording)
    return {"schema": 1, "answers": merge_groups(records, wording) if own else records}
