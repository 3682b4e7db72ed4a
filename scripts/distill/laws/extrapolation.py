"""How far a law may be off beyond the runs that it was fitted to.

The noise of runs about a curve does not tell: on public tables nominal 90 % intervals from noise
alone held 76 % of the runs beyond three times the compute. Three things are added to it, all from
the table itself:

- noise that depends on compute, so that the runs next to the question count;
- the spread of the competing laws, weighted by how each predicted the last size step;
- an error that grows with the distance, learned by predicting each size step from those below it
  (rolling origin; Tashman 2000, Out-of-sample tests of forecasting accuracy).

Distance is in logs: that of compute (size times data) beyond the largest, or those of size and data
outside their ranges together, whichever is more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.laws.fitting import Fit
from distill.laws.intervals import bounded
from distill.laws.law import Array, Law
from distill.laws.points import Points
from distill.stats.intervals import LEVEL

PRIOR_RATE, PRIOR_WEIGHT = 0.003, 8.0
"""Error per unit of distance (a factor e) where a table has no size steps to learn from, and the
number of size steps that it weighs as: from four public tables of 27 groups."""
_DECAY, _MOST_STEPS = 0.5, 5
"""Weight of an origin against the next later one, and origins that are used."""
_LEAST_DISTANCE = 0.3
_SLOPES = np.linspace(-1.0, 1.0, 41)
_SLOPE_PRIOR = 0.3
_EVIDENT = 1.92
"""Exponents of the variance of runs in compute, their prior standard deviation, and the gain of log
likelihood from which one is taken (a likelihood ratio test at 5 %)."""


@dataclass(frozen=True)
class Noise:
    """The variance of runs by their compute, relative to the mean over those that were fitted.

    Attributes:
        slope: Exponent of the variance in effort (`effort_of`).
        centre: Effort at which the ratio is 1, in logs.
        low, high: Range of log effort; beyond it the ratio stays.
    """

    slope: float
    centre: float
    low: float
    high: float

    def ratio(self, effort: Array) -> Array:
        """The ratio at log efforts, same shape."""
        where = np.clip(effort, self.low, self.high) - self.centre
        ratio: Array = np.exp(self.slope * where)
        return ratio


@dataclass(frozen=True)
class Rival:
    """Another law that was fitted to the same runs.

    Attributes:
        law: Which.
        theta: Its internal parameters.
        centre: Mean logs of its inputs.
        weight: Its share among all laws that competed.
    """

    law: Law
    theta: Array
    centre: Mapping[str, float]
    weight: float


@dataclass(frozen=True)
class Extrapolation:
    """What intervals of a law need beyond its own uncertainty.

    Attributes:
        rate: Standard deviation of the error per unit of distance, log units.
        df: Degrees of freedom of the rate, the prior's among them.
        steps: Predicted size steps that the rate was learned from.
        noise: The noise of runs.
        rivals: The competing laws.
        ranges: Lowest and highest value of size and data, and of `effort`, all plain.
    """

    rate: float
    df: float
    steps: int
    noise: Noise
    rivals: tuple[Rival, ...]
    ranges: Mapping[str, Sequence[float]]

    def distance(self, inputs: Mapping[str, Any]) -> Array:
        """Distance of inputs (as of `Law.centred`) from the fitted runs, in logs, shape (m,)."""
        outside: Array = np.zeros(1)
        for name in ("params", "tokens"):
            if name in inputs and name in self.ranges:
                outside = outside + _beyond(np.log(inputs[name]), self.ranges[name])
        effort = effort_of(inputs, self.ranges)
        most = np.log(self.ranges["effort"][1])
        farthest: Array = np.maximum(outside, np.maximum(effort - most, 0.0))
        return farthest

    def error(self, inputs: Mapping[str, Any]) -> Array:
        """Half width at `LEVEL` of the error that grows with the distance, log units, (m,)."""
        half: Array = student_t.ppf(0.5 + LEVEL / 2, self.df) * self.rate * self.distance(inputs)
        return half

    def widened(self, inputs: Mapping[str, Any]) -> "Extrapolation":
        """The same with runs at some inputs (as of `Law.centred`) inside its ranges."""
        of = {name: np.asarray(inputs[name]) for name in inputs if name in self.ranges}
        of["effort"] = np.exp(effort_of(inputs, self.ranges))
        ranges = {
            name: [min(ends[0], float(of[name].min())), max(ends[1], float(of[name].max()))]
            for name, ends in self.ranges.items()
        }
        return replace(self, ranges=ranges)

    def variance(self, log: Array, inputs: Mapping[str, Any], curve: Array) -> Array:
        """What is added to the square of a half width at `LEVEL`, log units, shape (m,).

        Laws that were fitted to the same runs also differ by the noise of their coefficients,
        which the curve's half width holds already: only what is more is added.

        Args:
            log: The law's log prediction, shape (m,).
            inputs: Of the prediction, as of `Law.centred`.
            curve: Half width of the mean curve by noise, log units, shape (m,).
        """
        spread = np.zeros_like(log)
        for rival in self.rivals:
            other = rival.law.curve(rival.theta, rival.law.centred(inputs, rival.centre))[0]
            spread = spread + rival.weight * (other - log) ** 2
        apart = norm.ppf(0.5 + LEVEL / 2) ** 2 * spread
        total: Array = self.error(inputs) ** 2 + np.maximum(apart - curve**2, 0.0)
        return total

    def noise_ratio(self, inputs: Mapping[str, Any]) -> Array:
        """Variance of a run there over the mean of the fitted runs, shape (m,)."""
        return self.noise.ratio(effort_of(inputs, self.ranges))

    def record(self) -> dict[str, Any]:
        """Its entry in laws.json."""
        return {
            "rate": self.rate,
            "df": self.df,
            "steps": self.steps,
            "noise": vars(self.noise),
            "rivals": [
                {
                    "name": rival.law.name,
                    "theta": rival.theta.tolist(),
                    "centre": dict(rival.centre),
                    "weight": rival.weight,
                }
                for rival in self.rivals
            ],
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
        }

    @classmethod
    def of(cls, record: Mapping[str, Any], laws: Mapping[str, Law]) -> "Extrapolation":
        """The inverse of `record`.

        Args:
            record: The entry.
            laws: Laws of the same target by name.
        """
        rivals = tuple(
            Rival(
                laws[one["name"]],
                np.array(one["theta"], dtype=np.float64),
                one["centre"],
                one["weight"],
            )
            for one in record["rivals"]
        )
        noise = Noise(**record["noise"])
        return cls(record["rate"], record["df"], record["steps"], noise, rivals, record["ranges"])


def _beyond(logs: Array, ends: Sequence[float]) -> Array:
    """Distance of logs from a range, 0 inside."""
    low, high = np.log(ends[0]), np.log(ends[1])
    away: Array = np.maximum(np.maximum(logs - high, low - logs), 0.0)
    return away


def effort_of(inputs: Mapping[str, Any], ranges: Mapping[str, Any]) -> Array:
    """Log of the product of size, data and epochs, as far as they are in `ranges`; shape (m,)."""
    names = [name for name in ("params", "tokens", "epochs") if name in ranges and name in inputs]
    logs: Array = sum(
        (np.log(np.asarray(inputs[name], dtype=np.float64)) for name in names), np.zeros(1)
    )
    return logs


def ranges_of(points: Points, law: Law) -> dict[str, list[float]]:
    """`Extrapolation.ranges` of fitted points."""
    names = [name for name in ("params", "tokens", "epochs") if name in law.inputs]
    ranges: dict[str, list[float]] = {
        name: [float(points.values[name].min()), float(points.values[name].max())] for name in names
    }
    effort = np.exp(effort_of(points.values, ranges))
    return ranges | {"effort": [float(effort.min()), float(effort.max())]}


def noise_of(fit: Fit, effort: Array) -> Noise:
    """How the variance of runs depends on their effort.

    Harvey 1976, Estimating regression models with multiplicative heteroscedasticity: the likelihood
    of an exponent, with a normal prior about 0.

    Args:
        fit: The fit, n points.
        effort: Their log efforts, shape (n,).
    """
    left = np.linalg.qr(fit.jacobian)[0]
    leverage = np.minimum((left**2).sum(axis=1), 0.9)
    square = np.maximum(bounded(fit.residuals, left.shape[1]) ** 2 / (1 - leverage), 1e-20)
    away = effort - effort.mean()
    scaled = square * np.exp(-_SLOPES[:, None] * away)
    n = len(square)
    likelihood = -0.5 * n * np.log(scaled.mean(axis=1)) - _SLOPES**2 / (2 * _SLOPE_PRIOR**2)
    best = int(np.argmax(likelihood))
    plain = int(np.argmin(np.abs(_SLOPES)))
    # A few runs would otherwise suggest a slope, and too small a noise at one end.
    evident = likelihood[best] - likelihood[plain] > _EVIDENT
    slope = float(_SLOPES[best]) if evident else 0.0
    # The mean ratio over the fitted runs is 1.
    shift = float(np.log(np.exp(slope * away).mean()))
    centre = float(effort.mean()) + (shift / slope if slope else 0.0)
    return Noise(slope, centre, float(effort.min()), float(effort.max()))


@dataclass(frozen=True)
class Origin:
    """A law fitted to the lowest size steps, and what it made of the others.

    Attributes:
        steps: Size step of each run beyond, shape (m,).
        errors: Log target minus log prediction, shape (m,).
        distances: Of these runs, shape (m,).
        variance: Variance of the prediction and of a run there, by noise alone, shape (m,).
    """

    steps: np.ndarray
    errors: Array
    distances: Array
    variance: Array


def rate_of(origins: Sequence[Origin]) -> tuple[float, float, int]:
    """The error per unit of distance.

    Each origin counts once, however many runs lie beyond it, since they share its error; later ones
    count more.

    Args:
        origins: From the earliest to the latest.

    Returns:
        The rate, its degrees of freedom, and the number of origins.
    """
    total, weight = PRIOR_WEIGHT * PRIOR_RATE**2, PRIOR_WEIGHT
    used = origins[-_MOST_STEPS:]
    for back, origin in enumerate(reversed(used)):
        excess = np.maximum(origin.errors**2 - origin.variance, 0.0)
        rates = [
            excess[origin.steps == step].mean()
            / max((origin.distances[origin.steps == step] ** 2).mean(), _LEAST_DISTANCE**2)
            for step in np.unique(origin.steps)
        ]
        total += _DECAY**back * float(np.mean(rates))
        weight += _DECAY**back
    return float(np.sqrt(total / weight)), float(weight), len(used)


def weights_of(errors: Sequence[float | None]) -> list[float]:
    """Shares of laws by their mean relative errors on a size step; those without one have none."""
    inverse = [0.0 if error is None else 1 / max(error, 1e-4) ** 2 for error in errors]
    total = sum(inverse)
    return [one / total if total else 0.0 for one in inverse]
