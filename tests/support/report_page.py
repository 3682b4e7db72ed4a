"""Shared makers of tests."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distill.answers.measured import Measured
from distill.answers.runs.questions import OF_SAMPLES, Question, answer_runs
from distill.answers.wording import worded, wording_of
from distill.contracts.figures import FIGURES
from distill.report.page import make_environment, write_report
from drawing import draw_all, drawable

REPORT = Path(__file__).parents[2] / "report"


def answers_of(
    runs: pd.DataFrame,
    references: Mapping[str, Any] | None,
    stated: Mapping[str, Any] | None = None,
    questions: Sequence[Question] = OF_SAMPLES,
) -> dict[str, Any]:
    """The answers of a runs table alone, as answers.json holds them."""
    study = Measured(runs, references or {}, stated or {})
    wording = wording_of(REPORT / "answers")
    return {"schema": 1, "answers": worded(answer_runs(study, questions), wording)}


def make_report(
    folder: Path,
    runs: pd.DataFrame,
    references: dict | None,
    samples: dict | None,
    cost: dict[str, float] | None = None,
    pictures: Path | None = None,
) -> Path:
    """Write a report in `folder`, with figures of its own or those drawn in `pictures`."""
    if pictures is None:
        drawn = draw_all(folder, runs, references)
    else:
        names = [name for name in FIGURES if drawable(name, runs, references)]
        drawn = [path for name in names if (path := pictures / f"{name}.svg").exists()]
    answers = answers_of(runs, references, {"cost": cost})
    out = folder / "report.html"
    template = REPORT / "report.html.j2"
    write_report(runs, references, answers, samples, drawn, REPORT, template, out)
    return out


def render(template: str, **context: Any) -> str:
    """One section of the report."""
    return make_environment(REPORT).get_template(template).render(context)


def tables_of(page: str) -> list[list[dict[str, str]]]:
    """The tables of a page: rows of the visible text by column; of equal headings the last."""

    def cells(row: str) -> list[str]:
        found = re.findall(r"<(?:th|td)\b[^>]*>(.*?)</(?:th|td)>", row, re.DOTALL)
        return [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in found]

    tables = []
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        head, *rows = map(cells, re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL))
        tables.append([dict(zip(head, row, strict=True)) for row in rows])
    return tables
