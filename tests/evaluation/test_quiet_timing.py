"""Timing beside other programs, on a clock of the test's own."""

import time
from collections.abc import Iterator

import pytest

from distill.evaluation.quiet_timing import MOST_FACTOR, Repeats, is_quiet, repeat_until_quiet


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The clock and the thread's processor time, which only work moves."""
    now = {"perf_counter": 0.0, "thread_time": 0.0, "monotonic": 0.0}
    for name in now:
        monkeypatch.setattr(time, name, lambda name=name: now[name])
    return now


def measure(clocks: dict[str, float], *repeats: tuple[float, float]) -> Repeats[float]:
    """Ask for four quiet repeats; the last pair of seconds and busy share comes for ever."""
    pairs: Iterator[tuple[float, float]] = iter(repeats)
    last = repeats[-1]

    def work() -> float:
        seconds, busy = next(pairs, last)
        clocks["perf_counter"] += seconds
        clocks["monotonic"] += seconds
        clocks["thread_time"] += seconds * busy
        return seconds

    return repeat_until_quiet(work, float, 4)


def test_an_idle_machine_is_measured_as_often_as_asked(clocks: dict[str, float]) -> None:
    found = measure(clocks, (1.0, 1.0), (1.02, 1.0), (1.0, 1.0), (1.05, 1.0))
    assert found == Repeats([1.0, 1.02, 1.0, 1.05], 4, disturbed=False)


def test_slow_repeats_are_replaced(clocks: dict[str, float]) -> None:
    found = measure(clocks, (4.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 1.0))
    assert found == Repeats([1.0, 1.0, 1.0, 1.0], 6, disturbed=False)


def test_one_repeat_faster_than_all_others_does_not_condemn_these(clocks: dict[str, float]) -> None:
    found = measure(clocks, (0.5, 1.0), (1.0, 1.0))
    assert not found.disturbed
    assert found.total == 4


def test_a_core_shared_throughout_shows_in_the_processor_time(clocks: dict[str, float]) -> None:
    found = measure(clocks, (2.0, 0.5))
    assert found.disturbed
    assert found.total == 4 * MOST_FACTOR
    assert found.quiet == [2.0] * 4


def test_a_machine_that_stays_noisy_reaches_the_limit_of_time(clocks: dict[str, float]) -> None:
    found = measure(clocks, *((100.0 * 1.5**place, 1.0) for place in range(20)))
    assert found.disturbed
    assert found.total == 4


def test_a_device_s_work_needs_no_processor() -> None:
    assert is_quiet([1.0, 1.0, 1.3], [1.0, 0.5, 1.0]) == [True, False, False]
    assert not repeat_until_quiet(lambda: 1.0, float, 3, on_cpu=False).disturbed
