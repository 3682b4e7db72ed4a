"""The points that laws are fitted to: from a study's runs table, or from a table of one's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import COLUMNS, KEYS


def law_table(runs: pd.DataFrame, references: Mapping[str, Any] | None) -> pd.DataFrame:
    """One row per trained run (samples > 0) of a study's runs table.

    Args:
        runs: The runs table (`distill.contracts.columns`).
        references: references.json, for the teachers' sizes; None leaves them null.

    Returns:
        The columns `COLUMNS`, in the order of the runs table. `tokens` are unique training tokens,
        `epochs` tokens seen over unique ones, `loss` and `gap` nats per token;
        the gap is KL(q || student) less what the student's vocabulary leaves open (`kl_floor`).
    """
    trained = runs[runs["samples"].fillna(1) > 0]  # null in a table of one's own
    teachers = (references or {}).get("teachers", {})
    out = pd.DataFrame(index=trained.index)
    for key in KEYS:
        out[key] = trained[key].astype(str) if key in trained else ""
    for key in ("seed", "draw"):
        out[key] = trained[key].astype("int64")
    out["params"] = trained["params"].astype("float64")
    out["params_non_embedding"] = trained["params_non_embedding"].astype("float64")
    out["tokens"] = trained["tokens_unique"].astype("float64")
    out["epochs"] = trained["tokens_seen"].astype("float64") / out["tokens"]
    out["updates"] = trained["updates"].astype("float64")
    out["flops"] = trained["train_flops"].astype("float64")
    out["teacher_loss"] = trained["loss_teacher"].astype("float64")
    for key in ("params", "params_non_embedding"):
        sizes = [(teachers.get(name) or {}).get(key) for name in trained["teacher"]]
        out[f"teacher_{key}"] = pd.array(
            [np.nan if size is None else float(size) for size in sizes], dtype="float64"
        )
    out["loss"] = trained["loss"].astype("float64")
    out["gap"] = trained["kl_teacher"].astype("float64")
    if "kl_floor" in trained:  # no training closes what a trimmed vocabulary leaves open
        out["gap"] -= trained["kl_floor"].astype("float64").fillna(0.0)
    out["loss_stderr"] = trained["loss_stderr"].astype("float64")
    return out[list(COLUMNS)].reset_index(drop=True)
