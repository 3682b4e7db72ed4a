"""The size that is best at equal FLOPs, and the power of compute by which it grows.

Hoffmann et al. 2022, Training compute-optimal large language models, approach 2: at each budget of
FLOPs a parabola of the loss in log N has its minimum at N*, and N* is fitted by k C^a.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from distill.contracts.points import GROUP_KEYS
from distill.laws.law import Array
from distill.laws.points import commonest, levels
from distill.stats.intervals import LEVEL, Estimate

LEAST_LEVELS, LEAST_SIZES = 3, 4
"""Budgets for a power law, and sizes for the minimum of one budget."""
_EQUAL, _FEWEST_SLOPED = 1e-3, 6
"""FLOPs of a budget that differ by less, in logs, are equal; runs that determine a slope in them
beside the parabola."""
FLOPS_PER_PRODUCT = 6.0
"""FLOPs of training per parameter and token, where the table has none (Kaplan et al. 2020)."""


@dataclass(frozen=True)
class Minimum:
    """A parabola of the loss in log N at one budget.

    Attributes:
        flops: Geometric mean of its runs' FLOPs.
        product: Median of FLOPs / (parameters x tokens).
        sizes: Distinct sizes.
        log_size: Log of the size at the minimum.
        factor: Its standard error per unit of noise of a run, log units.
        bend: Curvature over its standard error per unit of noise of a run, nats.
        free: Degrees of freedom of its residuals.
        loss: Loss at the minimum, nats per token.
        residuals: Loss minus parabola, nats per token, shape (n,).
    """

    flops: float
    product: float
    sizes: int
    log_size: float
    factor: float
    bend: float
    free: int
    loss: float
    residuals: Array


def fit_isoflops(rows: pd.DataFrame) -> dict[str, Any]:
    """Fit minima at equal FLOPs, and the power law through them, to each group of runs.

    Args:
        rows: Points of laws: `COLUMNS` of `distill.contracts.points`.

    Returns:
        fitted: records of `_record` with `selected`; refused: selected, reason, levels (budgets
        with enough sizes), levels_refused. A group without two sizes is not mentioned.
    """
    fitted, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    for values, group in rows.groupby(list(GROUP_KEYS), sort=False):
        selected = {**dict(zip(GROUP_KEYS, map(str, values), strict=True)), "size": "params"}
        usable = group[
            np.isfinite(group[["params", "tokens", "loss"]].to_numpy(dtype=float)).all(axis=1)
            & (group["loss"] > 0).to_numpy()
        ]
        if usable["params"].nunique() < 2:
            continue
        epochs = levels(usable["epochs"].to_numpy(dtype=float), "epochs")
        common = commonest(usable["epochs"].to_numpy(dtype=float), "epochs")
        entry = _fit(usable[epochs == common])
        (refused if "reason" in entry else fitted).append({"selected": selected, **entry})
    return {"fitted": fitted, "refused": refused}


def _fit(rows: pd.DataFrame) -> dict[str, Any]:
    """The record of one group, or its refusal."""
    size, tokens, loss = (rows[name].to_numpy(dtype=float) for name in ("params", "tokens", "loss"))
    flops = rows["flops"].to_numpy(dtype=float)
    counted = bool((np.isfinite(flops) & (flops > 0)).all())
    seen = tokens * rows["epochs"].to_numpy(dtype=float)
    if not counted:
        flops = FLOPS_PER_PRODUCT * size * seen
    ranks = levels(flops, "compute")
    minima, missed, budgets = list[Minimum](), list[dict[str, Any]](), 0
    for rank in np.unique(ranks):
        here = ranks == rank
        sizes = int(levels(size[here], "params").max()) + 1
        if sizes < LEAST_SIZES:
            continue
        budgets += 1
        found = _minimum(flops[here], size[here], seen[here], loss[here], sizes)
        if isinstance(found, Minimum):
            minima.append(found)
        else:
            mean = float(np.exp(np.log(flops[here]).mean()))
            missed.append({"flops": mean, "sizes": sizes, "reason": found})
    if minima:
        minima, flat = _bent(minima)
        missed += flat
    if budgets < LEAST_LEVELS or len(minima) < LEAST_LEVELS:
        reason = "few_levels" if budgets < LEAST_LEVELS else "few_minima"
        refusal = {"levels": budgets, "minima": len(minima), "levels_refused": missed}
        return {"reason": reason, **refusal}
    return _record(minima, len(rows), counted, missed)


def _noise(minima: Sequence[Minimum]) -> tuple[float, int]:
    """Standard deviation of a run about its parabola, nats, pooled, and degrees of freedom."""
    free = sum(one.free for one in minima)
    square = sum(float(one.residuals @ one.residuals) for one in minima)
    return float(np.sqrt(square / free)), free


def _bent(minima: list[Minimum]) -> tuple[list[Minimum], list[dict[str, Any]]]:
    """The minima of parabolas that are bent beyond the noise, and refusals of the others."""
    noise, free = _noise(minima)
    least = float(student_t.ppf(0.5 + LEVEL / 2, free)) * noise
    clear = [one for one in minima if one.bend > least]
    flat = [
        {"flops": one.flops, "sizes": one.sizes, "reason": "no_minimum"}
        for one in minima
        if one.bend <= least
    ]
    return clear, flat


def _minimum(flops: Array, size: Array, tokens: Array, loss: Array, sizes: int) -> Minimum | str:
    """The minimum of one budget; `no_minimum` or `edge` where the parabola has none inside."""
    logs, budget = np.log(size), np.log(flops)
    centre = logs.mean()
    x = logs - centre
    design = np.stack([np.ones_like(x), x, x * x], axis=1)
    if np.ptp(budget) > _EQUAL and len(loss) >= _FEWEST_SLOPED:
        # Runs of scattered FLOPs: the loss also falls within a budget.
        design = np.column_stack([design, budget - budget.mean()])
    coefficients, *_ = np.linalg.lstsq(design, loss, rcond=None)
    height, slope, curve = (float(one) for one in coefficients[:3])
    if curve <= 0:
        return "no_minimum"
    place = -slope / (2 * curve)
    if not x.min() < place < x.max():
        return "edge"
    gradient = np.zeros(design.shape[1])
    gradient[1:3] = -1 / (2 * curve), slope / (2 * curve**2)
    inverse = np.linalg.pinv(design.T @ design)
    variance = gradient @ inverse @ gradient
    return Minimum(
        flops=float(np.exp(np.log(flops).mean())),
        product=float(np.median(flops / (size * tokens))),
        sizes=sizes,
        log_size=centre + place,
        factor=float(np.sqrt(variance)),
        bend=float(curve / np.sqrt(inverse[2, 2])),
        free=len(loss) - design.shape[1],
        loss=height + slope * place / 2,
        residuals=loss - design @ coefficients,
    )


def _record(
    minima: Sequence[Minimum], runs: int, counted: bool, missed: list[dict[str, Any]]
) -> dict[str, Any]:
    """The power law through the minima, weighted by their errors.

    The noise is pooled over the budgets; where the minima scatter more about the power law than it
    explains, errors grow by that factor (Birge 1932, The calculation of errors by the method of
    least squares).
    """
    noise, free = _noise(minima)
    x, y = np.log([one.flops for one in minima]), np.array([one.log_size for one in minima])
    error = np.maximum(noise * np.array([one.factor for one in minima]), 1e-9)
    weight = error**-2
    mean = float((weight * x).sum() / weight.sum())
    spread = float((weight * (x - mean) ** 2).sum())
    a = float((weight * (x - mean) * y).sum() / spread)
    level = float((weight * y).sum() / weight.sum())
    excess = float((weight * (y - level - a * (x - mean)) ** 2).sum()) / (len(minima) - 2)
    scale = max(1.0, np.sqrt(excess))
    t = float(student_t.ppf(0.5 + LEVEL / 2, free))
    product = float(np.median([one.product for one in minima]))
    last = float(x.max())
    half = t * scale * np.sqrt(1 / weight.sum() + (last - mean) ** 2 / spread)
    largest = _sizes(float(np.exp(last)), product, level + a * (last - mean), float(half))
    return {
        "points": runs,
        "flops_counted": counted,
        "flops_per_product": product,
        "noise": noise,
        "df": free,
        "exponent": Estimate.around(a, t * scale / np.sqrt(spread)).ends(),
        "log_size_at_mean": level,
        "log_flops_mean": mean,
        "scatter": float(np.sqrt(excess)),
        "largest": largest,
        "levels": [_level(one, float(t * e)) for one, e in zip(minima, error, strict=True)],
        "levels_refused": missed,
    }


def _level(one: Minimum, half: float) -> dict[str, Any]:
    """One budget: the best size and tokens per parameter there, with their intervals."""
    known = {"sizes": one.sizes, "runs": len(one.residuals), "loss": one.loss}
    return known | _sizes(one.flops, one.product, one.log_size, half)


def _sizes(flops: float, product: float, log_size: float, half: float) -> dict[str, Any]:
    """A best size and its tokens per parameter, from its log and the half width of that."""
    value, low, high = (float(one) for one in np.exp([log_size, log_size - half, log_size + half]))
    ratio, most, least = (flops / (product * one**2) for one in (value, low, high))
    return {
        "flops": flops,
        "params": {"value": value, "low": low, "high": high},
        "tokens_per_parameter": {"value": ratio, "low": least, "high": most},
    }
