"""What every job does around its work: log file, threads, one clear sentence when it fails."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from distill.disk import disk_error
from distill.files import UserError


@contextmanager
def job(snakemake: Any) -> Iterator[Any]:
    """Run a job's work: yields Snakemake's job object, logs to its log file.

    A UserError and what a disk refuses end the job with a sentence alone; another exception leaves
    its traceback in the log and its last line on the terminal.
    """
    log = Path(str(snakemake.log[0]))
    logging.raiseExceptions = False  # a log that cannot be written must not hide why
    _open_log(log)
    try:
        yield snakemake
    except UserError as error:
        _fail(str(error))
    except Exception as error:
        if sentence := disk_error(error, next(iter(getattr(snakemake, "output", [])), log)):
            _fail(sentence)
        logging.error("%s", traceback.format_exc())
        _fail(f"{type(error).__name__}: {error} (traceback in {log})")
    logging.info("done")


def _open_log(log: Path) -> None:
    style = "%(asctime)s %(message)s"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=log, filemode="w", level=logging.INFO, format=style, force=True
        )
    except OSError as error:
        logging.getLogger().addHandler(logging.NullHandler())
        _fail(
            disk_error(error, log)
            or f"the log {log} cannot be written: {error}; move what is there"
        )
    logging.captureWarnings(True)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    host = os.uname().nodename
    logging.info("host %s, pid %s, CUDA_VISIBLE_DEVICES %s", host, os.getpid(), devices)


def _fail(sentence: str) -> NoReturn:
    logging.error("%s", sentence)
    logging.shutdown()
    # Not an exception: Snakemake's own traceback of the script would bury the sentence.
    sys.stderr.write(f"\nError: {sentence}\n")
    sys.stderr.flush()
    os._exit(1)
