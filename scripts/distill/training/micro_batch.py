"""How many rows a forward pass of training takes, and fewer of them after memory ran out.

The effective batch stays: halving the micro-batch doubles accumulation, and results agree within
rounding. What to take next is kept beside the checkpoints, in `resume/`, as it is not part of the
spec; a killed process cannot say so itself, but leaves behind the mark that it had begun.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.files import read_json, write_json, write_text
from distill.runtime.out_of_memory import FEWER_JOBS, is_out_of_memory
from distill.runtime.processes import ProcessKilledError

SIZE, RUNNING = "micro_batch.json", "running"


def micro_batch(train: Mapping[str, Any], processes: int = 1) -> int:
    """Rows per forward pass that the config asks for, of each process.

    Raises:
        UserError: `batch_size`, which a search may have chosen, is not a multiple of it.
    """
    share = train["batch_size"] // processes
    size = int(train["micro_batch_size"] or share)
    if not size or train["batch_size"] % (size * processes):
        raise UserError(
            f"train.batch_size is {train['batch_size']}, not a multiple of train.micro_batch_size "
            f"({size}) on each of {processes} processes (gpus); change one of them"
        )
    return size


def halved(size: int, share: int) -> int | None:
    """At most half of `size`, a divisor of a process's `share` of the batch; None after 1."""
    fitting = (half for half in range(size // 2, 0, -1) if share % half == 0)
    return next(fitting, None)


def holds(resume: Path, tag: str) -> bool:
    """Whether a directory of what survives a try is of this very training."""
    return (resume / "tag.txt").is_file() and (resume / "tag.txt").read_text() == tag


def mark_running(resume: Path) -> None:
    """Leave the mark that training has begun."""
    write_text(resume / RUNNING, "")


@contextmanager
def fitting_micro_batch(
    resume: Path,
    tag: str,
    train: Mapping[str, Any],
    who: str,
    processes: int = 1,
    attempt: int = 1,
) -> Iterator[int]:
    """Yield the rows per forward pass of a training run within the block.

    They are the config's, or half of the last try's if that ran out of memory: it said so, or it
    was killed while the workflow itself went on, which counts its tries. A killed workflow's own
    next try is its first, and runs unchanged.

    Args:
        resume: Directory of what survives a try.
        tag: As that directory's own: what is there of another says nothing.
        train: Settings of the training.
        who: Whose training, for errors.
        processes: How many share a batch.
        attempt: Which of the workflow's tries this is, from 1.

    Raises:
        UserError: Memory ran out.
    """
    size, share = micro_batch(train, processes), train["batch_size"] // processes
    if holds(resume, tag):
        if (resume / SIZE).exists():
            size = read_json(resume / SIZE)["rows"]
        if attempt > 1 and (resume / RUNNING).exists():
            size = halved(size, share) or size
            write_json(resume / SIZE, {"rows": size})
            logging.warning("%s", line := _killed(who, size))
            sys.stderr.write(f"\n{line}\n")
    try:
        yield size
    except BaseException as error:
        (resume / RUNNING).unlink(missing_ok=True)
        killed = isinstance(error, ProcessKilledError)
        if not (killed or is_out_of_memory(error)):
            raise
        half = halved(size, share)
        if half is not None and holds(resume, tag):
            write_json(resume / SIZE, {"rows": half})
        raise UserError(_sentence(who, size, half, killed)) from error
    (resume / RUNNING).unlink(missing_ok=True)


def _killed(who: str, size: int) -> str:
    return (
        f"the last try to train {who} was killed, probably because memory ran out: now "
        f"with train.micro_batch_size {size}, accumulated to the same batch_size"
    )


def _sentence(who: str, size: int, half: int | None, killed: bool) -> str:
    happened = "was killed, probably because memory ran out," if killed else "ran out of memory"
    if half is None:
        return (
            f"training {who} {happened} with one row per forward pass; set "
            f"train.gradient_checkpointing: true, lower train.max_length, {FEWER_JOBS}"
        )
    return (
        f"training {who} {happened} with {size} rows per forward pass; the next try takes {half} "
        "and accumulates them to the same batch_size, which train.micro_batch_size: "
        f"{half} asks for from the start; else set train.gradient_checkpointing: true, {FEWER_JOBS}"
    )
