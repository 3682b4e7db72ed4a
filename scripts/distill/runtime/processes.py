"""Run a function in several processes of one group, one per GPU, with PyTorch's launcher.

Each process is a new Python, `python -m distill.runtime.processes FILE`, with the environment
variables of torch.distributed. The launcher ends all processes if one fails.
"""

import json
import logging
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.runtime.job import end_with_workflow, leave_out

ROOT = Path(__file__).resolve().parents[2]


class ProcessKilledError(Exception):
    """A process of the group was killed (SIGKILL), as the kernel does if memory runs out."""


def is_first_process() -> bool:
    """Whether this process has rank 0 or is not in a group."""
    return os.environ.get("RANK", "0") == "0"


def run_processes(number: int, target: str, arguments: Mapping[str, Any]) -> None:
    """Call a function in each of `number` processes and wait for all.

    SIGTERM and Ctrl-C are forwarded to the processes, which end themselves.

    Args:
        number: Number of processes.
        target: `module:function`.
        arguments: Keyword arguments of the function, as JSON values.

    Raises:
        UserError: The UserError of the process that failed first.
        ProcessKilledError: A process was killed.
        KeyboardInterrupt: Ctrl-C ended the processes.
        RuntimeError: Name and text of another exception of the process that failed first.
    """
    # Imported here: it takes seconds, and jobs with one process do not need it.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    call = {
        "target": target,
        "arguments": arguments,
        "logs": [_appending(each) for each in _log_files()],
        "absent": [name for name, module in sys.modules.items() if module is None],
    }
    with tempfile.TemporaryDirectory() as name, _importable(), _passing_on_signals():
        folder = Path(name)
        write_json(folder / "call.json", call)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=str(os.getpid()),
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",  # the host name of a node may not be resolvable
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=name),
            signals_to_handle="SIGQUIT",
        )
        try:
            elastic_launch(config, sys.executable)("-m", __name__, str(folder / "call.json"))
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            failures = [read_json(file) for file in folder.glob("failed-*.json")]
        else:
            return
    _raise_first(codes, sorted(failures, key=lambda failure: failure["time"]))


def _log_files() -> list[logging.FileHandler]:
    handlers = logging.getLogger().handlers
    return [each for each in handlers if isinstance(each, logging.FileHandler)]


def _appending(log: logging.FileHandler) -> str:
    """Switch a log to append mode, because other processes write to it too; return its path."""
    log.mode = "a"
    log.close()  # the next log line reopens it
    return log.baseFilename


def _raise_first(codes: list[int], failures: list[dict[str, Any]]) -> None:
    """Raise the first failure: the other processes fail because they lost the first one."""
    if -signal.SIGKILL in codes:
        raise ProcessKilledError
    if not failures:  # for example, it was terminated while it started
        raise UserError(
            f"a process of the training ended with code {codes[0]} and without an error; run again"
        )
    if failures[0]["interrupted"]:
        raise KeyboardInterrupt
    if failures[0]["user"]:
        raise UserError(failures[0]["message"])
    raise RuntimeError(failures[0]["message"])


@contextmanager
def _importable() -> Iterator[None]:
    """Let new processes find this package."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _passing_on_signals() -> Iterator[None]:
    def pass_on(number: int, _frame: Any) -> None:
        for child in psutil.Process().children():
            child.send_signal(number)

    heard = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, pass_on) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)


def _call(file: Path) -> None:
    """Run the function of a call file in this process of the group."""
    end_with_workflow()
    call, rank = json.loads(file.read_text(encoding="utf-8")), os.environ["RANK"]
    for name in call["logs"]:
        logging.basicConfig(
            filename=name,
            level=logging.INFO if rank == "0" else logging.ERROR,
            format=f"%(asctime)s process {rank}: %(message)s",
        )
    logging.captureWarnings(True)
    for name in call["absent"]:
        leave_out(name)
    failed = False
    try:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # The digest of code covers the function, because it is in the caller's module.
        pkgutil.resolve_name(call["target"])(**call["arguments"])
    except (Exception, KeyboardInterrupt) as error:
        failed, user = True, isinstance(error, UserError)
        interrupted = isinstance(error, KeyboardInterrupt)
        if not (user or interrupted):
            logging.error("%s", traceback.format_exc())
        message = str(error) if user else f"{type(error).__name__}: {error}"
        said = {"time": time.time(), "user": user, "interrupted": interrupted, "message": message}
        write_json(file.with_name(f"failed-{rank}.json"), said)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(failed)  # destroying the group while other processes work can block forever


if __name__ == "__main__":
    _call(Path(sys.argv[1]))
