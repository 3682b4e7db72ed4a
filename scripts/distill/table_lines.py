"""Lines of any runs table, a user's own included, and what tells two lines apart.

In a study of the workflow a student has one initialisation and a method one number of epochs. In a
table of one's own a line may mix them, and then runs that differ in more than noise would be pooled
as noise: here such lines are split.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from distill.lines import Line, has_values, lines_of, prepare_runs

RAW = ("raw", "none", "")
"""Names of the curation that keeps every answer as it came."""

STEADY = 1.05
"""Largest over smallest value up to which a trait of a line counts as one value."""

Settings = Mapping[str, Any]
"""prices, pretraining_tokens, corpus_methods, methods and curations of a config; all optional."""


def question_lines(runs: pd.DataFrame) -> list[Line]:
    """Split a runs table into lines of one initialisation, one group and comparable epochs.

    Where `samples` is unknown, `tokens_unique` takes its place. A line is split by epochs only if
    two of its runs differ in nothing else.

    Args:
        runs: the runs table; see `distill.lines.prepare_runs`.

    Raises:
        UserError: the table lacks a needed column or holds an impossible value.
    """
    table = runs.copy().reset_index(drop=True)
    if has_values(table, "tokens_unique"):
        tokens = pd.to_numeric(table["tokens_unique"], errors="coerce")
        samples = table["samples"] if "samples" in table else pd.Series(index=table.index)
        table["samples"] = pd.to_numeric(samples, errors="coerce").fillna(tokens)
    table = prepare_runs(table)
    for name in ("init", "group"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    table["epochs"] = _epochs(table)
    return [part for line in lines_of(table) for part in _parts(line)]


def _epochs(table: pd.DataFrame) -> pd.Series:
    if not (has_values(table, "tokens_seen") and has_values(table, "tokens_unique")):
        return pd.Series(float("nan"), index=table.index)
    seen, unique = (
        pd.to_numeric(table[name], errors="coerce") for name in ("tokens_seen", "tokens_unique")
    )
    return seen / unique.where(unique > 0)


def _parts(line: Line) -> list[Line]:
    """Split a line by initialisation and group, and by epochs where they alone tell runs apart."""
    runs = line.runs.assign(_epochs=line.runs["epochs"].round(2))
    keys = ["init", "group", "samples", "draw", "seed"]
    by = [name for name in ("init", "group") if runs[name].nunique() > 1]
    if runs.groupby(keys)["_epochs"].nunique().gt(1).any():
        by.append("_epochs")
    if not by:
        return [line]
    parts = []
    for values, part in runs.groupby(by, sort=False):
        words = [
            f"{value:g} epochs" if name == "_epochs" else str(value)
            for name, value in zip(by, values, strict=True)
        ]
        label = " · ".join([line.label, *(word for word in words if word)])
        before = line.before[line.before["init"] == part["init"].iloc[0]]
        parts.append(replace(line, label=label, runs=part.drop(columns="_epochs"), before=before))
    return parts


def trait(line: Line, column: str) -> str:
    """Return a line's init or group."""
    return str(line.runs[column].iloc[0])


def steady(line: Line, column: str) -> float | None:
    """Return the mean of a column that hardly differs between a line's runs, else None."""
    if not has_values(line.runs, column):
        return None
    values = pd.to_numeric(line.runs[column], errors="coerce")
    if values.isna().any() or values.min() <= 0 or values.max() > STEADY * values.min():
        return None
    return float(values.mean())


def alike(one: Line, other: Line, *besides: str) -> bool:
    """Tell whether two lines agree in teacher, student, curation, cache, init and group.

    Args:
        one: a line.
        other: another.
        besides: what they may differ in.
    """
    attributes = [x for x in ("teacher", "student", "curation", "cache") if x not in besides]
    columns = [x for x in ("init", "group") if x not in besides]
    return all(getattr(one, x) == getattr(other, x) for x in attributes) and all(
        trait(one, x) == trait(other, x) for x in columns
    )


def same_method(one: Line, other: Line, settings: Settings, *besides: str) -> bool:
    """Tell whether two lines' methods are known to differ at most in some training settings.

    Args:
        one: a line.
        other: another.
        settings: `methods` holds the settings of each.
        besides: keys of `train` that may differ, such as epochs.
    """
    if one.method == other.method:
        return True
    known = settings.get("methods") or {}
    if one.method not in known or other.method not in known:
        return False
    left, right = (_without(known[line.method], besides) for line in (one, other))
    return left == right


def _without(method: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    train = {k: v for k, v in (method.get("train") or {}).items() if k not in keys and v}
    rest = {k: v for k, v in method.items() if k != "train" and v is not None}
    return rest | {"train": train}


def train_setting(line: Line, settings: Settings, key: str) -> Any:
    """Return a method's own entry of `train`; None where it has none or is not known."""
    method = (settings.get("methods") or {}).get(line.method) or {}
    return (method.get("train") or {}).get(key)


def sort_out(lines: list[Line], *names: str) -> list[list[Line]]:
    """Return the groups of lines that agree in some attributes, init or group among them."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        key = tuple(
            trait(line, name) if name in ("init", "group") else getattr(line, name)
            for name in names
        )
        groups.setdefault(key, []).append(line)
    return list(groups.values())
