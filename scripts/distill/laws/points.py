"""Points of one fit, their size steps (levels of the held-out axis) and the log-linear line."""

from dataclasses import dataclass
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
_MOST_LEVELS = 12
"""With more levels than this the points are scattered, and size steps are tenths of them."""


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
    )


def levels(values: Array, name: str) -> np.ndarray:
    """Rank of each value's level, from 0; a new one starts beyond `LEVEL_WIDTH` times its least."""
    width = LEVEL_WIDTH.get(name, _EXACT)
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values), dtype=np.int64)
    rank, start = -1, -np.inf
    for place in order:
        if values[place] > start * width or rank < 0:
            rank, start = rank + 1, values[place]
        ranks[place] = rank
    return ranks


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


def cells(points: Points, law: Law) -> int:
    """Number of distinct combinations of levels of a law's inputs."""
    if not len(points):
        return 0
    ranks = np.stack([levels(points.values[name], name) for name in law.inputs], axis=1)
    return len(np.unique(ranks, axis=0))


def size_steps(points: Points, inputs: tuple[str, ...]) -> tuple[str, np.ndarray]:
    """The held-out axis of a competition, and each point's size step on it.

    Unique tokens where they have four levels or more, else the size, else compute. Points that are
    scattered rather than on a grid get tenths of their compute as size steps.

    Args:
        points: All points.
        inputs: Inputs of the richest law that competes.
    """
    for axis in ("tokens", "params"):
        if axis in inputs:
            ranks = levels(points.values[axis], axis)
            if 4 <= ranks.max() + 1 <= _MOST_LEVELS:
                return axis, ranks
    if len(inputs) == 1:
        return inputs[0], levels(points.values[inputs[0]], inputs[0])
    ranks = levels(points.compute, "compute")
    if ranks.max() + 1 > _MOST_LEVELS:
        order = np.argsort(np.argsort(points.compute, kind="stable"), kind="stable")
        ranks = order * 10 // len(points)
    return "compute", ranks


def log_linear(points: Points, axis: str, ranks: np.ndarray, rung: int) -> Array:
    """Prediction at the points of a size step by a line in log size through the last two below it.

    On the tokens axis there is one line per student and teacher, on the params axis one per teacher
    and number of tokens; on compute one line through all points of the two steps below.

    Returns:
        Shape (points of the step,); NaN where there are no two sizes to draw a line through.
    """
    axis_values = points.compute if axis == "compute" else points.values[axis]
    log, target = np.log(axis_values), points.target
    if axis == "compute":
        context = np.zeros(len(points), dtype=np.int64)
    else:
        other = points.student if axis == "tokens" else levels(points.values["tokens"], "tokens")
        epochs = levels(points.values["epochs"], "epochs")
        labels = [f"{t}|{o}|{e}" for t, o, e in zip(points.teacher, other, epochs, strict=True)]
        context = np.unique(labels, return_inverse=True)[1]
    lines = np.full(len(points), np.nan)
    for label in np.unique(context[ranks == rung]):
        below = (context == label) & (ranks < rung)
        last = np.unique(ranks[below])[-2:]
        if len(last) < 2:
            continue
        means = [
            (log[below & (ranks == rank)].mean(), target[below & (ranks == rank)].mean())
            for rank in last
        ]
        slope = (means[1][1] - means[0][1]) / (means[1][0] - means[0][0])
        here = (context == label) & (ranks == rung)
        lines[here] = means[1][1] + slope * (log[here] - means[1][0])
    return lines[ranks == rung]


def record_range(points: Points, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Lowest and highest value of each input that was fitted."""
    return {
        name: [float(points.values[name].min()), float(points.values[name].max())]
        for name in inputs
    }
