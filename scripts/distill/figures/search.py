"""Trials of the searches."""

import math

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.figures.over_samples import COLUMNS


def numbers(inputs: Inputs) -> Rows:
    """Return every search's trials, and the lowest loss of the unpruned ones so far.

    `kind` is trial, pruned, best, or best so far; x counts the trials from 1.
    """
    rows: Rows = []
    for name, search in (inputs.references.get("searches") or {}).items():
        lowest = math.inf
        for trial in search.get("trials") or []:
            loss, place = trial["loss"], {"panel": "loss", "label": name}
            if loss is None or not math.isfinite(loss) or loss <= 0:
                continue
            place["x"] = float(trial["trial"] + 1)
            kind = "pruned" if trial["pruned"] else "best" if trial["best"] else "trial"
            rows.append({**place, "kind": kind, "y": float(loss)})
            if not trial["pruned"]:
                lowest = min(lowest, float(loss))
            if math.isfinite(lowest):
                rows.append({**place, "kind": "best so far", "y": lowest})
    return rows


FIGURE = Figure(
    title="Trials of the searches",
    section="searches",
    empty="No search has a finished trial.",
    numbers=numbers,
    layers=(
        Layer("best so far", "steps", key="best so far", style={"alpha": 0.8}),
        Layer("trial", "points", key="trial", style={"marker": "o", "mew": 0}),
        Layer("pruned", "points", key="pruned", style={"marker": "x"}),
        Layer("best", "points", key="best",
              style={"marker": "*", "ms": 8, "mec": "white", "mew": 0.6}),
    ),
    x=Axis("trial", "count"),
    y=Axis("validation loss (nats/token)"),
    facets=("panel", None),
    height=2.1,
    columns=COLUMNS,
)  # fmt: skip
