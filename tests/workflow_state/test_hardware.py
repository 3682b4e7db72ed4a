"""What is checked of the machine before the first job."""

from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.workflow import hardware


def plan(**changes: Any) -> Plan:
    return Plan(parse_study(tiny.study() | changes))


def test_training_in_fp16_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    of_all = plan(train={"precision": "fp16"})
    of_one = plan(methods={"sft": {"ce": 1.0, "train": {"precision": "fp16"}}})
    monkeypatch.setattr(hardware, "has_gpu", lambda: False)
    with pytest.raises(
        UserError, match=r"config: train\.precision: fp16 needs a GPU .*; set it to"
    ):
        hardware.check_fp16(of_all)
    with pytest.raises(
        UserError, match=r"config: methods\.sft\.train\.precision: fp16 needs a GPU"
    ):
        hardware.check_fp16(of_one)
    hardware.check_fp16(plan(train={"precision": "bf16"}))
    monkeypatch.setattr(hardware, "has_gpu", lambda: True)
    hardware.check_fp16(of_all)


def test_a_driver_shows_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    monkeypatch.setattr(hardware, "_DRIVERS", (str(tmp_path / "nvidiactl"),))
    assert not hardware.has_gpu()
    (tmp_path / "nvidiactl").touch()
    assert hardware.has_gpu()
