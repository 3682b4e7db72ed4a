"""Leave out imports that a job does not need."""

import os
import sys


def leave_out(package: str) -> None:
    """Make an optional package of a library look absent, if nothing has imported it yet.

    transformers' Trainer imports peft wherever it is installed, and with it bitsandbytes and a
    compiler: four seconds, as long as everything else together, that only adapters need. Its
    tokenizers import torch, and are as good without.
    """
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that models need torch
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]
