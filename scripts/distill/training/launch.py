"""Start the training of a student: in this process or one per GPU, with rows that fit memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from distill.core.errors import UserError
from distill.core.files import read_json, sha256_of
from distill.core.keys import digest
from distill.runtime.cpu import set_up_cpu
from distill.runtime.processes import run_processes
from distill.training.micro_batch import fitting_micro_batch
from distill.training.run import train_student, with_settings


def train_from_files(
    initial: str | Path,
    shard: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    run: dict[str, Any],
    code: str,
    heads: Sequence[str | Path] = (),
    validation: Sequence[str | Path] = (),
    best: str | Path | None = None,
    teacher: str | Path | None = None,
    attempt: int = 1,
    tokenizer: str | Path | None = None,
) -> None:
    """Train one student on one shard; the n = 0 student is saved as it is.

    Args:
        initial: A file in the directory of the student before training.
        code: Digest of the code: a checkpoint of other code, spec or data is cleared.
        teacher: A file in the directory of the teacher's model, for spans or for live targets.
        attempt: As of `launch_training`.
        tokenizer: A file in the directory of the text's tokenizer, if it is not that of the
            student's source.
        shard, out, spec, run, heads, validation, best: As of `train_student`.

    Raises:
        UserError: As `launch_training`.
    """
    read = [path for path in (shard, *validation, best, teacher, tokenizer) if path is not None]
    launch_training(
        attempt,
        initial=Path(initial).parent,
        shard=shard,
        out=out,
        spec=spec,
        run=run,
        tag=digest([spec, code, [sha256_of(path) for path in read]]),
        heads=list(heads),
        validation=list(validation),
        best=best,
        teacher=Path(teacher).parent if teacher else None,
        tokens_of=Path(tokenizer).parent if tokenizer else None,
    )


def launch_training(attempt: int = 1, **arguments: Any) -> None:
    """Train a student as `train_student` does.

    Args:
        attempt: Which of the workflow's tries this is; see `distill.training.micro_batch`.
        arguments: The arguments of `train_student` but micro. Of its spec, gpus says how many
            processes train.

    Raises:
        UserError: As `train_student`; memory ran out; there are fewer GPUs than asked for.
    """
    spec, run, tag = (arguments[name] for name in ("spec", "run", "tag"))
    folder = Path(arguments["out"]).parent
    if arguments["shard"] is None:
        train_student(**arguments)
        return
    processes, there = spec.get("gpus", 1), torch.cuda.device_count()
    if 0 < there < processes:
        raise UserError(
            f"{run['student']} needs {processes} GPUs (gpus), but its job sees "
            f"{there}; lower gpus, or give the job as many"
        )
    settings = read_json(arguments["best"])["settings"] if arguments.get("best") else {}
    train, who = with_settings(spec, settings)["train"], f"{run['student']} at n = {run['samples']}"
    with fitting_micro_batch(folder / "resume", tag, train, who, processes, attempt) as rows:
        arguments["micro"] = rows
        if processes == 1:
            train_student(**arguments)
            return
        run_processes(processes, "distill.training.launch:train_with_others", _plain(arguments))


def train_with_others(**arguments: Any) -> None:
    """The work of one of several processes."""
    set_up_cpu(arguments["spec"]["train"]["threads"])
    train_student(**arguments)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values."""

    def text(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value)
        return [text(item) for item in value] if isinstance(value, list) else value

    return {name: text(value) for name, value in arguments.items()}
