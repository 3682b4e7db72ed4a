"""The default study, whole, from nothing but installed packages."""

import shutil
import time

import prepared
from rows import Row


def measure() -> list[Row]:
    """Minutes of `make study` after installation: one run, as it is the longest."""
    for name in ("results", "resources"):
        shutil.rmtree(prepared.FOLDER / name, ignore_errors=True)
    began = time.perf_counter()
    prepared.snakemake(config=prepared.ROOT / "config.yaml")
    minutes = (time.perf_counter() - began) / 60
    return [
        Row(
            what="the default study",
            against="–",
            value=f"{minutes:.1f} minutes",
            target="≤ 10 minutes",
            met=minutes <= 10,
            remark="one run; the wheels of teacher and reference text are downloaded in it",
        )
    ]
