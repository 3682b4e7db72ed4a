"""Choose among laws on the second largest size step, fitted to all runs below it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.laws.extrapolation import Noise, effort_of, noise_of, ranges_of
from distill.laws.fitting import HUBER_DELTA, STARTS, Fit, fit_law
from distill.laws.intervals import Uncertainty, shared_data, uncertainty
from distill.laws.law import Array, Law
from distill.laws.points import Points, cells, distinct
from distill.laws.size_steps import best_forecast, size_steps

_SAME = 1e-9
"""Losses that differ by less, relative to the largest, are equal."""


@dataclass(frozen=True)
class Settings:
    """How laws are fitted.

    Attributes:
        seed: Chooses starting points.
        starts: Largest number of them.
        huber_delta: Width of Huber's loss, log units.
        shared: Whether runs share draws and a test set, as a study's runs do; those of a user's own
            table do not.
        replicates: Simulated studies of the test of a break in size.
    """

    seed: int = 0
    starts: int = STARTS
    huber_delta: float = HUBER_DELTA
    shared: bool = True
    replicates: int = 199


@dataclass(frozen=True)
class Group:
    """The runs of one fit.

    Attributes:
        points: The runs.
        target: `loss` or `gap`.
        selected: Keys of `distill.contracts.points.KEYS` and `size` (the measure of size) to what
            the runs share, None where they differ.
        dropped: A record of each run that was left out.
    """

    points: Points
    target: str
    selected: Mapping[str, Any]
    dropped: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Standing:
    """How a fitted law stands among those that it competed with.

    Attributes:
        choice: How the winner was chosen (`choose`).
        best: Whether it is the law chosen for its group.
        holdout: Its evaluation (`evaluate_holdout`); None without one.
        rollouts: How it predicted each size step from those below (`record_rollouts`).
    """

    choice: Mapping[str, Any]
    best: bool
    holdout: Mapping[str, Any] | None = None
    rollouts: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Fitted:
    """A law fitted to points, with its uncertainty."""

    law: Law
    fit: Fit
    uncertainty: Uncertainty
    noise: Noise
    seconds: float = 0.0

    def log_prediction(self, points: Points) -> tuple[Array, Array]:
        """Log prediction at points, shape (m,), and its gradient, shape (P, m)."""
        return self.law.curve(self.fit.theta, self.law.centred(points.values, self.fit.centre))


Fitter = Callable[[Law, Points, Settings], Fitted]
"""How a law is fitted to points."""


def fit_points(
    law: Law, points: Points, settings: Settings, initial: Array | None = None
) -> Fitted:
    """Fit a law to points, with its uncertainty.

    Where runs have standard errors that differ, each weighs by them and by the spread of the runs
    around a first fit without weights. Where they have weights, those are the inverse variances.
    """
    inputs = {name: points.values[name] for name in law.inputs}

    def fitted(start: Array | None, weights: Array | None) -> Fit:
        return fit_law(
            law,
            inputs,
            points.target,
            starts=settings.starts,
            seed=settings.seed,
            delta=settings.huber_delta,
            initial=start,
            weights=weights,
        )

    fit = fitted(initial, None)
    if points.error is not None and np.ptp(points.error) > _SAME * points.error.max():  # no NaN
        fit = fitted(fit.theta, _weights(fit, points.error))
    elif points.weight is not None and np.ptp(points.weight) > 0:
        fit = fitted(fit.theta, np.sqrt(points.weight / points.weight.mean()))
    sharing = None
    if points.draw is not None:
        sharing = shared_data(points.values["tokens"], points.teacher, points.draw)
    effort = effort_of(points.values, ranges_of(points, law))
    noise = noise_of(fit, effort)
    ratio = noise.ratio(effort)
    error = uncertainty(fit, points.stderr, sharing, settings.huber_delta, ratio)
    return Fitted(law, fit, error, noise, fit.seconds)


def _weights(fit: Fit, error: Array) -> Array:
    """Weights of runs by their standard errors, with a mean square of 1.

    What the errors leave of the residuals' variance is noise that all runs share: the method of
    moments of a random-effects model (DerSimonian and Laird 1986).

    Args:
        fit: Of the law without weights.
        error: Relative standard errors, shape (n,).
    """
    free = max(len(error) - len(fit.theta), 1)
    between = max(float(fit.residuals @ fit.residuals) / free - float((error**2).mean()), 0.0)
    weights = 1.0 / np.sqrt(between + error**2)
    return np.asarray(weights / np.sqrt((weights**2).mean()))


def lacks(law: Law, points: Points) -> str | None:
    """Why these points do not have the levels of inputs that the law needs, or None."""
    if law.unfit:
        return law.unfit
    if len(points) > 1 and np.ptp(points.target) <= _SAME * points.target.max():
        return f"all {len(points)} values are {points.target[0]:.6g}: there is nothing to fit"
    for need in law.needs:
        values, count = points.values[need.name], distinct(points, need.name)
        factor = float(values.max() / values.min()) if count else 0.0
        if count < need.least or factor < need.span:
            return need.why.format(
                least=need.least,
                span=need.span,
                count=count,
                factor=factor,
                are="is" if count == 1 else "are",
                value=float(np.median(values)),
            )
    return None


def too_rich(law: Law, points: Points) -> str | None:
    """Why these points cannot determine the law, or None."""
    count, need = cells(points, law), len(law.parameters) + 1
    if count < need:
        return (
            f"{len(law.parameters)} coefficients need at least {need} distinct cells of "
            f"{', '.join(law.inputs)}; there are {count}"
        )
    if len(points) <= len(law.parameters) + 1:
        return f"{len(points)} points are too few for {len(law.parameters)} coefficients"
    return None


def aicc(fit: Fit) -> float | None:
    """Akaike's criterion with the small-sample correction (Hurvich and Tsai 1989), normal errors.

    None where the sample is too small for the correction.
    """
    n, k = len(fit.residuals), len(fit.theta) + 1
    if n - k - 1 <= 0:
        return None
    square = max(float(fit.residuals @ fit.residuals) / n, 1e-300)
    return n * float(np.log(square)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def choose(
    laws: Sequence[Law], points: Points, settings: Settings, fitter: Fitter = fit_points
) -> tuple[int, dict[str, Any], list[Fitted]]:
    """Fit all laws to all points and say which is best.

    Laws compete on the second largest size step, fitted to all below it; a richer law must beat a
    simpler one by more than the noise of the runs there. Where none has enough cells, the lowest
    AICc wins.

    Args:
        laws: Candidates, each determined by all points.
        points: All points of the competition.
        settings: How to fit.
        fitter: Fits a law.

    Returns:
        The winner's place in `laws`; how it was chosen: by, axis, step (of size), errors (mean
        relative error per law), simple (name and error of the best simple forecast, null without
        a step); and the fits to all points.
    """
    everything = [fitter(law, points, settings) for law in laws]
    axis, ranks = size_steps(points, widest(laws))
    record: dict[str, Any] = {
        "by": "aicc",
        "axis": axis,
        "step": None,
        "errors": {},
        "simple": None,
    }
    if ranks.max() >= 2:
        step = int(ranks.max()) - 1
        below, there = points.where(ranks < step), points.where(ranks == step)
        errors, noise = np.full(len(laws), np.inf), np.zeros(len(laws))
        for place, law in enumerate(laws):
            if too_rich(law, below) is None:
                fitted = fitter(law, below, settings)
                errors[place] = mean_error(fitted.log_prediction(there)[0], there)
                noise[place] = fitted.uncertainty.run_sd / np.sqrt(len(there))
        if np.isfinite(errors).any():
            record["by"], record["step"] = "step", step
            for law, error in zip(laws, errors, strict=True):
                record["errors"][law.name] = float(error) if np.isfinite(error) else None
            name, simple = best_forecast(points, axis, ranks, step)
            record["simple"] = {"name": name, "error": float(simple.mean())}
            return _named(_simplest(laws, errors, noise), laws, record), record, everything
    scores = [aicc(one.fit) if one.law.smooth else None for one in everything]
    record["errors"] = {law.name: None for law in laws}
    least = int(np.argmin([np.inf if s is None else s for s in scores]))
    return _named(least, laws, record), record, everything


def _named(winner: int, laws: Sequence[Law], record: dict[str, Any]) -> int:
    """Note the winner's name in the record."""
    record["chosen"] = laws[winner].name
    return winner


def _simplest(laws: Sequence[Law], errors: Array, noise: Array) -> int:
    """The law with the least error, or a simpler one within the noise of it.

    A law with a break is no forecast: one step cannot tell a break from the noise (`break_test`).
    """
    smooth = np.array([law.smooth for law in laws])
    if np.isfinite(errors[smooth]).any():
        errors = np.where(smooth, errors, np.inf)
    least = int(np.argmin(errors))
    order = sorted(range(len(laws)), key=lambda place: (len(laws[place].parameters), errors[place]))
    return next(p for p in order if errors[p] <= errors[least] + noise[least])


def widest(laws: Sequence[Law]) -> tuple[str, ...]:
    """Inputs of the law with the most of them."""
    return max((law.inputs for law in laws), key=len)


def mean_error(log: Array, points: Points) -> float:
    """Mean relative error."""
    return float(np.abs(np.exp(log) / points.target - 1).mean())
