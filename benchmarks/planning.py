"""How long Snakemake takes until the first job could start, against the number of runs.

`snakemake -n` of a study of which nothing is made, and a real start of one that is finished: a
file of one byte for every output, with Snakemake's own record of how it was made.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from rows import Row

PROJECT = Path(__file__).parents[1]
ROUNDS = {10: 5, 100: 5, 1000: 3, 10_000: 1}
"""Runs of a study, and how often each is planned: the longest only once."""
FRESH, FINISHED = 3.0, 10.0
"""Seconds aimed for at 1,000 runs."""


def study(runs: int) -> dict[str, Any]:
    """The default study with so many runs of one student on one shard, besides the untrained."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    block = {"students": ["layers2"], "teachers": ["smollm2"], "methods": ["sft"], "samples": [80]}
    return config | {"study": "planned", "runs": [block | {"seeds": list(range(runs))}]}


def _command(*more: str) -> list[str]:
    profile = PROJECT / "profiles" / "default"
    given = ("-s", str(PROJECT / "Snakefile"), "--workflow-profile", str(profile))
    return [sys.executable, "-m", "snakemake", *given, "--configfile", "study.yaml", *more]


def _seconds(folder: Path, said: str, *more: str) -> float:
    """Seconds of a whole call, whose output goes to a file; it must have said so."""
    with (folder / "out.txt").open("w") as out:
        began = time.perf_counter()
        subprocess.run(_command(*more), cwd=folder, stdout=out, stderr=out, check=True)
        seconds = time.perf_counter() - began
    assert said in (folder / "out.txt").read_text(), said
    return seconds


def make_study(folder: Path, runs: int) -> None:
    """A config of so many runs in a folder, of which nothing is made."""
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study(runs)))


def finish(folder: Path) -> None:
    """Write every output of the study in `folder`, and Snakemake's own record of each."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(
        [sys.executable, __file__], cwd=folder, check=True, capture_output=True,
        env=os.environ | path,
    )  # fmt: skip


def _finish() -> None:
    """The same, of the study in the current directory: Snakemake finds the jobs, and notes each
    as it does when one has ended."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings import types

    summary_only = {types.Quietness.PROGRESS, types.Quietness.RULES}
    with SnakemakeApi(types.OutputSettings(dryrun=True, quiet=summary_only)) as api:
        workflow = api.workflow(
            resource_settings=types.ResourceSettings(cores=1, resources={"device": 4}),
            config_settings=types.ConfigSettings(configfiles=[Path("study.yaml")]),
            snakefile=PROJECT / "Snakefile",
        )
        workflow.dag().execute_workflow(executor="dryrun")
        dag = workflow._workflow.dag
        for level in dag.toposorted():
            for job in level:
                for file in map(Path, job.output):
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(b"\n")
            for job in level:
                workflow._workflow.async_run(workflow._workflow.persistence.finished(job))


def measure() -> list[Row]:
    """Seconds of both at each number of runs."""
    fresh: dict[int, list[float]] = {runs: [] for runs in ROUNDS}
    idle: dict[int, list[float]] = {runs: [] for runs in ROUNDS}
    with tempfile.TemporaryDirectory() as root:
        for runs in ROUNDS:
            for state in ("fresh", "finished"):
                make_study(Path(root, state, str(runs)), runs)
            finish(Path(root, "finished", str(runs)))
        for number in range(max(ROUNDS.values())):
            for runs in [runs for runs, rounds in ROUNDS.items() if number < rounds]:
                new, old = (Path(root, state, str(runs)) for state in ("fresh", "finished"))
                fresh[runs].append(_seconds(new, "This was a dry-run", "-n"))
                idle[runs].append(_seconds(old, "Nothing to be done", "--cores", "1"))
    return [
        _row("`snakemake -n` of a study not yet run", fresh, FRESH),
        _row("Start of a finished study: nothing to do", idle, FINISHED),
    ]


def _row(what: str, seconds: dict[int, list[float]], most: float) -> Row:
    medians = {runs: statistics.median(each) for runs, each in seconds.items()}
    least = medians[10]
    each = [1000 * (medians[runs] - least) / (runs - 10) for runs in (100, 1000, 10_000)]
    slopes = ", ".join(f"{cost:.1f}" for cost in each)
    return Row(
        what=what,
        against="10, 100, 1,000 and 10,000 runs",
        value=" · ".join(f"{found:.1f}" for found in medians.values()) + " s",
        target=f"linear; at most {most:g} s at 1,000",
        met=medians[1000] <= most,
        remark=f"beyond the {least:.1f} s of 10 runs, a run takes {slopes} ms at 100, 1,000 and "
        "10,000; two jobs a run; medians of 5, 5, 3 and 1 calls",
        numbers={"seconds": seconds},
    )


if __name__ == "__main__":
    _finish()
