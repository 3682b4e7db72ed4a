"""The teacher, text, targets and student that benchmarks share, made by the workflow."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.core.parquet import read_rows
from distill.models.encoding import collate
from distill.models.rows import Example
from distill.plan.study import Plan

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks/made"
CONFIG = ROOT / "benchmarks/study.yaml"
TRAINED, ALL = 64, 96
"""Rows that students learn, and with those that are held out."""


def snakemake(*arguments: str, config: Path = CONFIG) -> None:
    """Run the workflow in the benchmarks' own folder, all of its output going to a log there."""
    FOLDER.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--cores", "all"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(FOLDER), *arguments]
    command += ["--configfile", str(config)]  # last: it takes all that follows
    with (FOLDER / "snakemake.log").open("w") as log:
        subprocess.run(command, cwd=ROOT, check=True, stdout=log, stderr=log)


@cache
def plan() -> Plan:
    """The plan of the benchmarks' study."""
    return Plan(parse_study(yaml.safe_load(CONFIG.read_text())))


def run(method: str, samples: int = TRAINED) -> Run:
    """A run of that study."""
    (found,) = [one for one in plan().runs if (one.method, one.samples) == (method, samples)]
    return found


def teacher() -> Path:
    """The teacher's directory."""
    return FOLDER / Path(plan().teachers.file("smollm2")).parent


def make() -> None:
    """Make what is missing: the teacher, text, targets, the student before training."""
    files = [plan().students.file("layers4")]
    files += [
        plan().shards.file(run(method, n)) for method in ("sft", "kd") for n in (TRAINED, ALL)
    ]
    snakemake(*files)


def initial() -> Path:
    """The student's directory before training."""
    return FOLDER / Path(plan().students.file("layers4")).parent


def shard(method: str, samples: int = TRAINED) -> Path:
    """Rows, with targets if the method has any."""
    return FOLDER / plan().shards.file(run(method, samples))


def _examples(rows: list[dict[str, Any]]) -> list[Example]:
    return [Example(list(row["prompt_ids"]), list(row["response_ids"])) for row in rows]


def rows() -> list[Example]:
    """The rows that students learn, in the teacher's own tokens."""
    return _examples(read_rows(shard("sft")))


def held_out(pad: int) -> dict[str, Any]:
    """A batch of the rows that they do not."""
    learned = {row["id"] for row in read_rows(shard("sft"))}
    others = [row for row in read_rows(shard("sft", ALL)) if row["id"] not in learned]
    return collate(_examples(others), pad)
