"""What survives a killed training run: checkpoints, and a finished student's files."""

import logging
import shutil
import signal
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from distill.core.errors import UserError
from distill.core.files import altered, link, read_json, replacing, sha256_of, write_text
from distill.training.micro_batch import holds

STATE = "trainer_state.json"
"""The file of a checkpoint that the library writes last."""
CHECKSUMS = "checksums.json"
"""SHA-256 of the other files of a checkpoint."""
FINISHED = "finished"
"""Folder in `resume/` with all files of a finished student, until the workflow has noted it.

A workflow that is killed just before that runs the job again, which then takes them from here.
"""
RECORD = "record.json"
"""The training record in that folder, written last."""


class SkipShortCheckpoint(TrainerCallback):
    """No checkpoint in a training run that is not longer than the interval between two.

    The library always writes one after the last update, just before the finished student. Early
    stopping keeps it: it may be the best.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Cancel the save that the library's own callback requested."""
        if state.global_step == state.max_steps <= args.save_steps:
            control.should_save = control.should_save and args.load_best_model_at_end


def prepare_folder(folder: Path, tag: str) -> Path:
    """Remove files of an earlier spec; keep those of the same spec. Returns `resume/`."""
    resume = folder / "resume"
    resumable = holds(resume, tag)
    folder.mkdir(parents=True, exist_ok=True)
    for item in folder.iterdir():
        if resumable and item.name in ("resume", "tensorboard"):
            continue
        shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    write_text(resume / "tag.txt", tag)
    return resume


def checksums_of(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each file of a checkpoint, without the list itself, by name."""
    files = sorted(file for file in checkpoint.iterdir() if file.is_file())
    return {file.name: sha256_of(file) for file in files if file.name != CHECKSUMS}


def last_checkpoint(resume: Path) -> str | None:
    """The last complete checkpoint; an incomplete one is removed.

    Raises:
        UserError: A file of a checkpoint (of the best one too) is not as it was saved.
    """
    for listed in sorted(resume.glob(f"checkpoint-*/{CHECKSUMS}")):
        present = checksums_of(listed.parent)
        for name, written in read_json(listed).items():
            if present.get(name) != written:
                raise altered(listed.parent / name, resume)
    while last := get_last_checkpoint(str(resume)):
        try:
            read_json(Path(last) / STATE)
        except UserError:
            shutil.rmtree(last)
            continue
        return str(last)
    return None


def publish(finished: Path, out: Path) -> None:
    """Put a finished student's files into its folder, the training record last, as `out`."""
    for file in sorted(finished.iterdir(), key=lambda file: (file.name == RECORD, file.name)):
        with replacing(out if file.name == RECORD else out.parent / file.name) as temporary:
            link(file, temporary)


_HEARD = (signal.SIGTERM, signal.SIGINT)


class CheckpointOnSignal(TrainerCallback):
    """Save a checkpoint after the current update on SIGTERM or Ctrl-C, then stop.

    SLURM sends SIGTERM before a time limit (`--signal=TERM@120`) and before it preempts a job. A
    second Ctrl-C ends the process at once. Several processes stop after the same update.

    Attributes:
        asked: The signal received; the student is then not finished.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._signal = 0
        self._before: dict[signal.Signals, Any] = {}

    def _note(self, number: int, *_: Any) -> None:
        self._signal = number
        logging.info("%s: saving a checkpoint after this update", signal.Signals(number).name)
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handlers for the training run."""
        self._before = {number: signal.signal(number, self._note) for number in _HEARD}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Request a checkpoint, except after the last update."""
        number = self._signal
        if args.world_size > 1:
            signals = torch.tensor(number, device=args.device)
            torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX)
            number = int(signals)
        self.asked = signal.Signals(number) if number else None
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop only now: a checkpoint that records a stop would not be resumed."""
        if self.asked:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the signal handlers."""
        for number, before in self._before.items():
            signal.signal(number, before)
