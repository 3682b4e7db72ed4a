"""All answers of a study: from its runs table, and from the laws fitted to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from distill.answers.laws.questions import answer_law_questions
from distill.answers.runs.all import answer_table_questions
from distill.answers.runs.benchmarks import answer_benchmarks
from distill.answers.runs.doubling import diminishing_returns
from distill.answers.wording import worded, wording_of
from distill.table.lines import lines_of, prepare_runs


def answer_questions(
    runs: pd.DataFrame,
    references: dict[str, Any],
    laws: Mapping[str, Any],
    stated: Mapping[str, Any],
    templates: str | Path,
) -> dict[str, Any]:
    """Answer every question that a study can be asked, as the content of answers.json.

    Args:
        runs: The runs table; of a table of one's own `samples` is null.
        references: references.json.
        laws: laws.json.
        stated: What the user states: cost, prices, pretraining_tokens, target_loss; and
            corpus_methods, the methods that train without a teacher.
        templates: The folder of the questions' templates.

    Returns:
        `{"schema": 1, "answers": [...]}`, records of `distill.answers.record.record`.
    """
    found: list[dict[str, Any]] = []
    if runs["samples"].notna().any():
        found += diminishing_returns(runs, references, stated.get("cost"))["answers"]
        found += answer_benchmarks(lines_of(prepare_runs(runs)), references)
    answers = answer_law_questions(runs, laws, references, stated)
    found += worded(answers, wording_of(templates))
    found += answer_table_questions(runs, references, stated)
    return {"schema": 1, "answers": found}
