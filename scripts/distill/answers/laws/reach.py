"""How far the laws reach: the ranges that were measured."""

import numpy as np
import pandas as pd

from distill.answers.answer import Answer

KEY = "reach"


def reach_answer(rows: pd.DataFrame) -> Answer:
    """The smallest and largest sizes measured, beyond which exponents are not evidence."""
    numbers: dict[str, float | int | None] = {"runs": len(rows)}
    for name in ("params", "params_non_embedding", "tokens", "epochs", "flops"):
        values = rows[name].to_numpy(dtype=float)
        known = bool(np.isfinite(values).any())
        numbers[f"largest_{name}"] = float(np.nanmax(values)) if known else None
        if known:
            numbers[f"smallest_{name}"] = float(np.nanmin(values))
    return Answer(KEY, numbers=numbers)
