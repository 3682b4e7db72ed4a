"""Loss against both measures of size, with the law fitted to all students of a method."""

import numpy as np

from distill.figures.curves import BANDS, STEPS, curve_rows
from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import SIZES, best_laws, rows_of, token_levels, typical_inputs


def numbers(inputs: Inputs) -> Rows:
    """Return means and curves: a row of panels per method, a column per measure of size.

    A label is a level of tokens. `kind` is mean (over the runs of a student and level, low and high
    the least and greatest) or curve, that of the law over size if there is one.
    """
    rows = inputs.trained
    known = rows[(rows["loss"] > 0) & (rows["tokens"] > 0)]
    out: Rows = []
    if known.empty:
        return out
    known = known.assign(level=token_levels(known["tokens"]))
    for size in SIZES:
        laws = best_laws(inputs.fitted, "loss", joint=True)
        laws = [law for law in laws if law.selected.get("size") == size]
        for line, runs in known[known[size] > 0].groupby("line", sort=False):
            if runs["student"].nunique() < 2:
                continue
            place = {"row": line, "column": size, "line": line}
            for (level, student), cell in runs.groupby(["level", "student"], sort=False):
                values = {"x": cell[size].mean(), "y": cell["loss"].mean(), "runs": len(cell)}
                values |= {"low": cell["loss"].min(), "high": cell["loss"].max()}
                label = f"{level:.0f}"
                out.append({**place, "kind": "mean", "label": label, "mark": student, **values})
            for law in laws:
                fitted = rows_of(law, runs)
                if fitted.empty or law.selected.get("teacher") is None:
                    continue
                xs = np.geomspace(runs[size].min() / 1.1, runs[size].max() * 1.1, STEPS)
                for level, cell in fitted.groupby("level"):
                    at = {**typical_inputs(law, cell), "params": xs}
                    out += curve_rows(law, at, xs, {**place, "label": f"{level:.0f}"})
    return out


FIGURE = Figure(
    title="Loss against size, with fitted laws",
    section="laws",
    empty="No method has models of several known sizes.",
    numbers=numbers,
    layers=(
        *BANDS,
        Layer("curve", "line", style={"marker": "", "ls": "-"}),
        Layer("mean", "interval"),
        Layer("mean", "line", style={"ls": (0, (1, 2)), "lw": 0.8, "mec": "black", "mew": 0.3}),
    ),
    x=Axis({size: f"{text} parameters" for size, text in SIZES.items()}, share="col"),
    y=Axis("held-out loss (nats)", reach=0.5),
    row_titles=True,
    sequential="tokens",
)
