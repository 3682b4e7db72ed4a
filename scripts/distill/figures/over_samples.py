"""Columns of the runs table against the training samples: the numbers of several figures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from distill.core.errors import UserError
from distill.figures.figure import GREY, Axis, Figure, Inputs, Layer, Rows
from distill.table.lines import Line, has_values

COLUMNS = ("panel", "kind", "label", "samples", "x", "y", "low", "high", "runs", "mark")
"""Columns of the CSV. `kind` is mean (over the runs of a cell; low and high are one standard
deviation off it, null for a single run), run, before (training; drawn at samples 0), teacher,
floor, unigram (the model of token frequencies of the largest training text) or guide."""
LAYERS = (
    Layer("teacher", "across", key="teacher", style={"color": GREY, "ls": (0, (6, 3))}),
    Layer("floor", "across", key="dummy answer", style={"color": GREY, "ls": (0, (1, 2))}),
    Layer("unigram", "across", key="unigram model", style={"color": GREY, "ls": (0, (4, 1, 1, 1))}),
    Layer("guide", "line", key="∝ samples",
          style={"color": GREY, "ls": (0, (1, 2)), "marker": ""}),
    Layer("run", "points", style={"ms": 2.2, "mew": 0, "alpha": 0.4}),
    Layer("mean", "interval"),
    Layer("mean", "line"),
    Layer("before", "start"),
)  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A column of the runs table; `teacher` and `floor` name what references.json has of it."""

    column: str
    label: str
    teacher: str | None = None
    floor: str | None = None
    of_loss: Callable[[float], float] | None = None
    """The column's value at a loss: the unigram model is drawn, and the teacher's floor."""


def figure_over_samples(
    title: str,
    *panels: Panel,
    section: Any = "other",
    log: bool = True,
    start: bool = True,
    guide: bool = False,
    x: str = "samples",
    x_label: str = "training samples",
    y_label: Callable[[Inputs], str] | None = None,
) -> Figure:
    """Return a figure of columns against the training samples, a panel above another.

    Args:
        title: Its title.
        panels: The columns drawn.
        section: Where the report shows it.
        log: Whether the vertical axes are logarithmic.
        start: Whether students before training are shown, at 0.
        guide: Whether a line proportional to the samples is drawn.
        x: The column of the horizontal axis.
        x_label: Its text.
        y_label: Text of the vertical axis where it depends on the runs.
    """
    names = " or ".join(panel.column for panel in panels)

    def numbers(inputs: Inputs) -> Rows:
        _check(title, inputs.table, panels, x)
        rows: Rows = []
        for panel in panels:
            if not (has_values(inputs.table, panel.column) and has_values(inputs.table, x)):
                continue
            for line in inputs.lines:
                rows += _line_rows(line, panel.column, x, log, start)
            rows += _guide_rows(rows, panel.column) if guide else []
            rows += _reference_rows(inputs.lines, panel, inputs.references)
        return rows

    scale: Any = "log" if log else "linear"
    return Figure(
        title=title,
        section=section,
        empty=f"No run has a value of {names}.",
        numbers=numbers,
        layers=LAYERS,
        x=Axis(x_label, "samples" if x == "samples" else "log"),
        y=Axis(y_label or {panel.column: panel.label for panel in panels}, scale, "row"),
        facets=("panel", None),
        colour="student",
        shape="method",
        height=2.1 if len(panels) == 1 else 1.5,
        columns=COLUMNS,
        hidden=("student", "method"),
    )


def _check(title: str, table: pd.DataFrame, panels: tuple[Panel, ...], x: str) -> None:
    columns = [panel.column for panel in panels]
    missing = " or ".join(columns) if not any(name in table for name in columns) else x
    if missing != x or x not in table:
        raise UserError(
            f'figure "{title}" needs column {missing}, which the runs table does not hold'
        )


def _line_rows(line: Line, column: str, x: str, log: bool, start: bool) -> Rows:
    """Return the marks of one line: single runs, means of cells, the student before training."""
    runs = line.runs.assign(
        x=pd.to_numeric(line.runs[x], errors="coerce"),
        y=pd.to_numeric(line.runs[column], errors="coerce"),
    ).dropna(subset=["x", "y"])
    if log:
        runs = runs[runs["y"] > 0]
    if x != "samples":
        runs = runs[runs["x"] > 0]
    method = line.label.removeprefix(line.student).removeprefix(" · ")
    place = {"panel": column, "label": line.label, "student": line.student, "method": method}
    rows: Rows = []
    for samples, cell in runs.groupby("samples"):
        mean = float(cell["y"].mean())
        sd = float(cell["y"].std()) if len(cell) > 1 else math.nan
        at = {**place, "samples": int(samples), "x": float(cell["x"].mean())}
        values = {"y": mean, "low": mean - sd, "high": mean + sd, "runs": len(cell)}
        rows.append({**at, "kind": "mean", **values})
        if len(cell) > 1:
            pairs = zip(cell["x"], cell["y"], strict=True)
            rows += [
                {**at, "kind": "run", "x": float(a), "y": float(b), "runs": 1} for a, b in pairs
            ]
    if rows and start and has_values(line.before, column):
        values = {"y": float(pd.to_numeric(line.before[column]).mean()), "runs": len(line.before)}
        at = {"panel": column, "label": line.student, "student": line.student}
        rows.append({**at, "kind": "before", "samples": 0, "x": 0.0, **values})
    return rows


def _guide_rows(rows: Rows, column: str) -> Rows:
    """Return two ends of a line proportional to the samples, a little above the highest line."""
    means = [row for row in rows if row["kind"] == "mean" and row["panel"] == column]
    if len({row["samples"] for row in means}) < 2:
        return []
    last = max(means, key=lambda row: (row["samples"], row["y"]))
    per_sample = 1.6 * last["y"] / last["samples"]
    place = {"panel": column, "kind": "guide", "label": "∝ samples"}
    return [
        {**place, "samples": n, "x": float(n), "y": n * per_sample}
        for n in (min(row["samples"] for row in means), last["samples"])
    ]


def _reference_rows(lines: list[Line], panel: Panel, references: Mapping[str, Any]) -> Rows:
    """Return the teachers' and the floor's values of a panel."""
    rows: Rows = []
    teachers = references.get("teachers", {})
    names = [t for t in dict.fromkeys(line.teacher for line in lines) if t in teachers]
    for name in names or list(teachers):
        y = teachers[name].get(panel.teacher) if panel.teacher else None
        # The loss at the temperature of the text is the least that a student can have.
        if panel.of_loss and (least := teachers[name].get("loss_teacher")) is not None:
            y = panel.of_loss(least)
        if y is not None:
            label = "teacher" if len(teachers) == 1 else f"teacher {name}"
            rows.append({"panel": panel.column, "kind": "teacher", "label": label, "y": float(y)})
    losses = [
        (int(samples), loss)
        for by_samples in (references.get("unigram_loss") or {}).values()
        for samples, loss in by_samples.items()
    ]
    if panel.of_loss and losses:
        place = {"panel": panel.column, "kind": "unigram", "label": "unigram model"}
        rows.append({**place, "y": panel.of_loss(float(max(losses)[1]))})
    floor = (references.get("floor") or {}).get(panel.floor) if panel.floor else None
    if floor is not None:
        place = {"panel": panel.column, "kind": "floor", "label": "dummy answer"}
        rows.append({**place, "y": float(floor)})
    return rows
