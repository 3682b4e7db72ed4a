"""A made-up study of size with known laws: students over 100 times in size, two methods, draws."""

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from distill.laws.choice import Settings
from distill.laws.fit import fit_laws
from distill.laws.runs import trained_rows

STUDENTS = {"w64": 0.12e6, "w128": 0.85e6, "w192": 2.5e6, "w384": 11e6}
"""Parameters without embeddings."""
SAMPLES = (128, 512, 1024, 2048, 4096)
FLOOR = 1.1
KWH_PER_FLOP = 1 / 5e9 / 3.6e6  # at 5 GFLOPs per joule


def make_study(noise: float = 0.006, curations: bool = False) -> pd.DataFrame:
    """Return runs with loss = 1.1 + 60 / N^.35 + 40 / D^.35 nats, kd's data term 0.85 of sft's.

    Curation `dedup` keeps 90 % of the tokens and lowers the loss by 0.02, `noisy` adds 0.05.
    """
    return _study(noise, curations).copy()


@cache
def _study(noise: float, curations: bool) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = []
    for student, size in STUDENTS.items():
        for method in ("sft", "kd"):
            for samples in SAMPLES:
                for draw in range(2 if samples <= 512 else 1):
                    for curation in ("raw", "dedup", "noisy") if curations else ("raw",):
                        rows.append(
                            _run(rng, student, size, method, samples, draw, curation, noise)
                        )
        rows.append(_run(rng, student, size, "none", 0, 0, "raw", noise))
    return pd.DataFrame(rows)


def _run(
    rng: np.random.Generator, student: str, size: float, method: str, samples: int, draw: int,
    curation: str, noise: float,
) -> dict[str, Any]:  # fmt: skip
    tokens = samples * 180 * (0.9 if curation == "dedup" else 1.0)
    total = size + 8192 * (size / 100) ** 0.42
    gap = 8.0
    if samples:
        worse = {"raw": 0.0, "dedup": -0.02, "noisy": 0.05}[curation]
        gap = 60 / size**0.35 + (0.85 if method == "kd" else 1.0) * 40 / tokens**0.35 + worse
        gap *= math.exp(noise * rng.normal())
    train, teacher = 6 * total * tokens, 2.7e8 * tokens
    target = 0.9 * teacher if method == "kd" else 0.0
    return {
        "study": "sizes", "task": "text", "teacher": "smol", "student": student, "init": "random",
        "method": method, "curation": curation, "cache": "even" if method == "kd" else "none",
        "samples": samples, "seed": 0, "draw": draw, "params": total,
        "params_non_embedding": size, "updates": samples // 8, "tokens_seen": tokens,
        "tokens_unique": tokens, "loss": FLOOR + gap, "loss_stderr": 0.02, "loss_teacher": FLOOR,
        "reference_loss": 2 + 0.8 * gap, "kl_teacher": gap, "size_mb": total * 4 / 1024**2,
        "flops_per_token": 2 * total, "tokens_per_second": 4e3 / (1 + size / 1e6) ** 0.6,
        "peak_memory_mb": 300 + total / 1e5, "train_flops": train, "teacher_flops": teacher,
        "teacher_flops_amortised": teacher / 10, "target_flops": target,
        "target_flops_amortised": target / 5,
        "total_kwh": (train + teacher + target) * KWH_PER_FLOP, "kwh_estimated": 1.0,
        "total_kwh_amortised": (train + teacher / 10 + target / 5) * KWH_PER_FLOP,
    }  # fmt: skip


def make_references() -> dict[str, Any]:
    """Return what references.json holds for it."""
    facts = {"loss": FLOOR, "params": 134_515_008, "params_non_embedding": 106_203_456,
             "size_mb": 513.1, "flops_per_token": 2.69e8, "tokens_per_second": 41.0,
             "reference_loss": 1.9}  # fmt: skip
    return {"schema": 1, "study": "sizes", "teachers": {"smol": facts}}


@cache
def study_laws(noise: float = 0.006) -> dict[str, Any]:
    """Return the laws of `make_study`."""
    return fit_laws(trained_rows(make_study(noise), make_references()), Settings(starts=3))
