"""Time two or more ways of the same work in turns, each in a process of its own.

A process per side keeps peak memory and settings apart; turns keep the machine's moods common.
"""

import ctypes
import gc
import importlib
import multiprocessing
import os
import statistics
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from distill.runtime.memory import peak_memory, reset_peak

Once = Callable[[], Mapping[str, float]]
"""One repetition. It returns `seconds` of the work alone and what else it counted or found."""


@dataclass(frozen=True)
class Side:
    """One way of the work.

    Attributes:
        setup: `module:function` in this folder; called once in the side's own process, it returns
            a `Once`.
        settings: Its arguments, which can be pickled.
        environment: Variables set before anything is imported.
    """

    setup: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def give_back() -> None:
    """Free what is not used and give it back to the system, so that memory counts from nothing."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _serve(side: Side, pipe: Connection) -> None:
    """Prepare a side, then repeat its work whenever asked."""
    os.environ.update(side.environment)
    try:
        module, _, function = side.setup.partition(":")
        once = getattr(importlib.import_module(module), function)(**side.settings)
        pipe.send(None)
        while pipe.recv():
            give_back()
            reset_peak("cpu")
            before = peak_memory("cpu")
            found = dict(once())
            peak = peak_memory("cpu")
            pipe.send({"peak_mb": peak / 2**20, "added_mb": (peak - before) / 2**20} | found)
    except EOFError:
        pass  # the other end has gone
    except BaseException:
        pipe.send(traceback.format_exc())


def _answer(pipe: Connection) -> Any:
    found = pipe.recv()
    if isinstance(found, str):
        raise RuntimeError(f"a side of a comparison failed:\n{found}")
    return found


def alternate(
    sides: Mapping[str, Side], repetitions: int = 5, warm_up: int = 1
) -> dict[str, list[dict[str, float]]]:
    """Repeat the work of every side, in turns, one at a time.

    Args:
        sides: By name.
        repetitions: Counted ones of each side.
        warm_up: Repetitions of each side before, not counted.

    Returns:
        By name, each repetition's numbers: the side's own and, unless that tells them for a part,
        `peak_mb`, the most memory that its process held (of 2^20 bytes), and `added_mb`, how much
        that was above what it held before.

    Raises:
        RuntimeError: A side failed; with its traceback.
    """
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    try:
        for name, side in sides.items():
            pipes[name], theirs = spawn.Pipe()
            processes.append(spawn.Process(target=_serve, args=(side, theirs), daemon=True))
            processes[-1].start()
            theirs.close()
            _answer(pipes[name])  # prepared one after another
        for number in range(warm_up + repetitions):
            for name, pipe in pipes.items():
                pipe.send(True)
                numbers = _answer(pipe)
                if number >= warm_up:
                    found[name].append(numbers)
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(timeout=10)
            process.kill()
    return found


def median(repetitions: Sequence[Mapping[str, float]], name: str) -> float:
    """The median of one number over repetitions."""
    return statistics.median(one[name] for one in repetitions)


def ratios(
    above: Sequence[Mapping[str, float]], below: Sequence[Mapping[str, float]], name: str
) -> list[float]:
    """A number's ratio in each turn, in ascending order."""
    return sorted(a[name] / b[name] for a, b in zip(above, below, strict=True))
