"""Measure speed and memory: all benchmarks, or those that are named.

    python benchmarks/run.py [NAME ...]

Each is a module of this folder with `measure() -> list[Row]`. The machine should be idle.
"""

import importlib
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
sys.path.append(str(Path(__file__).parents[1] / "tests/support"))

from rows import save, write_tables

BENCHMARKS = (
    "sft", "distillation", "loss_alone", "training", "generation", "scoring", "cache", "planning",
    "scale", "start", "law_fit", "next_run", "study",
)  # fmt: skip


def main(names: list[str]) -> None:
    """Run benchmarks one after another; each one's results are kept at once."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and the sides with it
    for name in names or BENCHMARKS:
        began = time.perf_counter()
        rows = importlib.import_module(name).measure()
        save(name, rows, time.perf_counter() - began)
        for row in rows:
            ratio = "" if row.ratio is None else f"  {row.ratio:.2f}x {row.spread}"
            print(f"{row.what} against {row.against}: {row.value}{ratio}  [{row.target}]"
                  f" {'reached' if row.met else 'MISSED'}", flush=True)  # fmt: skip
    write_tables(BENCHMARKS)


if __name__ == "__main__":
    main(sys.argv[1:])
