"""Which runs narrow a prediction most for their cost, under several laws that may all be wrong.

What counts is the variance of the prediction after a refit to old and new runs: of the parameters,
by the noise of runs and draws and by the laws' own departures from the truth; and between laws.
Departures are Brownian motions in log size and log data that start at the target, so far runs say
less of it, and many runs in one place no more than a few (Box and Draper 1959: bias decides where
to measure, not only noise). What new runs decide between laws is that of the best linear prediction
(Goldstein and Wooff 2007, Bayes linear statistics). Runs are added one by one and then exchanged
(Fedorov 1972, Theory of optimal experiments).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.ask.choices import MOST_RUNS
from distill.laws.curves import Curve, curve_of
from distill.laws.extrapolation import Extrapolation
from distill.laws.fitted import FittedLaw, Predictions
from distill.laws.fitting import HUBER_DELTA
from distill.laws.intervals import huber_inflation, shared_data
from distill.laws.law import Array
from distill.stats.intervals import LEVEL

DEPARTURE = 0.003
"""Standard deviation of a law's departure from the truth, log units, an e-fold from the target."""
STUCK = 0.5
"""Share of a run's noise that repeats of its size and data do not average out: residuals of a law
hold its misfit there too."""
PRIOR_SD = 3.0
"""Prior standard deviation of an internal parameter: logs of exponents, floors and amplitudes at
the centre. Without it a parameter that no run determines would outweigh everything."""
MOST_REPEATS = 4
"""Runs of one cell (size, tokens and draw) in a design, at most."""
_LEAST_GAIN = 0.003
"""Share of the variance at the target below which one more run is not worth its place."""
_SPARED = 0.01
"""Share of the gain that may be lost by leaving out runs that matter least."""
_PASSES, _HALVINGS = 4, 7
_SAME = 0.01
"""Log inputs nearer than this are equal."""


@dataclass(frozen=True)
class Draws:
    """Where runs come from: whose noise of the data they share.

    Attributes:
        tokens: Unique training tokens, shape (n,).
        draw: Label of the permutation.
        pool: Label of the text.
    """

    tokens: Array
    draw: np.ndarray
    pool: np.ndarray


@dataclass(frozen=True)
class Case:
    """A law as a linear fit, refitted to the n old runs and some of M cells.

    Attributes:
        weight: Of the law among those that compete.
        cells: Gradients of the log loss at the cells, shape (M, P).
        target: The same at the target, shape (P,).
        information: J'J of the old runs, shape (P, P).
        spread: J' (covariance of the old runs) J, shape (P, P).
        common: J' (covariance of old runs and cells), shape (P, M).
        covariance: Of the cells, without the runs' own noise, shape (M, M).
        noise: Variance of a run's own noise, as much as the robust fit makes of it.
    """

    weight: float
    cells: Array
    target: Array
    information: Array
    spread: Array
    common: Array
    covariance: Array
    noise: float

    def after(self, runs: Sequence[int]) -> tuple[float, Array]:
        """Variance of the target after some runs, and after one more of each cell, shape (M,)."""
        at = list(runs)
        new = self.cells[at]
        shared = self.covariance[at]
        half = self.common[:, at] @ new
        inner = shared[:, at] + self.noise * np.eye(len(at))
        spread = self.spread + half + half.T + new.T @ inner @ new
        common = self.common + new.T @ shared
        inverse = np.linalg.inv(self.information + new.T @ new)
        weight = inverse @ self.target
        moves = self.cells @ inverse
        leverage = (moves * self.cells).sum(axis=1)
        # Sherman and Morrison: the weights after one more run of each cell.
        weights = weight - moves * ((self.cells @ weight) / (1 + leverage))[:, None]
        of_run = (weights * self.cells).sum(axis=1)
        variances = ((weights @ spread) * weights).sum(axis=1)
        variances += 2 * of_run * (weights * common.T).sum(axis=1)
        variances += of_run**2 * (np.diag(self.covariance) + self.noise)
        return float(weight @ spread @ weight), variances


@dataclass(frozen=True)
class Between:
    """What runs decide between laws.

    Attributes:
        variance: Of the laws' predictions at the target.
        to_target: Their covariance with those at the M cells, shape (M,).
        covariance: Of the cells' log losses, all sources but the runs' own noise, shape (M, M).
        noise: Variance of a run's own noise.
    """

    variance: float
    to_target: Array
    covariance: Array
    noise: float

    def after(self, runs: Sequence[int]) -> tuple[float, Array]:
        """Variance that is left after some runs, and after one more of each cell, shape (M,)."""
        at = list(runs)
        left, spread, to_target = self.variance, np.diag(self.covariance), self.to_target
        if at:
            noisy = self.covariance[np.ix_(at, at)] + self.noise * np.eye(len(at))
            root = np.linalg.cholesky(noisy)
            seen = np.linalg.solve(root, self.covariance[at])
            known = np.linalg.solve(root, self.to_target[at])
            left = left - float(known @ known)
            spread = spread - (seen**2).sum(axis=0)
            to_target = to_target - known @ seen
        left = max(left, 0.0)
        gains = to_target**2 / (np.maximum(spread, 0.0) + self.noise)
        return left, np.maximum(left - gains, 0.0)


@dataclass(frozen=True)
class Stated:
    """The interval of the mean that the chosen law states at the target, as `distill ask` prints.

    Attributes:
        value: The prediction, nats per token.
        half: Half width of the interval, log units.
        beyond: The law's errors of extrapolation; None where it has none.
        places: Inputs of the law at the M cells and the target as the last, shape (M + 1,) each.
    """

    value: float
    half: float
    beyond: Extrapolation | None
    places: Mapping[str, Array]

    def after(self, runs: Sequence[int], narrowed: float) -> float:
        """Half width after some runs: no run, no change.

        The error of extrapolation falls with the target's distance from the runs, all else as a
        linear refit says.

        Args:
            runs: Cells by number.
            narrowed: Half width of the linear refit over that without new runs.
        """
        now = self._error([])
        rest = np.sqrt(max(self.half**2 - now**2, 0.0))
        return float(np.hypot(rest * narrowed, self._error(runs)))

    def _error(self, runs: Sequence[int]) -> float:
        if self.beyond is None:
            return 0.0
        cells, target = (
            {name: values[at] for name, values in self.places.items()} for at in (list(runs), [-1])
        )
        beyond = self.beyond.widened(cells) if len(runs) else self.beyond
        return float(beyond.error(target)[0])


@dataclass(frozen=True)
class Problem:
    """What the choice of runs needs; M cells compete.

    Attributes:
        planned: Laws with their departures, by which runs are chosen.
        refitted: The same without departures: how runs narrow the interval.
        between: What runs decide between the laws.
        costs: Of one run of each cell, shape (M,).
        shift: Standard deviation at the target by the sampling of the test set, which no run
            narrows.
        df: Degrees of freedom now.
        stated: The interval now.
        most: Runs of a design, at most.
    """

    planned: Sequence[Case]
    refitted: Sequence[Case]
    between: Between
    costs: Array
    shift: float
    df: float
    stated: Stated
    most: int = MOST_RUNS

    def spend(self, runs: Sequence[int]) -> float:
        """Cost of some runs, cells by number."""
        return float(self.costs[list(runs)].sum())

    def half(self, runs: Sequence[int] = ()) -> float:
        """Half width of the 90 % interval of the mean curve at the target after some runs, log."""
        return self.stated.after(runs, self._linear(runs) / self._linear_now)

    @cached_property
    def _linear_now(self) -> float:
        return self._linear(())

    def _linear(self, runs: Sequence[int]) -> float:
        variance, _ = self._after(self.refitted, runs)
        t = student_t.ppf(0.5 + LEVEL / 2, self.df + len(runs))
        return float(np.hypot(np.sqrt(variance) * t, self.shift * norm.ppf(0.5 + LEVEL / 2)))

    def risk(self, runs: Sequence[int] = ()) -> float:
        """Standard deviation at the target after some runs, the laws' departures counted."""
        return float(np.sqrt(self._after(self.planned, runs)[0]))

    def gains(self, runs: Sequence[int]) -> tuple[float, Array]:
        """Variance at the target after some runs, and how much one more run of each cell takes."""
        variance, after = self._after(self.planned, runs)
        return variance, variance - after

    def _after(self, cases: Sequence[Case], runs: Sequence[int]) -> tuple[float, Array]:
        parts = [(case.weight, case.after(runs)) for case in cases]
        parts.append((1.0, self.between.after(runs)))
        total = sum((weight * after[1] for weight, after in parts), np.zeros(len(self.costs)))
        return sum(weight * after[0] for weight, after in parts), total


def law_weights(laws: Sequence[FittedLaw]) -> Array:
    """Weights of competing laws, shape (K,), sum 1.

    By the inverse square of the errors on the size step on which they competed; without such a
    step by Akaike weights (Burnham and Anderson 2002).
    """
    errors = np.array([_error(law) for law in laws])
    if np.isfinite(errors).any():
        weights = 1.0 / np.maximum(errors, 1e-6) ** 2
    else:
        scores = np.array([_score(law) for law in laws])
        if not np.isfinite(scores).any():
            return np.array([float(law.best) for law in laws])
        weights = np.exp(-0.5 * (scores - scores.min()))
    return np.asarray(weights / weights.sum())


def _error(law: FittedLaw) -> float:
    error = law.record["choice"]["errors"].get(law.name)
    return np.inf if error is None else float(error)


def _score(law: FittedLaw) -> float:
    score = law.record.get("aicc")
    return np.inf if score is None else float(score)


def make_problem(
    laws: Sequence[FittedLaw],
    fitted: Sequence[Mapping[str, Array]],
    places: Mapping[str, Array],
    costs: Array,
    stated: Predictions,
    draws: tuple[Draws, Draws] | None = None,
    most: int = MOST_RUNS,
) -> Problem:
    """The problem of a target under some laws.

    Args:
        laws: Which compete, the chosen one first.
        fitted: Per law, its inputs at the n runs that it was fitted to, shape (n,) each.
        places: Inputs of laws at the M cells and the target as the last, shape (M + 1,) each.
        costs: Of one run of each cell, shape (M,).
        stated: What the chosen law predicts at the target.
        draws: Of the n runs (equal for all laws) and of the M cells; None where runs share none.
        most: Runs of a design, at most.
    """
    weights, cells = law_weights(laws), len(costs)
    means, within = np.empty((len(laws), cells + 1)), np.zeros((cells, cells))
    planned: list[Case] = []
    refitted: list[Case] = []
    shift = 0.0
    overlap = None if draws is None else _overlap(*draws)
    for place, (law, weight, inputs) in enumerate(zip(laws, weights, fitted, strict=True)):
        curve = curve_of(law)
        means[place], rows = curve.log(places)
        _, jacobian = curve.log(inputs)
        departures, same = _departures(inputs, places, law.inputs)
        for kind, scale in ((planned, 1.0), (refitted, 0.0)):
            case = _case(curve, jacobian, rows, scale * departures, scale * STUCK * same, overlap)
            kind.append(replace(case, weight=float(weight)))
        spread = np.linalg.inv(planned[-1].information)
        spread = spread @ planned[-1].spread @ spread
        within += weight * (rows[:-1] @ spread @ rows[:-1].T + planned[-1].covariance)
        shift += weight * float(rows[-1] @ curve.uncertainty.shift)
    away = means - weights @ means
    apart = (weights[:, None] * away).T @ away
    noise = float(weights @ [case.noise for case in planned])
    return Problem(
        planned=planned,
        refitted=refitted,
        between=Between(float(apart[-1, -1]), apart[-1, :-1], apart[:-1, :-1] + within, noise),
        costs=costs,
        shift=abs(shift),
        df=curve_of(laws[0]).uncertainty.df,
        stated=Stated(
            value=float(stated.value[0]),
            half=float(np.log(stated.high[0] / stated.value[0])),
            beyond=laws[0].beyond,
            places={name: places[name] for name in laws[0].inputs},
        ),
        most=most,
    )


def _case(
    curve: Curve, jacobian: Array, rows: Array, shared: Array, stuck: Array, overlap: Array | None
) -> Case:
    """A law as a linear fit, of weight 1.

    Args:
        curve: The law.
        jacobian: Gradients at the n old runs, shape (n, P).
        rows: The same at the M cells and the target, shape (M + 1, P).
        shared: Covariance of departures of the n runs and M cells, shape (n + M, n + M).
        stuck: Shares of their own noise that any two have in common, of the same shape.
        overlap: Correlation of the draws' noise of these, None without draws.
    """
    uncertain, count = curve.uncertainty, len(jacobian)
    # The robust fit takes from a run as much as least squares from a noisier one.
    robust = huber_inflation(HUBER_DELTA / uncertain.run_sd)
    drawn = uncertain.variances[1]
    noise = uncertain.run_sd**2 * robust - drawn
    covariance = shared + noise * stuck
    if overlap is not None:
        covariance = covariance + drawn * overlap
    alone = noise * (1 - float(stuck[0, 0]))
    own = covariance[:count, :count] + alone * np.eye(count)
    prior = np.eye(jacobian.shape[1]) * noise / PRIOR_SD**2
    return Case(
        weight=1.0,
        cells=rows[:-1],
        target=rows[-1],
        information=jacobian.T @ jacobian + prior,
        spread=jacobian.T @ own @ jacobian + noise * prior,
        common=jacobian.T @ covariance[:count, count:],
        covariance=covariance[count:, count:],
        noise=float(alone),
    )


def _departures(
    fitted: Mapping[str, Array], places: Mapping[str, Array], inputs: Sequence[str]
) -> tuple[Array, Array]:
    """Covariance of a law's departures at n runs and M cells, and whether two have equal inputs.

    Both of shape (n + M, n + M).
    """
    total: Any = 0.0
    same: Any = 1.0
    for name in ("params", "tokens"):
        if name in inputs:
            log = np.log(np.concatenate([fitted[name], places[name]]))
            away = log[:-1] - log[-1]
            least = np.minimum(np.abs(away)[:, None], np.abs(away)[None, :])
            total = total + np.where(away[:, None] * away[None, :] > 0, least, 0.0)
            same = same * (np.abs(away[:, None] - away[None, :]) < _SAME)
    return np.asarray(DEPARTURE**2 * total), np.asarray(same)


def _overlap(old: Draws, new: Draws) -> Array:
    """Correlation of the draws' noise of n runs and M cells, shape (n + M, n + M)."""
    tokens, pool, draw = (
        np.concatenate([getattr(old, name), getattr(new, name)])
        for name in ("tokens", "pool", "draw")
    )
    return shared_data(tokens, pool, draw)


def best_runs(problem: Problem, budget: float) -> list[int]:
    """Cells whose runs narrow the target most for a budget, a number for each run.

    Runs that hardly matter are left out at the end.
    """
    best = _exchanged(problem, budget)
    least = problem.risk(best)
    limit = least + _SPARED * (problem.risk() - least)
    return sorted(_pruned(problem.risk, problem.costs, best, limit))


def _exchanged(problem: Problem, budget: float) -> list[int]:
    """Filled by gain per cost, by gain alone and between; then each run in turn leaves if others
    use its cost better.
    """
    designs = [_filled(problem, budget, [], power) for power in (1.0, 0.5, 0.0)]
    best = min(designs, key=problem.risk)
    for _ in range(_PASSES):
        before = problem.risk(best)
        for place in range(len(best)):
            rest = best[:place] + best[place + 1 :]
            for power in (1.0, 0.0):
                other = _filled(problem, budget, rest, power)
                if problem.risk(other) < problem.risk(best) * (1 - 1e-6):
                    best = other
                    break
            if place + 1 >= len(best):
                break
        if problem.risk(best) > before * (1 - 1e-3):
            break
    return best


def _filled(problem: Problem, budget: float, runs: Sequence[int], power: float) -> list[int]:
    """Add runs, each with the largest gain over cost to a power, until none fits or helps."""
    chosen = list(runs)
    left = budget - problem.spend(chosen)
    while len(chosen) < problem.most:
        variance, gains = problem.gains(chosen)
        often = [cell for cell, times in Counter(chosen).items() if times >= MOST_REPEATS]
        able = (problem.costs <= left) & (gains > _LEAST_GAIN * variance)
        able[often] = False
        if not able.any():
            break
        # Gains multiply: what counts is the log of the variance.
        worth = -np.log1p(-np.minimum(gains / max(variance, 1e-300), 1 - 1e-9))
        cell = int(np.argmax(np.where(able, worth / problem.costs**power, -np.inf)))
        chosen.append(cell)
        left -= float(problem.costs[cell])
    return chosen


def cheapest_runs(problem: Problem, half: float) -> list[int] | None:
    """The cheapest runs found that bring the target's half width (log units) to `half`.

    Budgets are halved between one that suffices and none; then runs that are not needed leave.

    Returns:
        Cells, empty where the width is reached already; None where `problem.most` do not reach it.
    """
    if problem.half() <= half:
        return []
    low, high = float(problem.costs.min()), float(problem.costs.max()) * problem.most
    best = min((_filled(problem, high, [], power) for power in (1.0, 0.5, 0.0)), key=problem.half)
    if problem.half(best) > half:
        return None
    high = min(high, problem.spend(_pruned(problem.half, problem.costs, best, half)))
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        runs = _exchanged(problem, middle)
        if problem.half(runs) <= half:
            best, high = runs, min(middle, problem.spend(runs))
        else:
            low = middle
    return sorted(_pruned(problem.half, problem.costs, best, half))


def _pruned(
    width: Callable[[Sequence[int]], float], costs: Array, runs: Sequence[int], limit: float
) -> list[int]:
    """The runs without those that a width does not need, the most expensive first."""
    kept = list(runs)
    for cell in sorted(runs, key=lambda cell: -float(costs[cell])):
        rest = list(kept)
        rest.remove(cell)
        if width(rest) <= limit:
            kept = rest
    return kept


def without_each(problem: Problem, runs: Sequence[int]) -> list[float]:
    """Half width at the target, log units, if a run is left out: one for each run."""
    return [problem.half([*runs[:place], *runs[place + 1 :]]) for place in range(len(runs))]


def ends(problem: Problem, runs: Sequence[int] = ()) -> dict[str, Any]:
    """The interval at the target after some runs: half (share of the loss), low and high.

    `half` is exp(half width in logs) - 1. Without runs it is what `distill ask` prints.
    """
    half, value = problem.half(runs), problem.stated.value
    with np.errstate(over="ignore"):
        found = {
            "half": np.expm1(half),
            "low": value * np.exp(-half),
            "high": value * np.exp(half),
        }
    return {name: float(x) if np.isfinite(x) else None for name, x in found.items()}
