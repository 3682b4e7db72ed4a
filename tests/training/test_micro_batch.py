"""A training that runs out of memory goes on with smaller micro-batches to the same student."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

import teaching
import tiny
import training_cases
from distill.core.errors import UserError
from distill.runtime.processes import ProcessKilledError
from distill.training import build
from distill.training.checkpoints import prepare_folder
from distill.training.launch import launch_training
from distill.training.micro_batch import fitting_micro_batch, halved, mark_running, micro_batch
from distill.training.trainer import DistillationTrainer

TRAIN = {"batch_size": 12, "micro_batch_size": None}


def test_the_micro_batch_is_the_configs_share_of_each_process() -> None:
    assert micro_batch(TRAIN) == 12
    assert micro_batch(TRAIN, 4) == 3
    assert micro_batch(TRAIN | {"micro_batch_size": 2}, 3) == 2
    for size, processes in ((None, 5), (4, 2), (None, 13)):
        with pytest.raises(
            UserError, match=r"train\.batch_size is 12, not a multiple of .*\(gpus\)"
        ):
            micro_batch(TRAIN | {"micro_batch_size": size}, processes)


def test_half_of_it_divides_a_process_s_share() -> None:
    assert [halved(size, 12) for size in (12, 6, 4, 3, 2, 1)] == [6, 3, 2, 1, 1, None]
    assert halved(9, 9) == 3


def tried(resume: Path, error: BaseException | None, attempt: int = 1, tag: str = "tag") -> int:
    """The micro-batch of a try that ends with an error, orderly, or killed without a word."""
    found = []
    with fitting_micro_batch(resume, tag, TRAIN, "small at n = 16", attempt=attempt) as rows:
        found.append(rows)
        prepare_folder(resume.parent, tag)
        mark_running(resume)
        if error is not None:
            raise error
    return found[0]


def killed(resume: Path, attempt: int = 1) -> None:
    """A try that is killed: nothing of it runs any more."""
    tried(resume, None, attempt)
    mark_running(resume)


def test_a_try_takes_less_only_after_memory_ran_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume = tmp_path / "resume"
    assert tried(resume, None) == 12
    with pytest.raises(ZeroDivisionError):
        tried(resume, ZeroDivisionError())
    assert tried(resume, None, attempt=2) == 12  # the last try ended by itself
    killed(resume)
    assert tried(resume, None) == 12  # the workflow was killed with it
    killed(resume)
    assert tried(resume, None, attempt=2) == 6
    told = capsys.readouterr().err
    assert "small at n = 16 was killed, probably because memory ran out: now with" in told
    assert tried(resume, None) == 6  # once known, it stays
    with pytest.raises(UserError, match=r"ran out of memory with 6 rows .* train\.micro_batch_size: 3 asks"):  # fmt: skip  # noqa: E501
        tried(resume, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(
        UserError, match=r"was killed, probably .*, with 3 rows .* the next try takes 1"
    ):
        tried(resume, ProcessKilledError())
    with pytest.raises(UserError, match=r"one row per forward pass; set train\.gradient_checkp"):
        tried(resume, MemoryError())
    assert tried(resume, None, attempt=2) == 1
    assert tried(resume, None, tag="another spec") == 12


@pytest.mark.parametrize("name", ["soft", "stopping"])
@pytest.mark.slow
def test_the_next_try_goes_on_with_half_to_the_same_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words, teacher = tiny.tokenizer(chat=False), teaching.big()
    method, cache, more = training_cases.RESUMED[name]
    settings = training_cases.soft_spec(method, cache, batch_size=4, checkpoint_updates=2, epochs=2, **more)  # fmt: skip  # noqa: E501
    rows = tiny.uneven_rows(words, 22)
    files = teaching.teach(tmp_path, settings["shard"], teacher, words, rows, rows[:3])
    initial, out = training_cases.student(tmp_path, words), tmp_path / "out"
    whole, expected = training_cases.finish(tmp_path / "whole", settings, initial, files)
    assert whole["micro_batch_size"] == 4
    assert whole["updates"] == 12
    compute = DistillationTrainer.compute_loss
    updates: list[int] = []

    def limited(one: DistillationTrainer, model: Any, inputs: Any, **named: Any) -> Any:
        updates.append(one.state.global_step)
        if one.state.global_step >= 9 and len(inputs["input_ids"]) > 2:  # in the second epoch
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute(one, model, inputs, **named)

    monkeypatch.setattr(DistillationTrainer, "compute_loss", limited)
    given = files.given | {"initial": initial, "shard": files.shard, "run": teaching.RUN}

    def once(attempt: int) -> None:
        launch_training(attempt, out=out / "training.json", spec=settings, tag="tag", **given)

    told = (
        r"^training small at n = 16 ran out of memory with 4 rows per forward pass; the next try "
        r"takes 2 and accumulates them .* train\.micro_batch_size: 2 asks for .*device=1\)$"
    )
    with pytest.raises(UserError, match=told):
        once(1)
    assert not (out / "training.json").exists()
    updates.clear()
    once(2)
    record = json.loads((out / "training.json").read_text())
    assert updates == [8, 8, 9, 9, 10, 10, 11]
    assert record["resumed_from"] == "checkpoint-8"
    assert record["micro_batch_size"] == 2
    assert record["spec"] == whole["spec"]
    for key in ("updates", "tokens_seen", "tokens_unique", "train_flops", "best_update"):
        assert record[key] == whole[key], key
    assert record["losses"][:8] == whole["losses"][:8]
    assert record["losses"] == pytest.approx(whole["losses"], rel=1e-4)
    weights = load_file(out / "model.safetensors")
    moved = training_cases.distance(expected, training_cases.torch_state(initial, expected))
    assert training_cases.distance(weights, expected) < 1e-3 * moved


def test_a_job_that_sees_several_gpus_does_not_enlarge_its_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FourSeen(TrainingArguments):
        """The library's settings where it sees four GPUs that no group shares."""

        def __post_init__(self) -> None:
            super().__post_init__()
            self._n_gpu = 4

    train = training_cases.spec(batch_size=8, micro_batch_size=2)["train"]
    given = (train, "fp32", 0, tmp_path, False, 1, False)
    assert build._arguments(*given).train_batch_size == 2
    monkeypatch.setattr(build, "TrainingArguments", FourSeen)
    seen = build._arguments(*given)
    assert (seen.n_gpu, seen.train_batch_size, seen.gradient_accumulation_steps) == (1, 2, 4)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_batches_are_copied_to_a_gpu_while_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(build, "device", lambda: torch.device(kind))
    found = build._arguments(training_cases.spec()["train"], "fp32", 0, tmp_path, False, 1, False)
    assert found.dataloader_pin_memory == (kind == "cuda")
    assert found.accelerator_config.non_blocking == (kind == "cuda")
