"""What every job does around its work: log file, threads, one clear sentence when it fails."""

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
"""Environment variable with the process of the workflow that started a job."""
_PR_SET_PDEATHSIG = 1


class _VisibleFormatter(logging.Formatter):
    """Log lines in which text of models and data cannot steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _runs(process: int) -> bool:
    """Whether a process has not ended, seen from Linux."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("X", "Z")


def end_with_workflow() -> None:
    """Let the kernel kill this process when its parent ends, however that ends.

    A job that outlives a killed workflow would write beside the one started next.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    workflow = int(os.environ.get(WORKFLOW, os.getppid()))
    if os.getppid() != workflow and not _runs(workflow):  # it ended before the kernel was asked
        os._exit(1)


def leave_out(package: str) -> None:
    """Make an optional package of a library look absent, if nothing has imported it yet."""
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that models need torch
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]


@contextmanager
def job(snakemake: Any, without: Sequence[str] = ()) -> Iterator[None]:
    """Run a job's work, one call of the library, and log to the job's log file.

    A UserError and what a disk refuses end the job with a sentence alone; another exception leaves
    its traceback in the log and its last line on the terminal. Ctrl-C ends it silently, as
    Snakemake reports it.

    Args:
        snakemake: Snakemake's object of the job.
        without: Optional packages that look absent to libraries imported within the block.
            transformers' tokenizers import torch and are as good without; its Trainer imports
            peft, and with it bitsandbytes and a compiler: four seconds, as long as all the rest.
    """
    end_with_workflow()
    for package in without:
        leave_out(package)
    ended: list[bool] = []
    atexit.register(_end_at_once, ended)  # before all others, so that it is called after them
    log = Path(str(snakemake.log[0]))
    logging.raiseExceptions = False  # a log that cannot be written must not hide why
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
    """End the process of a job that succeeded, without taking its modules and objects apart.

    With torch and transformers that takes up to two seconds, and files are closed by then: threads
    have been waited for and what else is to be done at the end has been.
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
            or f"the log {log} cannot be written: {error}; move what is there"
        )
    logging.captureWarnings(True)
    for client in ("httpx", "httpx2"):  # addresses of downloads are signed: a log would open them
        logging.getLogger(client).setLevel(logging.WARNING)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    host = os.uname().nodename
    logging.info("host %s, pid %s, CUDA_VISIBLE_DEVICES %s", host, os.getpid(), devices)


def _fail(sentence: str) -> NoReturn:
    logging.error("%s", sentence)
    logging.shutdown()
    # Not an exception: Snakemake's own traceback of the script would bury the sentence.
    sys.stderr.write(f"\nError: {visible(sentence)}\n")
    sys.stderr.flush()
    os._exit(1)
