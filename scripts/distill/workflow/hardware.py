"""What a study needs of this machine, where its jobs run here."""

import sys
from pathlib import Path

from distill.core.errors import UserError
from distill.plan.needed import needed_runs
from distill.plan.study import Plan

_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Files of the drivers of NVIDIA, of AMD, and of Linux on Windows."""


def has_gpu() -> bool:
    """Whether this machine may have a GPU that torch uses."""
    return sys.platform != "linux" or any(Path(file).exists() for file in _DRIVERS)


def check_fp16(plan: Plan) -> None:
    """Check that no run trains in fp16 on a machine that surely has no GPU.

    Raises:
        UserError: One does.
    """
    if has_gpu():
        return
    for name in sorted({run.method for run in needed_runs(plan) if run.samples}):
        if plan.study.train_of(name).precision == "fp16":
            own = "precision" in plan.study.method_of(name).train
            key = f"methods.{name}.train" if own else "train"
            raise UserError(
                f"config: {key}.precision: fp16 needs a GPU to train, and this machine has none; "
                "set it to auto, bf16 or fp32, or run where there is a GPU"
            )
