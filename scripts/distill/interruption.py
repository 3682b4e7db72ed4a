"""A training that is told to stop saves a checkpoint first, and the next try goes on from it."""

import logging
import signal
from typing import Any

from transformers import TrainerCallback

_HEARD = (signal.SIGTERM, signal.SIGINT)


class CheckpointOnSignal(TrainerCallback):
    """Save a checkpoint after the running update when SIGTERM or Ctrl-C comes, then stop.

    SLURM sends SIGTERM before a time limit (`--signal=TERM@120`) and before it preempts a job. A
    second Ctrl-C ends the process at once.

    Attributes:
        asked: The signal that has come; what was trained is then no finished student.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def _ask(self, number: int, *_: Any) -> None:
        self.asked = signal.Signals(number)
        logging.info("%s: saving a checkpoint after this update", self.asked.name)
        signal.signal(signal.SIGINT, self._before[signal.SIGINT])

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen, while there is something to be saved."""
        self._before = {number: signal.signal(number, self._ask) for number in _HEARD}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint; one after the last update would be of no use."""
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
