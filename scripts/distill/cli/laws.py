"""`distill laws`: from a table of runs to laws and a report, without a workflow."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill.cli.command import Command, Outcome, add_json
from distill.cli.studies import project
from distill.cli.tables import add_columns, spec_of


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="TABLE", help="one row per run")
    add_columns(parser)
    parser.add_argument("--best", action="store_true", help="only the best law of each group")
    parser.add_argument("--report", metavar="FILE", help="write the report, one page of HTML")
    parser.add_argument(
        "--keep", metavar="DIR", help="keep runs table, laws and figures, for distill ask and next"
    )
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.ask.words import text_of
    from distill.core.files import read_json

    templates = project() / "report"
    spec = spec_of(options.table, options)
    if options.keep:
        Path(options.keep).mkdir(parents=True, exist_ok=True)
    with nullcontext(options.keep) if options.keep else TemporaryDirectory() as place:
        results = Path(place)
        _fit(spec, results)
        if options.report:
            _report(spec, results, templates, options.report)
        document: dict[str, Any] = read_json(results / "laws.json")
    shown = document
    if options.best:
        shown = {**document, "laws": [law for law in document["laws"] if law["best"]]}
    text = text_of("laws", shown)
    return Outcome(shown, text + (f"\n{options.report} written" if options.report else ""))


def _fit(spec: dict[str, Any], results: Path) -> None:
    """Do the jobs take_runs_table and fit_laws."""
    from distill.laws.job import fit_study
    from distill.table.job import take_runs_table

    runs, references = results / "runs.parquet", results / "references.json"
    take_runs_table(spec, runs, results / "runs.csv", references)
    fit_study(runs, references, results / "laws.json")


def _report(spec: dict[str, Any], results: Path, templates: Path, page: str) -> None:
    """Do the jobs answer_questions, plot_figures and write_report."""
    from distill.answers.job import answer_study
    from distill.figures.job import draw_study
    from distill.plan.figures import figures_of
    from distill.report.job import report_study
    from distill.table.own_table import table_study

    study = table_study(spec)
    runs, references, laws = (
        results / name for name in ("runs.parquet", "references.json", "laws.json")
    )
    answers, figures = results / "answers.json", results / "figures"
    answer_study(runs, references, laws, templates / "answers", answers, study.answer_spec())
    figures.mkdir(exist_ok=True)
    svg, png, csv = (
        [figures / f"{name}.{kind}" for name in figures_of(study)] for kind in ("svg", "png", "csv")
    )
    draw_study(runs, references, laws, svg, png, csv)
    report_study(runs, references, answers, laws, None, svg, templates, page)


COMMAND = Command(
    summary="fit laws to a table of runs, without a workflow",
    details="Fit every scaling law that a table of runs allows: from CSV or Parquet to laws with "
    "intervals, refusals with reasons, and a report, by the same code as a study of runs_table.",
    examples=(
        "distill laws runs.csv --params N --tokens D --loss val_loss --report report.html",
        "distill laws runs.csv --flops C --group corpus --best --json",
    ),
    add_options=_add_options,
    run=_run,
)
