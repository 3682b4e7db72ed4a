"""Training against the machine's own limit: model FLOPs utilisation (Chowdhery 2022, PaLM)."""

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

import prepared
from alternate import Side, alternate, median
from distill.runtime.cpu import set_up_cpu
from distill.training.build import build_trainer
from distill.training.run import counted_work
from peak import gemm_peak
from rows import Row, middle


def one_pass(method: str, threads: int) -> Callable[[], Mapping[str, float]]:
    """Train a student once, and time matrix products just before and after."""
    gc.freeze()  # as a job's imports end
    set_up_cpu(threads)
    run = prepared.run(method)
    spec = prepared.plan().training.spec(run)
    folder = Path(tempfile.mkdtemp())
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")

    def once() -> Mapping[str, float]:
        shutil.rmtree(folder, ignore_errors=True)
        trainer = build_trainer(
            prepared.initial(), prepared.shard(method), spec, run.student, folder / "resume"
        )
        peak = gemm_peak(torch.bfloat16)
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        peak = max(peak, gemm_peak(torch.bfloat16))
        flops = counted_work(trainer, spec["train"])["train_flops"]
        return {"seconds": seconds, "flops": flops, "peak": peak, "share": flops / seconds / peak}

    return once


def measure() -> list[Row]:
    """FLOPs that the model needs (none for recomputation or padding) over those of the peak."""
    prepared.make()
    rows = []
    for method, words in (("sft", "SFT"), ("kd", "logit distillation from cache")):
        side = Side("training:one_pass", {"method": method, "threads": 2})
        found = alternate({"ours": side})
        share, (low, high) = middle([one["share"] for one in found["ours"]])
        speed = median(found["ours"], "flops") / median(found["ours"], "seconds")
        peak = median(found["ours"], "peak")
        rows.append(
            Row(
                what=f"{words}, model FLOPs utilisation",
                against="bf16 matrix products in the same process",
                value=f"{share:.0%} ({low:.0%}–{high:.0%}): {speed / 1e9:,.0f} of "
                f"{peak / 1e9:,.0f} GFLOP/s",
                target="≥ 50 %",
                met=share >= 0.5,
                numbers=found,
            )
        )
    return rows
