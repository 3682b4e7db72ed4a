"""Which runs narrow a prediction most for their cost: Bayes linear design under competing laws.

Each law, linear in its parameters about the fit, is one case of a mixture whose weights follow from
errors on held-out runs. By the law of total covariance, log losses at any two runs covary by the
parameters' uncertainty within laws and by the difference between laws. That covariance, with the
noise of runs and draws, is all that a design needs: the variance left at the target after some runs
is that of the best linear prediction (Goldstein and Wooff 2007, Bayes linear statistics). Runs are
added one by one and then exchanged (Fedorov 1972, Theory of optimal experiments).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.ask.choices import MOST_RUNS
from distill.laws.curves import curve_of
from distill.laws.fitted import FittedLaw
from distill.laws.fitting import HUBER_DELTA
from distill.laws.intervals import huber_inflation, shared_data
from distill.laws.law import Array
from distill.stats.intervals import LEVEL

PRIOR_SD = 3.0
"""Prior standard deviation of an internal parameter: logs of exponents, floors and amplitudes at
the centre. Without it a parameter that no run determines would outweigh everything."""
MOST_REPEATS = 4
"""Runs of one cell (size, tokens and draw) in a design, at most."""
_LEAST_GAIN = 0.003
"""Share of the variance at the target below which one more run is not worth its place."""
_SPARED = 0.05
"""Share of the gain that may be lost by leaving out runs that matter least."""
_PASSES, _HALVINGS = 4, 7


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
class Problem:
    """What the choice of runs needs; M cells compete.

    Attributes:
        covariance: Of log losses without the runs' own noise, M cells (draws' noise included) and
            the mean curve at the target as the last, shape (M + 1, M + 1).
        noise: Variance of a run's own noise, log units, as much as the robust fit makes of it.
        costs: Of one run of each cell, shape (M,).
        shift: Standard deviation at the target by the sampling of the test set, which no run
            narrows.
        df: Degrees of freedom now.
        log_value: Log of the predicted loss at the target, mean over laws.
        most: Runs of a design, at most.
    """

    covariance: Array
    noise: float
    costs: Array
    shift: float
    df: float
    log_value: float
    most: int = MOST_RUNS

    def spend(self, runs: Sequence[int]) -> float:
        """Cost of some runs, cells by number."""
        return float(self.costs[list(runs)].sum())

    def half(self, runs: Sequence[int] = ()) -> float:
        """Half width of the 90 % interval of the mean curve at the target after some runs, log."""
        variance, _ = self.gains(runs)
        t = student_t.ppf(0.5 + LEVEL / 2, self.df + len(runs))
        return float(np.hypot(np.sqrt(variance) * t, self.shift * norm.ppf(0.5 + LEVEL / 2)))

    def gains(self, runs: Sequence[int]) -> tuple[float, Array]:
        """Variance at the target after some runs, and how much one more run of each cell takes."""
        k, at = self.covariance, list(runs)
        spread, to_target = np.diag(k).copy(), k[-1].copy()
        if at:
            noisy = k[np.ix_(at, at)] + self.noise * np.eye(len(at))
            seen = np.linalg.solve(np.linalg.cholesky(noisy), k[at])
            spread -= (seen**2).sum(axis=0)
            to_target -= seen[:, -1] @ seen
        gains = to_target[:-1] ** 2 / (np.maximum(spread[:-1], 0.0) + self.noise)
        return max(float(spread[-1]), 0.0), gains


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
    misfit: Array,
    most: int = MOST_RUNS,
    old: Draws | None = None,
    new: Draws | None = None,
) -> Problem:
    """The problem of a target under some laws.

    Args:
        laws: Which compete, the chosen one first.
        fitted: Per law, its inputs at the n runs that it was fitted to, shape (n,) each.
        places: Inputs of laws at the M cells and the target as the last, shape (M + 1,) each.
        costs: Of one run of each cell, shape (M,).
        misfit: Variance of the cells about every law, in units of a run's noise, shape (M,): what
            repeats do not average out. Cells of one size and tokens share it.
        most: Runs of a design, at most.
        old: Draws of the n runs; None where runs share none.
        new: Draws of the M cells.
    """
    weights, cells = law_weights(laws), len(costs)
    means, covariance = np.empty((len(laws), cells + 1)), np.zeros((cells + 1, cells + 1))
    noise, drawn, shift = 0.0, 0.0, 0.0
    overlap = None if old is None or new is None else _overlap(old, new)
    for place, (law, weight, inputs) in enumerate(zip(laws, weights, fitted, strict=True)):
        curve = curve_of(law)
        means[place], rows = curve.log(places)
        uncertain = curve.uncertainty
        spread = uncertain.variances[0] * uncertain.by_run
        spread = _with_prior(spread + uncertain.variances[1] * uncertain.by_draw)
        covariance += weight * rows @ spread @ rows.T
        if overlap is not None:
            # A new run of an old draw shares noise with the runs that were fitted.
            _, jacobian = curve.log(inputs)
            scale = np.linalg.norm(jacobian, axis=0)
            scale = np.where(scale > 0, scale, 1.0)
            hat = np.linalg.pinv(jacobian / scale, rcond=1e-3) / scale[:, None]
            common = -uncertain.variances[1] * rows @ hat @ overlap[0]
            covariance[:, :-1] += weight * common
            covariance[:-1] += weight * common.T
        # The robust fit takes from a run as much as least squares from a noisier one.
        robust = huber_inflation(HUBER_DELTA / uncertain.run_sd)
        noise += weight * (uncertain.run_sd**2 * robust - uncertain.variances[1])
        drawn += weight * uncertain.variances[1]
        shift += weight * float(rows[-1] @ uncertain.shift)
    away = means - weights @ means
    covariance += (weights[:, None] * away).T @ away
    if overlap is not None:
        covariance[:-1, :-1] += drawn * overlap[1]
    at = np.stack([places[name][:-1] for name in ("params", "tokens") if name in places])
    same = (at[:, :, None] == at[:, None, :]).all(axis=0)
    covariance[:-1, :-1] += noise * np.where(same, misfit, 0.0)
    return Problem(
        covariance=_positive(covariance),
        noise=float(noise),
        costs=costs,
        shift=abs(shift),
        df=curve_of(laws[0]).uncertainty.df,
        log_value=float(weights @ means[:, -1]),
        most=most,
    )


def _overlap(old: Draws, new: Draws) -> tuple[Array, Array]:
    """Correlations of the draws' noise, shapes (n, M) and (M, M)."""
    tokens, pool, draw = (
        np.concatenate([getattr(old, name), getattr(new, name)])
        for name in ("tokens", "pool", "draw")
    )
    shared, count = shared_data(tokens, pool, draw), len(old.tokens)
    return shared[:count, count:], shared[count:, count:]


def _with_prior(spread: Array) -> Array:
    """A covariance of internal parameters with a prior of `PRIOR_SD` for each."""
    prior = PRIOR_SD**2 * np.eye(len(spread))
    return np.asarray(prior - prior @ np.linalg.solve(spread + prior, prior))


def _positive(covariance: Array) -> Array:
    """The nearest covariance without negative directions, which rounding leaves."""
    values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((axes * np.maximum(values, 0.0)) @ axes.T)


def best_runs(problem: Problem, budget: float) -> list[int]:
    """Cells whose runs narrow the target most for a budget, a number for each run.

    Runs that hardly matter are left out at the end.
    """
    best = _exchanged(problem, budget)
    least = problem.half(best)
    return sorted(_pruned(problem, best, least + _SPARED * (problem.half() - least)))


def _exchanged(problem: Problem, budget: float) -> list[int]:
    """Filled by gain per cost, by gain alone and between; then each run in turn leaves if others
    use its cost better.
    """
    designs = [_filled(problem, budget, [], power) for power in (1.0, 0.5, 0.0)]
    best = min(designs, key=problem.half)
    for _ in range(_PASSES):
        before = problem.half(best)
        for place in range(len(best)):
            rest = best[:place] + best[place + 1 :]
            for power in (1.0, 0.0):
                other = _filled(problem, budget, rest, power)
                if problem.half(other) < problem.half(best) * (1 - 1e-6):
                    best = other
                    break
            if place + 1 >= len(best):
                break
        if problem.half(best) > before * (1 - 1e-3):
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
    high = min(high, problem.spend(_pruned(problem, best, half)))
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        runs = _exchanged(problem, middle)
        if problem.half(runs) <= half:
            best, high = runs, min(middle, problem.spend(runs))
        else:
            low = middle
    return sorted(_pruned(problem, best, half))


def _pruned(problem: Problem, runs: Sequence[int], half: float) -> list[int]:
    """The runs without those that the half width does not need, the most expensive first."""
    kept = list(runs)
    for cell in sorted(runs, key=lambda cell: -float(problem.costs[cell])):
        rest = list(kept)
        rest.remove(cell)
        if problem.half(rest) <= half:
            kept = rest
    return kept


def without_each(problem: Problem, runs: Sequence[int]) -> list[float]:
    """Half width at the target, log units, if a run is left out: one for each run."""
    return [problem.half([*runs[:place], *runs[place + 1 :]]) for place in range(len(runs))]


def ends(problem: Problem, runs: Sequence[int] = ()) -> dict[str, Any]:
    """The interval at the target after some runs: half (share of the loss), low and high.

    `half` is exp(half width in logs) - 1.
    """
    half = problem.half(runs)
    with np.errstate(over="ignore"):
        found = {
            "half": np.expm1(half),
            "low": np.exp(problem.log_value - half),
            "high": np.exp(problem.log_value + half),
        }
    return {name: float(x) if np.isfinite(x) else None for name, x in found.items()}
