"""Start after a killed run: writer lock, unfinished files, and a clock that was set back."""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from distill.core.errors import UserError
from distill.plan.keys import RESOURCES
from distill.plan.needed import needed_runs
from distill.plan.study import Plan
from distill.workflow.snakemake_state import is_incomplete

BUSY = (
    "another run of this workflow writes to this directory; wait until it ends or use another "
    "directory (snakemake -d)"
)
_LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp")
"""Names of temporary files of `files.replacing`."""
_held: list[TextIO] = []


def is_locked(path: str) -> bool:
    """Whether another process holds the directory's writer lock."""
    with suppress(FileNotFoundError), Path(path).open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # take_lock reports it
            return False
    return False


def take_lock(path: str, was_locked: bool) -> str:
    """Hold the directory's writer lock until this process ends.

    Args:
        path: The lock file.
        was_locked: Whether another process held the lock when Snakemake read this workflow. Even
            if that process has ended, the jobs were chosen from files of before.

    Returns:
        A warning for the user if the file system has no locks, else "".

    Raises:
        SystemExit: Another workflow writes to the directory, or did when this one was read.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = file.open("w")
    _held.append(stream)
    for _ in range(5):  # `is_locked` in another process holds the lock for an instant
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError as error:
            return (
                f"This file system cannot lock {path} ({error.strerror}); make sure that no other "
                "run of this workflow writes to this directory."
            )
        if was_locked:
            break
        return ""
    raise SystemExit(f"Error: {BUSY}")


def mend_files(folders: Iterable[str]) -> str:
    """Remove unfinished files of killed jobs, and correct modification times in the future.

    If the clock was set back, new results seem older than their inputs, and Snakemake would rerun
    their jobs every time. The corrected files keep their order.

    Args:
        folders: Folders of results. No other process may write there.

    Returns:
        A sentence for the user if the clock was set back, else "".
    """
    now, future = time.time_ns(), list[tuple[int, Path]]()
    for folder in folders:
        for path in Path(folder).rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            if _LEFT_BEHIND.fullmatch(path.name):
                path.unlink()
            elif (changed := path.stat().st_mtime_ns) > now:
                future.append((changed, path))
    # Snakemake compares times as floats, whose resolution is about a microsecond.
    times = sorted({changed for changed, _ in future})
    present = {changed: now - 1000 * age for age, changed in enumerate(reversed(times))}
    for changed, path in future:
        os.utime(path, ns=(present[changed], present[changed]))
    if not future:
        return ""
    return (
        f"The clock was set back: {len(future)} files of earlier runs were dated up to "
        f"{(times[-1] - now) / 1e9:.0f} s in the future; they are now dated to the present."
    )


def source_files(plan: Plan) -> dict[str, list[str]]:
    """The user's files that a study reads, by the config key that names them."""
    names = {*plan.sources.models.values(), *plan.sources.data.values()}
    return {f"sources.{name}.path": plan.sources.local_files(name) for name in sorted(names)}


def check_file_times(files: Mapping[str, Sequence[str]]) -> None:
    """Check that no file of the user is dated in the future.

    Args:
        files: Paths by the config key that names them.

    Raises:
        UserError: A file is; its results would always seem older than it.
    """
    now = time.time()
    for key, paths in files.items():
        for path in paths:
            if Path(path).stat().st_mtime > now:
                raise UserError(
                    f"config: {key}: {path} is dated in the future, so its results would always "
                    f"seem out of date; correct the clock, or run touch {path}"
                )


def clear_resumes(plan: Plan) -> None:
    """Remove the checkpoints and partial answers of jobs that Snakemake recorded as finished."""
    for run in needed_runs(plan):
        if _is_noted(plan.training.file(run, "training.json")):
            shutil.rmtree(plan.training.file(run, "resume"), ignore_errors=True)
    for answers in Path(RESOURCES, "served").glob("*/*.resume.jsonl"):
        if _is_noted(str(answers).removesuffix(".resume.jsonl") + ".parquet"):
            answers.unlink()


def _is_noted(path: str) -> bool:
    """Whether Snakemake recorded a file as finished."""
    return Path(path).is_file() and not is_incomplete(path)
