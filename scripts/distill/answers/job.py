"""Answer a study's questions, from files to a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.answers.questions import answer_questions
from distill.core.files import read_json, write_json
from distill.core.parquet import read_frame


def answer_study(
    runs: str | Path,
    references: str | Path,
    laws: str | Path,
    wording: Path,
    out: str | Path,
    spec: Mapping[str, Any],
) -> None:
    """Answer the study's questions from its runs table and laws.

    Args:
        runs: The runs table, Parquet.
        references: references.json.
        laws: laws.json.
        wording: Directory of the answers' templates.
        out: answers.json.
        spec: What the user states, as of `answer_questions`.
    """
    answers = answer_questions(
        read_frame(runs), read_json(references), read_json(laws), spec, wording
    )
    write_json(out, answers)
