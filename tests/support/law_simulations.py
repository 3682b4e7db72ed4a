"""Simulated studies on a study's own grid, with noise that draws share, for the laws' tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import COLUMNS
from distill.laws.choice import Fitted, Settings, choose, fit_points
from distill.laws.forms import LAWS
from distill.laws.intervals import coefficients, half_widths
from distill.laws.judging import evaluate_holdout
from distill.laws.law import Law
from distill.laws.points import Points

TRUTH = {"E": 1.6, "A": 60.0, "alpha": 0.33, "B": 500.0, "beta": 0.40}
BREAK = {"N_c": 2e5, "delta": 0.05}
SIZES = (1e5, 3e5, 6e5, 1.3e6, 4e6, 1e7)
TOKENS = tuple(0.125e6 * 2**k for k in range(6))
SUPERVISED = {"E": 1.220, "A": 3355.0, "alpha": 0.408, "B": 18186.0, "beta": 0.431, "gamma": 0.452}
DISTILLED = {
    "A": 2243.0, "alpha": 0.321, "B": 24181.0, "beta": 0.637, "gamma": 0.764,
    "c0": 2.549, "c1": 522.6, "f1": 0.090, "d1": 1.315,
}  # fmt: skip
"""Busbridge et al. 2025, Table 6."""
PAPER = {**{f"{name}_supervised": value for name, value in SUPERVISED.items()}, **DISTILLED}


@dataclass(frozen=True)
class Noise:
    """Relative noise of a run, the draw's share of its variance, and of the test set."""

    run: float = 0.01
    share: float = 0.4
    test_set: float = 0.005


def simulate(
    rng: np.random.Generator, law: Law, truth: Mapping[str, float], noise: Noise
) -> Points:
    """A study of 6 sizes x 6 numbers of tokens, a second draw below the two largest numbers.

    A draw's noise at D tokens is that of the mean of D independent ones, so prefixes share it.
    """
    grid = [
        (size, tokens, draw)
        for size in SIZES
        for place, tokens in enumerate(TOKENS)
        for draw in ((0, 1) if place < 4 else (0,))
    ]
    params, tokens, draw = (np.array(column) for column in zip(*grid, strict=True))
    values = {
        "params": params, "tokens": tokens, "epochs": np.ones(len(grid)),
        "teacher_loss": np.full(len(grid), 1.6), "teacher_params": np.full(len(grid), 1e8),
    }  # fmt: skip
    log = np.log(law.predict(truth, values))
    log += noise.run * np.sqrt(1 - noise.share) * rng.normal(size=len(grid))
    place = np.searchsorted(TOKENS, tokens)
    for which in (0, 1):
        steps = rng.normal(size=len(TOKENS)) * np.sqrt(np.diff([0.0, *TOKENS]))
        walk = np.cumsum(steps) / np.sqrt(TOKENS)
        log += np.where(draw == which, noise.run * np.sqrt(noise.share) * walk[place], 0.0)
    log += noise.test_set * rng.normal()
    return Points(
        values=values,
        target=np.exp(log),
        gap=np.full(len(grid), np.nan),
        stderr=np.full(len(grid), noise.test_set),
        compute=params * tokens,
        teacher=np.full(len(grid), "teacher", dtype=object),
        student=params.astype(str),
        draw=draw,
        rows=np.arange(len(grid)),
    )


def coverage(
    studies: int,
    law: Law,
    truth: Mapping[str, float],
    candidates: Sequence[Law],
    noise: Noise | None = None,
) -> dict[str, Any]:
    """Shares of intervals that hold the truth, laws chosen anew in every study.

    Predictions are asked for at five points, inside the grid and up to 4 times beyond it.
    """
    noise = noise or Noise()
    where = {
        "params": np.array([1e5, 1e6, 1e7, 1e7, 3e7]),
        "tokens": np.array([1e6, 1e6, 4e6, 8e6, 16e6]),
    }
    real = np.log(law.predict(truth, where))
    hits: dict[str, list[Any]] = {name: [] for name in ("curve", "run", "held", "score", "wins")}
    known: dict[str, list[bool]] = {name: [] for name in truth}
    for study in range(studies):
        rng = np.random.default_rng([7, study])
        points = simulate(rng, law, truth, noise)
        winner, _, fits = choose(candidates, points, Settings(), _from_truth)
        best = fits[winner]
        log, gradient = best.law.curve(best.fit.theta, best.law.centred(where, best.fit.centre))
        curve, run = half_widths(gradient, best.uncertainty)
        new = real + noise.run * rng.normal(size=len(real))
        miss = np.abs(log - new) - run
        hits["curve"].append(np.abs(log - real) <= curve)
        hits["run"].append(miss <= 0)
        # Gneiting and Raftery 2007: width plus 2 / (1 - level) times the miss, log units.
        hits["score"].append(2 * run + 20 * np.maximum(miss, 0))
        hits["wins"].append(best.law.name == law.name)
        held = evaluate_holdout(best.law, candidates, points, Settings(), _from_truth)
        hits["held"].append(np.nan if held is None else held["interval_coverage"])
        for name, value in coefficients(best.law, best.fit, best.uncertainty).items():
            if name in truth:
                low = -np.inf if value["low"] is None else value["low"]
                high = np.inf if value["high"] is None else value["high"]
                known[name].append(low <= truth[name] <= high)
    return {
        **{name: float(np.nanmean(found)) for name, found in hits.items()},
        "coefficients": {name: float(np.mean(found)) for name, found in known.items() if found},
    }


def _from_truth(law: Law, points: Points, settings: Settings) -> Fitted:
    """A cheap fit that starts near the truth."""
    centre = {name: float(np.log(points.values[name]).mean()) for name in ("params", "tokens")}
    return fit_points(law, points, settings, law.internal({**BREAK, **TRUTH}, centre))


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table of laws from what rows say; everything else at its default."""
    default = {
        "teacher": "smol", "student": "s", "method": "kd", "cache": "top", "curation": "raw",
        "init": "random", "group": "", "seed": 0, "draw": 0, "params": 1e6,
        "params_non_embedding": np.nan, "tokens": 1e5, "epochs": 1.0, "updates": 10.0,
        "flops": np.nan, "teacher_loss": 1.5, "teacher_params": np.nan,
        "teacher_params_non_embedding": np.nan, "loss": 2.0, "gap": np.nan, "loss_stderr": 0.01,
    }  # fmt: skip
    return pd.DataFrame([{**default, **row} for row in rows], columns=list(COLUMNS))


def chinchilla_rows(
    sizes: Sequence[float] = SIZES,
    tokens: Sequence[float] = TOKENS,
    noise: float = 0.002,
    seed: int = 0,
    **other: Any,
) -> list[dict[str, Any]]:
    """Rows on Chinchilla's law with `TRUTH`, one run per cell."""
    rng = np.random.default_rng(seed)
    law = LAWS["loss"]["chinchilla"]
    rows = []
    for size in sizes:
        for count in tokens:
            loss = float(law.predict(TRUTH, {"params": size, "tokens": count})[0])
            loss *= float(np.exp(noise * rng.normal()))
            rows.append(
                {"student": f"{size:.0f}", "params": size, "tokens": count, "loss": loss,
                 "gap": loss - 1.5, **other}
            )  # fmt: skip
    return rows
