"""Choose among laws on one size step, evaluate the winner on the next, refit to all runs.

The largest size step of the held-out axis is used once, by the winner and by the baseline, a
log-linear line through the last two sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import f as f_distribution

from distill.laws.fitting import HUBER_DELTA, STARTS, Fit, fit_law
from distill.laws.intervals import (
    Uncertainty,
    coefficients,
    half_widths,
    shared_data,
    state_of,
    uncertainty,
)
from distill.laws.law import Array, Law
from distill.laws.points import (
    SIZE_RANGE,
    Points,
    cells,
    distinct,
    levels,
    log_linear,
    record_range,
    size_steps,
)
from distill.stats.intervals import LEVEL

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
    replicates: int = 999


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
    """

    choice: Mapping[str, Any]
    best: bool
    holdout: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Fitted:
    """A law fitted to points, with its uncertainty."""

    law: Law
    fit: Fit
    uncertainty: Uncertainty
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
    around a first fit without weights.
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
    sharing = None
    if points.draw is not None:
        sharing = shared_data(points.values["tokens"], points.teacher, points.draw)
    error = uncertainty(fit, points.stderr, sharing, settings.huber_delta)
    return Fitted(law, fit, error, fit.seconds)


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
        The winner's place in `laws`; how it was chosen: by, axis, rung (size step), errors
        (mean relative error per law and of the log-linear line); and the fits to all points.
    """
    everything = [fitter(law, points, settings) for law in laws]
    axis, ranks = size_steps(points, _widest(laws))
    record: dict[str, Any] = {"by": "aicc", "axis": axis, "rung": None, "errors": {}}
    if ranks.max() >= 2:
        rung = int(ranks.max()) - 1
        below, there = points.where(ranks < rung), points.where(ranks == rung)
        errors, noise = np.full(len(laws), np.inf), np.zeros(len(laws))
        for place, law in enumerate(laws):
            if too_rich(law, below) is None:
                fitted = fitter(law, below, settings)
                errors[place] = _error(fitted.log_prediction(there)[0], there)
                noise[place] = fitted.uncertainty.run_sd / np.sqrt(len(there))
        if np.isfinite(errors).any():
            record["by"], record["rung"] = "rung", rung
            for law, error in zip(laws, errors, strict=True):
                record["errors"][law.name] = float(error) if np.isfinite(error) else None
            line = log_linear(points, axis, ranks, rung)
            if np.isfinite(line).all():
                record["errors"]["log_linear"] = float(np.abs(line / there.target - 1).mean())
            return _named(_simplest(laws, errors, noise), laws, record), record, everything
    scores = [aicc(one.fit) for one in everything]
    record["errors"] = {law.name: None for law in laws}
    least = int(np.argmin([np.inf if s is None else s for s in scores]))
    return _named(least, laws, record), record, everything


def _named(winner: int, laws: Sequence[Law], record: dict[str, Any]) -> int:
    """Note the winner's name in the record."""
    record["chosen"] = laws[winner].name
    return winner


def _simplest(laws: Sequence[Law], errors: Array, noise: Array) -> int:
    """The law with the least error, or a simpler one within the noise of it."""
    least = int(np.argmin(errors))
    order = sorted(range(len(laws)), key=lambda place: (len(laws[place].parameters), errors[place]))
    return next(p for p in order if errors[p] <= errors[least] + noise[least])


def _widest(laws: Sequence[Law]) -> tuple[str, ...]:
    return max((law.inputs for law in laws), key=len)


def _error(log: Array, points: Points) -> float:
    """Mean relative error."""
    return float(np.abs(np.exp(log) / points.target - 1).mean())


def evaluate_holdout(
    law: Law, laws: Sequence[Law], points: Points, settings: Settings, fitter: Fitter = fit_points
) -> dict[str, Any] | None:
    """How well a law, fitted to all but the largest size step, predicts that step.

    Intervals are of a new run measured on the same test set.

    Args:
        law: The law to evaluate.
        laws: All that competed (they fix the axis).
        points: All points.
        settings: How to fit.
        fitter: Fits a law.

    Returns:
        The record `holdout`, None where the law is not determined without that step.
    """
    axis, ranks = size_steps(points, _widest(laws))
    top = int(ranks.max())
    below, there = points.where(ranks < top), points.where(ranks == top)
    if top < 1 or too_rich(law, below) is not None:
        return None
    fitted = fitter(law, below, settings)
    log, gradient = fitted.log_prediction(there)
    _, half = half_widths(gradient, fitted.uncertainty, test_set=False)
    low, high = np.exp(log - half), np.exp(log + half)
    value, target = np.exp(log), there.target
    errors = np.abs(value / target - 1)
    line = log_linear(points, axis, ranks, top)
    there_too = np.isfinite(line)
    skill = None
    if there_too.any():
        naive = float(np.abs(line[there_too] / target[there_too] - 1).mean())
        skill = 1 - float(errors[there_too].mean()) / naive if naive > 0 else None
    gaps = np.isfinite(there.gap) & (there.gap > 0)
    return {
        "axis": axis,
        "rung": top,
        "runs": len(there),
        "compute_factor": float(there.compute.max() / below.compute.max()),
        "mean_relative_error": float(errors.mean()),
        "max_relative_error": float(errors.max()),
        "mean_error_over_gap": float((np.abs(value - target) / there.gap)[gaps].mean())
        if gaps.any()
        else None,
        "skill_vs_loglinear": skill,
        "interval_coverage": float(((low <= target) & (target <= high)).mean()),
        "predicted": [
            {
                "student": str(there.student[row]),
                "teacher": str(there.teacher[row]),
                "tokens": float(there.values["tokens"][row]),
                "params": _plain(there.values["params"][row]),
                "measured": float(target[row]),
                "predicted": float(value[row]),
                "low": _plain(low[row]),
                "high": _plain(high[row]),
            }
            for row in range(len(there))
        ],
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def record_law(
    fitted: Fitted, group: Group, standing: Standing, settings: Settings
) -> dict[str, Any]:
    """The law's record in laws.json."""
    law, fit, error, points = fitted.law, fitted.fit, fitted.uncertainty, group.points
    values = coefficients(law, fit, error)
    residual = float(np.sqrt((fit.residuals**2).mean()))
    return {
        "name": law.name,
        "formula": law.formula,
        "source": law.source,
        "target": group.target,
        "selected": dict(group.selected),
        "best": standing.best,
        "points": len(points),
        "dropped": list(group.dropped),
        "coefficients": values,
        "residual_rmse_log": residual,
        "holdout": standing.holdout,
        "choice": dict(standing.choice),
        "aicc": aicc(fit),
        "fit_seconds": fitted.seconds,
        "warnings": warnings(fitted, group, standing, values),
        "range": record_range(points, law.inputs),
        "settings": {
            "objective": "sum of Huber losses of log residuals"
            + ("" if points.error is None else ", weighted by the runs' standard errors"),
            "optimiser": "L-BFGS-B (scipy), analytic gradients",
            "huber_delta": settings.huber_delta,
            "starts": fit.starts,
            "seed": settings.seed,
            "interval": "delta method, t quantiles, restricted likelihood for runs and draws"
            + ("" if points.stderr is None else ", test-set noise shared by all runs"),
            "level": LEVEL,
            "parameter_counts": {
                "params": "embeddings and output head counted, tied ones once",
                "params_non_embedding": "without embeddings and output head",
            }.get(str(group.selected["size"]), "not an input of this law"),
            "tokens": "unique training tokens",
            "held_out_error": "see holdout",
        },
        "state": state_of(fit, error),
    }


def warnings(
    fitted: Fitted, group: Group, standing: Standing, values: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What a reader must know before using the law, one sentence each.

    Args:
        fitted: The law.
        group: The runs.
        standing: How it was chosen and evaluated.
        values: Its `coefficients`.
    """
    law, points, out = fitted.law, group.points, []
    choice, holdout = standing.choice, standing.holdout
    loose = [name for name, value in values.items() if not value["identifiable"]]
    if loose:
        out.append(f"not identifiable from these points: {', '.join(loose)}")
    if {"E", "L0"} & set(loose):
        out.append("no asymptote: the interval of the floor reaches zero or is unbounded")
    for name in ("params", "tokens"):
        if name in law.inputs:
            low, high = points.values[name].min(), points.values[name].max()
            if name == "params" and high / low < SIZE_RANGE:
                out.append(
                    f"sizes span a factor of {high / low:.3g}: no claim about the exponent in N "
                    f"is made below {SIZE_RANGE:.0f}"
                )
    if choice["by"] == "aicc" and len(choice["errors"]) > 1:
        out.append("too few size steps to compare laws on one: chosen by AICc")
    errors = choice["errors"]
    line_error, law_error = errors.get("log_linear"), errors.get(law.name)
    if line_error is not None and law_error is not None and line_error < law_error:
        out.append(
            "on the second largest size step the log-linear line through the last two sizes "
            f"was better ({line_error:.2%} against {law_error:.2%})"
        )
    if choice["chosen"] != law.name:
        out.append(f"{choice['chosen']} was chosen instead; only that law is evaluated")
    elif holdout is None:
        out.append("not evaluated: too few cells without the largest size step")
    elif holdout["skill_vs_loglinear"] is not None and holdout["skill_vs_loglinear"] <= 0:
        out.append(
            "on the largest size step it predicted no better than the log-linear line through "
            "the last two sizes"
        )
    excess = lack_of_fit(fitted, points)
    if excess is not None:
        out.append(
            f"residuals are {excess:.1f} times as large as runs of one cell differ: the law "
            "misses structure in the points"
        )
    if points.draw is not None:
        if len(np.unique(points.draw)) < 2:
            out.append(
                "one draw only: noise between draws cannot be separated from the curve's shape"
            )
        if group.target == "gap" or points.stderr is None:
            out.append(
                "the test set's sampling noise of this target is not known: intervals are for "
                "this test set"
            )
    if law.note:
        out.append(law.note)
    if fitted.uncertainty.df < 5:
        out.append(
            f"{fitted.uncertainty.df:.1f} degrees of freedom: intervals are wide and rest on "
            "few points"
        )
    return out


def lack_of_fit(fitted: Fitted, points: Points) -> float | None:
    """Residual sd over replicate sd where an F test at 1 % finds the law too stiff, else None.

    Replicates are runs of one student, teacher and level of each input.
    """
    r = fitted.fit.residuals
    ranks = [levels(points.values[name], name) for name in fitted.law.inputs]
    labels = ["|".join(map(str, row)) for row in zip(points.student, *ranks, strict=True)]
    _, place = np.unique(labels, return_inverse=True)
    counts = np.bincount(place)
    spread = counts.sum() - len(counts)
    rest = len(counts) - len(fitted.fit.theta)
    if spread < 3 or rest < 2:
        return None
    means = np.bincount(place, weights=r) / counts
    pure = float(((r - means[place]) ** 2).sum()) / spread
    lack = float((counts * means**2).sum()) / rest
    if pure <= 0 or f_distribution.sf(lack / pure, rest, spread) > 0.01:
        return None
    return float(np.sqrt(lack / pure))
