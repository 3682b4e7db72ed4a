"""The best ratio of teacher to student, claimed only where an optimum shows inside the range.

Within a cell (students equal in all but the teacher) the log of the score is regressed on the log
of N_t/N_s and its square. The optimum is where the slope b + 2 c x vanishes; its interval is
Fieller's (1954): all x whose slope does not differ from 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from distill.answers.answer import Answer, Need
from distill.answers.laws.needs import need_draws, need_teachers
from distill.answers.needs import need_reference
from distill.contracts.points import MEASURES
from distill.laws.common_text import scored_on
from distill.laws.law import Array
from distill.laws.points import levels
from distill.stats.intervals import LEVEL, Estimate

KEY = "teacher_ratio"
LEAST_TEACHERS = 3
_CELL = ("student", "method", "cache", "curation", "init", "group")


@dataclass(frozen=True)
class Curvature:
    """Regression of log score on x = log N_t/N_s within cells.

    Attributes:
        slope: b.
        curve: c, with its interval.
        optimum: The best ratio with Fieller's interval; None where the curvature's reaches 0.
        low: Smallest ratio measured.
        high: Largest.
        points: Means per cell and teacher.
        df: Degrees of freedom.
    """

    slope: float
    curve: Estimate
    optimum: Estimate | None
    low: float
    high: float
    points: int
    df: int


def curvature(ratio: Array, score: Array, cell: np.ndarray) -> Curvature | None:
    """Fit the parabola in log ratio, with one level per cell.

    Args:
        ratio: N_t/N_s, shape (n,).
        score: Loss, positive, shape (n,).
        cell: Label of the cell, shape (n,).

    Returns:
        None where slope and curvature are not determined or no degree of freedom is left.
    """
    middle = float(np.log(ratio).mean())
    x, y = np.log(ratio) - middle, np.log(score)
    _, place = np.unique(cell, return_inverse=True)

    def within(values: Array) -> Array:
        return values - (np.bincount(place, weights=values) / np.bincount(place))[place]

    design = np.stack([within(x), within(x**2)], axis=1)
    df = len(x) - int(place.max()) - 1 - 2
    if (
        df < 1
        or np.linalg.matrix_rank(design, tol=1e-9 * float(np.linalg.norm(design) + 1e-30)) < 2
    ):
        return None
    inverse = np.linalg.inv(design.T @ design)
    b, c = inverse @ design.T @ within(y)
    residual = within(y) - design @ np.array([b, c])
    covariance = inverse * max(float(residual @ residual) / df, 1e-24)
    t = float(student_t.ppf(0.5 + LEVEL / 2, df))
    half = t * float(np.sqrt(covariance[1, 1]))
    curve = Estimate.around(float(c), half)
    optimum = None
    if curve.sign > 0:
        # (b + 2 c x)^2 <= t^2 var(b + 2 c x): a quadratic in x with two real roots as c is not 0.
        p = 4 * (c**2 - t**2 * covariance[1, 1])
        q = 4 * (b * c - t**2 * covariance[0, 1])
        r = b**2 - t**2 * covariance[0, 0]
        root = np.sqrt(max(q**2 - 4 * p * r, 0.0))
        ends = [(-q - root) / (2 * p), (-q + root) / (2 * p), -b / (2 * c)]
        low, high, best = (float(np.exp(end + middle)) for end in ends)
        optimum = Estimate(best, None, low, high)
    return Curvature(float(b), curve, optimum, float(ratio.min()), float(ratio.max()), len(x), df)


def teacher_ratio_answers(rows: pd.DataFrame) -> list[Answer]:
    """The best ratio of teacher to student over all methods' cells, or why it is not determined."""
    column = scored_on(rows)
    score = column or "loss"
    fits: dict[str, Curvature | None] = {}
    teachers: dict[str, int] = {}
    for size in MEASURES:
        sizes = rows[[f"teacher_{size}", size, score]].to_numpy(dtype=float)
        known = rows[(np.isfinite(sizes) & (sizes > 0)).all(axis=1)]
        counts = known[f"teacher_{size}"].to_numpy(dtype=float)
        teachers[size] = int(levels(counts, "params").max()) + 1 if len(known) else 0
        if teachers[size] >= LEAST_TEACHERS:
            fits[size] = _measured(known, size, score)
    count = max(teachers.values())
    numbers: dict[str, Any] = {"teachers": count}
    more_teachers = need_teachers(max(LEAST_TEACHERS, count + 1), count)
    if count < LEAST_TEACHERS:
        return _refused("few_teachers", numbers, need_teachers(LEAST_TEACHERS, count))
    if column is None:
        return _refused("no_reference", numbers, need_reference())
    size = "params" if "params" in fits else next(iter(fits))
    fit = fits[size]
    numbers |= {"judged_on": column, "size": size}
    numbers["measures"] = {name: _numbers(one) for name, one in fits.items()}
    if fit is None:
        return _refused("few_cells", numbers, more_teachers)
    numbers |= {"ratio_low": fit.low, "ratio_high": fit.high, "points": fit.points}
    numbers |= fit.curve.ends("curvature")
    if fit.optimum is None:
        return _refused("no_curvature", numbers, need_draws(rows))
    low, high = fit.optimum.low or 0.0, fit.optimum.high or np.inf
    numbers |= fit.optimum.ends()
    if not (fit.low < low and high < fit.high):
        return _refused("at_the_end", numbers, more_teachers)
    return [Answer(KEY, numbers=numbers)]


def _refused(reason: str, numbers: dict[str, Any], need: Need) -> list[Answer]:
    return [Answer(KEY, {}, "cannot_tell", numbers | {"reason": reason}, (need,))]


def _measured(rows: pd.DataFrame, size: str, column: str) -> Curvature | None:
    """Means over draws and seeds, per cell and teacher, then the parabola."""
    ranks = levels(rows["tokens"].to_numpy(dtype=float), "tokens")
    epochs = levels(rows["epochs"].to_numpy(dtype=float), "epochs")
    table = pd.DataFrame(
        {
            "cell": [
                "|".join([*map(str, key), str(r), str(e)])
                for key, r, e in zip(
                    rows[list(_CELL)].itertuples(index=False), ranks, epochs, strict=True
                )
            ],
            "teacher": rows[f"teacher_{size}"].to_numpy(dtype=float),
            "ratio": rows[f"teacher_{size}"].to_numpy(float) / rows[size].to_numpy(float),
            "score": rows[column].to_numpy(dtype=float),
        }
    )
    means = table.groupby(["cell", "teacher"], sort=False).mean(numeric_only=True).reset_index()
    several = means.groupby("cell")["teacher"].transform("nunique") > 1
    means = means[several.to_numpy()]
    if means.empty:
        return None
    return curvature(means["ratio"].to_numpy(), means["score"].to_numpy(), means["cell"].to_numpy())


def _numbers(fit: Curvature | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    optimum = fit.optimum.ends() if fit.optimum else None
    return {"curvature": fit.curve.ends(), "optimum": optimum, "df": fit.df}
