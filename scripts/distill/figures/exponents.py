"""Exponents with their intervals, of laws whose exponents are those of size and data."""

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.laws.curves import grid_laws
from distill.laws.forms import LAWS
from distill.laws.runs import SIZES, TARGETS, best_laws, rows_of

EXPONENTS = {
    "alpha": "α, of size",
    "beta": "β, of tokens",
    "gamma": "γ, of the ratio",
    "delta": "δ, of the break",
}
"""Exponents that laws share; those of the distillation law's supervised part are its own."""


def numbers(inputs: Inputs) -> Rows:
    """Return the exponents of the chosen laws with their 90 % intervals, a panel per exponent.

    `kind` is known or unidentifiable; a null end of an interval is unbounded. `row` is the
    exponent, `column` the target, `label` whose runs were fitted.
    """
    out: Rows = []
    rows = inputs.trained
    several = rows["init"].nunique() > 1
    for exponent in EXPONENTS:
        for target in TARGETS:
            laws = [
                *best_laws(inputs.fitted, target, False),
                *(law for size in SIZES for law in grid_laws(inputs.fitted, target, size).values()),
                *(
                    law
                    for law in best_laws(inputs.fitted, target, True)
                    if law.law.over == "teachers"
                ),
            ]
            for law in laws:
                kinds = {p.name: p.kind for p in LAWS[law.target][law.name].parameters}
                runs = rows_of(law, rows)
                if kinds.get(exponent) not in ("exponent", "signed") or runs.empty:
                    continue
                coefficient = law.record["coefficients"][exponent]
                student, lines = runs["student"].iloc[0], runs["line"].unique()
                line = lines[0] if len(lines) == 1 else "all teachers"
                joint = "params" in law.inputs
                parts = [line, f"by {SIZES[law.selected['size']]} size" if joint else student]
                if several and (init := runs["init"].iloc[0]) and init not in line:
                    parts.append(init)
                out.append(
                    {
                        "row": exponent,
                        "column": target,
                        "kind": "known" if coefficient["identifiable"] else "unidentifiable",
                        "label": " · ".join(parts),
                        "line": line,
                        "law": law.name,
                        "x": coefficient["value"],
                        "low": coefficient["low"],
                        "high": coefficient["high"],
                        "runs": len(runs),
                    }
                )
    return out


FIGURE = Figure(
    title="Exponents of the laws",
    section="laws",
    empty="No law could be fitted, so there are no exponents.",
    numbers=numbers,
    layers=(
        Layer("known", "interval", unbounded=True),
        Layer("unidentifiable", "interval", unbounded=True, style={"alpha": 0.55}),
        Layer("known", "points"),
        Layer("unidentifiable", "points", key="not identifiable",
              style={"mfc": "white", "mew": 0.9}),
    ),
    x=Axis("exponent, with 90 % interval", "linear", "row", reach=0.5, guide="zero"),
    y=Axis(scale="names", share="row"),
    facets=("row", None),
    colour="column",
    shape="law",
    dodge=("column",),
    row_titles=True,
    texts={
        **TARGETS,
        **EXPONENTS,
        **{name: name.replace("_", " ") for laws in LAWS.values() for name in laws},
    },
)  # fmt: skip
