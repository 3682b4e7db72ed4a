"""Runs as points of laws, and the runs behind each fitted law."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import KEYS, MEASURES
from distill.laws.fitted import FittedLaw, find_laws
from distill.laws.points import commonest_epochs, levels

TARGETS = {"loss": "held-out loss", "gap": "gap to the teacher"}
"""What laws are fitted to, in a reader's words; nats per token both."""
SIZES = {"params_non_embedding": "non-embedding", "params": "total"}
"""Measures of size, in a reader's words."""
_RENAMED = {
    "tokens": "tokens_unique", "seen": "tokens_seen", "gap": "kl_teacher",
    "teacher_loss": "loss_teacher", "flops": "train_flops",
}  # fmt: skip
"""Names of laws to columns of the runs table, where they differ."""
_SAME = (
    "samples", "loss", "loss_stderr", "params", "params_non_embedding", "reference_loss", "seed",
    "draw", "updates",
)  # fmt: skip
_MOST_LEVELS = 8


def trained_rows(runs: pd.DataFrame, references: Mapping[str, Any] | None) -> pd.DataFrame:
    """The trained runs (samples > 0, or null in a user's own table) as points of laws.

    Args:
        runs: The runs table (`distill.contracts.columns`), or `own_table`, which passes as it is.
        references: references.json, for the sizes of teachers that the table does not state.

    Returns:
        The columns of the runs table; over them `COLUMNS` of `distill.contracts.points`, null
        where unknown: keys as text, `tokens` unique training tokens, `epochs` tokens seen over
        unique ones, `loss` and `gap` nats per token, the gap without what the student's vocabulary
        leaves open (`kl_floor`). And `seen` (tokens), `reference` (score on the reference text:
        bits per byte, else nats per token; null unless every run has one) and `line`, what
        distinguishes a student's runs: method, and other keys where needed.
    """
    if {"tokens", "epochs", "gap"} <= set(runs.columns):
        rows = runs.reset_index(drop=True)
        return rows.assign(reference=_numbers(rows, "reference"), line=line_names(rows))
    rows = runs[~(_numbers(runs, "samples") == 0).to_numpy()].reset_index(drop=True)
    out = rows.copy()
    for key in KEYS:
        out[key] = rows[key].fillna("").astype(str) if key in rows else ""
    for name, column in {**_RENAMED, **{name: name for name in _SAME}}.items():
        out[name] = _numbers(rows, column)
    out["gap"] -= _numbers(rows, "kl_floor").fillna(0.0)
    out[["seed", "draw"]] = out[["seed", "draw"]].fillna(0).astype("int64")
    out["epochs"] = (out["seen"] / out["tokens"]).where(out["tokens"] > 0).fillna(1.0)
    teachers = (references or {}).get("teachers") or {}
    for size in MEASURES:
        known = {name: (facts or {}).get(size) for name, facts in teachers.items()}
        stated = _numbers(rows, f"teacher_{size}")
        out[f"teacher_{size}"] = stated.fillna(pd.to_numeric(out["teacher"].map(known)))
    scores = [_numbers(rows, name) for name in ("reference_bits_per_byte", "reference_loss")]
    out["reference"] = next((s for s in scores if s.notna().all()), np.nan)
    out["line"] = line_names(out)
    return out


def _numbers(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column as finite floats, null elsewhere."""
    if column not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    values = pd.to_numeric(rows[column], errors="coerce").astype(float)
    return values.where(np.isfinite(values))


def line_names(rows: pd.DataFrame) -> pd.Series:
    """Name each row by its method, and by other keys where needed to distinguish runs."""
    names = ["method", "cache", "curation", "init", "teacher", "group"]
    keys = rows[names].drop_duplicates()
    parts = ["method"]
    for name in names[1:]:
        if keys.groupby(parts)[name].nunique().gt(1).any():
            parts.append(name)
    texts = {
        key: " · ".join(
            value
            for name, value in zip(names, key, strict=True)
            if name in parts and value and not (name == "cache" and value == "none")
        )
        or "runs"
        for key in keys.itertuples(index=False, name=None)
    }
    labels = [texts[key] for key in rows[names].itertuples(index=False, name=None)]
    return pd.Series(labels, index=rows.index, dtype=str)


def laws_in(document: Mapping[str, Any] | None) -> list[FittedLaw]:
    """The laws of laws.json's content, none without one."""
    return [FittedLaw(record) for record in (document or {}).get("laws", [])]


def best_laws(laws: Sequence[FittedLaw], target: str, joint: bool) -> list[FittedLaw]:
    """The chosen laws of a target: over size (joint), or of one student."""
    chosen = find_laws(laws, target=target, best=True)
    return [law for law in chosen if ("params" in law.inputs) == joint]


def scope_of(law: FittedLaw) -> str:
    """What a law spans: one student's tokens, or all students' size by one measure."""
    size = law.selected.get("size")
    return "law per student" if size is None else f"law over {SIZES[size]} size"


def group_rows(rows: pd.DataFrame, selected: Mapping[str, Any]) -> pd.DataFrame:
    """The rows whose keys have the values that `selected` names; a null value selects all."""
    keep = np.ones(len(rows), dtype=bool)
    for key in KEYS:
        value = selected.get(key)
        if value is not None:
            keep &= (rows[key].astype(str) == str(value)).to_numpy()
    return rows[keep]


def rows_of(law: FittedLaw, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a law was fitted to, with its `size` as the column `size`."""
    fitted_rows = group_rows(rows, law.selected)
    left_out = {entry["row"] - 1 for entry in law.record["dropped"]}
    fitted_rows = fitted_rows[
        (fitted_rows[law.target] > 0).to_numpy() & ~fitted_rows.index.isin(left_out)
    ]
    return fitted_rows.assign(size=fitted_rows[law.selected.get("size") or "params"])


def inputs_of(law: FittedLaw, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """A law's inputs at rows (of `rows_of`), shape (n,) each."""
    size = law.selected.get("size") or "params"
    columns = {"params": "size", "teacher_params": f"teacher_{size}"}
    return {name: rows[columns.get(name, name)].to_numpy(float) for name in law.inputs}


def typical_inputs(law: FittedLaw, rows: pd.DataFrame) -> dict[str, float]:
    """One value per input of a law: the commonest epochs, the middle of all else."""
    out = {name: float(np.median(values)) for name, values in inputs_of(law, rows).items()}
    if "epochs" in out:
        out["epochs"] = commonest_epochs(rows["epochs"].to_numpy(float))
    return out


def held_out_keys(law: FittedLaw) -> set[tuple[str, str, float]]:
    """Student, teacher and tokens of the runs held out to evaluate a law."""
    holdout = law.record["holdout"] or {}
    return {
        (entry["student"], entry["teacher"], float(entry["tokens"]))
        for entry in holdout.get("predicted", [])
    }


def is_held_out(rows: pd.DataFrame, judged: set[tuple[str, str, float]]) -> np.ndarray:
    """Whether each row was held out, shape (n,)."""
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


def labels_in(values: Iterable[str]) -> list[str]:
    """The different labels, in order."""
    return list(dict.fromkeys(values))
