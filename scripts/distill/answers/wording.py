"""Sentences of answers, from the templates in report/answers/.

The template of a question, `<key>.j2`, defines the macros `question`, `answer` and `evidence`; each
takes the `Answer`. An optional macro `label` replaces the answer's label. Templates that begin with
`_` hold shared macros. No code parses a sentence: code reads the numbers of an answer.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from distill.answers.answer import Answer
from distill.core.quantities import data_size, duration, number, percent, whole
from distill.stats.intervals import Estimate, read_estimate, sizes_text, span
from distill.table.words import words_of_task

PARTS = ("question", "answer", "evidence")


def wording_of(
    folder: str | Path | Sequence[Path], own_table: bool = False, distils: bool = True
) -> Environment:
    """The templates in `folder`, with the filters that write numbers.

    A misspelt name in a template is an error, not an empty string.

    Args:
        folder: Holds the templates; of several, the first that has one.
        own_table: Whether the runs are those of a user's own table, which has no draws of data.
        distils: Whether the study is one of distillation, whose models are students.
    """
    wording = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the report escapes; answers.json is plain text
    )
    wording.filters |= {"number": number, "percent": percent, "sizes": sizes_text, "span": span}
    wording.filters |= {"plural": plural, "rounded": rounded, "share": share, "exp": math.exp}
    wording.filters |= {"estimate": read_estimate, "listed": listed, "capital": capital}
    wording.filters["words"] = words_of_task
    wording.globals |= {
        "learner": "student" if distils else "model",
        "repeat": "seed" if own_table else "draw",
        "distils": distils,
        "own_table": own_table,
    }
    wording.filters |= {"interval": interval, "ends": ends}
    wording.filters |= {"duration": duration, "size": data_size, "whole": whole}
    return wording


def plural(count: int, word: str, words: str | None = None) -> str:
    """A count with its noun: `1 prompt`, `2 prompts`."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def rounded(value: float) -> str:
    """A count that was estimated: whole from 100 on, two significant digits below."""
    return number(round(value)) if abs(value) >= 100 else number(value, 2)


def share(value: float | None) -> str:
    """A share as per cent, without a sign in front."""
    return "–" if value is None else f"{number(100 * value, 2)} %"


def interval(entry: Mapping[str, Any], unit: str = "", factor: float = 1.0) -> str:
    """An entry of `value`, `low` and `high`, or a multiple of it, with its interval."""
    value = Estimate.of_ends(entry).scaled(factor)
    if value.low is None and value.high is None:
        return f"{number(value.value)}{' ' + unit if unit else ''} (90 % interval unbounded)"
    return value.text(unit)


def ends(numbers: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The entry that `Estimate.ends` wrote under `name`."""
    return {end: numbers[f"{name}_{end}"] for end in ("value", "low", "high")}


def listed(names: Iterable[str], word: str = "and") -> str:
    """Names in a sentence: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def capital(text: str) -> str:
    """A sentence's first letter as a capital."""
    return text[:1].upper() + text[1:]


def worded(answers: Iterable[Answer], wording: Environment) -> list[dict[str, Any]]:
    """Entries of answers.json: each answer's record and its sentences.

    Args:
        answers: Answers in the order in which they are reported.
        wording: Templates (`wording_of`).
    """
    records = []
    for answer in answers:
        macros = wording.get_template(f"{answer.question}.j2").module
        parts = {part: text_of(getattr(macros, part)(answer)) for part in PARTS[:1]}
        said = macros
        if answer.status == "not_applicable" and "reason" in answer.numbers:
            said = wording.get_template("_not_applicable.j2").module
        parts |= {part: text_of(getattr(said, part)(answer)) for part in PARTS[1:]}
        record = {**parts, **answer.record()}
        if hasattr(macros, "label"):
            record["label"] = text_of(macros.label(answer))
        records.append(record)
    return records


def text_of(lines: str) -> str:
    """A macro's lines as one line."""
    return " ".join(lines.split())
