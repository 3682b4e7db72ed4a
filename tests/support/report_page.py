"""Shared makers of tests."""

from pathlib import Path

import pandas as pd

from distill.answers.runs.doubling import diminishing_returns
from distill.figures.canvas import draw_figure
from distill.figures.catalogue import FIGURES, drawable
from distill.report.page import write_report

REPORT = Path(__file__).parents[2] / "report"


def make_report(
    folder: Path,
    runs: pd.DataFrame,
    references: dict | None,
    samples: dict | None,
    cost: dict[str, float] | None = None,
    pictures: Path | None = None,
) -> Path:
    """Write a report in `folder`, with figures of its own or those drawn in `pictures`."""
    for name in FIGURES if pictures is None else ():
        if drawable(name, runs, references):
            paths = (folder / f"{name}.{end}" for end in ("svg", "png", "csv"))
            draw_figure(name, runs, references, *paths)
    answers = diminishing_returns(runs, references, cost)
    out = folder / "report.html"
    template = REPORT / "report.html.j2"
    write_report(runs, references, answers, samples, pictures or folder, REPORT, template, out)
    return out
