"""The report of a user's own table: titled and worded for what its runs are."""

import html
import re
from pathlib import Path

import pandas as pd
import pytest

from distill.answers.questions import answer_questions
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows
from distill.report.page import write_report
from distill.table.own_table import parse_table_study, runs_of_table
from own_tables import config_of, grid

REPORT = Path(__file__).parents[2] / "report"


def page_of(folder: Path, table: pd.DataFrame, **columns: str) -> str:
    """The text of a table's report, without figures."""
    table.to_csv(folder / "table.csv", index=False)
    runs, references = runs_of_table(parse_table_study(config_of(folder / "table.csv", columns)))
    rows = trained_rows(runs, references)
    laws = fit_laws(rows, Settings(starts=8, shared=False), references["corpus_methods"])
    answers = answer_questions(runs, references, laws, {}, REPORT / "answers")
    out, template = folder / "report.html", REPORT / "report.html.j2"
    write_report(runs, references, answers, None, [], REPORT, template, out, laws)
    text = re.sub(r"<(style|script).*?</\1>", "", out.read_text(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.slow
def test_a_table_without_teachers_is_reported_as_scaling_runs(tmp_path: Path) -> None:
    page = page_of(tmp_path, pd.concat([grid(), grid().iloc[[2]]], ignore_index=True))
    assert page.startswith("mine: scaling report mine: scaling laws of a table 30 runs")
    before, _, after = page.partition("Questions that this table cannot be asked")
    assert "Claim: students below 5 % of the teacher collapse" in after
    assert "1 exact duplicate (row 31) counts once with the row before." in before
    for word in ("student", "teacher", "distillation"):
        assert word not in before.lower(), before[before.lower().find(word) - 80 :][:200]


@pytest.mark.slow
def test_a_table_with_kinds_is_a_distillation_report(tmp_path: Path) -> None:
    tables = [grid(seed=seed).assign(k=kind) for seed, kind in enumerate(("kd", "scratch"))]
    page = page_of(tmp_path, pd.concat(tables, ignore_index=True), kind="k")
    assert page.startswith("mine: distillation report")
    assert "What others claimed" in page
    assert "Supported here (distilled)" in page


@pytest.mark.slow
def test_one_run_is_told_as_such(tmp_path: Path) -> None:
    page = page_of(tmp_path, grid().iloc[[4]])
    assert "1 run, 1.10 × 10⁷ parameters, 2.40 × 10¹¹ unique training tokens" in page
    assert "One run is no basis for a law" in page
