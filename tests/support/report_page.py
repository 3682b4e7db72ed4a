"""Shared makers of tests."""

from pathlib import Path

import pandas as pd

from distill.answers.runs.doubling import diminishing_returns
from distill.contracts.figures import FIGURES
from distill.report.page import write_report
from drawing import draw_all

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
    if pictures is None:
        drawn = draw_all(folder, runs, references)
    else:
        paths = [pictures / f"{name}.svg" for name in FIGURES]
        drawn = [path for path in paths if path.exists()]
    answers = diminishing_returns(runs, references, cost)
    out = folder / "report.html"
    template = REPORT / "report.html.j2"
    write_report(runs, references, answers, samples, drawn, REPORT, template, out)
    return out
