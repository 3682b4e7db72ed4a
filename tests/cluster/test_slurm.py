"""A study through a real SLURM of one node with fake GPUs, and what goes wrong there."""

import contextlib
import datetime
import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import yaml

import miniature
import slurm_node
from cluster_study import PROFILE, RESULTS, asked, on_cluster, small_project
from distill.contracts.columns import MEASURED
from distill.core.files import read_json

STUDENT = f"{RESULTS}/students/gpt2/gpt2-xl/sft/raw/none/draw0-seed0/n16"
GPU = {"slurm_partition": "gpu", "nodes": 1}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running SLURM; the folder that it lies in."""
    slurm_node.require_slurm()
    folder = tmp_path_factory.mktemp("slurm") / "node"
    with slurm_node.slurm_node(folder):
        yield folder


def set_resources(project: Path, **rules: dict[str, Any]) -> None:
    """Set resources of rules in the profile, as a site does."""
    profile = yaml.safe_load((project / PROFILE).read_text())
    profile["set-resources"] |= rules
    (project / PROFILE).write_text(yaml.safe_dump(profile))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study, finished without SLURM."""
    project = small_project(tmp_path_factory.mktemp("local"))
    miniature.snakemake(project, "--configfile", miniature.CONFIG)
    return project


def runs_table(project: Path) -> pd.DataFrame:
    """What a study found, without what was measured."""
    return pd.read_parquet(project / RESULTS / "runs.parquet").drop(columns=MEASURED)


def _until(found: Callable[[], Any], what: str) -> Any:
    """Wait for something and return it."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def _running(rule: str) -> str:
    """Wait for a running job of a rule; returns its id."""

    def found() -> str:
        lines = asked("squeue", "-h", "-t", "RUNNING", "-o", "%i|%k")
        jobs = [line.split("|")[0] for line in lines if f"|rule_{rule}_" in line]
        return jobs[0] if jobs else ""

    return str(_until(found, f"a job of {rule}"))


def _works(process: int, project: Path) -> bool:
    """Whether a process, which may have ended and its number be another's, works in a project."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{process}/cwd").readlink() == project
    return False


def _process(project: Path, rule: str) -> int:
    """Wait for the script of a rule to run; returns its process id."""

    def found() -> int:
        for file in (project / "logs" / rule).rglob("*.log"):
            number = re.search(r"pid (\d+)", file.read_text())
            if number and _works(int(number[1]), project):
                return int(number[1])
        return 0

    return int(_until(found, f"a process of {rule}"))


def _is_stopped(process: int) -> bool:
    """Whether SIGSTOP holds a process, and no SIGTERM waits for it yet."""
    with contextlib.suppress(FileNotFoundError):
        status = Path(f"/proc/{process}/status").read_text()
        waiting = re.findall(r"(?:SigPnd|ShdPnd):\t(\w+)", status)
        told = any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in waiting)
        return "State:\tT" in status and not told
    return False


@contextlib.contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something while the block runs; its failure is the block's."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    try:
        yield
    finally:
        if failed:
            raise failed[0]
    thread.join(timeout=60)
    if failed:
        raise failed[0]
    assert not thread.is_alive()


class Script(NamedTuple):
    """When and on which GPU a job's script ran."""

    rule: str
    start: datetime.datetime
    end: datetime.datetime
    device: str


def _scripts(project: Path) -> list[Script]:
    """Of all jobs, as their logs have it."""
    found = []
    for file in (project / "logs").rglob("*.log"):
        lines = file.read_text().splitlines()
        first, last = (datetime.datetime.fromisoformat(line[:23]) for line in (lines[0], lines[-1]))
        device = re.search(r"CUDA_VISIBLE_DEVICES (\S+)", lines[0])
        assert device is not None
        found.append(Script(file.relative_to(project / "logs").parts[0], first, last, device[1]))
    return found


def _overlap(one: Script, other: Script) -> bool:
    return one.start < other.end and other.start < one.end


@pytest.mark.long
def test_a_study_on_a_cluster_is_the_same_study(node: Path, local: Path, tmp_path: Path) -> None:
    project = small_project(tmp_path)
    refused = on_cluster(project, "--jobs", "2", ok=False)
    assert (
        "Error: jobs is limited to 2, and jobs that this leaves out of an array are never"
        in refused
    )
    printed = on_cluster(project)
    pd.testing.assert_frame_equal(runs_table(project), runs_table(local), check_exact=True)
    assert (project / RESULTS / "report.html").stat().st_size > 10_000
    assert "Submitted array job with Snakemake IDs" in printed
    on_gpu = set(yaml.safe_load((project / PROFILE).read_text())["set-resources"])
    scripts = _scripts(project)
    for script in scripts:
        assert script.device in ({"0", "1"} if script.rule in on_gpu else {"-"}), script
    heavy = [script for script in scripts if script.rule in on_gpu]
    assert {"generate_text", "train_student", "evaluate_student"} < {job.rule for job in heavy}
    at_once = [pair for pair in itertools.combinations(heavy, 2) if _overlap(*pair)]
    assert at_once
    assert all(one.device != other.device for one, other in at_once)
    assert not [pair for pair in at_once if "measure_efficiency" in {job.rule for job in pair}]
    assert miniature.dry_run(project) == {}


@pytest.mark.long
def test_jobs_that_are_killed_in_every_way_end_in_the_same_results(
    node: Path, local: Path, tmp_path: Path
) -> None:
    project = small_project(tmp_path)
    limited = "1 if attempt == 1 else 20"
    set_resources(
        project,
        evaluate_teacher=GPU | {"mem_mb": "150 + 3000 * (attempt - 1)"},
        evaluate_student=GPU | {"runtime": limited},
    )
    before = set(asked("squeue", "-h", "-t", "all", "-o", "%i"))

    def disturb() -> None:
        subprocess.run(["scancel", _running("generate_text")], check=True)
        _running("train_student")
        slurm_node.restart_slurmd(node, down=3)
        _running("evaluate_student")
        os.kill(_process(project, "evaluate_student"), signal.SIGSTOP)  # it will not end in time

    with _meanwhile(disturb):
        printed = on_cluster(project)
    pd.testing.assert_frame_equal(runs_table(project), runs_table(local), check_exact=True)
    ended = set()
    for line in asked("squeue", "-h", "-t", "all", "-o", "%i|%T|%k"):
        number, state, comment = line.split("|")
        if number not in before:
            ended.add((state, comment.split("_wildcards")[0]))
    assert ("CANCELLED", "rule_generate_text") in ended, ended
    logs = (project / ".snakemake/slurm_logs/rule_evaluate_teacher").rglob("*.log")
    assert any("exceeded memory limit" in file.read_text() for file in logs)
    assert ("TIMEOUT", "rule_evaluate_student") in ended, ended
    assert printed.count("Trying to restart job") >= 3
    assert miniature.dry_run(project) == {}


@pytest.mark.long
def test_a_training_longer_than_the_time_limit_goes_on_from_its_checkpoint(
    node: Path, local: Path, tmp_path: Path
) -> None:
    project = miniature.moved(local, tmp_path / "project")

    def longer(config: dict[str, Any]) -> None:
        config["train"] |= {"epochs": 100, "checkpoint_updates": 5}

    miniature.edit(project, longer)
    record = f"{STUDENT}/training.json"
    set_resources(project, train_student=GPU | {"slurm_extra": "'--signal=TERM@95'"})
    resume = project / STUDENT / "resume"
    seen = [0]

    def reached() -> int:
        """The last checkpoint's update."""
        return max([int(file.name.split("-")[1]) for file in resume.glob("checkpoint-*")] + [0])

    def held(tell: Callable[[str], None]) -> None:
        """Hold a training that has got on, until what is told to SLURM has come as SIGTERM."""
        process = _process(project, "train_student")
        _until(lambda: reached() > seen[-1] + 5, "a checkpoint of this try")
        os.kill(process, signal.SIGSTOP)
        _until(lambda: _is_stopped(process), "a stop")
        tell(_running("train_student"))
        _until(lambda: not _is_stopped(process), "SIGTERM")  # SLURM sends SIGCONT with it
        seen.append(reached())
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
        _until(lambda: not _works(process, project), "the training's end")

    def limit(job: str) -> None:
        """Limits are whole minutes, looked at twice in one: the signal comes before this does."""
        elapsed = asked("squeue", "-h", "-j", job, "-o", "%M")[0]
        minutes, seconds = map(int, elapsed.split(":"))
        ends = minutes + (seconds + 35) // 60 + 1
        subprocess.run(["scontrol", "update", f"jobid={job}", f"TimeLimit={ends}"], check=True)

    def preempt(job: str) -> None:
        subprocess.run(["scancel", "--signal=TERM", job], check=True)

    def interrupt() -> None:
        held(limit)
        held(preempt)

    with _meanwhile(interrupt):
        printed = on_cluster(project, record, "--retries", "1", ok=False)
    told = re.findall(r"Error: training was stopped \(SIGTERM\) after (\d+) of 200", printed)
    assert len(set(told)) == 2, printed[-3000:]
    assert 0 < seen[1] < seen[2]
    on_cluster(project, record)
    assert read_json(project / record)["resumed_from"] == f"checkpoint-{max(map(int, told))}"
    whole = miniature.moved(local, tmp_path / "whole")
    miniature.edit(whole, longer)
    miniature.snakemake(whole, record, "--configfile", miniature.CONFIG)
    uninterrupted = read_json(whole / record)
    assert uninterrupted["resumed_from"] is None
    assert read_json(project / record)["losses"] == uninterrupted["losses"]
    models = [(folder / STUDENT / "model.safetensors").read_bytes() for folder in (project, whole)]
    assert models[0] == models[1]
