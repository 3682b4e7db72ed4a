"""Which scores of a table follow from which, and why others do not: `relations` of laws.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from distill.contracts.points import GROUP_KEYS, KEYS
from distill.laws.law import Array
from distill.laws.points import Points, cells_of, points_of
from distill.laws.relation_fitting import fit_relation
from distill.laws.relations import (
    FORMULAS,
    LOSS_TO_LOSS,
    SIGMOID,
    SOURCES,
    Relation,
    loss_form,
    sigmoid_form,
)
from distill.laws.size_steps import size_steps, skill_of

RATES = {"pass_rate": "fixed", "pass_rate_large": "large", "accuracy": "accuracy"}
"""Scores that are shares of items, and their names in `floor` and `items` of references.json."""
OTHER_LOSS = "reference_loss"
_ITEMS = "items"
"""Column of a user's own table with the items of its accuracy."""
_BINS = 8
_LEVEL = 0.05
"""A rise, a fall or a distance from the floor is one at this level, all comparisons together."""


@dataclass(frozen=True)
class Pair:
    """Two scores of the runs of a group, n of them.

    Attributes:
        of: Column that is predicted.
        by: `loss`, or `tokens`.
        x: Losses, or logs of tokens, shape (n,).
        y: Shares, or losses, shape (n,).
        items: Items of each share, shape (n,); None where they are not known.
        chance: The share that guessing has; None where it is not known.
        floor: The floor of `by`; None where none is claimed.
        points: The runs.
    """

    of: str
    by: str
    x: Array
    y: Array
    items: Array | None
    chance: float | None
    floor: float | None
    points: Points

    @property
    def rising(self) -> bool:
        """Whether the score is expected to rise with x."""
        return self.of == OTHER_LOSS or self.by == "tokens"

    def where(self, mask: np.ndarray) -> "Pair":
        """The runs that `mask` keeps."""
        items = None if self.items is None else self.items[mask]
        return replace(
            self, x=self.x[mask], y=self.y[mask], items=items, points=self.points.where(mask)
        )

    @property
    def least(self) -> int:
        """Fewest cells of size and data for its relation: two more than coefficients."""
        known = self.floor if self.of == OTHER_LOSS else self.chance
        return 6 if known is None else 5

    def fit(self) -> Relation:
        """Its relation."""
        if self.of == OTHER_LOSS:
            form = loss_form(self.x, self.y, self.floor)
        else:
            form = sigmoid_form(self.x, 1 if self.rising else -1, self.chance)
        return fit_relation(form, self.x, self.y, self.items)


def relate_scores(
    rows: pd.DataFrame,
    references: Mapping[str, Any] | None,
    laws: Sequence[Mapping[str, Any]],
    shared: bool,
) -> dict[str, Any]:
    """Fit every relation that a table allows.

    Args:
        rows: From `trained_rows`; shares are read from the columns `RATES`.
        references: references.json: `floor` and `items` of the shares; None for none.
        laws: Records of laws, for the floors of losses.
        shared: Whether runs share draws and a test set.

    Returns:
        fitted: of, by, form, formula, source, selected, points, items, chance, coefficients,
        residual, dispersion, holdout, range, state; refused: of, by, selected, reason and numbers.
        A group without the score is in neither, nor is a student with too few amounts of data.
    """
    fitted, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    for pair, selected in _pairs(rows, references or {}, laws, shared):
        entry = {"of": pair.of, "by": pair.by, "selected": selected, "points": len(pair.x)}
        refusal = _refusal(pair)
        if refusal is None:
            fitted.append(entry | _record(pair))
        elif not (pair.by == "tokens" and refusal["reason"] == "few_levels"):
            refused.append(entry | refusal)  # each size of scattered runs is a student of its own
    return {"fitted": fitted, "refused": refused}


def _pairs(
    rows: pd.DataFrame,
    references: Mapping[str, Any],
    laws: Sequence[Mapping[str, Any]],
    shared: bool,
) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """Every pair of scores that a group has at two runs or more: by loss, and by data."""
    floors, counts = (references.get(key) or {} for key in ("floor", "items"))
    for of in (*RATES, OTHER_LOSS):
        if of not in rows:
            continue
        score = pd.to_numeric(rows[of], errors="coerce").to_numpy(dtype=float)
        known = np.isfinite(score) & (rows["loss"] > 0).to_numpy()
        known &= (score > 0) if of == OTHER_LOSS else (score >= 0) & (score <= 1)
        kinds = [("loss", GROUP_KEYS)] + ([("tokens", KEYS)] if of in RATES else [])
        for by, keys in kinds:
            usable = rows[known & (rows["tokens"] > 0).to_numpy()]
            for values, group in usable.groupby(list(keys), sort=False):
                if len(group) < 2:
                    continue
                selected: dict[str, Any] = dict.fromkeys(KEYS)
                selected.update(zip(keys, map(str, values), strict=True))
                name = RATES.get(of, "")
                yield (
                    Pair(
                        of=of,
                        by=by,
                        x=group["loss"].to_numpy(dtype=float)
                        if by == "loss"
                        else np.log(group["tokens"].to_numpy(dtype=float)),
                        y=score[group.index.to_numpy()],
                        items=_items(group, of, counts.get(name)),
                        chance=floors.get(name) if of in RATES else None,
                        floor=_floor(laws, selected, float(group["loss"].min()))
                        if of == OTHER_LOSS
                        else None,
                        points=points_of(group, "loss", "params", shared),
                    ),
                    selected,
                )


def _items(group: pd.DataFrame, of: str, stated: Any) -> Array | None:
    """Items of each share; None where any is not known."""
    if of == OTHER_LOSS:
        return None
    if of == "accuracy" and _ITEMS in group:
        items = pd.to_numeric(group[_ITEMS], errors="coerce").to_numpy(dtype=float)
        return items if np.isfinite(items).all() and (items > 0).all() else None
    return None if stated is None else np.full(len(group), float(stated))


def _floor(
    laws: Sequence[Mapping[str, Any]], selected: Mapping[str, Any], lowest: float
) -> float | None:
    """The floor that the chosen law of a group's loss claims, if it does, below the lowest loss."""
    for law in laws:
        same = all(law["selected"].get(key) == selected[key] for key in GROUP_KEYS)
        floor = law.get("floor")
        chosen = law["best"] and law["target"] == "loss" and law["selected"]["size"] == "params"
        if chosen and same and floor and not floor["refused"]:
            value = float(law["coefficients"][floor["name"]]["value"])
            return value if value < lowest else None
    return None


def _refusal(pair: Pair) -> dict[str, Any] | None:
    """Why a pair has no relation, with its numbers; None where it has one."""
    least = pair.least
    cells = int(cells_of(pair.points, ("params", "tokens", "epochs")).max()) + 1
    if cells < least or len(np.unique(pair.x)) < least:
        return {"reason": "few_levels", "levels": cells, "needed": least}
    y, variance = _bins(pair)
    first, second = np.triu_indices(len(y), 1)
    z = (y[second] - y[first]) / np.sqrt(variance[first] + variance[second])
    quantile = float(norm.ppf(1 - _LEVEL / 2 / len(first)))
    rises, falls = bool((z > quantile).any()), bool((z < -quantile).any())
    if pair.chance is not None:
        margin = norm.ppf(1 - _LEVEL / len(y)) * np.sqrt(variance)
        if not (y - pair.chance > margin).any():
            return {"reason": "at_floor", "chance": pair.chance, "highest": float(y.max())}
    wanted, other = (rises, falls) if pair.rising else (falls, rises)
    spread = {"lowest": float(y.min()), "highest": float(y.max())}
    if wanted and other:
        return {"reason": "rises_and_falls", **spread}
    if other:
        return {"reason": "wrong_way", **spread}
    return None if wanted else {"reason": "no_trend", **spread}


def _bins(pair: Pair) -> tuple[Array, Array]:
    """Runs in order of x as at most `_BINS` bins: mean score (a loss's log), and its variance.

    The noise of a run is the larger of the binomial one and that of neighbours in x, second
    differences of which leave a straight trend out (Gasser, Sroka and Jennen-Steinmetz 1986,
    Residual variance and residual pattern in nonlinear regression).
    """
    order = np.argsort(pair.x, kind="stable")
    y = pair.y[order]
    y = np.log(y) if pair.of == OTHER_LOSS else y
    bends = y[1:-1] - (y[:-2] + y[2:]) / 2
    near = float((bends**2).mean() / 1.5)
    parts = np.array_split(np.arange(len(y)), min(_BINS, len(y)))
    means = np.array([y[part].mean() for part in parts])
    noise = np.full(len(parts), near)
    if pair.items is not None:
        items = np.array([pair.items[order][part].mean() for part in parts])
        noise = np.maximum(noise, (means * (1 - means) + 0.25 / items) / items)
    counts = np.array([len(part) for part in parts])
    return means, noise / counts + 1e-12


def _record(pair: Pair) -> dict[str, Any]:
    holdout, rate = _holdout(pair)
    relation = replace(pair.fit(), rate=rate)
    form = LOSS_TO_LOSS if pair.of == OTHER_LOSS else SIGMOID
    items = None if pair.items is None else float(np.median(pair.items))
    return {
        "form": form,
        "formula": FORMULAS[form],
        "source": SOURCES[form],
        "items": items,
        "chance": pair.chance,
        "coefficients": relation.coefficients(),
        "residual": relation.error,
        "dispersion": relation.scale if pair.items is not None else None,
        "holdout": holdout,
        "range": list(relation.range),
        "state": relation.state(),
    }


def _holdout(pair: Pair) -> tuple[dict[str, Any] | None, float]:
    """How well the relation of the smaller size steps predicts the largest one.

    Steps are of compute, of data for a relation to tokens. Errors are of the score itself for a
    share, and relative for a loss. None where the smaller steps determine no relation. And
    `Relation.beyond` of that step, by which intervals beyond the runs are widened.
    """
    inputs = ("tokens",) if pair.by == "tokens" else ("params", "tokens")
    axis, ranks = size_steps(pair.points, inputs)
    top = int(ranks.max())
    # The law whose floor is known has seen the largest step.
    below, there = replace(pair.where(ranks < top), floor=None), pair.where(ranks == top)
    if top < 1 or len(np.unique(below.x)) < below.least:
        return None, 0.0
    relation = below.fit()
    predicted = relation.predict(there.x, there.items)
    unit = there.y if pair.of == OTHER_LOSS else np.ones(len(there.y))
    errors = np.abs(predicted["value"] - there.y) / unit
    last = below.y[ranks[ranks < top] == top - 1]
    x = below.x[ranks[ranks < top] == top - 1]
    nearest = last[np.abs(x[None, :] - there.x[:, None]).argmin(axis=1)]
    simple = np.abs(nearest - there.y) / unit
    inside = (predicted["run_low"] <= there.y) & (there.y <= predicted["run_high"])
    record = {
        "axis": axis,
        "runs": len(there.x),
        "mean_error": float(errors.mean()),
        "max_error": float(errors.max()),
        "simple_error": float(simple.mean()),
        "skill": skill_of(errors, simple, relation.error),
        "interval_coverage": float(inside.mean()),
        "predicted": [
            {
                "x": float(there.x[row]),
                "measured": float(there.y[row]),
                **{
                    name: float(predicted[key][row])
                    for name, key in (
                        ("predicted", "value"),
                        ("low", "run_low"),
                        ("high", "run_high"),
                    )
                },
            }
            for row in range(len(there.x))
        ],
    }
    return record, relation.beyond(there.x, there.y, there.items)
