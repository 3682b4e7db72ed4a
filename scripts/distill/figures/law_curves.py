"""Loss and gap against unique tokens, with the fitted law of each student."""

import numpy as np

from distill.figures.curves import BANDS, STEPS, curve_rows
from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import (
    TARGETS,
    best_laws,
    held_out_keys,
    is_held_out,
    rows_of,
    typical_inputs,
)

BEYOND = 2.0
"""Curves reach this far beyond the most tokens measured."""


def numbers(inputs: Inputs) -> Rows:
    """Return runs and curves with both bands, a row of panels per method, a column per target.

    `kind` is run or curve; a run's `mark` is judged (held out to evaluate the law), apart (not
    fitted: other epochs) or fitted.
    """
    out: Rows = []
    for target in TARGETS:
        for law in best_laws(inputs.fitted, target, joint=False):
            runs = rows_of(law, inputs.trained)
            if runs.empty or "tokens" not in law.inputs:
                continue
            line, student = runs["line"].iloc[0], runs["student"].iloc[0]
            place = {"row": line, "column": target, "label": student, "line": line}
            typical = typical_inputs(law, runs)
            apart = np.zeros(len(runs), dtype=bool)
            if "epochs" in typical:
                apart = np.abs(np.log(runs["epochs"] / typical["epochs"])).to_numpy() > 0.01
            judged = is_held_out(runs, held_out_keys(law))
            for x, y, held, other in zip(runs["tokens"], runs[target], judged, apart, strict=True):
                mark = "apart" if other else "judged" if held else "fitted"
                out.append({**place, "kind": "run", "x": x, "y": y, "runs": 1, "mark": mark})
            ends = runs["tokens"].min() / 1.1, runs["tokens"].max() * BEYOND
            tokens = np.geomspace(*ends, STEPS)
            out += curve_rows(law, {**typical, "tokens": tokens}, tokens, place)
    return out


FIGURE = Figure(
    title="Loss against tokens, with fitted laws",
    section="laws",
    empty="No law of tokens could be fitted for any model.",
    numbers=numbers,
    layers=(
        *BANDS,
        Layer("curve", "line", style={"marker": ""}),
        Layer("run", "points", "fitted", style={"mew": 0}),
        Layer("run", "points", "judged", key="held-out run",
              style={"ms": 4.4, "mfc": "white", "mew": 0.9}),
        Layer("run", "points", "apart", key="other epochs",
              style={"marker": "x", "ms": 3, "mew": 0.7, "alpha": 0.7}),
    ),
    x=Axis("unique training tokens"),
    y=Axis({name: f"{text} (nats)" for name, text in TARGETS.items()}, share="col", reach=0.5),
    row_titles=True,
    vacant="no law is determined",
)  # fmt: skip
