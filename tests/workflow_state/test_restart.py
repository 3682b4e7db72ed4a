"""What a run finds that follows a killed one: locks, leftovers, orphans, clocks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.runtime.job import WORKFLOW
from distill.workflow.restart import (
    check_file_times,
    clear_resumes,
    is_locked,
    mend_files,
    source_files,
    take_lock,
)

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
JOB = """
import sys, time
from types import SimpleNamespace
sys.path.insert(0, {scripts!r})
from distill.runtime.job import job
with job(SimpleNamespace(log=["{folder}/job.log"])):
    print("runs", flush=True)
    time.sleep({seconds})
"""
HOLDER = """
import sys, time
sys.path.insert(0, {scripts!r})
from distill.workflow.restart import take_lock
take_lock({path!r}, False)
print("held", flush=True)
time.sleep(60)
"""


def _python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | environment,
    )  # fmt: skip


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _ends(number: int) -> bool:
    """Whether a process that is no child ends within a second."""
    for _ in range(100):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
def test_a_job_ends_with_the_workflow_that_started_it(tmp_path: Path) -> None:
    job = JOB.format(scripts=str(SCRIPTS), folder=tmp_path, seconds=60)
    workflow = _python(
        "import os, subprocess, sys\n"
        f"os.environ[{WORKFLOW!r}] = str(os.getpid())\n"
        f"child = subprocess.Popen([sys.executable, '-c', {job!r}])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    number = int(_line(workflow))
    assert _line(workflow) == "runs\n"
    workflow.kill()
    workflow.wait()
    assert _ends(number)


def test_a_job_whose_workflow_ended_before_it_began_does_nothing(tmp_path: Path) -> None:
    gone = _python("pass")
    gone.wait()
    code = JOB.format(scripts=str(SCRIPTS), folder=tmp_path, seconds=0)
    for workflow, code_of_exit, printed in ((gone.pid, 1, ""), (os.getpid(), 0, "runs\n")):
        job = _python(code, **{WORKFLOW: str(workflow)})
        assert job.communicate(timeout=30) == (printed, "")
        assert job.returncode == code_of_exit


def test_ctrl_c_ends_a_job_without_a_traceback(tmp_path: Path) -> None:
    job = _python(JOB.format(scripts=str(SCRIPTS), folder=tmp_path, seconds=60))
    assert _line(job) == "runs\n"
    job.send_signal(signal.SIGINT)
    assert job.communicate(timeout=30) == ("", "")
    assert job.returncode == 130
    assert "SIGINT" in (tmp_path / "job.log").read_text()


@pytest.mark.slow
def test_ctrl_c_while_a_job_imports_shows_no_traceback() -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import distill.core.files; "
    job = _python(f"{code}print('imports', flush=True); import time; time.sleep(60)")
    assert _line(job) == "imports\n"
    job.send_signal(signal.SIGINT)
    assert job.communicate(timeout=30) == ("", "")
    assert job.returncode == -signal.SIGINT
    failed = _python(f"{code}1 / 0")
    assert failed.communicate(timeout=30)[1].endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.slow
def test_a_lock_is_held_until_its_process_is_killed(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "writer.lock")
    assert not is_locked(path)
    holder = _python(HOLDER.format(scripts=str(SCRIPTS), path=path))
    assert _line(holder) == "held\n"
    assert is_locked(path)
    with pytest.raises(SystemExit, match="another run of this workflow writes"):
        take_lock(path, True)
    holder.kill()
    holder.wait()
    assert not is_locked(path)
    with pytest.raises(SystemExit, match="another run of this workflow writes"):
        take_lock(path, True)  # what is to be done was decided while the other one wrote


def test_where_nothing_can_be_locked_the_user_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "writer.lock"
    path.touch()
    assert not is_locked(str(path))
    assert f"This file system cannot lock {path} (No locks" in take_lock(str(path), False)


def _dated(path: Path, seconds: float) -> Path:
    """A file that was changed so many seconds from now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    os.utime(path, (time.time() + seconds,) * 2)
    return path


def test_files_of_the_future_are_dated_to_the_present_in_their_order(tmp_path: Path) -> None:
    old = _dated(tmp_path / "a" / "old", -100)
    before = old.stat().st_mtime
    third, first = _dated(tmp_path / "a" / "third", 7200), _dated(tmp_path / "b" / "c" / "first", 5)
    second = _dated(tmp_path / "b" / "second", 3600)
    os.utime(twin := _dated(tmp_path / "a" / "twin", 0), ns=(0, second.stat().st_mtime_ns))
    told = mend_files([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])
    assert told.startswith(
        "The clock was set back: 4 files of earlier runs were dated up to 7200 s in"
    )
    times = [path.stat().st_mtime for path in (old, first, second, third)]
    assert times == sorted(set(times))
    assert twin.stat().st_mtime == second.stat().st_mtime
    assert times[0] == before
    assert times[3] <= time.time() < times[1] + 1
    assert mend_files([str(tmp_path)]) == ""


def test_what_killed_jobs_had_begun_is_removed(tmp_path: Path) -> None:
    for name in (".n8.parquet.123.tmp", "n8.parquet", ".hidden", "own.tmp", ".own.tmp"):
        _dated(tmp_path / name, -1)
    assert mend_files([str(tmp_path)]) == ""
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"n8.parquet", ".hidden", "own.tmp", ".own.tmp"}


def _plan(folder: Path) -> Plan:
    """A study whose model and text are local."""
    config = tiny.study()
    config["sources"]["base"]["path"] = str(folder / "base")
    config["sources"]["prose"]["path"] = str(folder / "prose.csv")
    _dated(folder / "base" / "config.json", -9)
    _dated(folder / "prose.csv", -9)
    return Plan(parse_study(config))


def test_a_users_file_of_the_future_is_named(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    check_file_times(source_files(plan))
    _dated(tmp_path / "base" / "config.json", 60)
    sentence = (
        r"sources\.base\.path: .*config\.json is dated in the future.*or run touch .*config\.json"
    )
    with pytest.raises(UserError, match=sentence):
        check_file_times(source_files(plan))
    with pytest.raises(UserError, match=r"runs_table\.path: .* is dated in the future"):
        check_file_times({"runs_table.path": [str(_dated(tmp_path / "runs.csv", 60))]})


@pytest.mark.slow
def test_what_a_finished_job_kept_goes_when_snakemake_has_noted_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(tmp_path)
    monkeypatch.chdir(tmp_path)
    noted, unnoted, unfinished = (
        Path(plan.training.file(run, "resume")) for run in plan.runs[:3]
    )  # fmt: skip
    for resume in (noted, unnoted, unfinished):
        _dated(resume / "tag.txt", 0)
    for resume in (noted, unnoted):
        _dated(resume.with_name("training.json"), 0)
    _mark(unnoted.with_name("training.json"))
    served = Path("resources/served/key")
    for part in ("train-00000", "train-00001", "train-00002"):
        _dated(served / f"{part}.resume.jsonl", 0)
    for part in ("train-00000", "train-00001"):
        _dated(served / f"{part}.parquet", 0)
    _mark(served / "train-00001.parquet")
    clear_resumes(plan)
    assert [path.exists() for path in (noted, unnoted, unfinished)] == [False, True, True]
    left = sorted(path.name for path in served.glob("*.jsonl"))
    assert left == ["train-00001.resume.jsonl", "train-00002.resume.jsonl"]


def _mark(path: Path) -> None:
    """As Snakemake marks a file that a job has begun."""
    from snakemake.persistence.file import FilePersistence

    persistence = FilePersistence(path=Path(".snakemake"))
    persistence._mark_incomplete(str(path), None)
