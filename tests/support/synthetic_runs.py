"""A made-up study in the contract's form: two students, two methods, losses on a power law."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.columns import COLUMNS as TABLE_COLUMNS

COLUMNS = list(TABLE_COLUMNS)
SIZES = (64, 128, 256, 512, 1024)
LOSS_TEACHER = 0.95
STUDENTS = {
    "layers-2": {"params": 35_400_000, "params_non_embedding": 7_080_000, "gap": 1.0, "speed": 310},
    "layers-4": {
        "params": 42_480_000,
        "params_non_embedding": 14_160_000,
        "gap": 0.8,
        "speed": 190,
    },
}
CACHES: dict[str, dict[str, Any]] = {
    "top64": {"scheme": "top_k_tail", "k": 64, "bytes": 131.0, "kept": 0.985, "gap": 1.0},
    "hidden": {"scheme": "final_hidden", "bytes": 1152.0, "kept": 1.0, "gap": 1.0},
    "drawn50": {"scheme": "sampled", "draws": 50, "bytes": 96.5, "kept": 0.955, "gap": 1.004},
    "top4": {"scheme": "top_k", "k": 4, "bytes": 12.25, "kept": 0.84, "gap": 1.2},
}
"""Caches, each with the factor by which it makes the gap to the teacher larger."""
EVIL = (
    "<script>document.title='owned';fetch('https://evil.example/x')</script>"
    "<img src=https://evil.example/pixel.png onerror=alert(1)>\x1b[31mred\x1b[0m "
    "\u202eright-to-left\u202c \u200fmark nul\x00end \x9bC1 back\rslash {{ 7 * 7 }}\n"
    + "unbroken"
    * 60
)


def make_runs(
    noise: float = 0.01, seed: int = 1, caches: Sequence[str] = ("top64",)
) -> pd.DataFrame:
    """Return runs with gap(n) = gap·(64/n)^0.35 + noise (nats); two draws for n ≤ 256.

    Of the noise, a part belongs to student, size and draw: runs that share these share it.
    """
    return _runs(noise, seed, tuple(caches)).copy()


@cache
def _runs(noise: float, seed: int, caches: tuple[str, ...]) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for student, facts in STUDENTS.items():
        for method, read in (("none", "none"), ("sft", "none"), *(("kd", c) for c in caches)):
            for samples in (0,) if method == "none" else SIZES:
                for draw in range(2 if 0 < samples <= 256 else 1):
                    shared = np.random.default_rng([seed, int(facts["params"]), samples, draw])
                    own = noise * (shared.normal() + 0.3 * rng.normal())
                    rows.append(_row(student, facts, method, read, samples, draw, own))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(
    student: str,
    facts: dict[str, Any],
    method: str,
    cache: str,
    samples: int,
    draw: int,
    noise: float,
) -> dict[str, Any]:
    soft = CACHES.get(cache)
    gap = 8.5 if samples == 0 else facts["gap"] * (64 / samples) ** 0.35
    gap = gap * (0.93 * soft["gap"] if soft else 1.0) + noise
    loss = LOSS_TEACHER + gap
    rate = (
        0.06
        if samples == 0
        else round(0.1 + 0.02 * facts["gap"] + 0.03 * math.log2(samples / 64) + 0.04 * draw, 2)
    )
    rate += 0.02 * (method == "kd")
    score = loss / 100 + 0.01 * (method == "kd")
    train, teacher = 6.0 * facts["params"] * 170 * samples, 2.7e8 * 85 * samples
    target = teacher * 0.9 if soft else 0.0
    seconds = samples * (0.21 if student == "layers-4" else 0.13) * (1.3 if method == "kd" else 1)
    return {
        "study": "synthetic",
        "task": "text",
        "teacher": "smol",
        "student": student,
        "init": "cut",
        "method": method,
        "curation": "none",
        "cache": cache,
        "samples": samples,
        "seed": 0,
        "draw": draw,
        "params": facts["params"],
        "params_non_embedding": facts["params_non_embedding"],
        "updates": samples // 8,
        "tokens_seen": 170 * samples,
        "tokens_unique": 85 * samples,
        "unseen_token_share": 1.0 if samples == 0 else 0.25 * (75 / samples) ** 0.5,
        "loss": loss,
        "unigram_loss": None if samples == 0 else 7.2,
        "loss_stderr": 0.021,
        "loss_teacher": LOSS_TEACHER,
        "reference_loss": loss + 1.1,
        "perplexity": math.exp(loss),
        "bits_per_byte": loss / 3,
        "kl_teacher": gap + 0.002,
        "top1_agreement": 0.7 - 0.2 * gap / 8.5,
        "ece": 0.9 if samples == 0 else 0.04 + 0.05 * gap - 0.01 * (method == "kd"),
        "bleu": 0.02 + 0.08 * LOSS_TEACHER / loss,
        "rouge_l": 0.1 + 0.2 * LOSS_TEACHER / loss,
        "pass_rate": rate,
        "pass_rate_low": max(0.0, rate - 0.08),
        "pass_rate_high": rate + 0.12,
        "pass_rate_large": rate + 0.01,
        "tokens_per_second": facts["speed"],
        "tokens_per_second_median": facts["speed"] + 2,
        "ttft_ms": 9.5,
        "size_mb": facts["params"] * 4 / 1024**2,
        "peak_memory_mb": 812.0,
        "flops_per_token": 2 * facts["params"],
        "train_flops": train,
        "teacher_flops": teacher,
        "teacher_flops_amortised": teacher / 9,
        "target_flops": target,
        "target_flops_amortised": target / 4,
        "total_flops": train + teacher + target,
        "total_flops_amortised": train + teacher / 9 + target / 4,
        "cache_bytes_per_token": soft["bytes"] if soft else None,
        "cache_kept_mass": soft["kept"] if soft else None,
        "cache_entropy": 0.9 if soft else None,
        "train_seconds": seconds,
        "combined": 0.4 / math.exp(loss) + 0.3 * rate + 0.3 * facts["speed"],
        "combined_normalised": 0.3 - score + 0.05 * math.log2(max(samples, 32) / 32),
        "combined_mean": 0.25 - score + 0.04 * math.log2(max(samples, 32) / 32),
        "teacher_seconds": 0.4 * samples,
        "teacher_seconds_amortised": 0.05 * samples,
        "target_seconds": 0.1 * samples if soft else 0.0,
        "target_seconds_amortised": 0.02 * samples if soft else 0.0,
        "reference_bits_per_byte": 1.5,
        **_energy(seconds, samples, soft is not None, noise),
    }


def _energy(seconds: float, samples: int, soft: bool, noise: float) -> dict[str, float | None]:
    """kWh at 8 W, all estimated; training's varies between runs by a tenth of the loss's noise."""
    train = 8 * seconds * (1 + 0.1 * noise) / 3.6e6
    teacher, target = 8 * 0.4 * samples / 3.6e6, 8 * 0.1 * samples * soft / 3.6e6
    return {
        "train_kwh": train,
        "teacher_kwh": teacher,
        "teacher_kwh_amortised": teacher / 8,
        "target_kwh": target,
        "target_kwh_amortised": target / 5,
        "total_kwh": train + teacher + target,
        "total_kwh_amortised": train + teacher / 8 + target / 5,
        "kwh_estimated": 1.0 if samples else None,
    }


def make_references() -> dict[str, Any]:
    """Return references.json's content for `make_runs`."""
    keys = {"draw": 0, "seed": 0}
    return {
        "schema": 1,
        "study": "synthetic",
        "teachers": {
            "smol": {
                "loss": LOSS_TEACHER,
                "loss_stderr": 0.02,
                "perplexity": math.exp(LOSS_TEACHER),
                "reference_loss": 2.4,
                "bits_per_byte": 0.41,
                "ece": 0.021,
                "pass_rate": 0.34,
                "pass_rate_low": 0.22,
                "pass_rate_high": 0.48,
                "pass_rate_large": 0.36,
                "tokens_per_second": 41.0,
                "size_mb": 513.1,
                "params": 134_515_008,
                "params_non_embedding": 106_203_456,
                "flops_per_token": 2.69e8,
                "responses": {"rows": 1324, "finished_share": 0.913, "mean_tokens": 84.6},
            }
        },
        "floor": {"fixed": 0.08, "large": 0.07},
        "unigram_entropy": {"smol": 6.4},
        "identity": [
            {"student": s, "method": "kd", "samples": n, **keys}
            | {"difference": -0.002, "stderr": 0.004, "z": -0.5}
            for s in STUDENTS
            for n in SIZES
        ],
        "near_duplicates": {
            "test_prompts": 300,
            "train_prompts": 1024,
            "threshold": 0.8,
            "worst_similarity": 0.71,
            "pairs": [],
        },
        "paired": [
            {"student": s, "method": "kd", "samples": 1024, **keys, "set": kind}
            | {"against": against, "only_first": 6, "only_second": 1, "p_value": 0.125}
            for s in STUDENTS
            for kind in ("fixed", "large")
            for against in ("dummy", "layers-2")
            if against != s
        ],
        "costs": {"teacher_seconds": 1234.5, "teacher_flops": 3.1e13, "scoring": {"seconds": 61.0}},
        "versions": {"torch": ["2.9.0"], "transformers": ["5.0.0"]},
        "hardware": ["2 cores, x86_64"],
        "warnings": ["rows mix two versions of torch: 2.8.0 and 2.9.0"],
        "largest_samples": 1024,
        "methods": {
            "sft": {"ce": 1.0},
            "kd": {"ce": 0.5, "forward_kl": 0.5, "temperature": 2.0},
        },
        "caches": {name: _cache(facts) for name, facts in CACHES.items()},
        "searches": {"rates": make_search()},
    }


def _cache(facts: dict[str, Any]) -> dict[str, Any]:
    teacher = {
        "teacher": "smol",
        "model": {"source": "smollm2"},
        "revision": None,
        "weight": 1.0,
        "quantisation": "none",
        "distribution": {"temperature": 0.7, "top_k": 0, "top_p": 1.0},
        "tokenizer_sha256": "0" * 64,
    }
    return {
        "bytes_per_token": facts["bytes"],
        "kept_mass": facts["kept"],
        "entropy": 0.9,
        "distinct_ids": None if facts["scheme"] == "final_hidden" else 20.5,
        "tokens": 87_040,
        "layer_bytes_per_token": None,
        "manifest": {
            "scheme": facts["scheme"],
            "k": facts.get("k"),
            "draws": facts.get("draws"),
            "bits": 8,
            "temperatures": [2.0] if "k" in facts else [],
            "tokens": "answer",
            "teachers": [teacher],
        },
    }


def make_search(trials: int = 12) -> dict[str, Any]:
    """Return a search's record: random rates, loss quadratic in log rate, some pruned."""
    rng = np.random.default_rng(3)
    rates = 10 ** rng.uniform(-4.5, -2, trials)
    losses = 1.6 + 0.4 * (np.log10(rates) + 3.2) ** 2 + 0.02 * rng.random(trials)
    pruned = (losses > np.median(losses)) & (np.arange(trials) > 4)
    best = int(np.where(pruned, np.inf, losses).argmin())
    return {
        "schema": 1,
        "spec": {
            "method": {"ce": 0.5, "forward_kl": 0.5, "temperature": 1.0},
            "space": {"train.learning_rate": {"low": 3e-5, "high": 1e-2, "log": True}},
            "trials": trials,
        },
        "settings": {"train.learning_rate": float(rates[best])},
        "loss": float(losses[best]),
        "trials": [
            {"trial": k, "pruned": bool(pruned[k]), "loss": float(losses[k])}
            | {"settings": {"train.learning_rate": float(rates[k])}, "updates": 32}
            | {"seconds": 4.5, "best": k == best}
            for k in range(trials)
        ],
    }


def make_samples() -> dict[str, Any]:
    """Return samples.json's content, with hostile text in every place a model can write to."""
    students = [
        {"student": s, "method": m, "samples": 1024, "text": text, "passed": passed}
        for s, m, text, passed in (
            ("layers-2", "sft", EVIL, False),
            ("layers-2", "kd", "A short answer.\nIn two lines.", True),
            ("layers-4", "kd", "", None),
        )
    ]
    return {
        "schema": 1,
        "prompts": [
            {"id": "p1", "prompt": "Say hello. " + EVIL, "teacher": {"smol": EVIL}}
            | {"students": students},
            {"id": "p2", "prompt": "Name a colour.", "teacher": {"smol": "Blue."}}
            | {"students": students[1:]},
        ],
    }
