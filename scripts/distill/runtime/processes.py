"""Run a function in several processes of one group, one to each GPU, by PyTorch's own launcher.

Each is a new Python, `python -m distill.runtime.processes FILE`, in which torch.distributed and the
library's Trainer find their group; the launcher ends them all when one fails.
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
    """A process of the group was killed from outside (SIGKILL), as the system does for memory."""


def is_first_process() -> bool:
    """Whether this is the process of its group that writes, or there is no group."""
    return os.environ.get("RANK", "0") == "0"


def run_processes(number: int, target: str, given: Mapping[str, Any]) -> None:
    """Call a function in each of `number` processes and wait for all.

    SIGTERM and Ctrl-C are handed on to them; it is theirs to end then.

    Args:
        number: How many.
        target: `module:function`.
        given: Its arguments, which JSON can hold.

    Raises:
        UserError: That of the process that failed first.
        ProcessKilledError: One was killed.
        KeyboardInterrupt: Ctrl-C has ended them.
        RuntimeError: Another exception of the process that failed first, its name and text.
    """
    # Seconds of imports that a job of one process need not pay.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    call = {
        "target": target,
        "given": given,
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
            local_addr="127.0.0.1",  # a node's own name may not be resolvable
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=name),
            signals_to_handle="SIGQUIT",
        )
        try:
            elastic_launch(config, sys.executable)("-m", __name__, str(folder / "call.json"))
        except ChildFailedError as error:
            codes = [failure.exitcode for failure in error.failures.values()]
            found = [read_json(file) for file in folder.glob("failed-*.json")]
        else:
            return
    _tell(codes, sorted(found, key=lambda failure: failure["time"]))


def _log_files() -> list[logging.FileHandler]:
    handlers = logging.getLogger().handlers
    return [each for each in handlers if isinstance(each, logging.FileHandler)]


def _appending(log: logging.FileHandler) -> str:
    """Go on at a log's end from now on, where others write too; its path."""
    log.mode = "a"
    log.close()  # the next line opens it again
    return log.baseFilename


def _tell(codes: list[int], failures: list[dict[str, Any]]) -> None:
    """Raise what happened first: others fail because they lost it."""
    if -signal.SIGKILL in codes:
        raise ProcessKilledError
    if not failures:  # told to end while it was starting, say
        raise UserError(
            f"a process of the training ended ({codes[0]}) before it could say why; run again"
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
    """What such a process does."""
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
        # The digest of code has it by the caller, whose own function it is.
        pkgutil.resolve_name(call["target"])(**call["given"])
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
    os._exit(failed)  # taking a group apart while others work can wait for ever


if __name__ == "__main__":
    _call(Path(sys.argv[1]))
