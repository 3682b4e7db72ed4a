"""Simulated tables of runs as users hand them in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TRUTH = {"E": 1.8, "A": 300.0, "alpha": 0.32, "B": 900.0, "beta": 0.38}
SIZES = (1.1e7, 3.3e7, 1.4e8, 4.1e8, 1.4e9, 6.9e9)
TOKENS = (2e9, 5e9, 1.6e10, 6e10, 2.4e11)
NAMES = {"params": "N", "tokens": "D", "loss": "L"}


def loss_at(params: Any, tokens: Any) -> Any:
    """The planted law, nats per token."""
    size, data = TRUTH["A"] / params ** TRUTH["alpha"], TRUTH["B"] / tokens ** TRUTH["beta"]
    return TRUTH["E"] + size + data


def grid(noise: float = 0.003, seed: int = 0) -> pd.DataFrame:
    """30 runs of the planted law on a grid of size and data: columns N, D, L."""
    rng = np.random.default_rng(seed)
    params, tokens = (axis.ravel() for axis in np.meshgrid(SIZES, TOKENS, indexing="ij"))
    loss = loss_at(params, tokens) * np.exp(noise * rng.normal(size=len(params)))
    return pd.DataFrame({"N": params, "D": tokens, "L": loss})


def changed(**columns: Callable[[pd.Series], Any]) -> pd.DataFrame:
    """The grid with a function applied to some columns."""
    table = grid()
    return table.assign(**{name: change(table[name]) for name, change in columns.items()})


def config_of(
    path: Path, columns: Mapping[str, str] | None = None, **section: Any
) -> dict[str, Any]:
    """The config of a study of a table."""
    table = {"path": str(path), "columns": {**NAMES, **(columns or {})}, **section}
    return {"study": "mine", "runs_table": table}
