"""Write a study's report: one HTML file that needs no network and no other file.

Its only script is that of `distill.report.panel`, and the page's policy lets no other run.

All text that a model, a data set or a config wrote is escaped, and its control, terminal and
direction characters are replaced by visible ones, so it can neither run nor disguise itself.
Sentences, headings and tables are in the templates; the data they show come from here.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from distill.answers.runs import energy_quality, sweet_spot
from distill.config.own_table import TableColumns
from distill.contracts.columns import COLUMNS, MEASURED, benchmark_columns
from distill.core.display import visible
from distill.core.errors import UserError
from distill.core.files import write_text
from distill.figures.figure import find_figure, read_caption
from distill.report.benchmarks import benchmark_section
from distill.report.cells import FILTERS
from distill.report.laws import by_question, law_parts
from distill.report.methods import soft_section
from distill.report.panel import make_panel
from distill.report.runs import (
    costs,
    forecasts,
    gains,
    identity_checks,
    pass_rates,
    run_tables,
    students_table,
)
from distill.table.lines import Line, lines_of, prepare_runs
from distill.table.words import words_of

_OWN_MEANINGS = {
    {"tokens": "tokens_seen", "unique_tokens": "tokens_unique", "flops": "train_flops",
     "teacher_loss": "loss_teacher"}.get(name, name): column.description or ""
    for name, column in TableColumns.model_fields.items()
}  # fmt: skip
"""Columns of the runs table that a user's own table fills, with what they mean there."""


def make_environment(folder: str | Path) -> jinja2.Environment:
    """The environment of the report's templates, which escapes every text that is not markup.

    Args:
        folder: holds the templates.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Markup is ours; every other text is made visible before it is escaped.
        finalize=lambda value: (
            visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    environment.filters |= FILTERS
    return environment


def write_report(
    runs: pd.DataFrame,
    references: dict[str, Any] | None,
    answers: dict[str, Any],
    samples: dict[str, Any] | None,
    figures: Sequence[str | Path],
    captions_dir: str | Path,
    template: str | Path,
    out: str | Path,
    laws: dict[str, Any] | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file.

    Args:
        runs: the runs table.
        references: references.json, or None for your own table.
        answers: answers.json.
        samples: samples.json (responses written by models), or None.
        figures: `<name>.svg` of each figure of the study, its CSV beside it, in the page's order.
        captions_dir: holds `<name>.rst`.
        template: the Jinja template of the page; its sections are files beside it.
        out: the HTML file to write.
        laws: laws.json; None for none.

    Raises:
        UserError: a figure, a caption or a template is missing, or the table lacks a column.
    """
    source = Path(template)
    if not source.is_file():
        raise UserError(f"{source} is missing; the report is made from this template")
    environment = make_environment(source.parent)
    trained = bool(runs["samples"].notna().any())
    context = _title(runs, references or {}, answers, trained) | law_parts(laws, answers)
    if trained:
        context |= _context(runs, references or {}, answers, samples or {})
    context["figures"] = _figures(figures, captions_dir)
    context["panel"] = make_panel(runs, laws, references, environment)
    write_text(out, environment.get_template(source.name).render(context))


def _figures(paths: Sequence[str | Path], captions: str | Path) -> dict[str, dict[str, str]]:
    """Return what the page shows of each figure; one without numbers has only a reason."""
    out = {}
    for path in map(Path, paths):
        figure, numbers = find_figure(path.stem), path.with_suffix(".csv")
        if not (path.is_file() and numbers.is_file()):
            raise UserError(f"{path} or its CSV is missing; draw the figures first")
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        with numbers.open(encoding="utf-8") as lines:
            is_empty = sum(1 for _ in zip(lines, range(2), strict=False)) < 2
        out[path.stem] = {
            "title": figure.title,
            "section": figure.section,
            "caption": read_caption(captions, path.stem),
            "source": f"data:image/svg+xml;base64,{data}",
            "empty": figure.empty if is_empty else "",
        }
    return out


def _context(
    runs: pd.DataFrame,
    references: dict[str, Any],
    answers: dict[str, Any],
    samples: dict[str, Any],
) -> dict[str, Any]:
    """Return everything that the page shows of trained students, figures apart."""
    table = prepare_runs(runs)
    lines = lines_of(table)
    asked = by_question(answers)
    spots = {answer["numbers"].get("samples") for answer in asked.get(sweet_spot.KEY, [])}
    return {
        "facts": _facts(table, lines),
        "references": references,
        "words": words_of(table),
        "gains": gains(asked),
        "forecasts": forecasts(asked),
        "soft": soft_section(lines, references, asked),
        "students": students_table(table, lines, references),
        "run_tables": run_tables(lines),
        "passes": pass_rates(table, lines, references),
        "benchmarks": benchmark_section(lines, references),
        "prompts": samples.get("prompts", []),
        "identity": identity_checks(references),
        "costs": costs(lines, references, asked.get(energy_quality.KEY, [])),
        "has_sweet_spot": any(spots),
        "table_rows": len(table),
    }


def _title(
    runs: pd.DataFrame, references: dict[str, Any], answers: dict[str, Any], trained: bool
) -> dict[str, Any]:
    """Return what every page shows, also that of your own table."""
    own = bool(references.get("own_table"))
    meanings = (
        _OWN_MEANINGS
        if own
        else {
            row.name: row.meaning + (f"; {row.unit}" if row.unit else "")
            for row in COLUMNS.values()
        }
    )
    for task in (references.get("benchmarks") or {}).get("tasks", ()):
        meanings |= benchmark_columns(task)
    studies = runs["study"].dropna().astype(str).unique() if "study" in runs else []
    name = references.get("study") or (studies[0] if len(studies) == 1 else "")
    return {
        "study": name or "Knowledge distillation",
        "trained": trained,
        "distils": references.get("distils", True),
        "asked": by_question(answers),
        "definitions": [
            {"name": column, "meaning": meaning, "measured": column in MEASURED}
            for column, meaning in meanings.items()
            if column in runs and (runs[column].notna() & (runs[column] != "")).any()
        ],
        "rows": len(runs),
        "params": _extent(runs, "params"),
        "tokens": _extent(runs, "tokens_unique"),
    }


def _extent(runs: pd.DataFrame, column: str) -> dict[str, float]:
    """The lowest and highest positive value of a column; empty without one."""
    values = pd.to_numeric(runs[column], errors="coerce") if column in runs else pd.Series()
    values = values[values > 0]
    return {} if values.empty else {"values_low": values.min(), "values_high": values.max()}


def _facts(table: pd.DataFrame, lines: list[Line]) -> dict[str, Any]:
    """Return what was measured: names and counts."""
    trained = table[table["samples"] > 0]
    repeats = [len(cell) for line in lines for _, cell in line.runs.groupby("samples")]
    return {
        "teachers": [name for name in trained["teacher"].unique() if name],
        "students": list(trained["student"].unique()),
        "methods": list(trained["method"].unique()),
        "caches": list(dict.fromkeys(line.cache for line in lines if line.reads_cache)),
        "sizes": sorted(int(n) for n in trained["samples"].unique()),
        "runs": len(trained),
        "cells": len(repeats),
        "repeated": sum(n > 1 for n in repeats),
        "starts": int((table["samples"] == 0).sum()),
    }
