"""What laws predicted of each size step from the steps below it."""

import numpy as np

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import TARGETS, best_laws, rows_of, scope_of


def numbers(inputs: Inputs) -> Rows:
    """Return the misses of the chosen laws, 100 (predicted / measured - 1), step by step.

    `low` to `high` is the 90 % interval of a new run; x is the compute of the run, `row` the scope
    of the law, `column` its target and `mark` the step, from the smallest.
    """
    out: Rows = []
    for target in TARGETS:
        for joint in (False, True):
            for law in best_laws(inputs.fitted, target, joint):
                runs, steps = rows_of(law, inputs.trained), law.record.get("rollouts") or []
                if runs.empty:
                    continue
                lines = runs["line"].unique()
                line = lines[0] if len(lines) == 1 else "all teachers"
                place = {"row": scope_of(law), "column": target, "kind": "run", "label": line}
                place |= {"line": line, "law": law.name, "runs": 1}
                for step in steps:
                    for run in step["predicted"]:
                        if run["compute"] is None:
                            continue
                        ends = {
                            name: np.nan
                            if run[key] is None
                            else 100 * (run[key] / run["measured"] - 1)
                            for name, key in (("y", "predicted"), ("low", "low"), ("high", "high"))
                        }
                        mark = f"step {step['step'] + 1}"
                        out.append({**place, "x": run["compute"], "mark": mark, **ends})
    return out


FIGURE = Figure(
    title="Each size step predicted from the smaller ones",
    section="laws",
    empty="No law could be fitted without its largest runs: that needs more sizes than a law has "
    "coefficients.",
    numbers=numbers,
    layers=(
        Layer("run", "interval", unbounded=True, style={"alpha": 0.5}),
        Layer("run", "points", style={"ms": 3, "mew": 0.4, "mec": "white"}),
    ),
    x=Axis("compute of the run (FLOPs, else parameters × tokens)", share="col"),
    y=Axis("miss (%)", "linear", "none", reach=1.0, guide="zero"),
    dodge=("label",),
    row_titles=True,
)
