"""The miniature through a real SLURM of one node with fake GPUs, and what goes wrong there."""

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import miniature
import slurm_node
from distill.columns import MEASURED
from distill.files import read_json

pytestmark = [pytest.mark.workflow, pytest.mark.long]

PROFILE = ("--workflow-profile", "profiles/slurm", "--configfile", miniature.CONFIG)
RESULTS = "results/gpt2_alpaca_miniature"
QUICK = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20")
# The profile's set-resources as a whole: the command line replaces the block.
SMALL = ("--default-resources", "slurm_partition=cpu", "mem_mb=2500", "runtime=20")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A running SLURM; without its programs the tests are skipped, but never in CI."""
    if lacking := slurm_node.missing():
        reason = f"no SLURM here: {', '.join(lacking)} missing"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with slurm_node.slurm_node(tmp_path_factory.mktemp("slurm") / "node"):
        yield


def _project(folder: Path) -> Path:
    project = miniature.copy_project(folder / "project")
    miniature.make_inputs(project)
    return project


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The runs table of the same study without SLURM."""
    project = _project(tmp_path_factory.mktemp("local"))
    miniature.snakemake(project, "--configfile", miniature.CONFIG)
    return _table(project)


def _table(project: Path) -> pd.DataFrame:
    return pd.read_parquet(project / RESULTS / "runs.parquet").drop(columns=MEASURED)


def _asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _running(rule: str) -> str:
    """Wait for a running job of a rule; returns its id."""
    for _ in range(3000):
        for line in _asked("squeue", "-h", "-t", "RUNNING", "-o", "%i|%k").splitlines():
            number, comment = line.split("|", 1)
            if rule in comment:
                return number
        time.sleep(0.1)
    raise AssertionError(f"no job of {rule} ran")


@contextlib.contextmanager
def _meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something while the block runs; its failure is the block's."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join(timeout=60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def _devices(project: Path, rule: str) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each job of a rule, as its log has it."""
    logs = (project / "logs" / rule).rglob("*.log")
    found = [re.search(r"CUDA_VISIBLE_DEVICES (\S+)", file.read_text()) for file in logs]
    assert all(found)
    return [match[1] for match in found if match]


def test_a_study_on_a_cluster_is_the_same_study(
    node: None, local: pd.DataFrame, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    printed = miniature.snakemake(project, *PROFILE, *QUICK, timeout=1500)
    pd.testing.assert_frame_equal(_table(project), local, check_exact=True)
    assert (project / RESULTS / "report.html").stat().st_size > 10_000
    assert "with SLURM jobid" in printed
    for rule in ("generate_text", "train_student", "evaluate_student", "evaluate_teacher"):
        assert set(_devices(project, rule)) <= {"0", "1"}, rule
    assert set(_devices(project, "build_shard")) == {"-"}
    assert len(set(_devices(project, "train_student"))) == 2  # two at once, on a GPU each
    assert miniature.dry_run(project) == {}


def test_jobs_that_are_killed_in_every_way_end_in_the_same_results(
    node: None, local: pd.DataFrame, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    host = _asked("sinfo", "-h", "-o", "%n").split()[0]
    done: list[str] = []

    def disturb() -> None:
        subprocess.run(["scancel", _running("generate_text")], check=True)
        done.append("cancelled")
        _running("train_student")
        state = ["scontrol", "update", f"nodename={host}"]
        subprocess.run([*state, "state=down", "reason=test"], check=True)
        time.sleep(3)
        if "down" in _asked("sinfo", "-h", "-o", "%T"):  # it returns by itself when slurmd calls
            subprocess.run([*state, "state=resume"], check=True)
        done.append("node down")
        subprocess.run(["scancel", "--signal=TERM", _running("evaluate_student")], check=True)
        done.append("told to end")

    short = ("--set-resources", "evaluate_teacher:mem_mb=150 + 3000 * (attempt - 1)")
    with _meanwhile(disturb):
        printed = miniature.snakemake(project, *PROFILE, *QUICK, *short, *SMALL, timeout=1500)
    assert done == ["cancelled", "node down", "told to end"]
    assert printed.count("Trying to restart job") >= 3, printed[-3000:]
    pd.testing.assert_frame_equal(_table(project), local, check_exact=True)
    record = read_json(project / RESULTS / "teachers/gpt2-xl/metrics.json")
    assert record["heldout"]["loss"] > 0
    assert miniature.dry_run(project) == {}
