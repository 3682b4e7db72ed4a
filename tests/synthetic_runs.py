"""A made-up study in the contract's form: two students, two methods, losses on a power law."""

import math
from typing import Any

import numpy as np
import pandas as pd

from distill.columns import COLUMNS as TABLE_COLUMNS

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
EVIL = (
    "<script>document.title='owned';fetch('https://evil.example/x')</script>"
    "<img src=https://evil.example/pixel.png onerror=alert(1)>\x1b[31mred\x1b[0m "
    "\u202eright-to-left\u202c \u200fmark nul\x00end \x9bC1 back\rslash {{ 7 * 7 }}\n"
    + "unbroken"
    * 60
)


def make_runs(noise: float = 0.01, seed: int = 1) -> pd.DataFrame:
    """Return runs with gap(n) = gap·(64/n)^0.35 + noise (nats); two draws for n ≤ 256."""
    rng = np.random.default_rng(seed)
    rows = []
    for student, facts in STUDENTS.items():
        for method in ("none", "sft", "kd"):
            for samples in (0,) if method == "none" else SIZES:
                for draw in range(2 if 0 < samples <= 256 else 1):
                    rows.append(_row(student, facts, method, samples, draw, rng, noise))
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(
    student: str,
    facts: dict[str, Any],
    method: str,
    samples: int,
    draw: int,
    rng: np.random.Generator,
    noise: float,
) -> dict[str, Any]:
    gap = 8.5 if samples == 0 else facts["gap"] * (64 / samples) ** 0.35
    gap = gap * (0.93 if method == "kd" else 1.0) + noise * rng.normal()
    loss = LOSS_TEACHER + gap
    rate = (
        0.06
        if samples == 0
        else round(0.1 + 0.02 * facts["gap"] + 0.03 * math.log2(samples / 64) + 0.04 * draw, 2)
    )
    rate += 0.02 * (method == "kd")
    score = loss / 100 + 0.01 * (method == "kd")
    seconds = samples * (0.21 if student == "layers-4" else 0.13) * (1.3 if method == "kd" else 1)
    return {
        "study": "synthetic",
        "task": "text",
        "teacher": "smol",
        "student": student,
        "init": "cut",
        "method": method,
        "curation": "none",
        "cache": "top64" if method == "kd" else "none",
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
        "loss_stderr": 0.021,
        "loss_teacher": LOSS_TEACHER,
        "reference_loss": loss + 1.1,
        "perplexity": math.exp(loss),
        "bits_per_byte": loss / 3,
        "kl_teacher": gap + 0.002,
        "top1_agreement": 0.7 - 0.2 * gap / 8.5,
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
        "train_flops": 6 * facts["params"] * 170 * samples,
        "teacher_flops": 2.7e8 * 85 * samples,
        "teacher_flops_amortised": 0.3e8 * 85 * samples,
        "train_seconds": seconds,
        "combined": 0.4 / math.exp(loss) + 0.3 * rate + 0.3 * facts["speed"],
        "combined_normalised": 0.3 - score + 0.05 * math.log2(max(samples, 32) / 32),
        "combined_mean": 0.25 - score + 0.04 * math.log2(max(samples, 32) / 32),
        "teacher_seconds": 0.4 * samples,
        "teacher_seconds_amortised": 0.05 * samples,
        "reference_bits_per_byte": 1.5,
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
