"""Leave out imports that a job does not need."""

import sys


def leave_out(package: str) -> None:
    """Make an optional package of a library look absent, if nothing has imported it yet.

    transformers' Trainer imports peft wherever it is installed, and with it bitsandbytes and a
    compiler: four seconds, as long as everything else together, that only adapters need.
    """
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]
