"""The best ratio of teacher to student, claimed only where an optimum shows inside the range.

Within a cell (students equal in all but the teacher) the log of the score is regressed on the log
of N_t/N_s and its square. The optimum is where the slope b + 2 c x vanishes; its interval is
Fieller's (1954): all x whose slope is not told from 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from distill.answers.laws.pairs import scored_on
from distill.answers.record import cannot_tell, law_record
from distill.laws.curves import SIZE_NAMES
from distill.laws.law import Array
from distill.laws.points import levels
from distill.stats.intervals import LEVEL, Interval, number

RATIO = "Which ratio of teacher to student is best?"
LEAST_TEACHERS = 3
_CELL = ("student", "method", "cache", "curation", "init", "group")
NEEDS = (
    "at least 3 teachers of different sizes for the same students and data, on both sides of the "
    "optimum, and enough draws to tell a curve from a line"
)


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
    curve: Interval
    optimum: Interval | None
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
    curve = Interval(float(c), float(c) - half, float(c) + half)
    optimum = None
    if curve.sign > 0:
        # (b + 2 c x)^2 <= t^2 var(b + 2 c x): a quadratic in x with two real roots as c is not 0.
        p = 4 * (c**2 - t**2 * covariance[1, 1])
        q = 4 * (b * c - t**2 * covariance[0, 1])
        r = b**2 - t**2 * covariance[0, 0]
        root = np.sqrt(max(q**2 - 4 * p * r, 0.0))
        ends = [(-q - root) / (2 * p), (-q + root) / (2 * p), -b / (2 * c)]
        low, high, best = (float(np.exp(end + middle)) for end in ends)
        optimum = Interval(best, low, high)
    return Curvature(float(b), curve, optimum, float(ratio.min()), float(ratio.max()), len(x), df)


def teacher_ratio_answers(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The best ratio of teacher to student over all methods' cells, or why it cannot be told."""
    column, text = scored_on(rows)
    found: dict[str, Curvature | None] = {}
    teachers: dict[str, int] = {}
    for size in SIZE_NAMES:
        sizes = rows[[f"teacher_{size}", size, column]].to_numpy(dtype=float)
        known = rows[(np.isfinite(sizes) & (sizes > 0)).all(axis=1)]
        counts = known[f"teacher_{size}"].to_numpy(dtype=float)
        teachers[size] = int(levels(counts, "params").max()) + 1 if len(known) else 0
        if teachers[size] >= LEAST_TEACHERS:
            found[size] = _measured(known, size, column)
    known_teachers = max(teachers.values())
    if known_teachers < LEAST_TEACHERS:
        because = f"the number of teachers whose size is known is {known_teachers}"
        return [cannot_tell(RATIO, None, because, NEEDS, "",
                            {"teachers": known_teachers})]  # fmt: skip
    size = "params" if "params" in found else next(iter(found))
    fit = found[size]
    numbers: dict[str, Any] = {"teachers": known_teachers, "judged_on": column, "size": size}
    numbers["measures"] = {name: _numbers(one) for name, one in found.items()}
    if fit is None:
        return [cannot_tell(RATIO, None, "too few students met several teachers at equal data",
                            NEEDS, "", numbers)]  # fmt: skip
    evidence = (
        f"A parabola in log N_t/N_s ({SIZE_NAMES[size]}) within equal students and data, judged "
        f"on {text}: {fit.points} means of cell and teacher, {known_teachers} teachers, ratios "
        f"{number(fit.low)} to {number(fit.high)}; curvature {fit.curve.text()}."
    )
    numbers |= {"ratio_low": fit.low, "ratio_high": fit.high, **fit.curve.numbers("curvature")}
    if fit.optimum is None:
        because = "the curvature's interval does not lie above 0"
        return [cannot_tell(RATIO, None, because, NEEDS, evidence, numbers)]
    low, high = fit.optimum.low or 0.0, fit.optimum.high or np.inf
    numbers |= fit.optimum.numbers()
    if not (fit.low < low and high < fit.high):
        because = (
            f"the optimum, {fit.optimum.text()}, is not clear of the ends of what was measured"
        )
        return [cannot_tell(RATIO, None, because, NEEDS, evidence, numbers)]
    answer = f"A teacher {fit.optimum.text()} times the student's size, in {SIZE_NAMES[size]}."
    return [law_record(RATIO, None, answer, evidence, numbers)]


def _measured(rows: pd.DataFrame, size: str, column: str) -> Curvature | None:
    """Means over draws and seeds, per cell and teacher, then the parabola."""
    ranks = levels(rows["tokens"].to_numpy(dtype=float), "tokens")
    epochs = levels(rows["epochs"].to_numpy(dtype=float), "epochs")
    table = pd.DataFrame({
        "cell": ["|".join([*map(str, key), str(r), str(e)]) for key, r, e in
                 zip(rows[list(_CELL)].itertuples(index=False), ranks, epochs, strict=True)],
        "teacher": rows[f"teacher_{size}"].to_numpy(dtype=float),
        "ratio": rows[f"teacher_{size}"].to_numpy(float) / rows[size].to_numpy(float),
        "score": rows[column].to_numpy(dtype=float),
    })  # fmt: skip
    means = table.groupby(["cell", "teacher"], sort=False).mean(numeric_only=True).reset_index()
    several = means.groupby("cell")["teacher"].transform("nunique") > 1
    means = means[several.to_numpy()]
    if means.empty:
        return None
    return curvature(means["ratio"].to_numpy(), means["score"].to_numpy(), means["cell"].to_numpy())


def _numbers(fit: Curvature | None) -> dict[str, Any] | None:
    if fit is None:
        return None
    optimum = fit.optimum.numbers() if fit.optimum else None
    return {"curvature": fit.curve.numbers(), "optimum": optimum, "df": fit.df}
