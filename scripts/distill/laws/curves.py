"""Fitted laws as curves that can be compared: differences with intervals, groups, and words.

Two laws of one study are compared by the delta method. Their runs are taken as independent, which
is on the safe side where both learned the same draws of the data; the test set, which all share,
moves both laws together, so only the difference of its two shifts counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from distill.laws.choice import Fitted
from distill.laws.fitted import FittedLaw
from distill.laws.intervals import Uncertainty, uncertainty_of
from distill.laws.law import Array, Law
from distill.laws.points import Points, levels, record_range
from distill.laws.table import law_table
from distill.stats.intervals import LEVEL, Interval

GROUP_KEYS = ("teacher", "method", "cache", "curation", "init", "group")
"""What the runs of one law over size share; initialisations are never pooled."""
SIZE_NAMES = {"params": "all parameters", "params_non_embedding": "parameters without embeddings"}
NO_NAMES = ("", "none", "nan", "None", "raw")
SIZE_RANGE = 20.0
"""An exponent in N is claimed only where sizes span this factor."""
REACH = 4.0
"""Beyond this factor outside what was fitted, a law's prediction is not offered as an answer."""


@dataclass(frozen=True)
class Curve:
    """A fitted law with its uncertainty.

    Attributes:
        law: Which.
        theta: Internal parameters, shape (P,).
        centre: Mean logs of its inputs.
        found: Its uncertainty.
        range: Lowest and highest value of each input that was fitted.
    """

    law: Law
    theta: Array
    centre: Mapping[str, float]
    found: Uncertainty
    range: Mapping[str, Sequence[float]]

    def log(self, inputs: Mapping[str, Any]) -> tuple[Array, Array]:
        """Log prediction, shape (m,), and its gradient as rows, shape (m, P)."""
        value, gradient = self.law.curve(self.theta, self.law.centred(inputs, self.centre))
        return value, gradient.T

    def samples(self, count: int, seed: int) -> Array:
        """Internal parameters drawn from their multivariate t distribution, shape (count, P)."""
        rng = np.random.default_rng(seed)
        found = self.found
        covariance = found.variances[0] * found.by_run + found.variances[1] * found.by_draw
        values, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        noise = rng.normal(size=(count, len(values))) * np.sqrt(np.maximum(values, 0.0)) @ axes.T
        noise *= np.sqrt(found.df / rng.chisquare(found.df, size=(count, 1)))
        return self.theta + noise + rng.normal(size=(count, 1)) * found.shift


def curve_of(law: FittedLaw) -> Curve:
    """The curve of a law of laws.json."""
    state = law.record["state"]
    theta = np.array(state["theta"], dtype=np.float64)
    return Curve(law.law, theta, state["centre"], uncertainty_of(state), law.range)


def curve_of_fit(fitted: Fitted, points: Points) -> Curve:
    """The curve of a law fitted here."""
    ranges = record_range(points, fitted.law.inputs)
    return Curve(fitted.law, fitted.fit.theta, fitted.fit.centre, fitted.found, ranges)


def differences(
    first: Curve, first_rows: Array, second: Curve | None = None, second_rows: Array | None = None
) -> Array:
    """Half widths of 90 % intervals of linear functions of one law's parameters, or two laws'.

    Args:
        first: A law.
        first_rows: Gradients by its internal parameters, shape (m, P).
        second: Another law, subtracted; None for one law alone.
        second_rows: The same of the other, shape (m, P').

    Returns:
        Shape (m,). Degrees of freedom by Satterthwaite 1946.
    """
    variance, doubt, shift = _spread(first, first_rows)
    if second is not None and second_rows is not None:
        more, unsure, moved = _spread(second, second_rows)
        variance, doubt, shift = variance + more, doubt + unsure, shift - moved
    with np.errstate(divide="ignore", invalid="ignore"):
        df = 2 * variance**2 / doubt
    df = np.maximum(np.where(np.isfinite(df), df, 1.0), 1.0)
    t, z = student_t.ppf(0.5 + LEVEL / 2, df), norm.ppf(0.5 + LEVEL / 2)
    return np.sqrt(np.maximum(variance, 0.0) * t**2 + (shift * z) ** 2)


def _spread(curve: Curve, rows: Array) -> tuple[Array, Array, Array]:
    """Variance, its own variance, and shift by the test set, of linear functions of parameters."""
    found = curve.found
    parts = np.stack([((rows @ base) * rows).sum(axis=1) for base in (found.by_run, found.by_draw)])
    doubt = np.einsum("im,ij,jm->m", parts, found.doubt, parts)
    return found.variances @ parts, doubt, rows @ found.shift


def coefficient_difference(first: Curve, second: Curve, name: str) -> Interval:
    """A coefficient of the first law minus the same of the second."""
    values, rows = [], []
    for curve in (first, second):
        natural, jacobian = curve.law.natural(curve.theta, curve.centre)
        place = curve.law.names.index(name)
        values.append(float(natural[place]))
        rows.append(jacobian[place][None, :])
    half = float(differences(first, rows[0], second, rows[1])[0])
    gap = values[0] - values[1]
    return Interval(gap, gap - half, gap + half)


def law_rows(runs: pd.DataFrame, references: Mapping[str, Any] | None) -> pd.DataFrame:
    """The trained runs as points of laws, with the reference text's score beside.

    A user's own table may leave `samples` empty: its rows are all trained. A table of laws
    (`law_table`, `own_table`) passes as it is.

    Returns:
        The columns of `law_table`, and `reference`: bits per byte on the reference text, else nats
        per token there, null without one.
    """
    if {"tokens", "epochs", "gap"} <= set(runs.columns):
        return runs.reset_index(drop=True).assign(reference=np.nan)
    table = runs.copy()
    samples = pd.to_numeric(table["samples"], errors="coerce")
    unique = pd.to_numeric(table["tokens_unique"], errors="coerce")
    table["samples"] = samples.where(samples.notna(), unique).fillna(0)
    for name in ("seed", "draw"):
        given = table[name] if name in table else pd.Series(0, index=table.index)
        table[name] = pd.to_numeric(given).fillna(0)
    for name in ("updates", "train_flops", "loss_teacher", "kl_teacher", "loss_stderr"):
        table[name] = pd.to_numeric(table[name]) if name in table else np.nan
    table = table[table["samples"] > 0]
    out = law_table(table, references)
    for name in ("teacher_params", "teacher_params_non_embedding"):
        if name in table:
            out[name] = pd.to_numeric(table[name]).to_numpy(dtype=float)
    out["reference"] = np.nan
    for name in ("reference_loss", "reference_bits_per_byte"):
        if name in table:
            values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=float)
            if len(values) and np.isfinite(values).all():
                out["reference"] = values
    return out


def group_of(law: FittedLaw) -> tuple[str, ...]:
    """The values of `GROUP_KEYS` of a law."""
    return tuple(str(law.selected.get(key) or "") for key in GROUP_KEYS)


def grid_laws(
    laws: Sequence[FittedLaw], target: str, size: str
) -> dict[tuple[str, ...], FittedLaw]:
    """Per group, the smooth law over size whose exponents are reported.

    The best law where it is smooth, else Chinchilla's, else the power law in size alone.
    """
    found: dict[tuple[str, ...], FittedLaw] = {}
    for names in (("size_power",), ("chinchilla",), ("chinchilla_constrained",)):
        for law in laws:
            if (
                law.name in names
                and law.target == target
                and law.selected.get("size") == size
                and law.selected.get("student") is None
                and law.selected.get("teacher") is not None
                and not (law.name == "chinchilla_constrained" and not law.best)
            ):
                found[group_of(law)] = law
    return found


def rows_of(rows: pd.DataFrame, selected: Mapping[str, Any]) -> pd.DataFrame:
    """The runs of a law's group."""
    keep = np.ones(len(rows), dtype=bool)
    for key in (*GROUP_KEYS, "student"):
        if selected.get(key) is not None:
            keep &= (rows[key].astype(str) == str(selected[key])).to_numpy()
    return rows[keep]


def epochs_of(rows: pd.DataFrame) -> float:
    """The commonest number of epochs of some runs, which laws without epochs are fitted at."""
    epochs = rows["epochs"].to_numpy(dtype=float)
    ranks = levels(epochs, "epochs")
    return float(np.median(epochs[ranks == np.bincount(ranks).argmax()]))


def label_of(selected: Mapping[str, Any]) -> str:
    """Name a group of runs, by what of its keys says something."""
    parts = []
    for key, pattern in (
        ("student", "student {}"), ("method", "{}"), ("cache", "cache {}"), ("init", "{} start"),
        ("curation", "curation {}"), ("group", "{}"), ("teacher", "teacher {}"),
    ):  # fmt: skip
        value = selected.get(key)
        if value is not None and str(value) not in NO_NAMES:
            parts.append(pattern.format(value))
    return " · ".join(parts) or "all runs"


def selected_of(key: Sequence[str]) -> dict[str, Any]:
    """What a group's key selects."""
    return dict(zip(GROUP_KEYS, key, strict=True))
