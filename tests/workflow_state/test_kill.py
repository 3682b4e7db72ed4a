"""The miniature, killed at seeded random moments, started again each time, and compared at its end.

`make test-kill` prints what the kills cost.
"""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import miniature
from distill.contracts.columns import MEASURED
from distill.core.files import read_json

pytestmark = [pytest.mark.workflow, pytest.mark.long]

KILLS, LEAST, SEED = 24, 20, 0
_RAISED = re.compile(r"^  File .*\n(?:    .*\n)*(\w*(?:Error|Exception|Interrupt))\b", re.M)
RESULTS = Path("results/gpt2_alpaca_miniature")

# Added to the copy that is killed: each update and checkpoint is noted at once, and updates take
# long enough for kills to fall between them.
NOTES = """

import os as _os
import time as _time

_step, _saved = CheckpointOnSignal.on_step_end, CheckpointOnSignal.on_save


def _note(kind, args, state):
    with open("updates.log", "a") as stream:
        stream.write(f"{kind} {state.global_step} {args.output_dir}\\n")


def _noted_step(self, args, state, control, **more):
    _note("update", args, state)
    _time.sleep(0.25)
    return _step(self, args, state, control, **more)


def _noted_save(self, args, state, control, **more):
    _note("saved", args, state)
    return _saved(self, args, state, control, **more)


CheckpointOnSignal.on_step_end = _noted_step
CheckpointOnSignal.on_save = _noted_save
"""


def _to_group(number: signal.Signals) -> Callable[[subprocess.Popen[bytes]], None]:
    return lambda process: os.killpg(process.pid, number)


KINDS: dict[str, Callable[[subprocess.Popen[bytes]], None]] = {
    "SIGKILL to all": _to_group(signal.SIGKILL),
    "SIGKILL to Snakemake alone": lambda process: process.kill(),
    "SIGTERM to all": _to_group(signal.SIGTERM),
    "SIGINT to all (Ctrl-C)": _to_group(signal.SIGINT),
}


def _project(folder: Path) -> Path:
    """A miniature with soft targets, early stopping and a search, and checkpoints all the time."""
    project = miniature.copy_project(folder)
    miniature.make_inputs(project)

    def change(config: dict[str, Any]) -> None:
        block = {"students": ["gpt2"], "teachers": ["gpt2-xl"]}
        bounds = {"low": 1e-4, "high": 1e-2, "log": True}
        config["prompts"]["validation"] = 8
        config["caches"] = {"exact": {"scheme": "final_hidden"}}
        config["methods"] |= {
            "kd": {"ce": 0.5, "forward_kl": 0.5},
            "stop": {"ce": 1.0, "train": {"early_stopping": {"patience": 2, "every": 3}}},
            "tuned": {"search": "rate"},
        }
        config["searches"] = {
            "rate": {"student": "gpt2", "teacher": "gpt2-xl", "method": "sft", "samples": 8,
                     "trials": 2, "space": {"train.learning_rate": bounds}}
        }  # fmt: skip
        config["train"] |= {"epochs": 4, "batch_size": 4, "checkpoint_updates": 2}
        config["runs"] = [
            block | {"methods": ["sft"], "samples": [8, 32]},
            block | {"methods": ["sft"], "samples": [8], "draws": [1]},
            block | {"methods": ["kd"], "caches": ["exact"], "samples": [16]},
            block | {"methods": ["stop"], "samples": [16]},
            block | {"methods": ["tuned"], "samples": [8]},
        ]

    miniature.edit(project, change)
    with (project / "scripts/distill/training/checkpoints.py").open("a") as stream:
        stream.write(NOTES)
    return project


def _start(project: Path) -> subprocess.Popen[bytes]:
    return miniature.start(project, "--configfile", miniature.CONFIG)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for what a signal does; SLURM kills what is left after half a minute."""
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class Updates:
    """What trainings did: updates in all, and those done twice, beyond a checkpoint or not."""

    done: int = 0
    again: int = 0
    beyond: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, project: Path) -> "Updates":
        """From the notes."""
        found, last, saved = cls(), Counter[str](), Counter[str]()
        for line in (project / "updates.log").read_text().splitlines():
            kind, number, folder = line.split(" ", 2)
            step = int(number)
            if kind == "saved":
                saved[folder] = step
                continue
            found.done += 1
            if step <= last[folder]:
                found.again += last[folder] - step + 1
                if step <= saved[folder]:
                    found.beyond.append(f"{line} after checkpoint {saved[folder]}")
            last[folder] = step
        return found


@dataclass
class Account:
    """What kills cost."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    studies: int = 0
    seconds: float = 0.0
    updates: Updates = field(default_factory=Updates)

    def table(self, whole: float, updates: int) -> str:
        """For people."""
        lines = [f"  {kind:<34}{number:>7}" for kind, number in self.kills.items()]
        lost = self.seconds - self.studies * whole
        quiet = lost > 0  # else other work slowed down the undisturbed study, which ran first
        rows = {
            "kills": self.kills.total(),
            "starts": self.starts,
            "studies finished and compared": self.studies,
            "seconds of an undisturbed study": f"{whole:.0f}",
            "seconds in all": f"{self.seconds:.0f}",
            "seconds lost": f"{lost:.0f}" if quiet else "?",
            "seconds lost per kill": f"{lost / self.kills.total():.1f}" if quiet else "?",
            "updates of an undisturbed study": updates,
            "updates in all": self.updates.done,
            "updates done twice": self.updates.again,
            "  of them saved before": len(self.updates.beyond),
        }
        lines += [f"{name:<36}{number:>7}" for name, number in rows.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Whole:
    """A study that nobody disturbed."""

    project: Path
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    project = _project(tmp_path_factory.mktemp("whole") / "project")
    began = time.monotonic()
    assert _start(project).wait() == 0, (project / "printed.txt").read_text()[-6000:]
    return Whole(project, time.monotonic() - began)


def _files(project: Path) -> Iterator[Path]:
    """All results but TensorBoard's, whose names tell the time."""
    for folder in ("results", "resources"):
        for path in (project / folder).rglob("*"):
            if path.is_file() and path.parent.name != "tensorboard":
                yield path.relative_to(project)


def _content(path: Path) -> Any:
    """What a file holds that does not depend on the clock; None if all depends on it."""
    if path.name == "runs.parquet":
        return pd.read_parquet(path).drop(columns=MEASURED).to_csv()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        timed = [name for name in table.column_names if name.endswith("seconds") or "kwh" in name]
        return repr(table.drop_columns(timed).to_pylist())
    if path.suffix == ".safetensors":  # the keys of whose header come in any order
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:start]), content[start:]
    if path.name == "training.json":
        record = read_json(path)
        keys = ("spec", "updates", "losses", "terms", "validation", "best_update", "train_flops")
        return {key: record.get(key) for key in keys}
    if path.suffix == ".jsonl" or path.name in ("manifest.json", "config.json"):
        return path.read_bytes()
    return None


def _compare(project: Path, whole: Path) -> None:
    """All results are there, nothing else is, and they are the same."""
    there, expected = set(_files(project)), set(_files(whole))
    assert there == expected
    compared = [path for path in expected if _content(whole / path) is not None]
    assert {".safetensors", ".parquet", ".jsonl", ".json"} <= {path.suffix for path in compared}
    differing = [
        str(path) for path in compared if _content(project / path) != _content(whole / path)
    ]
    assert differing == []
    assert miniature.dry_run(project) == {}


def test_killed_anywhere_a_study_ends_as_if_nobody_had_disturbed_it(
    whole: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, account = random.Random(SEED), Account()
    kinds = [kind for _ in range(KILLS // len(KINDS)) for kind in rng.sample(list(KINDS), 4)]
    while account.kills.total() < LEAST:
        project = _project(tmp_path / f"project-{account.studies}")
        began, orphans = time.monotonic(), dict[int, str]()
        while True:
            process, account.starts = _start(project), account.starts + 1
            # A study of its own length in a dozen kills: what was done must suffice to get on.
            after = rng.uniform(0.01, 0.16) * whole.seconds if kinds else 3000
            try:
                assert process.wait(timeout=after) == 0, (project / "printed.txt").read_text()[
                    -6000:
                ]
                break
            except subprocess.TimeoutExpired:
                kind = kinds.pop()
                KINDS[kind](process)
                _end(process)
                account.kills[kind] += 1
            assert miniature.left_alive(project, orphans) == []
            orphans = miniature.alive(project)  # the next run starts beside them
        account.seconds += time.monotonic() - began
        assert miniature.alive(project) == {}
        account.studies += 1
        found = Updates.of(project)
        account.updates.done += found.done
        account.updates.again += found.again
        account.updates.beyond += found.beyond
        _compare(project, whole.project)
        # Python itself shows a traceback, whole or not, where Ctrl-C comes before a first import.
        printed = (project / "printed.txt").read_text()
        assert set(_RAISED.findall(printed)) <= {"KeyboardInterrupt"}
        assert "rules/start.smk" not in printed
    with capsys.disabled():
        print(f"\n{account.table(whole.seconds, Updates.of(whole.project).done)}")
    assert account.kills.keys() == KINDS.keys()
    assert account.updates.beyond == []
