"""Terms of scaling laws: the log of each and its derivatives, over points.

Parameters are logs (one signed exponent apart), shape (P, 1) or (starts, P, 1); inputs are logs
minus their centres, shape (n,); every function returns the log of the term, shape (..., n), and its
derivative by each parameter in turn.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Inputs = Mapping[str, Array]
"""Per name of `Law.inputs`, values of n points, shape (n,): parameters, tokens, epochs, nats."""
Term = Callable[[Array, Inputs], tuple[Array, list[Array]]]
"""Internal parameters (..., P of the term) and centred inputs to the log of a term (..., n) and its
derivative by each of them."""

BREAK_WIDTH = 0.2
"""Width of the break in log N: fixed, since no grid of this size determines it."""


def floor(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A constant: what no size and no data removes."""
    one = np.ones_like(next(iter(x.values())))
    return p[..., 0, :] * one, [one]


def power(name: str) -> Term:
    """a - exponent * log input."""

    def term(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
        falls = -np.exp(p[..., 1, :]) * x[name]
        return p[..., 0, :] + falls, [np.ones_like(x[name]), falls]

    return term


def broken_size(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A power of N that is steeper by `delta` below N_c."""
    falls, steeper = -np.exp(p[..., 1, :]) * x["params"], np.exp(p[..., 3, :])
    below = (p[..., 2, :] - x["params"]) / BREAK_WIDTH
    rise = steeper * BREAK_WIDTH * np.logaddexp(0.0, below)
    return p[..., 0, :] + falls + rise, [
        np.ones_like(falls),
        falls,
        steeper * sigmoid(below),
        rise,
    ]


def repeated_data(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A power of D', what repeated tokens are worth in unique ones."""
    beta, rate = np.exp(p[..., 1, :]), np.exp(p[..., 2, :])
    repeats = x["epochs"] - 1.0
    left = np.exp(-repeats / rate)
    worth = 1.0 + rate * (1.0 - left)
    data = x["tokens"] + np.log(worth)
    by_rate = rate * (1.0 - left - repeats / rate * left) / worth
    return p[..., 0, :] - beta * data, [np.ones_like(data), -beta * data, -beta * by_rate]


def rectified(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """B / (D_l + D^beta)."""
    rises = np.exp(p[..., 1, :]) * x["tokens"]
    total = np.logaddexp(p[..., 2, :], rises)
    return p[..., 0, :] - total, [
        np.ones_like(rises),
        -np.exp(rises - total) * rises,
        -np.exp(p[..., 2, :] - total),
    ]


def ratio(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A N_s^-alpha (1 + (D0/D)^beta) (N_t/N_s)^gamma."""
    falls = -np.exp(p[..., 1, :]) * x["params"]
    beta = np.exp(p[..., 3, :])
    lack = beta * (p[..., 2, :] - x["tokens"])
    share = sigmoid(lack)
    ratio = x["teacher_params"] - x["params"]
    log = p[..., 0, :] + falls + np.logaddexp(0.0, lack) + p[..., 4, :] * ratio
    return log, [np.ones_like(falls), falls, share * beta, share * lack, ratio]


def joined(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """(A/N^alpha + B/D^beta)^gamma."""
    size, data = -np.exp(p[..., 1, :]) * x["params"], -np.exp(p[..., 3, :]) * x["tokens"]
    gamma = np.exp(p[..., 4, :])
    first, second = p[..., 0, :] + size, p[..., 2, :] + data
    total = np.logaddexp(first, second)
    one, two = gamma * np.exp(first - total), gamma * np.exp(second - total)
    return gamma * total, [one, one * size, two, two * data, gamma * total]


def sigmoid(value: Array) -> Array:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * value))
