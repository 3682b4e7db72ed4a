"""Residuals of the chosen laws."""

import numpy as np

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.runs import TARGETS, best_laws, inputs_of, rows_of, scope_of


def numbers(inputs: Inputs) -> Rows:
    """Return 100 log(measured / predicted) of the chosen laws, against tokens and against size.

    A row of panels per target and kind of law: a law of tokens for each student, or one law for all
    students over a measure of size.
    """
    out: Rows = []
    for target, text in TARGETS.items():
        for joint in (False, True):
            for law in best_laws(inputs.fitted, target, joint):
                runs = rows_of(law, inputs.trained)
                if runs.empty:
                    continue
                predicted = law.predict(inputs_of(law, runs), test_set=False).value
                missed = 100 * np.log(runs[target].to_numpy(float) / predicted)
                for column in ("tokens", "size"):
                    for line, x, y, student in zip(
                        runs["line"], runs[column], missed, runs["student"], strict=True
                    ):
                        if not x > 0:
                            continue
                        place = {"row": f"{text}, {scope_of(law)}", "column": column, "kind": "run"}
                        place |= {"label": line, "line": line, "law": law.name, "mark": student}
                        out.append({**place, "x": float(x), "y": float(y), "runs": 1})
    return sorted(out, key=lambda row: list(TARGETS.values()).index(row["row"].split(",")[0]))


FIGURE = Figure(
    title="Residuals of the laws",
    section="laws",
    empty="No law could be fitted, so there are no residuals.",
    numbers=numbers,
    layers=(Layer("run", "points", style={"mew": 0, "alpha": 0.75}),),
    x=Axis({"tokens": "unique training tokens", "size": "parameters"}, share="col"),
    y=Axis("miss (%)", "linear", "row", guide="zero"),
    dodge=("label",),
    height=1.0,
    row_titles=True,
)
