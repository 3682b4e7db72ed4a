"""Fit a relation: maximum likelihood by damped Fisher scoring, from several starts at once.

The coefficient that is averaged over takes values on a grid, and each value its own fit.
"""

import numpy as np
from scipy.special import xlogy

from distill.laws.law import Array
from distill.laws.relations import SIGMOID, TINY, Form, Relation, at_bound

_FIRST_STEPS, _STEPS, _LEAST_WEIGHT = 10, 50, 1e-3
_GRID, _REACH = 16, 4.0
"""Values of the coefficient that is averaged over, at first over its bounds, then over this many
standard errors and wherever a value has weight."""


def fit_relation(form: Form, x: Array, y: Array, items: Array | None = None) -> Relation:
    """Fit a form.

    Args:
        form: Which.
        x: Losses, or logs of tokens, shape (n,).
        y: Shares between 0 and 1, or positive losses, shape (n,).
        items: Items of each share, shape (n,); None for least squares.

    Raises:
        ValueError: There are no degrees of freedom, n <= P.
    """
    count = len(form.names)
    if len(x) <= count:
        raise ValueError(f"{len(x)} runs leave no degrees of freedom to {count} coefficients")
    target, df = (y if form.name == SIGMOID else np.log(y)), len(x) - count
    low, high = form.box[-1]
    theta, cost = _best(form, x, target, items, np.linspace(low, high, _GRID))
    if form.averaged:
        theta, cost = _best(form, x, target, items, _likely(form, x, target, items, theta, cost))
    weights, scale = _weighed(cost, float(cost.min()), df, items is not None)
    keep = np.argsort(-weights, kind="stable")
    keep = keep[weights[keep] > _LEAST_WEIGHT]
    theta, weights = theta[keep], weights[keep] / weights[keep].sum()
    value, gradient = form.curve(theta, x)
    free = ~at_bound(theta, form.box)
    if form.averaged:
        free[:, -1] = False
    gradient = gradient * free[:, :, None]
    information = (gradient * _weights(value, items)[:, None, :]) @ gradient.transpose(0, 2, 1)
    covariance = scale * np.linalg.pinv(information, rcond=1e-13, hermitian=True)
    error = float(np.sqrt(((target - value[0]) ** 2).mean()))
    ends = float(x.min()), float(x.max())
    return Relation(form, weights, theta, covariance, scale, df, items is not None, ends, error)


def _likely(
    form: Form, x: Array, target: Array, items: Array | None, theta: Array, cost: Array
) -> Array:
    """Values of the last parameter where the likelihood is, its maximum among them.

    Args:
        form: Which.
        x: As of `fit_relation`.
        target: On the scale of the fit.
        items: As of `fit_relation`.
        theta: The best fit for each value of a coarse grid, shape (G, P).
        cost: Theirs, shape (G,).
    """
    (low, high), last = form.box[-1], theta[:, -1]
    best, least = _score(form, x, target, items, theta[[cost.argmin()]], _STEPS, hold=False)
    weights, scale = _weighed(cost, float(least[0]), len(x) - theta.shape[1], items is not None)
    value, gradient = form.curve(best, x)
    information = (gradient[0] * _weights(value[0], items)) @ gradient[0].T
    error = np.sqrt(scale * np.linalg.pinv(information, rcond=1e-13, hermitian=True)[-1, -1])
    some = last[weights > _LEAST_WEIGHT * weights.max(initial=1.0)]
    middle, step = float(best[0, -1]), float(last[1] - last[0])
    first = min([middle - _REACH * error, *(some - step)])
    end = max([middle + _REACH * error, *(some + step)])
    grid = np.linspace(max(first, low), min(end, high), _GRID)
    grid[np.abs(grid - middle).argmin()] = middle
    return grid


def _weighed(cost: Array, least: float, df: int, binomial: bool) -> tuple[Array, float]:
    """Weights by the likelihood, and the scale of the noise.

    Args:
        cost: `_cost` of each value, shape (G,).
        least: The least cost of any value; the weights are 1 there before they are made to add up.
        df: Degrees of freedom.
        binomial: Whether scores count items.
    """
    if binomial:
        scale = max(1.0, 2 * least / df)
        logs = -(cost - least) / scale
    else:
        scale = max(2 * least / df, 1e-20)
        logs = -0.5 * (df + 1) * np.log(np.maximum(cost, 1e-20) / max(least, 1e-20))
    weights = np.exp(logs)
    return weights / max(float(weights.sum()), 1.0), scale


def _weights(value: Array, items: Array | None) -> Array:
    """Inverse variances of targets, up to a common scale."""
    if items is None:
        return np.ones_like(value)
    inside = np.clip(value, TINY, 1 - TINY)
    return np.asarray(items / (inside * (1 - inside)))


def _cost(value: Array, target: Array, items: Array | None) -> Array:
    """Half the deviance of a binomial fit, or half the sum of squares; over the last axis."""
    if items is None:
        return np.asarray(0.5 * ((target - value) ** 2).sum(axis=-1))
    inside = np.clip(value, TINY, 1 - TINY)
    likelihood = xlogy(target, inside) + xlogy(1 - target, 1 - inside)
    best = xlogy(target, target) + xlogy(1 - target, 1 - target)
    return np.asarray((items * (best - likelihood)).sum(axis=-1))


def _best(
    form: Form, x: Array, target: Array, items: Array | None, last: Array
) -> tuple[Array, Array]:
    """The best fit for each value of the last parameter: points (G, P) and costs (G,)."""
    starts = form.starts(last)
    groups, each, width = starts.shape
    theta, cost = _score(form, x, target, items, starts.reshape(-1, width), _FIRST_STEPS)
    best = cost.reshape(groups, each).argmin(axis=1) + each * np.arange(groups)
    return _score(form, x, target, items, theta[best], _STEPS)


def _score(
    form: Form,
    x: Array,
    target: Array,
    items: Array | None,
    theta: Array,
    steps: int,
    hold: bool = True,
) -> tuple[Array, Array]:
    """Steps of Fisher scoring, each point with its own damping: points (S, P), costs (S,).

    `hold` keeps a parameter that is averaged over as it is.
    """
    box, damping = form.box, np.full(len(theta), 1e-2)
    value, gradient = form.curve(theta, x)
    cost = _cost(value, target, items)
    for _ in range(steps):
        weighted = gradient * _weights(value, items)[:, None, :]
        square = weighted @ gradient.transpose(0, 2, 1)
        pull = (weighted @ (target - value)[..., None])[..., 0]
        # A parameter at its bound that is pulled beyond it stays there.
        held = ((theta <= box[:, 0]) & (pull < 0)) | ((theta >= box[:, 1]) & (pull > 0))
        if form.averaged and hold:
            held[:, -1] = True
        free = ~held
        square = square * (free[:, :, None] & free[:, None, :])
        ridge = damping[:, None] * np.einsum("spp->sp", square) + 1e-12 + held
        square = square + ridge[:, :, None] * np.eye(len(box))
        step = np.linalg.solve(square, (pull * free)[..., None])[..., 0]
        new = np.clip(theta + np.clip(step, -2.0, 2.0), box[:, 0], box[:, 1])
        new_value, new_gradient = form.curve(new, x)
        new_cost = _cost(new_value, target, items)
        better = new_cost < cost
        theta = np.where(better[:, None], new, theta)
        value = np.where(better[:, None], new_value, value)
        gradient = np.where(better[:, None, None], new_gradient, gradient)
        cost = np.where(better, new_cost, cost)
        damping = np.where(better, damping * 0.2, np.minimum(damping * 5.0, 1e8))
    return theta, cost
