"""What a curation changes: curated runs against their raw twins."""

from typing import Any

import pandas as pd

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.stats.intervals import estimate, pooled_spread

RAW = "raw"
"""The curation that keeps every row."""
TWIN = ["teacher", "student", "method", "cache", "init", "group", "samples", "draw", "seed"]
MEASURES = {
    "loss": "held-out loss,\ncurated − raw (nats)",
    "reference_loss": "reference loss,\ncurated − raw (nats)",
}


def numbers(inputs: Inputs) -> Rows:
    """Return the loss under a curation minus that of its raw twin, equal in all else.

    A row of panels per method, a label per curation; x are the curated runs' unique tokens. `kind`
    is student (the mean over its twins; `mark` names it) or difference: twins of one draw share
    their data, so students are averaged within a draw first, and the 90 % interval is over draws
    and seeds, their spread pooled over sizes.
    """
    rows = inputs.trained
    raw = rows[rows["curation"] == RAW]
    out: Rows = []
    for measure in MEASURES:
        twins = raw.dropna(subset=[measure]).drop_duplicates(TWIN).set_index(TWIN)[measure]
        for curation, runs in rows[rows["curation"] != RAW].groupby("curation", sort=False):
            keys = pd.MultiIndex.from_frame(runs[TWIN])
            difference = runs[measure].to_numpy(float) - twins.reindex(keys).to_numpy(float)
            pairs = runs.assign(difference=difference).dropna(subset=["difference", "tokens"])
            for (method, cache), line in pairs.groupby(["method", "cache"], sort=False):
                place = {"row": f"{method} · {cache}" if cache not in ("", "none") else method}
                place |= {"column": measure, "label": curation, "line": method}
                out += _effects(line, place)
    return out


def _effects(pairs: pd.DataFrame, place: dict[str, Any]) -> Rows:
    """Return the differences of one curation and method by samples."""
    out: Rows = []
    cells = list(pairs.groupby("samples"))
    draws = [cell.groupby(["draw", "seed"])["difference"].mean() for _, cell in cells]
    spread = pooled_spread(draws)
    for (_, cell), means in zip(cells, draws, strict=True):
        effect = estimate(float(means.mean()), 1 / len(means), spread)
        out.append(
            {**place, "kind": "difference", "x": float(cell["tokens"].mean()), "y": effect.value}
            | {"low": effect.low, "high": effect.high, "runs": len(cell)}
        )
        students = cell.groupby("student", sort=False)
        for student, runs in students if len(students) > 1 else ():
            out.append(
                {**place, "kind": "student", "mark": student, "x": float(runs["tokens"].mean())}
                | {"y": float(runs["difference"].mean()), "runs": len(runs)}
            )
    return out


FIGURE = Figure(
    title="What a curation changes",
    section="other",
    empty="No curated run has a twin with curation raw.",
    numbers=numbers,
    layers=(
        Layer("student", "points", key="one student", style={"ms": 2, "mew": 0, "alpha": 0.4}),
        Layer("difference", "interval"),
        Layer("difference", "line", style={"mew": 0}),
    ),
    x=Axis("unique training tokens"),
    y=Axis(MEASURES, "linear", "col", guide="zero"),
    dodge=("label",),
    row_titles=True,
)
