"""What the figures of trade-offs draw: Pareto fronts, compression, FLOPs, curation.

Every function takes the trained runs (`distill.laws.runs.trained_rows`), references.json's content
and returns rows of `law_figures.GRID_COLUMNS`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.runs.energy_quality import estimated_share
from distill.figures.numbers.laws import Rows
from distill.laws.runs import SIZES, token_levels
from distill.stats.intervals import estimate, pooled_spread

PROPERTIES = {
    "size_mb": "size (MB)",
    "params": "parameters",
    "flops_per_token": "FLOPs per token",
    "ms_per_token": "ms per token",
    "peak_memory_mb": "peak memory (MB)",
}
"""What a student costs to use; parameters only where its size in memory is not known."""
SHARES = {"teacher_flops": "teacher's text", "target_flops": "soft targets",
          "train_flops": "training"}  # fmt: skip
TOTALS = {"": "run alone", "_amortised": "work shared"}
_MOST_BARS = 14


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates, smaller being better, by x ascending."""
    out: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not out or y < out[-1][1]:
            out.append((x, y))
    return out


def pareto(rows: pd.DataFrame, references: Mapping[str, Any]) -> Rows:
    """Loss against what a student costs, a panel per property, and the front of each.

    With several teachers the loss is that on the reference text: their own texts differ. `kind` is
    mean (over the runs of a student, line and size), front or teacher; `mark` the samples.
    """
    measure = _measure(rows)
    table = rows.assign(ms_per_token=1000 / _column(rows, "tokens_per_second"))
    out: Rows = []
    for name in PROPERTIES:
        found = _cells_and_front(table, name, measure, name)
        if not found or (name == "params" and any(row["column"] == "size_mb" for row in out)):
            continue
        out += found
        known = set(table.loc[_column(table, name) > 0, "teacher"])
        for teacher, facts in (references.get("teachers") or {}).items():
            speed = facts.get("tokens_per_second")
            value = (1000 / speed if speed else None) if name == "ms_per_token" else facts.get(name)
            loss = facts.get(measure)
            if value and loss and teacher in known:
                out.append({"row": measure, "column": name, "kind": "teacher", "label": teacher}
                           | {"x": float(value), "y": float(loss)})  # fmt: skip
    return out


def pareto_energy(rows: pd.DataFrame, references: Mapping[str, Any]) -> Rows:
    """Loss against the energy behind a student, a panel per way to count it, and the fronts.

    As `pareto`; a `column` is the words on its axis, which say whether any of it is estimated.
    """
    kind = "estimated" if estimated_share(rows) > 0 else "measured"
    out: Rows = []
    for suffix, told in TOTALS.items():
        out += _cells_and_front(rows, f"total_kwh{suffix}", _measure(rows), f"{kind} kWh, {told}")
    return out


def _measure(rows: pd.DataFrame) -> str:
    """Which loss students are compared by."""
    several = rows["teacher"].nunique() > 1 and rows["reference_loss"].notna().any()
    return "reference_loss" if several else "loss"


def _cells_and_front(rows: pd.DataFrame, name: str, measure: str, column: str) -> Rows:
    """Return a mark per student, line and size over a cost, and the front of them all."""
    table = rows.assign(size_key=rows["samples"].fillna(rows["tokens"]).fillna(0))
    table[name] = _column(table, name)
    known = table[(table[name] > 0) & (table[measure] > 0)]
    out: Rows = []
    points: list[tuple[float, float]] = []
    for (student, line, size), cell in known.groupby(["student", "line", "size_key"], sort=False):
        x, y = float(cell[name].mean()), float(cell[measure].mean())
        points.append((x, y))
        out.append(
            {"row": measure, "column": column, "kind": "mean", "label": student, "line": line}
            | {"x": x, "y": y, "runs": len(cell), "mark": f"{size:.0f}"}
        )
    for x, y in front(points):
        out.append({"row": measure, "column": column, "kind": "front", "label": "front"}
                   | {"x": x, "y": y})  # fmt: skip
    return out


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    if name not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    return pd.to_numeric(rows[name], errors="coerce").astype(float)


def distillation_gap(rows: pd.DataFrame, references: Mapping[str, Any]) -> Rows:
    """Gap to the teacher against teacher's parameters over student's, by both measures of size.

    A label per method, a `mark` per level of tokens; y is the mean over runs, low and high the
    least and greatest.
    """
    out: Rows = []
    for size in SIZES:
        ratio = rows[f"teacher_{size}"] / rows[size]
        known = rows.assign(ratio=ratio)[(rows["gap"] > 0) & (ratio > 0) & (rows["tokens"] > 0)]
        if known.empty:
            continue
        known = known.assign(level=token_levels(known["tokens"]))
        for (line, level, ratio_), cell in known.groupby(["line", "level", "ratio"], sort=False):
            gaps = cell["gap"]
            out.append(
                {"row": "gap", "column": size, "kind": "mean", "label": line, "line": line}
                | {"x": float(ratio_), "y": float(gaps.mean()), "low": float(gaps.min())}
                | {"high": float(gaps.max()), "runs": len(cell), "mark": f"{level:.0f}"}
            )
    return out


def flops_split(rows: pd.DataFrame, references: Mapping[str, Any]) -> Rows:
    """Shares of the FLOPs of each student and method at its largest size, per cent.

    A bar per `label`, from `low` to `high` per part (`kind`), alone and with the teacher's work
    split over the runs that use it. Of many lines, those of each method's smallest and largest
    student.
    """
    known = rows.copy()
    for name in SHARES:
        for suffix in TOTALS:
            column = name if name == "train_flops" else name + suffix
            known[name + suffix] = _column(rows, column).fillna(0.0)
    known = known[known["train_flops"] > 0]
    lines = list(known.groupby(["student", "line"], sort=False))
    if len(lines) > _MOST_BARS:
        ends = _size_ends(known)
        lines = [(key, cell) for key, cell in lines if key in ends]
    out: Rows = []
    for suffix, told in TOTALS.items():
        for (student, line), cell in lines:
            largest = cell["samples"].fillna(cell["tokens"])
            cell = cell[largest == largest.max()]
            parts = {name: float(cell[name + suffix].mean()) for name in SHARES}
            if sum(1 for value in parts.values() if value > 0) == 0:
                continue
            total, start = sum(parts.values()), 0.0
            for name, value in parts.items():
                share = 100 * value / total
                out.append(
                    {
                        "row": "",
                        "column": told,
                        "kind": SHARES[name],
                        "label": f"{student} · {line}",
                    }
                    | {"line": line, "x": share, "y": value, "low": start, "high": start + share}
                    | {"runs": len(cell), "mark": f"{largest.max():.0f}"}
                )
                start += share
    teachers = [row for row in out if row["kind"] != SHARES["train_flops"] and row["y"] > 0]
    return out if teachers else []


def _size_ends(rows: pd.DataFrame) -> set[tuple[str, str]]:
    """The smallest and the largest student of each line, as (student, line)."""
    out = set()
    for (line,), own in rows.groupby(["line"]):
        sizes = own.groupby("student", sort=False)["params"].mean().fillna(0.0)
        out |= {(str(sizes.idxmin()), str(line)), (str(sizes.idxmax()), str(line))}
    return out


RAW = "raw"
"""The curation that keeps every row."""
_TWIN = ["teacher", "student", "method", "cache", "init", "group", "samples", "draw", "seed"]


def curation_effect(rows: pd.DataFrame, references: Mapping[str, Any]) -> Rows:
    """Loss under a curation minus that of its raw twin: equal in all else, draw and seed included.

    A row of panels per method, a label per curation; x are the curated runs' unique tokens. `kind`
    is student (the mean over its twins; `mark` names it) or difference: twins of one draw share
    their data, so students are averaged within a draw first, and the 90 % interval is over draws
    and seeds, their spread pooled over sizes.
    """
    raw = rows[rows["curation"] == RAW]
    out: Rows = []
    for measure in ("loss", "reference_loss"):
        twins = raw.dropna(subset=[measure]).drop_duplicates(_TWIN).set_index(_TWIN)[measure]
        for curation, mine in rows[rows["curation"] != RAW].groupby("curation", sort=False):
            keys = pd.MultiIndex.from_frame(mine[_TWIN])
            difference = mine[measure].to_numpy(float) - twins.reindex(keys).to_numpy(float)
            pairs = mine.assign(difference=difference).dropna(subset=["difference", "tokens"])
            for (method, cache), line in pairs.groupby(["method", "cache"], sort=False):
                place = {"row": f"{method} · {cache}" if cache not in ("", "none") else method}
                place |= {"column": measure, "label": curation, "line": method}
                out += _effects(line, place)
    return out


def _effects(pairs: pd.DataFrame, place: dict[str, Any]) -> Rows:
    """Return the differences of one curation and method by samples."""
    out: Rows = []
    cells = list(pairs.groupby("samples"))
    draws = [cell.groupby(["draw", "seed"])["difference"].mean() for _, cell in cells]
    spread = pooled_spread(draws)
    for (_, cell), means in zip(cells, draws, strict=True):
        found = estimate(float(means.mean()), 1 / len(means), spread)
        out.append(
            {**place, "kind": "difference", "x": float(cell["tokens"].mean()), "y": found.value}
            | {"low": found.low, "high": found.high, "runs": len(cell)}
        )
        students = cell.groupby("student", sort=False)
        for student, own in students if len(students) > 1 else ():
            out.append(
                {**place, "kind": "student", "mark": student, "x": float(own["tokens"].mean())}
                | {"y": float(own["difference"].mean()), "runs": len(own)}
            )
    return out
