"""What laws predicted of the largest budgets before they had seen them."""

import numpy as np

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import TARGETS, best_laws, rows_of, scope_of


def numbers(inputs: Inputs) -> Rows:
    """Return predicted against measured of the held-out budgets of each chosen law.

    `row` value holds nats per token, `row` miss 100 (predicted / measured - 1); x is what was
    measured, low to high the 90 % interval of a new run; `mark` is the scope of the law.
    """
    out: Rows = []
    for target in TARGETS:
        for joint in (False, True):
            for law in best_laws(inputs.fitted, target, joint):
                runs = rows_of(law, inputs.trained)
                holdout = law.record["holdout"]
                if holdout is None or runs.empty:
                    continue
                lines = runs["line"].unique()
                line = lines[0] if len(lines) == 1 else "all teachers"
                for entry in holdout["predicted"]:
                    x = entry["measured"]
                    place = {"column": target, "kind": "run", "label": line, "line": line}
                    place |= {"law": law.name, "x": x, "runs": 1, "mark": scope_of(law)}
                    ends = {
                        name: np.nan if entry[key] is None else entry[key]
                        for name, key in (("y", "predicted"), ("low", "low"), ("high", "high"))
                    }
                    out.append({**place, "row": "value", **ends})
                    missed = {name: 100 * (value / x - 1) for name, value in ends.items()}
                    out.append({**place, "row": "miss", **missed})
    return out


FIGURE = Figure(
    title="Predicted and measured largest runs",
    section="laws",
    empty="No law could be evaluated: that needs more sizes than a law has coefficients.",
    numbers=numbers,
    layers=(
        Layer("run", "interval", unbounded=True, style={"alpha": 0.8}),
        Layer("run", "points", style={"ms": 3, "mew": 0.4, "mec": "white"}),
    ),
    x=Axis({name: f"measured {text} (nats)" for name, text in TARGETS.items()}, share="col"),
    y={
        "value": Axis("predicted (nats)", share="none", reach=0.5, guide="equal"),
        "miss": Axis("miss (%)", "linear", "none", reach=1.0, guide="zero"),
    },
    shape="mark",
    dodge=("mark", "label"),
)
