"""One student trained by two processes: as by one, told to stop, or with a process that fails."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.constants import default_pg_timeout

import miniature
import teaching
import tiny
import training_cases
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.models.attention import GROUPED
from distill.models.vocabulary import FILE, Vocabulary, trim_model
from distill.runtime.processes import ProcessKilledError, run_processes
from distill.training.build import build_trainer
from distill.training.launch import launch_training

pytestmark = pytest.mark.workflow  # each process spends seconds on imports


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))


@pytest.fixture(scope="module")
def words() -> Any:
    return tiny.tokenizer(chat=False)


@pytest.fixture(scope="module")
def teacher() -> Any:
    return teaching.big(attention=GROUPED)


def live_spec() -> dict[str, Any]:
    """The teacher is asked while a student trains, and about its own answers in every update."""
    method = {"forward_kl": 1.0, "on_policy": {"share": 1.0, "max_tokens": 8}}
    return teaching.spec_of(teaching.plan(method, train=SHARED))


SHARED = {"batch_size": 8, "micro_batch_size": 2, "epochs": 2}
"""Thirteen rows then leave one process of two without rows at the end of an epoch."""


def test_two_processes_learn_what_one_learns_by_every_method(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    rows, cases = tiny.uneven_rows(words, 13), []
    methods = training_cases.METHODS | {
        "hidden alone": ({"hidden": {"layers": {1: 1}}}, training_cases.METHODS["hidden"][1]),
        "borrowed": ({"ce": 0.5, "embedding": {"head": "teacher"}}, training_cases.EXACT),
    }
    for name, (method, cache) in methods.items():
        folder, spans = tmp_path / name, "spans" in method
        settings = training_cases.soft_spec(method, cache, **SHARED)
        kind = {"vocabulary": 270} if spans else {}
        own = tiny.tokenizer(False, 270) if spans else words
        initial = teaching.small(folder, own, **kind)
        files = teaching.teach(folder, settings["shard"], teacher, words, rows, rows[:3], spans)
        cases.append((name, settings, initial, files))
    name, settings, initial, files = next(case for case in cases if case[0] == "top_k")
    trimmed = tmp_path / "trimmed"
    vocabulary = Vocabulary(sorted({*range(200), words.eos_token_id}), 300)
    tiny.save(trimmed, trim_model(tiny.model("llama", seed=2), vocabulary, words), words)
    write_json(trimmed / FILE, vocabulary.record())
    cases.append(("trimmed", settings, trimmed, files))
    asked = live_spec()
    files = teaching.ask(tmp_path / "live", asked, teacher, words, rows, rows[:3])
    cases.append(("live", asked, teaching.small(tmp_path / "live", words), files))

    alone, given = [], []
    for name, settings, initial, files in cases:
        settings["train"]["max_grad_norm"] = 1e9
        one = build_trainer(
            initial, files.shard, settings, name, tmp_path / "alone", **files.given, keep=False
        )
        one.train()
        alone.append(one.state.log_history)
        case = {"initial": initial, "shard": files.shard, "spec": settings | {"gpus": 2}}
        given.append(case | {"name": name} | files.given)
    call = {"cases": json.loads(json.dumps(given, default=str)), "out": str(tmp_path / "logs.json")}
    run_processes(2, "several_processes:train_each", call)
    shared = json.loads((tmp_path / "logs.json").read_text())
    for (name, *_), expected, found in zip(cases, alone, shared, strict=True):
        assert len(found) == len(expected) == 4 + 2 + 1, name  # updates, evaluations, the end
        for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
            assert ours.keys() == theirs.keys()
            timed = {"elapsed", "energy_kwh", "energy_kwh_estimated"}
            for key in theirs.keys() - {"epoch"} - timed:  # it is of micro-batches
                assert ours[key] == pytest.approx(theirs[key], rel=2e-4, abs=1e-6), (name, key)


def test_two_processes_leave_one_student_also_after_being_told_to_stop(
    tmp_path: Path, words: Any, teacher: Any
) -> None:
    method = {"ce": 0.5, "hidden": {"layers": {1: 3}}, "embedding": {"head": "teacher"}}
    cache = {"scheme": "final_hidden", "hidden": training_cases.LAYERS}
    settings = training_cases.soft_spec(
        method, cache, **SHARED | {"epochs": 80},
        early_stopping={"patience": 99, "every": 40}, weight_decay=0.1,
    )  # fmt: skip
    rows = tiny.uneven_rows(words, 13)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    initial = teaching.small(tmp_path, words)
    alone, expected = training_cases.finish(tmp_path / "alone", settings, initial, files)
    out = tmp_path / "out"

    def again() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        given = files.given | {"initial": initial, "shard": files.shard, "run": teaching.RUN}
        launch_training(out=out / "training.json", spec=settings | {"gpus": 2}, tag="tag", **given)
        record: dict[str, Any] = json.loads((out / "training.json").read_text())
        return record, load_file(out / "model.safetensors")

    told = r"training was stopped \(SIGTERM\) after \d+ of 160 updates"
    with _told_once(out / "resume" / "checkpoint-40"), pytest.raises(UserError, match=told):
        again()
    assert not (out / "training.json").exists()
    (last,) = sorted((out / "resume").glob("checkpoint-*"), key=_number)[-1:]
    assert len(list(last.glob("rng_state_*"))) == 2
    record, weights = again()
    assert record["resumed_from"] == last.name
    assert 40 <= _number(last) < 160
    assert record["processes"] == 2
    assert record["micro_batch_size"] == 2
    for key in ("updates", "tokens_seen", "tokens_unique", "train_flops", "best_update"):
        assert record[key] == alone[key], key
    assert record["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    for name, curve in alone["terms"].items():
        assert record["terms"][name] == pytest.approx(curve, rel=1e-3), name
    for one, other in zip(record["validation"], alone["validation"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    moved = training_cases.distance(expected, training_cases.torch_state(initial, expected))
    assert training_cases.distance(weights, expected) < 0.02 * moved
    assert {path.name for path in out.iterdir()} == {
        path.name for path in (tmp_path / "alone").iterdir()
    }
    assert len(list((out / "tensorboard").rglob("events*"))) == 2  # one of each try


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


@contextlib.contextmanager
def _told_once(there: Path) -> Iterator[None]:
    """Send SIGTERM to the process that waits for the others, once a path is there."""

    def tell() -> None:
        for _ in range(1200):
            if there.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=tell)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        ("user", UserError, r"^prompts\.pool is too small; raise it$"),
        ("error", RuntimeError, "^ZeroDivisionError: no tokens$"),
        ("killed", ProcessKilledError, "^$"),
    ],
)
def test_a_process_that_fails_ends_all(how: str, kind: type[Exception], text: str) -> None:
    handler, began = signal.getsignal(signal.SIGTERM), time.monotonic()
    with pytest.raises(kind, match=text):
        run_processes(2, "several_processes:fail", {"how": how})
    assert signal.getsignal(signal.SIGTERM) is handler
    # The other process would wait for it.
    assert time.monotonic() - began < default_pg_timeout.total_seconds() / 4


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C ends them in order; killed, it leaves none behind that would go on writing."""
    call = (
        f"from distill.runtime.processes import run_processes\n"
        f"run_processes(2, 'several_processes:wait', {{'folder': {str(tmp_path)!r}}})"
    )
    path = os.pathsep.join([str(miniature.ROOT / "scripts"), os.environ["PYTHONPATH"]])
    one = subprocess.Popen([sys.executable, "-c", call], env=os.environ | {"PYTHONPATH": path})
    files = [tmp_path / "0", tmp_path / "1"]
    assert _soon(lambda: all(file.exists() and file.read_text() for file in files))
    one.send_signal(how)
    one.wait(60)
    assert one.returncode == -how
    assert _soon(lambda: not any(psutil.pid_exists(int(file.read_text())) for file in files))


def _soon(true: Callable[[], bool]) -> bool:
    for _ in range(1200):
        if true():
            return True
        time.sleep(0.05)
    return False


def test_fewer_gpus_than_asked_for_are_a_user_error(
    tmp_path: Path, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    files: dict[str, Any] = {"initial": tmp_path, "shard": tmp_path, "out": tmp_path / "out.json"}
    text = r"small needs 2 GPUs \(gpus\), but its job sees 1; lower gpus"
    with pytest.raises(UserError, match=text):
        launch_training(spec={"gpus": 2}, run=teaching.RUN, tag="tag", **files)


def test_a_job_asks_for_as_many_gpus_and_threads_as_its_study_says(tmp_path: Path) -> None:
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)

    def change(config: dict[str, Any]) -> None:
        (student,) = config["students"].values()
        student["gpus"] = 2
        config["train"]["threads"] = 2

    miniature.edit(project, change)
    asked = ("-n", "--configfile", miniature.CONFIG, "--cores", "8", "--workflow-profile")
    for profile in ("profiles/default", "profiles/slurm"):
        printed = miniature.snakemake(project, *asked, profile)
        jobs = re.split(r"^(?:local)?rule ", printed, flags=re.M)[1:]
        trained = [job for job in jobs if job.startswith("train_student:")]
        assert len(trained) == 5
        for job in trained:
            several = "samples=0\n" not in job
            gpus, threads = (2, 4) if several else (1, 2)
            assert f"device={gpus}, gpu={gpus}, " in job
            assert f"threads: {threads}\n" in job
        for rule in ("generate_text", "evaluate_student", "evaluate_teacher"):
            assert any(job.startswith(f"{rule}:") for job in jobs)
            assert all("device=1, gpu=1" in job for job in jobs if job.startswith(f"{rule}:"))
