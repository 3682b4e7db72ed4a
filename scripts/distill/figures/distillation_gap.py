"""Gap to the teacher against compression."""

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import SIZES, token_levels


def numbers(inputs: Inputs) -> Rows:
    """Return the gap to the teacher against teacher's parameters over student's, by both measures.

    A label per method, a `mark` per level of tokens; y is the mean over runs, low and high the
    least and greatest.
    """
    out: Rows = []
    rows = inputs.trained
    for size in SIZES:
        ratio = rows[f"teacher_{size}"] / rows[size]
        known = rows.assign(ratio=ratio)[(rows["gap"] > 0) & (ratio > 0) & (rows["tokens"] > 0)]
        if known.empty:
            continue
        known = known.assign(level=token_levels(known["tokens"]))
        for (line, level, x), cell in known.groupby(["line", "level", "ratio"], sort=False):
            gaps = cell["gap"]
            out.append(
                {"row": "gap", "column": size, "kind": "mean", "label": line, "line": line}
                | {"x": float(x), "y": float(gaps.mean()), "low": float(gaps.min())}
                | {"high": float(gaps.max()), "runs": len(cell), "mark": f"{level:.0f}"}
            )
    return out


FIGURE = Figure(
    title="Gap to the teacher against compression",
    section="other",
    empty="No run has both a gap to its teacher and a teacher of known size.",
    numbers=numbers,
    layers=(Layer("mean", "interval"), Layer("mean", "line", style={"mew": 0})),
    x=Axis({size: f"teacher / student, {text} parameters" for size, text in SIZES.items()},
           share="col"),
    y=Axis("gap to the teacher (nats)"),
    colour="mark",
    height=1.9,
    sequential="tokens",
)  # fmt: skip
