"""Size steps of points, and what simple forecasts predict of the next one.

Laws over size and data are compared on steps of compute: what lies beyond them costs more than all
that was fitted. A forecast that no law is needed for sets the error that a law must beat.
"""

import numpy as np
from scipy.spatial import cKDTree

from distill.laws.law import Array
from distill.laws.points import Points, cells_of, levels

_MOST = 12
"""With more levels than this, steps are of equal width in log."""
_STEPS = 8
_CELLS = 3
"""Fewest cells of size and data in a step of compute, as far as there are several such steps."""


def size_steps(points: Points, inputs: tuple[str, ...]) -> tuple[str, np.ndarray]:
    """The held-out axis of a competition, and each point's size step on it.

    Compute for laws of several inputs, else the input itself.

    Args:
        points: All points.
        inputs: Inputs of the richest law that competes.
    """
    scales = [name for name in ("params", "tokens") if name in inputs]
    axis = scales[0] if len(scales) == 1 else "compute"
    values = points.compute if axis == "compute" else points.values[axis]
    ranks = levels(values, axis)
    if ranks.max() + 1 > _MOST:
        logs = np.log(values)
        edges = np.linspace(logs.min(), logs.max(), _STEPS + 1)[1:-1]
        ranks = np.searchsorted(edges, logs, side="right")
    least = _CELLS if axis == "compute" else 1
    return axis, _merged(ranks, cells_of(points, ("params", "tokens")), least)


def _merged(ranks: np.ndarray, cells: np.ndarray, least: int) -> np.ndarray:
    """Steps merged from the top until each has `least` cells, ranked from 0.

    Args:
        ranks: Step of each point.
        cells: Number of the cell of each point.
        least: Fewest cells of a step.
    """
    groups: list[list[int]] = [[]]
    for rank in np.unique(ranks)[::-1]:
        groups[-1].append(int(rank))
        if len(np.unique(cells[np.isin(ranks, groups[-1])])) >= least:
            groups.append([])
    rest = groups.pop()
    if groups:
        groups[-1] += rest
    else:
        groups.append(rest)
    out = np.empty(len(ranks), dtype=np.int64)
    for place, group in enumerate(reversed(groups)):
        out[np.isin(ranks, group)] = place
    return out


def simple_forecasts(points: Points, axis: str, ranks: np.ndarray, step: int) -> dict[str, Array]:
    """Forecasts of a size step from the points below it, without a law.

    Args:
        points: All points.
        axis: The held-out axis.
        ranks: Size step of each point.
        step: The step to be predicted.

    Returns:
        Shape (points of the step,) each, NaN where there is no such forecast: `constant` (the
        median below), `nearest` (the mean of the nearest points below in log size and data), and a
        log-linear line through the last two steps over each of compute, params and tokens.
    """
    below, there = points.where(ranks < step), points.where(ranks == step)
    steps = ranks[ranks < step]
    last = np.isin(steps, np.unique(steps)[-2:])
    out = {
        "constant": np.full(len(there), float(np.median(below.target))),
        "nearest": _nearest(below, there),
    }
    for name in dict.fromkeys((axis, "compute", "params", "tokens")):
        out[f"log-linear in {name}"] = _line(
            _logs(below, name)[last], below.target[last], _logs(there, name)
        )
    if axis != "compute":
        out[f"log-linear in {axis}, by line"] = log_linear(points, axis, ranks, step)
    return out


def _logs(points: Points, name: str) -> Array:
    values = points.compute if name == "compute" else points.values[name]
    logs: Array = np.log(values)
    return logs


def _nearest(below: Points, there: Points) -> Array:
    """Mean target of the nearest cell below each of other points, by log size and log data."""
    known, asked = (
        np.stack([_logs(one, name) for name in ("params", "tokens")], axis=1)
        for one in (below, there)
    )
    cells = cells_of(below, ("params", "tokens"))
    first = np.unique(cells, return_index=True)[1]
    means = np.bincount(cells, weights=below.target) / np.bincount(cells)
    nearest: Array = means[cKDTree(known[first]).query(asked)[1]]
    return nearest


def _line(x: Array, y: Array, asked: Array) -> Array:
    """A least-squares line at other places; NaN where all x are one value."""
    if len(x) < 2 or np.ptp(x) < 1e-6:
        return np.full(len(asked), np.nan)
    slope, height = np.polyfit(x, y, 1)
    line: Array = height + slope * asked
    return line


def best_forecast(points: Points, axis: str, ranks: np.ndarray, step: int) -> tuple[str, Array]:
    """The simple forecast with the least mean relative error of a step, and its errors.

    Returns:
        Its name, and the relative error at each point of the step, shape (points of the step,).
    """
    target = points.target[ranks == step]
    errors = {
        name: np.abs(forecast / target - 1)
        for name, forecast in simple_forecasts(points, axis, ranks, step).items()
        if np.isfinite(forecast).all()
    }
    name = min(errors, key=lambda one: float(errors[one].mean()))
    return name, errors[name]


def log_linear(points: Points, axis: str, ranks: np.ndarray, step: int) -> Array:
    """Prediction of a size step by lines in log size through the last two sizes below it.

    On the tokens axis there is one line per student and teacher, on the params axis one per teacher
    and number of tokens.

    Returns:
        Shape (points of the step,); NaN where there are no two sizes to draw a line through.
    """
    log, target = _logs(points, axis), points.target
    other = points.student if axis == "tokens" else levels(points.values["tokens"], "tokens")
    epochs = levels(points.values["epochs"], "epochs")
    labels = [f"{t}|{o}|{e}" for t, o, e in zip(points.teacher, other, epochs, strict=True)]
    context = np.unique(labels, return_inverse=True)[1]
    lines = np.full(len(points), np.nan)
    for label in np.unique(context[ranks == step]):
        below = (context == label) & (ranks < step)
        last = np.unique(ranks[below])[-2:]
        if len(last) < 2:
            continue
        means = [
            (log[below & (ranks == rank)].mean(), target[below & (ranks == rank)].mean())
            for rank in last
        ]
        slope = (means[1][1] - means[0][1]) / (means[1][0] - means[0][0])
        here = (context == label) & (ranks == step)
        lines[here] = means[1][1] + slope * (log[here] - means[1][0])
    return lines[ranks == step]


def skill_of(errors: Array, simple: Array, noise: float) -> float:
    """Share by which a law's mean error lies below that of the best simple forecast.

    Args:
        errors: Relative errors of the law.
        simple: Those of the forecast.
        noise: Relative standard deviation of a run.

    Returns:
        0 where the two mean errors differ by less than a run's noise allows to tell; below 0 if
        the law is worse.
    """
    gain = float(simple.mean() - errors.mean())
    if abs(gain) <= noise / np.sqrt(len(errors)) or simple.mean() <= 0:
        return 0.0
    return gain / float(simple.mean())
