"""What a run costs beyond its own computation: processes, imports, checksums, files.

A tiny student is trained and judged through the workflow, in turns with a rule whose script only
imports torch. Of each job's seconds (Snakemake's own, from start to end of its process) the
training that it records and the judging that its log dates are taken off.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

import miniature
from alternate import Once, Side, alternate, median, ratios
from distill.core.files import read_json
from rows import Row, middle

ROUNDS = 5
SECONDS = 2.0
RUN = "students/gpt2/gpt2-xl/sft/raw/none/draw0-seed0/n8"
RESULTS = "results/gpt2_alpaca_miniature"
LIMIT = """rule one:
    output: "one.txt"
    benchmark: "one.tsv"
    script: "one.py"
"""
SCRIPT = """import torch

with open(snakemake.output[0], "w") as stream:
    stream.write(torch.__version__)
"""


def _snakemake(folder: Path, *arguments: str) -> float:
    """Run Snakemake; returns its wall seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"snakemake failed:\n{(found.stdout + found.stderr)[-4000:]}")
    return time.perf_counter() - began


def _job_seconds(file: Path) -> float:
    """Wall seconds of a job's process, from the file of its rule's `benchmark:`."""
    names, values = (line.split("\t") for line in file.read_text().splitlines()[:2])
    return float(values[names.index("s")])


def _judging(log: Path) -> float:
    """Seconds from the first row scored to the loss, by the log of a job that judged."""
    lines = log.read_text().splitlines()
    when = [
        datetime.fromisoformat(re.sub(",", ".", line[:23]))
        for line in lines
        if " scoring " in line or re.search(r" loss [\d.]+ in ", line)
    ]
    return (when[-1] - when[0]).total_seconds()


def set_up_limit(folder: str) -> Once:
    """A rule whose script imports torch, nothing else."""
    place = Path(folder)
    place.mkdir()
    (place / "Snakefile").write_text(LIMIT)
    (place / "one.py").write_text(SCRIPT)

    def once() -> Mapping[str, float]:
        whole = _snakemake(place, "--forceall")
        job = _job_seconds(place / "one.tsv")
        return {"whole": whole, "job": job, "seconds": 2 * job, "snakemake": whole - job}

    return once


def set_up_run(folder: str) -> Once:
    """A study of one run of 2 updates, finished once; then its two jobs again and again."""
    project = miniature.copy_project(Path(folder))
    miniature.make_inputs(project)
    config: dict[str, Any] = dict(miniature.read_config(project))
    config["runs"] = [dict(config["runs"][0]) | {"samples": [8]}]
    (project / "one.yaml").write_text(yaml.safe_dump(config))
    targets = [f"{RESULTS}/{RUN}/model.safetensors", f"{RESULTS}/{RUN}/metrics.json"]
    arguments = ("--configfile", "one.yaml", "--force", *targets)
    _snakemake(project, *arguments)

    def once() -> Mapping[str, float]:
        whole = _snakemake(project, *arguments)
        logs = {
            name: project / "logs" / name / RESULTS / RUN
            for name in ("train_student", "evaluate_student")
        }
        train, judge = (_job_seconds(log.with_name("n8.tsv")) for log in logs.values())
        computed = read_json(project / RESULTS / RUN / "training.json")["train_seconds"]
        judged = _judging(logs["evaluate_student"].with_name("n8.log"))
        return {
            "whole": whole,
            "train": train - computed,
            "evaluate": judge - judged,
            "seconds": train - computed + judge - judged,
            "snakemake": whole - train - judge,
        }

    return once


def measure() -> list[Row]:
    """Time both in turns."""
    with tempfile.TemporaryDirectory() as folder:
        found = alternate(
            {
                "limit": Side("start:set_up_limit", {"folder": f"{folder}/limit"}),
                "run": Side("start:set_up_run", {"folder": f"{folder}/run"}),
            },
            ROUNDS,
        )
    ours, limit = found["run"], found["limit"]
    ratio, spread = middle(ratios(limit, ours, "seconds"))
    each = {name: median(ours, name) for name in ("train", "evaluate", "seconds", "snakemake")}
    torch = median(limit, "job")
    over = median(
        [{"over": a["seconds"] - b["seconds"]} for a, b in zip(ours, limit, strict=True)], "over"
    )
    numbers = {"run": ours, "limit": limit}
    return [
        Row(
            what="fixed cost per run, its two jobs",
            against="two script jobs that only import torch",
            value=f"{each['seconds']:.1f} s (train {each['train']:.1f}, evaluate "
            f"{each['evaluate']:.1f}), {2 * torch:.1f} s",
            target=f"≤ {SECONDS:.0f} s",
            met=each["seconds"] <= SECONDS,
            ratio=ratio,
            spread=spread,
            remark=f"{over:.1f} s above importing torch in two processes, for transformers, "
            "checksums, the trainer's set-up and files; Snakemake's own start, once per study (on "
            f"a cluster once per job), takes {each['snakemake']:.1f} s here and "
            f"{median(limit, 'snakemake'):.1f} s with a Snakefile of one rule",
            numbers=numbers,
        ),
    ]
