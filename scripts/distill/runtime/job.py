"""The frame of every job: its log file, and one clear sentence if it fails."""

import atexit
import ctypes
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from distill.core.display import visible
from distill.core.errors import UserError
from distill.runtime.disk import disk_error
from distill.runtime.out_of_memory import FEWER_JOBS, is_out_of_memory

WORKFLOW = "SCALING_WORKFLOW_PID"
"""Environment variable with the process id of the workflow that started a job."""
_PR_SET_PDEATHSIG = 1


class _VisibleFormatter(logging.Formatter):
    """Log lines with visible control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _runs(process: int) -> bool:
    """Whether a process has not ended, according to Linux's /proc."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("X", "Z")


def end_with_workflow() -> None:
    """Let the kernel kill this process when its parent ends.

    Otherwise a job of a killed workflow would continue and write beside the next workflow.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    workflow = int(os.environ.get(WORKFLOW, os.getppid()))
    if os.getppid() != workflow and not _runs(workflow):  # it ended before the call of prctl
        os._exit(1)


def leave_out(package: str) -> None:
    """Make an optional package of a library look absent, if nothing has imported it yet."""
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # no warning that models need torch
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]


@contextmanager
def job(snakemake: Any, without: Sequence[str] = ()) -> Iterator[None]:
    """Run a job's work in the block, and log to the job's log file.

    A UserError or an error of a disk ends the job with one sentence. Any other exception writes its
    traceback to the log and its last line to the terminal. Ctrl-C ends the job silently, because
    Snakemake reports it.

    Args:
        snakemake: Snakemake's object of the job.
        without: Optional packages that look absent to libraries imported in the block:
            transformers' tokenizers do not need torch; its Trainer imports peft, and with it
            bitsandbytes and a compiler, which takes four seconds.
    """
    end_with_workflow()
    for package in without:
        leave_out(package)
    ended: list[bool] = []
    atexit.register(_end_at_once, ended)  # registered first, so it is called last
    log = Path(str(snakemake.log[0]))
    logging.raiseExceptions = False  # an unwritable log must not hide the job's error
    _open_log(log)
    try:
        yield
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        logging.error("interrupted (SIGINT)")
        os._exit(130)
    except Exception as error:
        if sentence := disk_error(error, next(iter(getattr(snakemake, "output", [])), log)):
            _fail(sentence)
        logging.error("%s", traceback.format_exc())
        if is_out_of_memory(error):
            _fail(f"the job ran out of memory; {FEWER_JOBS}")
        _fail(f"{type(error).__name__}: {error} (traceback in {log})")
    logging.info("done")
    ended.append(True)


def _end_at_once(ended: list[bool]) -> None:
    """End the process of a successful job without Python's shutdown of modules and objects.

    With torch and transformers the shutdown takes up to two seconds. Threads have ended and all
    other exit functions have run by now.
    """
    if ended:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _open_log(log: Path) -> None:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log, mode="w", encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(_VisibleFormatter("%(asctime)s %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    except OSError as error:
        logging.getLogger().addHandler(logging.NullHandler())
        _fail(
            disk_error(error, log)
            or f"the log {log} cannot be written: {error}; move the file or folder there"
        )
    logging.captureWarnings(True)
    for client in ("httpx", "httpx2"):  # they would log signed addresses of downloads
        logging.getLogger(client).setLevel(logging.WARNING)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    host = os.uname().nodename
    logging.info("host %s, pid %s, CUDA_VISIBLE_DEVICES %s", host, os.getpid(), devices)


def _fail(sentence: str) -> NoReturn:
    logging.error("%s", sentence)
    logging.shutdown()
    # Not an exception: Snakemake's traceback of the script would hide the sentence.
    sys.stderr.write(f"\nError: {visible(sentence)}\n")
    sys.stderr.flush()
    os._exit(1)
