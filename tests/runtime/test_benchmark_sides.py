"""What benchmarks are made of: turns, ratios, and a page that says what was measured."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import rows
import run
from alternate import Side, alternate, median, ratios

LOG = "TURNS_OF_A_TEST"


def sleeper(name: str, megabytes: int) -> Callable[[], Mapping[str, float]]:
    """Work that holds some memory; it tells its process and, in a file, its turns."""

    def once() -> Mapping[str, float]:
        held = b"x" * (megabytes * 2**20)
        with Path(os.environ[LOG]).open("a") as log:
            log.write(name)
        began = time.perf_counter()
        time.sleep(0.01)
        return {"seconds": time.perf_counter() - began, "process": os.getpid(), "held": len(held)}

    return once


def broken() -> Callable[[], Mapping[str, float]]:
    """A side that cannot be set up."""
    raise KeyError("no such model")


@pytest.fixture
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other processes import this module."""
    monkeypatch.syspath_prepend(Path(__file__).parent)


@pytest.mark.slow  # each process spends seconds on imports
@pytest.mark.usefixtures("_importable")
def test_sides_take_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    log = {LOG: str(tmp_path / "log")}
    sides = {
        name: Side("test_benchmark_sides:sleeper", {"name": name, "megabytes": size}, log)
        for name, size in (("a", 200), ("b", 1))
    }
    found = alternate(sides, repetitions=3)
    assert (tmp_path / "log").read_text() == "abababab"  # the first round is not counted
    assert {name: len(each) for name, each in found.items()} == {"a": 3, "b": 3}
    processes = {one["process"] for each in found.values() for one in each}
    assert len(processes) == 2
    assert os.getpid() not in processes
    # `a` holds 199 MB more; what a process takes besides is the same on both sides.
    difference = median(found["a"], "added_mb") - median(found["b"], "added_mb")
    assert difference == pytest.approx(199, rel=0.25)


@pytest.mark.slow
@pytest.mark.usefixtures("_importable")
def test_a_side_that_fails_is_told_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match="no such model"):
        alternate({"a": Side("test_benchmark_sides:broken")})


def test_ratios_are_those_of_each_turn() -> None:
    mine = [{"seconds": 1.0}, {"seconds": 2.0}, {"seconds": 4.0}]
    theirs = [{"seconds": 3.0}, {"seconds": 4.0}, {"seconds": 4.0}]
    assert ratios(theirs, mine, "seconds") == [1.0, 2.0, 3.0]
    assert rows.middle([3.0, 1.0, 2.0]) == (2.0, (1.0, 3.0))


def test_the_page_of_results_says_what_was_measured() -> None:
    results = json.loads(rows.RESULTS.read_text())
    assert set(results) <= set(run.BENCHMARKS)
    page = (rows.HERE / "results.md").read_text()
    assert rows.page(results, run.BENCHMARKS) == page, "run benchmarks/run.py"
    for name in run.BENCHMARKS:
        assert (rows.HERE / f"{name}.py").is_file()
