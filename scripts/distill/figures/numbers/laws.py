"""What the figures of fitted laws draw: curves with bands, residuals, exponents, judged runs.

Every function takes the trained runs (`distill.laws.runs.trained_rows`) and the laws of laws.json,
and returns rows of GRID_COLUMNS. Intervals are 90 %, for a measurement on the study's own test set.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.runs import (
    SIZES,
    TARGETS,
    best_laws,
    inputs_of,
    is_judged,
    judged_keys,
    rows_of,
    scope_of,
    token_levels,
    typical_inputs,
)

GRID_COLUMNS = [
    "row", "column", "kind", "label", "line", "law", "x", "y", "low", "high", "run_low",
    "run_high", "runs", "mark",
]  # fmt: skip
"""Where a mark stands (row and column of panels), what it is, and its numbers."""
Rows = list[dict[str, Any]]
_STEPS = 25
"""Points of a curve."""
_BEYOND = 2.0
"""Curves reach this far beyond the most tokens measured."""


def law_curves(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Rows:
    """Loss and gap against unique tokens, a row of panels per method: runs, curves, both bands.

    `kind` is run or curve; a run's `mark` is judged (held out when the law was judged), apart (not
    fitted: other epochs) or fitted.
    """
    out: Rows = []
    for target in TARGETS:
        for law in best_laws(laws, target, joint=False):
            mine = rows_of(law, rows)
            if mine.empty or "tokens" not in law.inputs:
                continue
            line, student = mine["line"].iloc[0], mine["student"].iloc[0]
            place = {"row": line, "column": target, "label": student, "line": line}
            typical = typical_inputs(law, mine)
            apart = np.zeros(len(mine), dtype=bool)
            if "epochs" in typical:
                apart = np.abs(np.log(mine["epochs"] / typical["epochs"])).to_numpy() > 0.01
            judged = is_judged(mine, judged_keys(law))
            for x, y, held, other in zip(mine["tokens"], mine[target], judged, apart, strict=True):
                mark = "apart" if other else "judged" if held else "fitted"
                out.append({**place, "kind": "run", "x": x, "y": y, "runs": 1, "mark": mark})
            tokens = np.geomspace(
                mine["tokens"].min() / 1.1, mine["tokens"].max() * _BEYOND, _STEPS
            )
            out += _curve(law, {**typical, "tokens": tokens}, tokens, place)
    return out


def _curve(law: FittedLaw, inputs: dict[str, Any], xs: np.ndarray, place: dict[str, Any]) -> Rows:
    """Return the points of a law's curve with both of its bands."""
    found = law.predict(inputs, test_set=False)
    columns = {
        "y": found.value,
        "low": found.low,
        "high": found.high,
        "run_low": found.run_low,
        "run_high": found.run_high,
    }
    return [
        {**place, "kind": "curve", "law": law.name, "x": float(x)}
        | {name: float(values[k]) for name, values in columns.items()}
        for k, x in enumerate(xs)
    ]


def size_curves(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Rows:
    """Loss against both measures of size, a row of panels per method, a label per tokens.

    `kind` is mean (over the runs of a student and level of tokens, low and high the least and
    greatest) or curve, that of the law over size where there is one.
    """
    known = rows[(rows["loss"] > 0) & (rows["tokens"] > 0)]
    out: Rows = []
    if known.empty:
        return out
    known = known.assign(level=token_levels(known["tokens"]))
    for size in SIZES:
        chosen = best_laws(laws, "loss", joint=True)
        fitted = [law for law in chosen if law.selected.get("size") == size]
        for line, mine in known[known[size] > 0].groupby("line", sort=False):
            if mine["student"].nunique() < 2:
                continue
            place = {"row": line, "column": size, "line": line}
            cells = mine.groupby(["level", "student"], sort=False)
            for (level, student), cell in cells:
                values = {"x": cell[size].mean(), "y": cell["loss"].mean(), "runs": len(cell)}
                values |= {"low": cell["loss"].min(), "high": cell["loss"].max()}
                label = f"{level:.0f}"
                out.append({**place, "kind": "mean", "label": label, "mark": student, **values})
            for law in fitted:
                behind = rows_of(law, mine)
                if behind.empty or law.selected.get("teacher") is None:
                    continue
                xs = np.geomspace(mine[size].min() / 1.1, mine[size].max() * 1.1, _STEPS)
                for level, at in behind.groupby("level"):
                    inputs = {**typical_inputs(law, at), "params": xs}
                    out += _curve(law, inputs, xs, {**place, "label": f"{level:.0f}"})
    return out


def residuals(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Rows:
    """100 log(measured / predicted) of the chosen laws, against tokens and against size.

    A row of panels per target and kind of law: a law of tokens for each student, or one law for all
    students over a measure of size.
    """
    out: Rows = []
    for target, told in TARGETS.items():
        for joint in (False, True):
            for law in best_laws(laws, target, joint):
                mine = rows_of(law, rows)
                if mine.empty:
                    continue
                missed = 100 * np.log(
                    mine[target].to_numpy(float)
                    / law.predict(inputs_of(law, mine), test_set=False).value
                )
                for column in ("tokens", "size"):
                    for line, x, y, student in zip(
                        mine["line"], mine[column], missed, mine["student"], strict=True
                    ):
                        if not x > 0:
                            continue
                        place = {"row": f"{told}, {scope_of(law)}", "column": column, "kind": "run"}
                        place |= {"label": line, "line": line, "law": law.name, "mark": student}
                        out.append({**place, "x": float(x), "y": float(y), "runs": 1})
    return sorted(out, key=lambda row: list(TARGETS.values()).index(row["row"].split(",")[0]))


_FOREST = ("alpha", "beta", "gamma", "delta")
"""Exponents that laws share; those of the distillation law's supervised part are its own."""


def exponents(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Rows:
    """Exponents of the chosen laws with their intervals, a panel per exponent.

    `kind` is known or unidentifiable; a null end of an interval is unbounded. `row` is the
    exponent, `column` the target, `label` whose runs were fitted.
    """
    out: Rows = []
    several = rows["init"].nunique() > 1
    for exponent in _FOREST:
        for target in TARGETS:
            for law in (*best_laws(laws, target, False), *best_laws(laws, target, True)):
                kinds = {p.name: p.kind for p in LAWS[law.target][law.name].parameters}
                mine = rows_of(law, rows)
                if kinds.get(exponent) not in ("exponent", "signed") or mine.empty:
                    continue
                found = law.record["coefficients"][exponent]
                joint = "params" in law.inputs
                whose = mine["student"].iloc[0]
                lines = mine["line"].unique()
                line = lines[0] if len(lines) == 1 else "all teachers"
                parts = [line, f"by {SIZES[law.selected['size']]} size" if joint else whose]
                if several and (init := mine["init"].iloc[0]) and init not in line:
                    parts.append(init)
                out.append(
                    {
                        "row": exponent,
                        "column": target,
                        "kind": "known" if found["identifiable"] else "unidentifiable",
                        "label": " · ".join(parts),
                        "line": line,
                        "law": law.name,
                        "x": found["value"],
                        "low": found["low"],
                        "high": found["high"],
                        "runs": len(mine),
                    }
                )
    return out


def judged(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Rows:
    """Predicted against measured on the rung that each chosen law was judged on.

    `row` value holds nats per token, `row` miss 100 (predicted / measured - 1); x is what was
    measured, low to high the 90 % interval of a new run; `mark` tells the scope of the law.
    """
    out: Rows = []
    for target in TARGETS:
        for joint in (False, True):
            for law in best_laws(laws, target, joint):
                mine = rows_of(law, rows)
                holdout = law.record["holdout"]
                if holdout is None or mine.empty:
                    continue
                names = mine["line"].unique()
                line = names[0] if len(names) == 1 else "all teachers"
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
