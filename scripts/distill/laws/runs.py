"""The runs behind each fitted law, named as figures name them; from whatever columns there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import KEYS
from distill.laws.fitted import FittedLaw, find_laws
from distill.laws.points import levels

TARGETS = {"loss": "held-out loss", "gap": "gap to the teacher"}
"""What laws are fitted to, in a reader's words; nats per token both."""
SIZES = {"params_non_embedding": "non-embedding", "params": "total"}
"""Measures of size, in a reader's words."""
_NUMBERS = {
    "tokens": "tokens_unique",
    "seen": "tokens_seen",
    "gap": "kl_teacher",
    "teacher_loss": "loss_teacher",
}
"""Names of laws to columns of the runs table, where they differ."""
_SAME = (
    "samples", "loss", "params", "params_non_embedding", "reference_loss", "seed", "draw",
)  # fmt: skip
_MOST_LEVELS = 8


def trained_rows(runs: pd.DataFrame, references: Mapping[str, Any] | None) -> pd.DataFrame:
    """Return the trained runs with every column that figures of laws read, null where unknown.

    The rows are those of `law_table`, in its order, so that a law's `dropped` names them. Beside
    the columns of the runs table: the keys of laws as text, `tokens` (unique), `epochs`, `gap`,
    `teacher_loss`, `teacher_params`, `teacher_params_non_embedding`, and `line`, what tells a
    student's runs apart (method, and cache, curation, init, teacher or group where needed).

    Args:
        runs: The runs table; of a table of one's own, `samples` may be null.
        references: references.json, for the teachers' sizes.
    """
    samples = _numbers(runs, "samples")
    rows = runs[~(samples == 0).to_numpy()].reset_index(drop=True)
    out = rows.copy()
    for key in KEYS:
        out[key] = rows[key].fillna("").astype(str) if key in rows else ""
    for name, column in {**_NUMBERS, **{name: name for name in _SAME}}.items():
        out[name] = _numbers(rows, column)
    out["gap"] -= _numbers(rows, "kl_floor").fillna(0.0)  # as laws are fitted to it
    out[["seed", "draw"]] = out[["seed", "draw"]].fillna(0)
    out["epochs"] = (out["seen"] / out["tokens"]).where(out["tokens"] > 0).fillna(1.0)
    teachers = (references or {}).get("teachers") or {}
    for size in SIZES:
        known = {name: (facts or {}).get(size) for name, facts in teachers.items()}
        given = _numbers(rows, f"teacher_{size}")
        out[f"teacher_{size}"] = given.fillna(pd.to_numeric(out["teacher"].map(known)))
    out["line"] = line_names(out)
    return out


def _numbers(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    values = pd.to_numeric(rows[column], errors="coerce").astype(float)
    return values.where(np.isfinite(values))


def line_names(rows: pd.DataFrame) -> pd.Series:
    """Name each row by its method, and by other keys where it takes them to tell runs apart."""
    names = ["method", "cache", "curation", "init", "teacher", "group"]
    keys = rows[names].drop_duplicates()
    shown = ["method"]
    for name in names[1:]:
        if keys.groupby(shown)[name].nunique().gt(1).any():
            shown.append(name)
    texts = {
        key: " · ".join(
            value
            for name, value in zip(names, key, strict=True)
            if name in shown and value and not (name == "cache" and value == "none")
        )
        or "runs"
        for key in keys.itertuples(index=False, name=None)
    }
    found = [texts[key] for key in rows[names].itertuples(index=False, name=None)]
    return pd.Series(found, index=rows.index, dtype=str)


def laws_in(document: Mapping[str, Any] | None) -> list[FittedLaw]:
    """The laws of laws.json's content, none without one."""
    return [FittedLaw(record) for record in (document or {}).get("laws", [])]


def best_laws(laws: Sequence[FittedLaw], target: str, joint: bool) -> list[FittedLaw]:
    """The chosen laws of a target: over size (joint), or of one student."""
    found = find_laws(laws, target=target, best=True)
    return [law for law in found if ("params" in law.inputs) == joint]


def scope_of(law: FittedLaw) -> str:
    """What a law spans: one student's tokens, or all students' size by one measure."""
    size = law.selected.get("size")
    return "law per student" if size is None else f"law over {SIZES[size]} size"


def rows_of(law: FittedLaw, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a law was fitted to, with its `size` as the column `size`."""
    keep = (rows[law.target] > 0).to_numpy(copy=True)
    for key in KEYS:
        value = law.selected.get(key)
        if value is not None:
            keep &= (rows[key] == value).to_numpy()
    left = {entry["row"] - 1 for entry in law.record["dropped"]}
    keep &= ~rows.index.isin(left)
    size = law.selected.get("size") or "params"
    return rows[keep].assign(size=rows.loc[keep, size])


def inputs_of(law: FittedLaw, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """A law's inputs at rows (of `rows_of`), shape (n,) each."""
    size = law.selected.get("size") or "params"
    columns = {"params": "size", "teacher_params": f"teacher_{size}"}
    return {name: rows[columns.get(name, name)].to_numpy(float) for name in law.inputs}


def typical_inputs(law: FittedLaw, rows: pd.DataFrame) -> dict[str, float]:
    """One value per input of a law: the commonest epochs, the middle of all else."""
    out = {name: float(np.median(values)) for name, values in inputs_of(law, rows).items()}
    if "epochs" in out:
        ranks = levels(rows["epochs"].to_numpy(float), "epochs")
        most = int(np.bincount(ranks).argmax())
        out["epochs"] = float(np.median(rows["epochs"].to_numpy(float)[ranks == most]))
    return out


def judged_keys(law: FittedLaw) -> set[tuple[str, str, float]]:
    """Student, teacher and tokens of the runs on which a law was judged."""
    holdout = law.record["holdout"] or {}
    return {
        (entry["student"], entry["teacher"], float(entry["tokens"]))
        for entry in holdout.get("predicted", [])
    }


def is_judged(rows: pd.DataFrame, judged: set[tuple[str, str, float]]) -> np.ndarray:
    """Whether each row is one that a law was judged on, shape (n,)."""
    keys = zip(rows["student"], rows["teacher"], rows["tokens"], strict=True)
    return np.array([key in judged for key in keys], dtype=bool)


def token_levels(tokens: pd.Series) -> pd.Series:
    """The level of tokens of each row: the middle of the runs that saw about as many.

    Where runs are scattered rather than on a grid, they fall into equal shares by tokens.
    """
    values = tokens.to_numpy(float)
    ranks = levels(values, "tokens")
    if ranks.max() + 1 > _MOST_LEVELS:
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        ranks = order * _MOST_LEVELS // len(values)
    return tokens.groupby(ranks).transform("median")


def students_of(rows: pd.DataFrame) -> list[str]:
    """Students in the table's order, which gives each its colour."""
    return list(dict.fromkeys(rows["student"]))


def labels_in(values: Iterable[str]) -> list[str]:
    """The different labels, in order."""
    return list(dict.fromkeys(values))
