"""A run that may follow a killed one: its lock, what that left behind, and a clock that was set."""

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
    "another run of this workflow is writing in this directory; wait for it to end or use another "
    "directory (snakemake -d)"
)
_LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp")
"""Names of files that `files.replacing` had not finished."""
_held: list[TextIO] = []


def is_locked(path: str) -> bool:
    """Whether another process holds the directory's writer lock."""
    with suppress(FileNotFoundError), Path(path).open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # told by take_lock
            return False
    return False


def take_lock(path: str, was_locked: bool) -> str:
    """Hold the directory's writer lock until this process ends, however it ends.

    Args:
        path: The lock's file.
        was_locked: Whether it was held when this workflow was read. The one that held it may have
            ended since, but what is to be done was decided from files as they were before.

    Returns:
        A sentence for the user if there are no locks here, else nothing.

    Raises:
        SystemExit: Another workflow runs here, or did a moment ago.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = file.open("w")
    _held.append(stream)
    for _ in range(
        5
    ):  # a workflow that is being read holds it for an instant, to see whether it can
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError as error:
            return (
                f"{path} cannot be locked on this file system ({error.strerror}), so take care "
                "that no other run of this workflow writes in this directory."
            )
        if was_locked:
            break
        return ""
    raise SystemExit(f"Error: {BUSY}")


def mend_files(folders: Iterable[str]) -> str:
    """Remove what killed jobs had begun to write, and date files of the future to the present.

    Where a clock was set back, whatever is made from a file of before seems older than that, and
    would be made again and again. Files of the future keep their order.

    Args:
        folders: Of results. No other process may write there.

    Returns:
        A sentence for the user if the clock was set back, else nothing.
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
    # Snakemake compares times as floats, which tell microseconds apart.
    times = sorted({changed for changed, _ in future})
    present = {changed: now - 1000 * age for age, changed in enumerate(reversed(times))}
    for changed, path in future:
        os.utime(path, ns=(present[changed], present[changed]))
    if not future:
        return ""
    return (
        f"The clock was set back: {len(future)} files of earlier runs, up to "
        f"{(times[-1] - now) / 1e9:.0f} s in the future, are dated to the present, in their order."
    )


def source_files(plan: Plan) -> dict[str, list[str]]:
    """The user's files that a study reads, by the config's key that names them."""
    names = {*plan.sources.models.values(), *plan.sources.data.values()}
    return {f"sources.{name}.path": plan.sources.local_files(name) for name in sorted(names)}


def check_file_times(files: Mapping[str, Sequence[str]]) -> None:
    """Check that no file of the user is dated in the future.

    Args:
        files: By the config's key that names them.

    Raises:
        UserError: One is, so that whatever is made from it would seem older than it.
    """
    now = time.time()
    for key, paths in files.items():
        for path in paths:
            if Path(path).stat().st_mtime > now:
                raise UserError(
                    f"config: {key}: {path} is dated in the future, so what is made from it would "
                    f"always seem out of date; set the clock right, or touch {path}"
                )


def clear_resumes(plan: Plan) -> None:
    """Remove what finished jobs kept in case that the workflow died before it noted their end."""
    for run in needed_runs(plan):
        if _is_noted(plan.training.file(run, "training.json")):
            shutil.rmtree(plan.training.file(run, "resume"), ignore_errors=True)
    for answers in Path(RESOURCES, "served").glob("*/*.resume.jsonl"):
        if _is_noted(str(answers).removesuffix(".resume.jsonl") + ".parquet"):
            answers.unlink()


def _is_noted(path: str) -> bool:
    """Whether Snakemake knows that a file is finished."""
    return Path(path).is_file() and not is_incomplete(path)
