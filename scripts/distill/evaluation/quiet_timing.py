"""Timing on a machine that other programs use too: repeats go on until enough were undisturbed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")
SPREAD = 0.1
"""A quiet repeat takes at most this much longer, relatively, than the second fastest."""
LEAST_BUSY = 0.9
"""Least share of a quiet repeat during which the calling thread ran, on a CPU."""
MOST_FACTOR = 3
"""Most repeats, as a multiple of those asked for."""
MOST_SECONDS = 60.0
"""Repeats begin no later than this after the first, once those asked for are done."""


@dataclass(frozen=True)
class Repeats(Generic[Result]):
    """Timed repeats of some work.

    Attributes:
        quiet: Results of the undisturbed repeats; where there are too few, of the fastest ones.
        total: Number of all repeats.
        disturbed: Whether fewer repeats than asked for were undisturbed.
    """

    quiet: list[Result]
    total: int
    disturbed: bool


def is_quiet(seconds: Sequence[float], busy: Sequence[float]) -> list[bool]:
    """Which repeats were undisturbed.

    Args:
        seconds: Of each repeat, by the clock.
        busy: Share of it during which the calling thread ran.

    Returns:
        True where a repeat is within `SPREAD` of the second fastest and was not kept waiting.
    """
    fast = sorted(seconds)[min(1, len(seconds) - 1)]
    return [
        one <= (1 + SPREAD) * fast and share >= LEAST_BUSY
        for one, share in zip(seconds, busy, strict=True)
    ]


def repeat_until_quiet(
    work: Callable[[], Result],
    seconds_of: Callable[[Result], float],
    repeats: int,
    on_cpu: bool = True,
) -> Repeats[Result]:
    """Repeat some work until `repeats` of its timings are undisturbed, or a limit is reached.

    Another program on the same cores lengthens a repeat or takes the core away from it. The first
    shows in the spread; the second, also if it lasts throughout, in the processor time of the
    thread, which on an idle machine is all of the clock's. The limits are `MOST_FACTOR` times
    `repeats`, and `MOST_SECONDS`.

    Args:
        work: What is timed.
        seconds_of: Its seconds by the clock, from its result.
        repeats: Undisturbed repeats that are wanted, at least 1.
        on_cpu: Whether the calling thread does the work itself.
    """
    results: list[Result] = []
    seconds: list[float] = []
    busy: list[float] = []
    start = time.monotonic()
    while True:
        clock, processor = time.perf_counter(), time.thread_time()
        results.append(work())
        waited = time.perf_counter() - clock
        seconds.append(seconds_of(results[-1]))
        busy.append((time.thread_time() - processor) / waited if on_cpu and waited > 0 else 1.0)
        quiet = is_quiet(seconds, busy)
        late = time.monotonic() - start > MOST_SECONDS or len(results) >= MOST_FACTOR * repeats
        if sum(quiet) >= repeats or (len(results) >= repeats and late):
            break
    if sum(quiet) >= repeats:
        chosen = [result for result, undisturbed in zip(results, quiet, strict=True) if undisturbed]
        return Repeats(chosen, len(results), disturbed=False)
    order = sorted(range(len(results)), key=seconds.__getitem__)
    return Repeats([results[place] for place in order[:repeats]], len(results), disturbed=True)
