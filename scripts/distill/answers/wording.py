"""Sentences of answers, from the templates in report/answers/.

The template of a question, `<key>.j2`, defines the macros `question`, `answer` and `evidence`; each
takes
the `Answer`. No code parses a sentence: what code needs stands in the numbers of an answer.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from distill.answers.answer import Answer
from distill.stats.intervals import number, percent, sizes_text, span

PARTS = ("question", "answer", "evidence")


def wording_of(folder: str | Path) -> Environment:
    """The templates in `folder`, with the filters that write numbers.

    A misspelt name in a template is an error, not an empty string.
    """
    wording = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the report escapes; answers.json is plain text
    )
    wording.filters |= {"number": number, "percent": percent, "sizes": sizes_text, "span": span}
    wording.filters["plural"] = plural
    return wording


def plural(count: int, word: str, words: str | None = None) -> str:
    """A count with its noun: `1 prompt`, `2 prompts`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def worded(answers: Iterable[Answer], wording: Environment) -> list[dict[str, Any]]:
    """Entries of answers.json: each answer's record and its sentences.

    Args:
        answers: Answers in the order in which they are reported.
        wording: Templates (`wording_of`).
    """
    records = []
    for answer in answers:
        macros = wording.get_template(f"{answer.question}.j2").module
        parts = {part: " ".join(str(getattr(macros, part)(answer)).split()) for part in PARTS}
        records.append({**parts, **answer.record()})
    return records
