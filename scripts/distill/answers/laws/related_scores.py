"""What score goes with a loss, or with twice the data: pass rates, accuracies, another text's loss.

The relations are in laws.json (`distill.laws.related_scores`); nothing is fitted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.contracts.points import GROUP_KEYS
from distill.laws.fitted import FittedLaw
from distill.laws.points import commonest_epochs
from distill.laws.related_scores import OTHER_LOSS
from distill.laws.relations import Relation
from distill.laws.runs import group_rows

TASK, OTHER = "task_score", "other_loss"
_BEYOND = 0.5
"""A loss below the lowest one measured by more than this share of their range is too far."""


def score_answers(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    document: Mapping[str, Any],
    target: float | None,
) -> list[Answer]:
    """One answer for each score and group of runs that has it.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        document: laws.json; `relations` is read.
        target: A loss that the user states, nats per token; None for none.
    """
    relations = document.get("relations") or {"fitted": [], "refused": []}
    records = [*relations["fitted"], *relations["refused"]]
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for record in records:
        key = tuple(record["selected"][name] for name in GROUP_KEYS)
        groups.setdefault((record["of"], key), []).append(record)
    return [_answer(rows, laws, several, target) for several in groups.values()]


def _answer(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    records: Sequence[Mapping[str, Any]],
    target: float | None,
) -> Answer:
    """The answer about one score of one group: by loss, and student by student by data."""
    of = records[0]["of"]
    selected = {**records[0]["selected"], "student": None}
    group = group_rows(rows, selected)
    numbers: dict[str, Any] = {"of": of, "by_loss": None, "by_data": [], "refused": []}
    for record in records:
        if "reason" in record:
            same = ("by", "reason", "levels", "needed", "chance", "lowest", "highest")
            entry = {name: record[name] for name in same if name in record}
            numbers["refused"].append({**entry, "student": record["selected"]["student"]})
        elif record["by"] == "loss":
            numbers["by_loss"] = _by_loss(record, group, laws, target)
        else:
            numbers["by_data"].append(_by_data(record))
    key = OTHER if of == OTHER_LOSS else TASK
    about = about_group(selected)
    if numbers["by_loss"] or numbers["by_data"]:
        return Answer(key, about, "answered", numbers)
    refusal = next(one for one in numbers["refused"] if one["by"] == "loss")
    return Answer(key, about, "cannot_tell", numbers, (_need(refusal),))


def _need(refusal: Mapping[str, Any]) -> Need:
    """What would give a relation."""
    if refusal["reason"] == "few_levels":
        return Need("score_levels", refusal["needed"], refusal["levels"])
    if refusal["reason"] == "at_floor":
        return Need("score_above_chance", None, refusal["highest"])
    return Need("score_trend")


def _by_loss(
    record: Mapping[str, Any], group: pd.DataFrame, laws: Sequence[FittedLaw], target: float | None
) -> dict[str, Any]:
    """The score at the lowest loss, at that of twice the data, and at a target."""
    relation = Relation.of_state(record["state"])
    low, high = relation.range
    same = ("formula", "points", "items", "holdout", "coefficients", "dispersion")
    out: dict[str, Any] = {name: record[name] for name in same}
    out |= {"lowest_loss": low, "highest_loss": high}
    out["at_lowest"] = _at(relation, low, record["items"])
    out["twice"] = _twice(relation, group, laws, record["items"])
    out["target"] = None
    if target is not None:
        near = low - _BEYOND * (high - low) <= target <= high + _BEYOND * (high - low)
        out["target"] = {"loss": target, "beyond": bool(target < low)}
        out["target"] |= _at(relation, target, record["items"]) if near else {"too_far": True}
    return out


def _at(relation: Relation, x: float, items: float | None, half: float = 0.0) -> dict[str, Any]:
    """The score at one x, with intervals."""
    found = relation.predict(x, items, half)
    return {name: _plain(values[0]) for name, values in found.items()}


def _twice(
    relation: Relation, group: pd.DataFrame, laws: Sequence[FittedLaw], items: float | None
) -> dict[str, Any] | None:
    """The score at the loss that a law predicts of the best run's student with twice its data."""
    best = group.loc[group["loss"].idxmin()]
    keys = [(law, law.selected) for law in laws if law.best and law.target == "loss"]
    for law, selected in keys:
        mine = all(selected[key] == str(best[key]) for key in GROUP_KEYS)
        size, student = selected.get("size"), selected.get("student")
        if not mine or size not in (None, "params") or student not in (None, str(best["student"])):
            continue
        if not {"tokens"} <= set(law.inputs) <= {"params", "tokens", "epochs"}:
            continue
        tokens = 2 * float(best["tokens"])
        epochs = commonest_epochs(group["epochs"].to_numpy(dtype=float))
        inputs = {"params": float(best["params"]), "tokens": tokens, "epochs": epochs}
        loss = law.predict(inputs, test_set=False)
        half = float((loss.high[0] - loss.low[0]) / 2)
        if not np.isfinite(half):
            return None
        at = _at(relation, float(loss.value[0]), items, half)
        return {"student": str(best["student"]), "tokens": tokens, "law": law.name,
                "loss": float(loss.value[0]), **at}  # fmt: skip
    return None


def _by_data(record: Mapping[str, Any]) -> dict[str, Any]:
    """One student's score at its most data and at twice as much."""
    relation = Relation.of_state(record["state"])
    most = relation.range[1]
    return {
        "student": record["selected"]["student"],
        "tokens": float(np.exp(most)),
        "points": record["points"],
        "holdout": record["holdout"],
        "at_most": _at(relation, most, record["items"]),
        "twice": _at(relation, most + float(np.log(2)), record["items"]),
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
