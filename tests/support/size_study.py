"""A made-up study of size: six students over 24 times, losses by a joint law that is known."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows
from distill.table.own_points import own_table

SIZES = {f"d{n}": n * 100_000 for n in (6, 12, 24, 48, 80, 144)}
TOKENS = [125_000 * 2**k for k in range(6)]
TOKENS_PER_SAMPLE = 50
TRUTH = {"E": 1.2, "A": 120.0, "alpha": 0.35, "B": 260.0, "beta": 0.38}
SECONDS_PER_TOKEN = 2e-9
"""Seconds of training per token and parameter."""


def true_loss(params: Any, tokens: Any, method: str = "sft") -> Any:
    """Loss of the law that the runs obey, nats per token; kd needs a quarter less data."""
    worth = tokens * (4 / 3 if method == "kd" else 1)
    t = TRUTH
    return t["E"] + t["A"] / params ** t["alpha"] + t["B"] / worth ** t["beta"]


def size_runs(noise: float = 0.004, seed: int = 0, methods: tuple[str, ...] = ("sft", "kd")) -> Any:
    """The runs table: every size with every number of tokens, two draws for the fewer half."""
    rng = np.random.default_rng(seed)
    rows = []
    for method in methods:
        for student, params in SIZES.items():
            for place, tokens in enumerate(TOKENS):
                for draw in range(2 if place < 3 else 1):
                    loss = true_loss(params, tokens, method) * np.exp(noise * rng.normal())
                    rows.append(_row(method, student, params, tokens, draw, float(loss)))
    return pd.DataFrame(rows)


def _row(method: str, student: str, params: int, tokens: int, draw: int, loss: float) -> Any:
    soft = method == "kd"
    train, teacher = 6.0 * params * tokens, 2.0e8 * tokens
    seconds = SECONDS_PER_TOKEN * params * tokens * (1.5 if soft else 1.0)
    return {
        "study": "sizes",
        "task": "instruction",
        "teacher": "smol",
        "student": student,
        "init": "random",
        "method": method,
        "curation": "raw",
        "cache": "top64" if soft else "none",
        "samples": tokens // TOKENS_PER_SAMPLE,
        "seed": 0,
        "draw": draw,
        "params": params,
        "params_non_embedding": params // 3,
        "updates": tokens // 400,
        "tokens_seen": tokens,
        "tokens_unique": tokens,
        "loss": loss,
        "loss_stderr": None,
        "loss_teacher": 0.95,
        "kl_teacher": None,
        "perplexity": float(np.exp(loss)),
        "size_mb": params * 4 / 1024**2,
        "train_flops": train,
        "teacher_flops": teacher,
        "target_flops": 0.5 * teacher if soft else 0.0,
        "total_flops": train + teacher * (1.5 if soft else 1.0),
        "cache_bytes_per_token": 131.0 if soft else None,
        "train_seconds": seconds,
        "teacher_seconds": 1e-4 * tokens,
        "target_seconds": 2e-5 * tokens if soft else 0.0,
    }


@cache
def size_laws() -> dict[str, Any]:
    """laws.json of `size_runs`, by all of the fitting that the workflow does."""
    return fit_laws(trained_rows(size_runs(), None), Settings(starts=4))


def own_runs() -> tuple[pd.DataFrame, dict[str, Any]]:
    """A user's own table in the runs table's columns (params, tokens and loss alone), its laws."""
    runs = size_runs(methods=("sft",))
    runs = runs[runs["draw"] == 0].reset_index(drop=True)
    columns = {"params": "params", "tokens": "tokens_seen", "loss": "loss"}
    laws = fit_laws(own_table(runs, columns), Settings(starts=4, shared=False))
    kept = runs[["params", "tokens_unique", "tokens_seen", "loss"]].copy()
    kept["study"] = "own"
    for name in ("teacher", "student", "method", "cache", "curation", "init", "samples"):
        kept[name] = None
    return kept, laws
