"""A training that is told to stop saves a checkpoint first, and the next try goes on from it."""

import logging
import signal
from typing import Any

import torch
from transformers import TrainerCallback


class CheckpointOnSigterm(TrainerCallback):
    """Save a checkpoint after the running update when SIGTERM comes, then stop.

    SLURM sends it before a time limit (`--signal=TERM@120`) and before it preempts a job. Several
    processes stop after the same update, whichever it came to.

    Attributes:
        asked: Whether the signal has come; what was trained is then no finished student.
    """

    def __init__(self) -> None:
        self.asked = self._told = False
        self._before: Any = signal.SIG_DFL

    def _tell(self, *_: Any) -> None:
        logging.info("SIGTERM: saving a checkpoint after this update")
        self._told = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen, while there is something to be saved."""
        self._before = signal.signal(signal.SIGTERM, self._tell)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint; one after the last update would be of no use."""
        self.asked = self._told
        if args.world_size > 1:
            any_told = torch.tensor(int(self._told), device=args.device)
            torch.distributed.all_reduce(any_told, torch.distributed.ReduceOp.MAX)
            self.asked = bool(any_told)
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop only now: a checkpoint that says so would not be gone on from."""
        if self.asked:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the signal as it was."""
        signal.signal(signal.SIGTERM, self._before)
