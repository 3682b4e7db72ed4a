"""What a plan says of runs with a live teacher."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.costs.architectures import read_models
from distill.costs.jobs import Forecast
from distill.costs.row_lengths import read_lengths
from distill.costs.show import notes_of
from distill.costs.work import generation_work, live_work, training_work
from distill.models.flops import FlopModel
from distill.plan.study import Plan
from machines import MACHINE

STUDENT, TEACHER = FlopModel(1000, 10, 300), FlopModel(5000, 20, 700)
ROWS = Counter([(3.0, 2.0), (5.0, 4.0), (4.0, 1.0)])
TRAIN: dict[str, Any] = {
    "batch_size": 4, "epochs": 2, "max_updates": None, "lora": None,
    "gradient_checkpointing": False,
}  # fmt: skip


def method(share: float, tokens: str = "answer") -> dict[str, Any]:
    asked = {"share": share, "max_tokens": 7}
    return {"ce": 0.0, "soft": ["jsd"], "tokens": tokens, "on_policy": asked}


def test_work_without_own_answers_is_that_of_the_text_and_the_teacher() -> None:
    made = live_work(STUDENT, TEACHER, ROWS, method(0.0, "all"), TRAIN)
    assert made.training == training_work(STUDENT, ROWS, method(0.0, "all"), TRAIN)
    assert made.sampling.flops == 0
    scored = [TEACHER.sequence_forward(int(p + a), int(p + a - 1)) for p, a in ROWS]
    assert made.teacher.flops == 2 * sum(scored)
    assert (made.tokens, made.rows) == (2 * 7, ROWS)


def test_own_answers_are_as_long_as_they_may_be() -> None:
    made = live_work(STUDENT, TEACHER, ROWS, method(1.0), TRAIN)
    own = Counter((prompt, 7.0) for prompt, _ in ROWS)
    assert made.training == training_work(STUDENT, own, method(1.0), TRAIN)
    assert made.sampling.flops == 2 * sum(generation_work(STUDENT, *row).flops for row in own)
    assert made.teacher.flops == 2 * sum(TEACHER.sequence_forward(int(p) + 7, 7) for p, _ in own)
    assert (made.tokens, made.rows) == (2 * 21, own)
    text = live_work(STUDENT, TEACHER, ROWS, method(0.0), TRAIN)
    half = live_work(STUDENT, TEACHER, ROWS, method(0.5), TRAIN)
    for name in ("training", "sampling", "teacher"):
        mean = (getattr(text, name) + getattr(made, name)) * 0.5
        assert getattr(half, name).flops == pytest.approx(mean.flops)
    assert half.tokens == (made.tokens + text.tokens) / 2
    assert half.rows == ROWS + own


def test_a_plan_counts_the_live_teacher(tmp_path: Path) -> None:
    config, words = tiny.study(), tiny.tokenizer()
    config["students"]["fresh"]["config"] = {"num_hidden_layers": 1, "hidden_size": 16}
    config["train"], config["prompts"]["max_tokens"] = {"epochs": 1, "batch_size": 4}, 20
    config["methods"] |= {
        "gkd": {"jsd": 1.0, "on_policy": {"share": 1.0, "max_tokens": 12}},
        "tuned": {"search": "rate"},
    }
    space = {"train.learning_rate": {"low": 1e-5, "high": 1e-3}}
    search = {"student": "small", "teacher": "big", "method": "gkd", "samples": 16, "space": space}
    config["searches"] = {"rate": search | {"trials": 3}}
    config["runs"][0] |= {"methods": ["sft", "gkd", "tuned"], "draws": [0]}
    plan = Plan(parse_study(config))
    folder = (tmp_path / plan.sources.manifest("base")).parent
    tiny.save(folder, tiny.model("llama", len(words)), words)
    (folder / "manifest.json").write_text("{}")
    models = read_models(plan, tmp_path)
    lengths = {n: read_lengths(plan, n, t, tmp_path) for n, t in models.template.items()}
    made = Forecast(plan, models, lengths, MACHINE, [], tmp_path)
    rows = {(row["student"], row["method"], row["samples"]): row for row in made.rows}
    row, text = rows["small", "gkd", 16], rows["small", "sft", 16]
    student, prompt = models.students["small"], lengths["big"].prompt
    once = 3 * student.flops.sequence_forward(int(prompt) + 12, 12)
    once += student.flops.generation(int(prompt), 12)
    assert prompt == int(prompt)
    assert row["train_flops"] == 16 * once
    assert (row["tokens_seen"], row["tokens_basis"]) == (16 * 12, "limit")
    run = next(r for r in plan.runs if (r.student, r.method, r.samples) == ("small", "gkd", 16))
    asked = 16 * models.teachers["big"].flops.sequence_forward(int(prompt) + 12, 12)
    job = made.jobs[plan.training.file(run, "training.json")]
    assert job.work.flops == 16 * once + asked
    assert job.seconds > MACHINE.start + asked / 1e9
    assert made.jobs[plan.searches.file("rate")].work.flops == 3 * job.work.flops
    assert row["train_memory_bytes"] - MACHINE.runtime > 4 * models.teachers["big"].params
    assert row["updates"] == text["updates"]
    assert sum("as long as on_policy allows" in note for note in notes_of(made)) == 1
