"""Made-up runs tables whose truth is known, and the answers of one question to them."""

import json
import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer
from distill.answers.measured import Measured

SIZES = (64, 128, 256, 512, 1024)
TOKENS = 80
"""Unique answer tokens per sample."""


def gap(samples: float, params: float = 1e6, scale: float = 1.0) -> float:
    """A power law in samples and size; the floor of the loss is 1."""
    return scale * (64 / samples) ** 0.4 * (1e6 / params) ** 0.2


def steady_loss(loss: float) -> Callable[[int], float]:
    """The same loss at every size."""
    return lambda n: loss


def shifted(level: float) -> Callable[[int], float]:
    """A small gain of data above a level of one's own."""
    return lambda n: level + gap(n, scale=0.1)


def power_law(scale: float) -> Callable[[int], float]:
    """A straight line in log loss against log samples."""
    return lambda n: (scale * n / 64) ** -0.3


def runs_of(
    loss: Callable[[int], float],
    sizes: tuple[int, ...] = SIZES,
    draws: int = 3,
    noise: float = 0.004,
    rng: np.random.Generator | None = None,
    epochs: float | Callable[[int], float] = 2.0,
    **columns: Any,
) -> list[dict[str, Any]]:
    """Rows of one line: loss(n) + noise; other columns by value, or by a function of n."""
    rng = rng or np.random.default_rng(7)
    rows = []
    for n in sizes:
        times = epochs(n) if callable(epochs) else epochs
        for draw in range(draws):
            found = loss(n) + noise * rng.normal()
            params = float(columns.get("params", 1e6))
            row: dict[str, Any] = {
                "teacher": "t", "student": "s", "init": "cut", "method": "sft",
                "curation": "raw", "cache": "none", "samples": n, "draw": draw, "seed": 0,
                "params": params, "size_mb": params * 4 / 1024**2,
                "flops_per_token": 2 * params, "tokens_per_second": 100.0,
                "peak_memory_mb": 500.0, "updates": round(n * times / 8),
                "tokens_unique": TOKENS * n, "tokens_seen": TOKENS * n * times,
                "loss": found, "kl_teacher": max(found - 1, 1e-6), "reference_loss": found + 1,
                "loss_teacher": 1.0,
                "train_flops": 6 * params * TOKENS * n * times, "teacher_flops": 1e8 * n,
                "teacher_flops_amortised": 1e7 * n, "target_flops": 0.0,
                "target_flops_amortised": 0.0, "train_seconds": 0.1 * n * times,
                "teacher_seconds": 0.5 * n, "teacher_seconds_amortised": 0.1 * n,
                "target_seconds": 0.0, "target_seconds_amortised": 0.0,
            }  # fmt: skip
            row |= {name: value(n) if callable(value) else value for name, value in columns.items()}
            row["total_flops"] = row["train_flops"] + row["teacher_flops"] + row["target_flops"]
            rows.append(row)
    return rows


def ask(
    rows: pd.DataFrame | list[dict[str, Any]],
    question: ModuleType,
    references: Mapping[str, Any] | None = None,
    **stated: Any,
) -> list[Answer]:
    """Answers to the question of a module, each of them plain JSON."""
    answers: list[Answer] = question.answer(Measured(pd.DataFrame(rows), references or {}, stated))
    for answer in answers:
        record = answer.record()
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert (answer.status == "cannot_tell") == bool(answer.needs)
    return answers


def slow_kd() -> list[dict[str, Any]]:
    """KD is 5 % closer to the floor at equal samples, at four times the seconds of training."""
    kd: dict[str, Any] = {"train_seconds": lambda n: 0.8 * n, "target_seconds": lambda n: 0.1 * n}
    kd |= {"target_seconds_amortised": lambda n: 0.1 * n}
    rng = np.random.default_rng(5)
    return runs_of(lambda n: 1 + gap(n), rng=rng) + runs_of(
        lambda n: 1 + gap(n, scale=0.95), method="kd", cache="c", rng=rng, **kd
    )


def curated(
    shift: float = 0.0,
    better: float = 0.0,
    students: int = 5,
    draws: int = 3,
    longer: float = 1.0,
    seed: int = 6,
) -> list[dict[str, Any]]:
    """Raw and curated runs; log gap(curated) = log gap(raw) − shift · log N − better."""
    rows = []
    for k in range(students):
        params = 1e6 * 2**k
        for draw in range(draws):
            common = np.random.default_rng([seed, k, draw]).normal(size=3)
            for name in ("raw", "clean"):
                own = np.random.default_rng([seed, k, draw, len(name)]).normal(size=3)
                for place, n in enumerate((128, 256, 512)):
                    clean = name == "clean"
                    tokens = TOKENS * n * (longer if clean else 1)
                    found = math.log(gap(tokens / TOKENS, params))
                    found -= clean * (shift * math.log(params / 1e6) + better)
                    found += 0.02 * common[place] + 0.003 * own[place]
                    loss = 1 + math.exp(found)
                    (row,) = runs_of(
                        steady_loss(loss), sizes=(n,), draws=1, noise=0.0,
                        student=f"s{k}", params=params, curation=name, tokens_unique=tokens,
                        tokens_seen=2 * tokens,
                        reference_loss=2 + 0.05 * clean + 0.01 * common[place]
                        + 0.001 * own[place],
                    )  # fmt: skip
                    rows.append(row | {"draw": draw})
    return rows


LOSSES = {100: [2.0, 2.1], 200: [1.7, 1.6], 400: [1.5]}


def small_table() -> pd.DataFrame:
    rows = [
        {"student": "s", "method": "sft", "samples": n, "draw": draw, "loss": loss}
        for n, losses in LOSSES.items()
        for draw, loss in enumerate(losses)
    ]
    return pd.DataFrame(rows)


def planted(gains: dict[int, list[float]], student: str = "s") -> pd.DataFrame:
    """Return sft and kd with loss(sft) − loss(kd) = the gains given per size, one per draw.

    The draws themselves differ a hundred times as much as the gains.
    """
    rows = []
    for size, values in gains.items():
        for draw, gain in enumerate(values):
            loss = 3.0 - 0.1 * np.log2(size) + 0.5 * draw
            common = {"student": student, "samples": size, "draw": draw, "seed": 0}
            rows.append({**common, "method": "kd", "cache": "top64", "loss": loss - gain})
            rows.append({**common, "method": "sft", "cache": "none", "loss": loss})
    return pd.DataFrame(rows)


def starts(factor: float, seed: int = 4, **columns: Any) -> list[dict[str, Any]]:
    """A random student, and a cut one whose n samples are worth factor · n of the random one."""
    rng = np.random.default_rng(seed)
    rows = runs_of(lambda n: 1 + gap(n), rng=rng, student="fresh", init="random")
    return rows + runs_of(lambda n: 1 + gap(factor * n), rng=rng, init="cut", **columns)


def forgetful(change: float, init: str = "pretrained") -> list[dict[str, Any]]:
    rng = np.random.default_rng(8)
    rows = [
        row | {"reference_loss": 3.0 + change + 0.01 * rng.normal()}
        for row in runs_of(lambda n: 1 + gap(n), init=init)
    ]
    start = rows[0] | {"samples": 0, "method": "none", "loss": 4.0, "reference_loss": 3.0}
    return [start | {"tokens_unique": 0, "tokens_seen": 0, "updates": 0}, *rows]


def rated(rate: Callable[[int], float]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(9)
    rows = []
    for method in ("sft", "kd"):
        for row in runs_of(lambda n: 1 + gap(n), method=method):
            found = rng.binomial(200, rate(row["samples"])) / 200
            rows.append(row | {"pass_rate_large": found, "pass_rate": round(found * 50) / 50})
    return rows


EPOCHS = {"sft": {"ce": 1.0}, "long": {"ce": 1.0, "train": {"epochs": 8}}}


def epochs_study(worth: float) -> list[dict[str, Any]]:
    """Two lines, 2 and 8 epochs; eight epochs are worth `worth` × the prompts of two."""
    rng = np.random.default_rng(2)
    return runs_of(lambda n: 1 + gap(n), rng=rng) + runs_of(
        lambda n: 1 + gap(n * worth), method="long", epochs=8.0, rng=rng
    )


METHODS = {
    "sft": {"ce": 1.0},
    "fixed": {"ce": 1.0, "train": {"max_updates": 256}},
    "early": {"ce": 1.0, "train": {"early_stopping": {"patience": 2}}},
}


def controlled(share: float, seed: int = 10) -> list[dict[str, Any]]:
    """At equal updates, and with early stopping, `share` of the gain of data stays."""
    rng = np.random.default_rng(seed)

    def control(n: int) -> float:
        return 1 + gap(1024) + share * (gap(n) - gap(1024))

    rows = runs_of(lambda n: 1 + gap(n), rng=rng)
    rows += runs_of(control, method="fixed", epochs=lambda n: 2048 / n, rng=rng)
    return rows + runs_of(control, method="early", epochs=lambda n: 1 + n % 3, rng=rng)
