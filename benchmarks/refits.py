"""What a study's answers claimed without its largest size step, and what that step then said.

    python benchmarks/refits.py

refits the committed table of each study without its largest number of samples, asks the same
questions, and writes the tables of docs/explanation/refits.md.
"""

from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from distill.answers.contrast import contrast
from distill.answers.measured import Measured
from distill.ask.study import make_study
from distill.ask.subject import find_subject
from distill.core.quantities import number
from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows
from rows import replace_table

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "explanation/refits.md"
TABLE = DOCS / "img/size_scaling.csv"
"""The study size_scaling_short."""
METHODS = ("sft", "kd")


def table_of(path: Path = TABLE) -> pd.DataFrame:
    """The runs of the study; without a curation, all text is raw."""
    return pd.read_csv(path).assign(curation="raw")


def split(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs below the largest number of samples, and the others."""
    top = runs["samples"].max()
    return runs[runs["samples"] < top], runs[runs["samples"] == top]


def loss_rows(runs: pd.DataFrame, settings: Settings | None = None) -> list[str]:
    """Rows of the page: the loss that a law predicts of each run of the largest size step."""
    below, top = split(runs)
    study = make_study(below, fit_laws(trained_rows(below, None), settings or Settings()))
    rows = []
    for method in METHODS:
        (group,) = (one for one in study.groups if one.keys["method"] == method)
        for run in top[top["method"] == method].sort_values("params").itertuples():
            subject = find_subject(study, group, str(run.student))
            tokens = float(run.tokens_unique)
            at = subject.law.predict(subject.inputs(tokens), test_set=False)  # one test set
            low, high = float(at.run_low[0]), float(at.run_high[0])
            rows.append(
                f"| {run.student} | {method} | `{subject.law.name}` | {at.value[0]:.3f} | "
                f"{number(low, 4)} to {number(high, 4)} | {run.loss:.3f} | "
                f"{100 * (at.value[0] / run.loss - 1):+.1f} % | "
                f"{'yes' if low <= run.loss <= high else 'no'} |"
            )
    return rows


def gain_rows(runs: pd.DataFrame) -> list[str]:
    """Rows of the page: the gain of the last claimed doubling, that of the next, and the change."""
    study, rows = Measured(runs), []
    for line in study.lines:
        first, second, last = line.sizes[-3:]
        gains = [
            contrast(line.cells("loss"), weights, study.spread)
            for weights in (
                {first: 1.0, second: -1.0},
                {second: 1.0, last: -1.0},
                {first: -1.0, second: 2.0, last: -1.0},
            )
        ]
        texts = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in gains]
        rows.append(f"| {line.label} | {' | '.join(texts)} | {'no' if gains[2].sign else 'yes'} |")
    return rows


def method_rows(runs: pd.DataFrame) -> list[str]:
    """Rows of the page: which method had the lower loss, before and at the largest size step."""
    below, top = split(runs)
    rows = []
    for student in top.loc[top["method"] == "kd", "student"]:
        claims = []
        for part in (below[below["samples"] == below["samples"].max()], top):
            means = part[part["student"] == student].groupby("method")["loss"].mean()
            claims.append(float(means["sft"] - means["kd"]))
        kept = "yes" if claims[0] * claims[1] > 0 else "no"
        rows.append(f"| {student} | {claims[0]:.3f} | {claims[1]:.3f} | {kept} |")
    return rows


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        table = table_of()
        replace_table(PAGE, "losses", loss_rows(table))
        replace_table(PAGE, "gains", gain_rows(table))
        replace_table(PAGE, "methods", method_rows(table))
