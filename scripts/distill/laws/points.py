"""Points of one fit, and the levels of their inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from distill.laws.law import Array, Law

LEVEL_WIDTH = {"tokens": 1.2, "compute": 1.2}
"""Values within this factor are one level: draws of one size differ a little in tokens. Other
inputs are known exactly."""
SIZE_RANGE = 20.0
"""An exponent in N is claimed only where sizes span this factor."""
_EXACT = 1.001


@dataclass(frozen=True)
class Points:
    """Runs of one fit, n of them; every array has shape (n,).

    Attributes:
        values: Inputs of laws by name: params, tokens, epochs, teacher_loss, teacher_params.
        target: Loss or gap, nats per token.
        gap: Gap to the teacher, NaN where unknown.
        stderr: Relative standard error over the shared test set; None where unknown.
        compute: FLOPs of training, or params x tokens x epochs where not given.
        teacher: Label of the teacher.
        student: Label of the student.
        draw: Which permutation of the pool; None when runs do not share one.
        rows: Row numbers in the table of laws.
        error: Relative standard error of each target, independent between runs, NaN where unknown;
            None where all are.
        weight: How much each run counts, in any unit; None where all count alike.
    """

    values: dict[str, Array]
    target: Array
    gap: Array
    stderr: Array | None
    compute: Array
    teacher: np.ndarray
    student: np.ndarray
    draw: np.ndarray | None
    rows: np.ndarray
    error: Array | None = None
    weight: Array | None = None

    def __len__(self) -> int:
        return len(self.target)

    def where(self, mask: np.ndarray) -> "Points":
        """The points that `mask` keeps."""
        return Points(
            values={name: array[mask] for name, array in self.values.items()},
            target=self.target[mask],
            gap=self.gap[mask],
            stderr=None if self.stderr is None else self.stderr[mask],
            compute=self.compute[mask],
            teacher=self.teacher[mask],
            student=self.student[mask],
            draw=None if self.draw is None else self.draw[mask],
            rows=self.rows[mask],
            error=None if self.error is None else self.error[mask],
            weight=None if self.weight is None else self.weight[mask],
        )


def points_of(table: pd.DataFrame, target: str, size: str, shared: bool) -> Points:
    """Points of the table's rows.

    Args:
        table: Rows of the table of laws.
        target: loss or gap.
        size: The size column: params or params_non_embedding.
        shared: Whether runs share draws and test set (a study's own runs).
    """

    def column(name: str) -> Array:
        return table[name].to_numpy(dtype=np.float64)

    values = {
        "params": column(size),
        "tokens": column("tokens"),
        "epochs": column("epochs"),
        "teacher_loss": column("teacher_loss"),
        "teacher_params": column(f"teacher_{size}"),
    }
    flops = column("flops")
    counted = np.isfinite(flops) & (flops > 0)
    tokens_seen = values["params"] * values["tokens"] * values["epochs"]
    # In absolute terms the gap to a teacher has the error of the loss.
    error = column("loss_stderr") / column(target)
    is_shared = shared and target == "loss" and bool(np.isfinite(error).all())
    return Points(
        values=values,
        target=column(target),
        gap=column("gap"),
        stderr=error if is_shared else None,
        compute=flops if counted.all() else tokens_seen,
        teacher=table["teacher"].to_numpy(dtype=object),
        student=table["student"].to_numpy(dtype=object),
        draw=table["draw"].to_numpy() if shared else None,
        rows=table.index.to_numpy(),
        error=None if shared or np.isnan(error).all() else error,
        weight=column("weight") if "weight" in table and not shared else None,
    )


MOST_RUNS = 2_000
"""Runs that a test by simulation takes."""


def merged(points: Points, most: int, seed: int) -> Points:
    """At most `most` points: of more, runs of one student, teacher and cell become their mean.

    Points that are still too many are a seeded choice.
    """
    if len(points) <= most:
        return points
    names = [
        np.unique(labels, return_inverse=True)[1] for labels in (points.teacher, points.student)
    ]
    known = [np.nan_to_num(values) for values in points.values.values()]
    table = np.column_stack([*known, *names])
    first, place = np.unique(table, axis=0, return_index=True, return_inverse=True)[1:]
    counts = np.bincount(place.ravel())
    logs = np.bincount(place.ravel(), weights=np.log(points.target)) / counts
    target = points.target.copy()
    target[first] = np.exp(logs)
    if len(first) > most:
        first = np.random.default_rng(seed).choice(first, most, replace=False)
    keep = np.zeros(len(points), dtype=bool)
    keep[first] = True
    return replace(points, target=target).where(keep)


def levels(values: Array, name: str) -> np.ndarray:
    """Rank of each value's level, from 0; a new one starts beyond `LEVEL_WIDTH` times its least."""
    width = LEVEL_WIDTH.get(name, _EXACT)
    different, place = np.unique(values, return_inverse=True)
    starts, first = [], 0
    while first < len(different):
        starts.append(first)
        first = int(np.searchsorted(different, different[first] * width, side="right"))
    ranks = np.searchsorted(starts, np.arange(len(different)), side="right") - 1
    return np.asarray(ranks[place.ravel()], dtype=np.int64)


def commonest(values: Array, name: str) -> int:
    """The level that most values share, the least of several."""
    return int(np.bincount(levels(values, name)).argmax())


def commonest_epochs(epochs: Array) -> float:
    """The number of epochs that most runs have, at which laws without epochs are fitted."""
    ranks = levels(epochs, "epochs")
    return float(np.median(epochs[ranks == commonest(epochs, "epochs")]))


def distinct(points: Points, name: str) -> int:
    """Number of levels of an input."""
    return int(levels(points.values[name], name).max()) + 1 if len(points) else 0


def cells_of(points: Points, inputs: Sequence[str]) -> np.ndarray:
    """Number of the cell of each point: the combination of levels of some inputs."""
    code = np.zeros(len(points), dtype=np.int64)
    for name in inputs:  # one number for each cell: sorting rows takes ten times as long
        ranks = levels(points.values[name], name)
        code = np.unique(code * (ranks.max(initial=0) + 1) + ranks, return_inverse=True)[1]
    return code


def cells(points: Points, law: Law) -> int:
    """Number of distinct combinations of levels of a law's inputs."""
    return int(cells_of(points, law.inputs).max()) + 1 if len(points) else 0


def record_range(points: Points, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Lowest and highest value of each input that was fitted."""
    return {
        name: [float(points.values[name].min()), float(points.values[name].max())]
        for name in inputs
    }
