"""Answers in words, from the templates in report/ask/, one for each question."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from distill.answers.wording import wording_of

REPORT = Path(__file__).parents[3] / "report"
TEMPLATES = REPORT / "ask"


@cache
def _wording() -> Environment:
    return wording_of([TEMPLATES, REPORT / "answers"])


def text_of(question: str, answer: Mapping[str, Any]) -> str:
    """An answer as lines of text; blank lines of the template are left out.

    Args:
        question: loss, samples, best, score or laws.
        answer: Its record, of `distill.ask.subject`, `distill.ask.budget` or laws.json.
    """
    text = _wording().get_template(f"{question}.j2").render(answer=answer)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
