"""Where the FLOPs of a run go."""

import pandas as pd

from distill.figures.figure import Axis, Figure, Inputs, Layer, Rows
from distill.figures.pareto import TOTALS, column_of

SHARES = {
    "teacher_flops": "teacher's text",
    "target_flops": "soft targets",
    "train_flops": "training",
}
MOST_BARS = 14


def numbers(inputs: Inputs) -> Rows:
    """Return the shares of the FLOPs of each student and method at its largest size, per cent.

    A bar per `label`, from `low` to `high` per part (`kind`), alone and with the teacher's work
    split over the runs that use it. Of many lines, those of each method's smallest and largest
    student.
    """
    known = inputs.trained.copy()
    for name in SHARES:
        for suffix in TOTALS:
            column = name if name == "train_flops" else name + suffix
            known[name + suffix] = column_of(known, column).fillna(0.0)
    known = known[known["train_flops"] > 0]
    lines = list(known.groupby(["student", "line"], sort=False))
    if len(lines) > MOST_BARS:
        ends = _size_ends(known)
        lines = [(key, cell) for key, cell in lines if key in ends]
    out: Rows = []
    for suffix, text in TOTALS.items():
        for (student, line), cell in lines:
            largest = cell["samples"].fillna(cell["tokens"])
            cell = cell[largest == largest.max()]
            parts = {name: float(cell[name + suffix].mean()) for name in SHARES}
            total, start = sum(parts.values()), 0.0
            if total <= 0:
                continue
            for name, value in parts.items():
                share = 100 * value / total
                out.append(
                    {
                        "row": "",
                        "column": text,
                        "kind": SHARES[name],
                        "label": f"{student} · {line}",
                    }
                    | {"line": line, "x": share, "y": value, "low": start, "high": start + share}
                    | {"runs": len(cell), "mark": f"{largest.max():.0f}"}
                )
                start += share
    has_teacher = any(row["kind"] != SHARES["train_flops"] and row["y"] > 0 for row in out)
    return out if has_teacher else []


def _size_ends(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """Return the smallest and the largest student of each line, as (student, line)."""
    out = set()
    for (line,), runs in rows.groupby(["line"]):
        sizes = runs.groupby("student", sort=False)["params"].mean().fillna(0.0)
        out |= {(str(sizes.idxmin()), str(line)), (str(sizes.idxmax()), str(line))}
    return out


FIGURE = Figure(
    title="Where the FLOPs go",
    section="other",
    empty="No run has FLOPs of a teacher's work.",
    numbers=numbers,
    layers=tuple(
        Layer(part, "bar", pick=lambda rows: rows[rows["y"] > 0]) for part in SHARES.values()
    ),
    x=Axis({text: f"share of FLOPs (%), {text}" for text in TOTALS.values()}, "linear"),
    y=Axis(scale="names"),
    colour="kind",
    shape="kind",
)
