"""Fit a law: the sum of Huber losses of log residuals, minimised by L-BFGS-B from many starts.

All starts first descend together by damped Gauss-Newton steps (Levenberg-Marquardt, vectorised over
starts), on a wider Huber loss that is smooth near the minimum; the best go on to the width that
is asked for, and L-BFGS-B refines the best of them.

Hoffmann et al. 2022, approach 3. The sum, not the mean: with the mean, tolerances stop the search
early (Besiroglu et al. 2024, Chinchilla scaling: a replication attempt).
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from distill.laws.law import Array, Inputs, Law

HUBER_DELTA = 1e-3
"""Log residuals beyond this count linearly."""
_WIDE_DELTA = 3e-2
"""Huber width of the first search, wide enough for a smooth way down from a far start."""
_STEPS, _KEPT = (8, 30), 40
"""Steps with all starts, and then with the best `_KEPT`."""
POLISHED = 3
"""Starts that go on to the width that is asked for; L-BFGS-B takes the best of them to the end."""
_NEAR_STEPS = 25
STARTS = 162
_MANY = 1000
"""With more runs, those of one cell are merged, and starts are sought on as many of the rest."""
_SCATTERED, _CELL = 10_000, 0.05
"""With more cells than that, they are intervals of this width of log inputs."""
TOGETHER = 64
"""Points that `descend` best takes at once: their gradients stay in the processor's cache."""


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        theta: Internal parameters, shape (P,).
        centre: Mean log of each input that the law centres.
        objective: Sum of Huber losses.
        residuals: Log prediction minus log target, shape (n,).
        jacobian: Derivative of the log prediction by internal parameters, shape (n, P).
        bounds: Of internal parameters, shape (P, 2).
        starts: Starting points searched.
        seconds: Time that the fit took.
    """

    theta: Array
    centre: dict[str, float]
    objective: float
    residuals: Array
    jacobian: Array
    bounds: Array
    starts: int
    seconds: float


@dataclass(frozen=True)
class Weighted:
    """A law whose log predictions at n points are multiplied by weights, shape (n,).

    With log targets multiplied by the same weights, an unweighted fit of it is a weighted one.
    """

    law: Law
    weights: Array

    def curve(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """As `Law.curve`."""
        log, gradient = self.law.curve(theta, x)
        return log * self.weights, gradient * self.weights


def huber(residuals: Array, delta: float, weights: Array | float = 1.0) -> Array:
    """Sum over the last axis of Huber's loss: r^2/2 within delta, delta (|r| - delta/2) beyond."""
    size = np.abs(residuals)
    inside = np.minimum(size, delta)
    total: Array = (weights * inside * (size - 0.5 * inside)).sum(axis=-1)
    return total


def centre_of(inputs: Mapping[str, Array]) -> dict[str, float]:
    """Mean log of students' size and of tokens; teachers' size shares the students' centre."""
    centre = {
        name: float(np.log(inputs[name]).mean()) for name in ("params", "tokens") if name in inputs
    }
    if "teacher_params" in inputs and "params" in centre:
        centre["teacher_params"] = centre["params"]
    return centre


def _box(law: Law, target: Array) -> Array:
    """Bounds of internal parameters, shape (P, 2)."""
    box = []
    for parameter in law.parameters:
        if parameter.kind == "signed":
            box.append((parameter.low, parameter.high))
            continue
        scale = _scale(parameter.kind, parameter.of_target, target)
        box.append((np.log(parameter.low * scale), np.log(parameter.high * scale)))
    return np.array(box)


def _scale(kind: str, of_target: bool, target: Array) -> float:
    if not of_target:
        return 1.0
    return float(target.min()) if kind == "floor" else float(np.exp(np.log(target).mean()))


def starting_points(law: Law, target: Array, count: int, seed: int) -> Array:
    """The grid of the parameters' starts, or a seeded choice of `count` from it; shape (S, P)."""
    axes = []
    for parameter in law.parameters:
        values = np.array(parameter.starts, dtype=np.float64)
        if parameter.kind != "signed":
            values = np.log(values * _scale(parameter.kind, parameter.of_target, target))
        axes.append(values)
    size = int(np.prod([len(axis) for axis in axes]))
    if size <= count:
        return np.array(list(itertools.product(*axes)))
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(size, count, replace=False))
    places = np.unravel_index(chosen, [len(axis) for axis in axes])
    return np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=1)


def fit_law(
    law: Law,
    inputs: Mapping[str, Array],
    target: Array,
    *,
    starts: int = STARTS,
    seed: int = 0,
    delta: float = HUBER_DELTA,
    initial: Array | None = None,
    centre: Mapping[str, float] | None = None,
    fixed: Array | None = None,
    weights: Array | None = None,
) -> Fit:
    """Fit `law` to points.

    Args:
        law: What to fit.
        inputs: Values of n points per input of the law, positive.
        target: Loss or gap, nats per token, positive, shape (n,).
        starts: Largest number of starting points.
        seed: Chooses them from the grid.
        delta: Huber's width, in log units.
        initial: Internal parameters (at `centre`) to start from instead: a cheap refit.
        centre: Centres to use; those of the data by default.
        fixed: Leading internal parameters that stay as given (an earlier stage's).
        weights: Factors of log residuals, shape (n,), inverse to the runs' noise; residuals and
            Jacobian of the fit then have them too.

    Raises:
        ValueError: A value is not positive and finite, or lengths differ.
    """
    began = time.perf_counter()
    target = np.asarray(target, dtype=np.float64)
    for name in law.inputs:
        values = np.asarray(inputs[name], dtype=np.float64)
        if values.shape != target.shape or not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} must hold {len(target)} positive finite values")
    if not (np.isfinite(target) & (target > 0)).all():
        raise ValueError("the target must be positive and finite")
    centre = dict(
        centre_of({n: np.asarray(inputs[n]) for n in law.inputs}) if centre is None else centre
    )
    x, y = law.centred(inputs, centre), np.log(target)
    curves: Law | Weighted = law
    if weights is not None:
        curves, y = Weighted(law, weights), y * weights
    everything = curves, x, y
    x, y, times = _merged(x, y) if weights is None else (dict(x), y, np.ones(len(y)))
    some = _some(curves, x, y, times, seed)
    box, held = _box(law, target), 0 if fixed is None else len(fixed)
    if fixed is not None:
        box[:held] = np.stack([fixed, fixed], axis=1)
    if initial is None:
        points = starting_points(law, target, starts, seed)
        if fixed is not None:
            points[:, :held] = fixed
            points = np.unique(points, axis=0)
        rough, wide = points, max(delta, _WIDE_DELTA)
        for steps, survivors in zip(_STEPS, (_KEPT, POLISHED), strict=True):
            rough, cost = descend(*some[:3], rough, box, wide, steps, held, some[3])
            rough = rough[np.argsort(cost, kind="stable")[:survivors]]
        candidates = list(rough)
    else:
        points = np.atleast_2d(initial)
        candidates = [np.clip(point, box[:, 0], box[:, 1]) for point in points]
    near = np.array(candidates)
    for width in (10 * delta, delta):
        near, cost = descend(*some[:3], near, box, width, _NEAR_STEPS, held, some[3])
    best = _search(curves, x, y, near[np.argmin(cost)], box, delta, times)
    curves, x, y = everything
    log, gradient = curves.curve(best, x)
    least = float(huber(log - y, delta))
    return Fit(
        theta=best,
        centre=centre,
        objective=least,
        residuals=log - y,
        jacobian=gradient.T.copy(),
        bounds=box,
        starts=len(points),
        seconds=time.perf_counter() - began,
    )


def _merged(x: Inputs, y: Array) -> tuple[dict[str, Array], Array, Array]:
    """Of many runs, those of one cell as one: their mean inputs and log target, and their number.

    A cell is one value of each input. Where more than `_SCATTERED` are left, it is an interval of
    `_CELL` of each log input instead. The mean of a law over a cell differs from the law at the
    cell's mean by L'' w^2 / 24, at most alpha^2 w^2 / 24: 3e-5 of the loss at alpha = .5. That is
    less than the standard error of a curve through so many runs with 1 % of noise.

    Returns:
        Inputs, log targets and numbers of runs, shape (cells,) each.
    """
    if len(y) <= _MANY:
        return dict(x), y, np.ones(len(y))
    place = _cells(list(x.values()))
    if place.max() >= _SCATTERED:
        place = _cells([np.floor(values / _CELL) for values in x.values()])
    counts = np.bincount(place).astype(np.float64)

    def mean(values: Array) -> Array:
        return np.asarray(np.bincount(place, weights=values) / counts)

    return {name: mean(values) for name, values in x.items()}, mean(y), counts


def _cells(columns: Sequence[Array]) -> np.ndarray:
    """Number of the combination of values of each point, from 0, shape (n,)."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for values in columns:
        ranks = np.unique(values, return_inverse=True)[1]
        code = np.unique(code * (ranks.max() + 1) + ranks, return_inverse=True)[1]
    return code


def _some(
    curves: Law | Weighted, x: Mapping[str, Array], y: Array, times: Array, seed: int
) -> tuple[Law | Weighted, Mapping[str, Array], Array, Array]:
    """At most `_MANY` of the points, on which the search for a start goes on."""
    if len(y) <= _MANY:
        return curves, x, y, times
    chosen = np.sort(np.random.default_rng(seed).choice(len(y), _MANY, replace=False))
    if isinstance(curves, Weighted):
        curves = Weighted(curves.law, curves.weights[chosen])
    return curves, {name: values[chosen] for name, values in x.items()}, y[chosen], times[chosen]


def descend(
    law: Law | Weighted,
    x: Inputs,
    y: Array,
    points: Array,
    box: Array,
    delta: float,
    steps: int,
    held: int = 0,
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """Take all `points` down together, each with its own damping.

    Args:
        law: What is fitted.
        x: `Law.centred` inputs.
        y: Log targets, shape (n,), or one set for each point, (S, n).
        points: Internal parameters to start from, shape (S, P).
        box: Bounds of internal parameters, shape (P, 2).
        delta: Huber's width, in log units; infinite for least squares.
        steps: Steps to take, at most.
        held: How many leading parameters stay.
        weights: How often each target counts, for each point, (S, n); once by default.

    Returns:
        Where they came to, shape (S, P), and the sums of Huber losses there, (S,).
    """

    times = 1.0 if weights is None else weights

    def look(theta: Array) -> tuple[Array, Array, Array]:
        log, gradient = law.curve(theta, x)
        r = log - y
        cost = huber(r, delta, times)
        return np.where(np.isfinite(cost), cost, np.inf), r, gradient

    theta = np.clip(points, box[:, 0], box[:, 1])
    damping = np.full(len(theta), 1e-2)
    with np.errstate(all="ignore"):
        cost, r, gradient = look(theta)
        for _ in range(steps):
            weight = times / np.maximum(np.abs(r) / delta, 1.0)
            free = gradient[:, held:]
            square = (free * weight[:, None]) @ free.transpose(0, 2, 1)
            pull = (free @ (weight * r)[..., None])[..., 0]
            diagonal = np.einsum("spp->sp", square)
            square = square + np.eye(len(box) - held) * (
                damping[:, None, None] * diagonal[:, None, :] + 1e-12
            )
            bad = ~np.isfinite(square).all(axis=(1, 2))
            square[bad], pull[bad] = np.eye(len(box) - held), 0.0
            step = np.clip(np.linalg.solve(square, pull[..., None])[..., 0], -2.0, 2.0)
            new = theta.copy()
            new[:, held:] -= step
            new = np.clip(new, box[:, 0], box[:, 1])
            new_cost, new_r, new_gradient = look(new)
            better = new_cost < cost
            theta = np.where(better[:, None], new, theta)
            cost, r = np.where(better, new_cost, cost), np.where(better[:, None], new_r, r)
            gradient = np.where(better[:, None, None], new_gradient, gradient)
            damping = np.where(better, damping * 0.2, np.minimum(damping * 5.0, 1e8))
    return theta, cost


def _search(
    law: Law | Weighted, x: Inputs, y: Array, start: Array, box: Array, delta: float, times: Array
) -> Array:
    """One descent from `start`; each target counts `times`, shape (n,)."""

    def objective(theta: Array) -> tuple[float, Array]:
        log, gradient = law.curve(theta, x)
        residuals = log - y
        pull = times * np.minimum(np.maximum(residuals, -delta), delta)
        # Divided by delta: the sum is then near that of absolute residuals, a scale for tolerances.
        inside = np.minimum(np.abs(residuals), delta)
        value = (times * inside * (np.abs(residuals) - 0.5 * inside)).sum() / delta
        return float(value), gradient @ pull / delta

    with np.errstate(over="ignore", invalid="ignore"):
        minimum = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=box,
            options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-13, "gtol": 1e-8},
        )
    return np.asarray(minimum.x, dtype=np.float64)
