"""Loss against what a student costs to use and took to make, with the front of the best."""

import numpy as np
import pandas as pd

from distill.answers.runs.energy_quality import estimated_share
from distill.figures.figure import GREY, Axis, Figure, Inputs, Layer, Rows
from distill.laws.common_text import scored_on

PROPERTIES = {
    "size_mb": "size (MB)",
    "params": "parameters",
    "flops_per_token": "FLOPs per token",
    "ms_per_token": "ms per token",
    "peak_memory_mb": "peak memory (MB)",
}
"""What a student costs to use; parameters only where its size in memory is not known."""
TOTALS = {"": "run alone", "_amortised": "work shared"}
"""Ways to count the teacher's work, by the suffix of a column."""
MEASURES = {"loss": "held-out loss (nats)", "reference_loss": "reference loss (nats)"}


def numbers(inputs: Inputs) -> Rows:
    """Return loss against what a student costs, a panel per property, and the front of each.

    Properties are those of use, then the energy of making it: their `column` is the text on the
    axis, which says whether any of it is estimated. With several teachers the loss is that on the
    reference text: their own texts differ, so without one there is nothing to show. `kind` is mean
    (over the runs of a student, line and size), front or teacher; `mark` the samples.
    """
    rows = inputs.trained
    several = rows["teacher"].nunique() > 1
    if several and scored_on(rows) is None:
        return []
    measure = "reference_loss" if several and rows["reference_loss"].notna().any() else "loss"
    table = rows.assign(ms_per_token=1000 / column_of(rows, "tokens_per_second"))
    out: Rows = []
    for name in PROPERTIES:
        cells = _cells_and_front(table, name, measure, name)
        if not cells or (name == "params" and any(row["column"] == "size_mb" for row in out)):
            continue
        out += cells
        known = set(table.loc[column_of(table, name) > 0, "teacher"])
        for teacher, facts in (inputs.references.get("teachers") or {}).items():
            speed = facts.get("tokens_per_second")
            value = (1000 / speed if speed else None) if name == "ms_per_token" else facts.get(name)
            loss = facts.get(measure)
            if value and loss and teacher in known:
                out.append(
                    {"row": measure, "column": name, "kind": "teacher", "label": teacher}
                    | {"x": float(value), "y": float(loss)}
                )
    source = "estimated" if estimated_share(rows) > 0 else "measured"
    for suffix, text in TOTALS.items():
        out += _cells_and_front(rows, f"total_kwh{suffix}", measure, f"{source} kWh, {text}")
    return out


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both coordinates, smaller being better, by x."""
    out: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not out or y < out[-1][1]:
            out.append((x, y))
    return out


def column_of(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return a column as numbers, null where the table has none."""
    if name not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    return pd.to_numeric(rows[name], errors="coerce").astype(float)


def _cells_and_front(rows: pd.DataFrame, name: str, measure: str, column: str) -> Rows:
    """Return a mark per student, line and size over a cost, and the front of them all."""
    table = rows.assign(size_key=rows["samples"].fillna(rows["tokens"]).fillna(0))
    table[name] = column_of(table, name)
    known = table[(table[name] > 0) & (table[measure] > 0)]
    out: Rows = []
    points: list[tuple[float, float]] = []
    for (student, line, size), cell in known.groupby(["student", "line", "size_key"], sort=False):
        x, y = float(cell[name].mean()), float(cell[measure].mean())
        points.append((x, y))
        out.append(
            {"row": measure, "column": column, "kind": "mean", "label": student, "line": line}
            | {"x": x, "y": y, "runs": len(cell), "mark": f"{size:.0f}"}
        )
    for x, y in front(points):
        out.append(
            {"row": measure, "column": column, "kind": "front", "label": "front"} | {"x": x, "y": y}
        )
    return out


def _best(means: pd.DataFrame) -> pd.DataFrame:
    """Return the lowest mean of each student in each panel."""
    return means.loc[means.groupby(["column", "label"])["y"].idxmin()]


FIGURE = Figure(
    title="Loss against what a model costs",
    section="costs",
    empty="No run has its size, FLOPs, speed, memory or energy; or there are several teachers, but "
    "no loss on one text (evaluate.reference).",
    numbers=numbers,
    layers=(
        Layer("front", "steps", key="front", style={"color": "black", "lw": 0.9, "zorder": 2}),
        Layer("mean", "points", style={"ms": 2.8, "mew": 0, "alpha": 0.45}),
        Layer("mean", "points", pick=_best,
              style={"ms": 4.8, "mec": "black", "mew": 0.6, "zorder": 4}),
        Layer("teacher", "points", key="teacher", style={"color": GREY, "marker": "*", "ms": 6}),
    ),
    x=Axis(PROPERTIES, share="none"),
    y=Axis(MEASURES),
    shape="line",
    wrap=2,
)  # fmt: skip
