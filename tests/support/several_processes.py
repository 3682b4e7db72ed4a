"""What each of several processes does in tests of them: functions that `run_processes` is given."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from distill.core.errors import UserError
from distill.runtime.cpu import set_up_cpu
from distill.training.build import build_trainer


def join() -> int:
    """Meet the others; returns which of them this is."""
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank()


def fail(how: str) -> None:
    """The second fails while the first waits for it."""
    if join() == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "user":
            raise UserError("prompts.pool is too small; raise it")
        raise ZeroDivisionError("no tokens")
    torch.distributed.barrier()


def wait(folder: str) -> None:
    """Say which process this is, then do nothing for long."""
    Path(folder, str(join())).write_text(str(os.getpid()))
    time.sleep(300)


def train_each(cases: list[dict[str, Any]], out: str) -> None:
    """Train once per case, whose arguments are `build_trainer`'s; the first writes each log."""
    set_up_cpu(1)
    logs = []
    for case in cases:
        one = build_trainer(resume=Path(out).parent / "resume", keep=False, **case)
        one.train()
        logs.append(one.state.log_history)
        weights = torch.nn.utils.parameters_to_vector(one.model.parameters()).detach()
        both = [torch.empty_like(weights) for _ in range(2)]
        torch.distributed.all_gather(both, weights)
        assert torch.equal(*both)
    if torch.distributed.get_rank() == 0:
        Path(out).write_text(json.dumps(logs))
