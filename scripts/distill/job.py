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
from distill.out_of_memory import FEWER_JOBS, is_out_of_memory


@contextmanager
def job(snakemake: Any) -> Iterator[Any]:
    """Run a job's work: yields Snakemake's job object, logs to its log file.

    A UserError ends the job with its sentence alone; another exception leaves its traceback in the
    log and its last line on the terminal.
    """
    log = Path(str(snakemake.log[0]))
    log.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=log, filemode="w", level=logging.INFO, format="%(asctime)s %(message)s", force=True
    )
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
        if is_out_of_memory(error):
            _fail(f"the job ran out of memory; {FEWER_JOBS}")
        _fail(f"{type(error).__name__}: {error} (traceback in {log})")
    logging.info("done")


def _fail(sentence: str) -> NoReturn:
    logging.error("%s", sentence)
    logging.shutdown()
    # Not an exception: Snakemake's own traceback of the script would bury the sentence.
    sys.stderr.write(f"\nError: {sentence}\n")
    sys.stderr.flush()
    os._exit(1)
