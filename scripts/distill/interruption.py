"""A training that is told to stop saves a checkpoint first, and the next try goes on from it."""

import logging
import signal
from typing import Any

import torch
from transformers import TrainerCallback

_HEARD = (signal.SIGTERM, signal.SIGINT)


class CheckpointOnSignal(TrainerCallback):
    """Save a checkpoint after the running update when SIGTERM or Ctrl-C comes, then stop.

    SLURM sends SIGTERM before a time limit (`--signal=TERM@120`) and before it preempts a job. A
    second Ctrl-C ends the process at once. Several processes stop after the same update, whichever
    the signal came to.

    Attributes:
        asked: The signal that has come; what was trained is then no finished student.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._told = 0
        self._before: dict[signal.Signals, Any] = {}

    def _tell(self, number: int, *_: Any) -> None:
        self._told = number
        logging.info("%s: saving a checkpoint after this update", signal.Signals(number).name)
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen, while there is something to be saved."""
        self._before = {number: signal.signal(number, self._tell) for number in _HEARD}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint; one after the last update would be of no use."""
        told = self._told
        if args.world_size > 1:
            all_told = torch.tensor(told, device=args.device)
            torch.distributed.all_reduce(all_told, torch.distributed.ReduceOp.MAX)
            told = int(all_told)
        self.asked = signal.Signals(told) if told else None
        if self.asked and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop only now: a checkpoint that says so would not be gone on from."""
        if self.asked:
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the signals as they were."""
        for number, before in self._before.items():
            signal.signal(number, before)
