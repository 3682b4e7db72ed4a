"""What every job does around its work: log file, threads, one clear sentence when it fails."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from distill.files import UserError
from distill.shown import visible


class _VisibleFormatter(logging.Formatter):
    """Log lines in which text of models and data cannot steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


@contextmanager
def job(snakemake: Any) -> Iterator[Any]:
    """Run a job's work: yields Snakemake's job object, logs to its log file.

    A UserError ends the job with its sentence alone; another exception leaves its traceback in the
    log and its last line on the terminal.
    """
    log = Path(str(snakemake.log[0]))
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, mode="w", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_VisibleFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "-")
    host = os.uname().nodename
    logging.info("host %s, pid %s, CUDA_VISIBLE_DEVICES %s", host, os.getpid(), devices)
    try:
        yield snakemake
    except UserError as error:
        _fail(str(error))
    except Exception as error:
        logging.error("%s", traceback.format_exc())
        _fail(f"{type(error).__name__}: {error} (traceback in {log})")
    logging.info("done")


def _fail(sentence: str) -> NoReturn:
    logging.error("%s", sentence)
    logging.shutdown()
    # Not an exception: Snakemake's own traceback of the script would bury the sentence.
    sys.stderr.write(f"\nError: {visible(sentence)}\n")
    sys.stderr.flush()
    os._exit(1)
