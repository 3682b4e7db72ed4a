"""A teacher that the workflow trains, and a student without one, from files to the runs table."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import miniature
import tiny
from distill.config.checks.study import parse_study
from distill.core.parquet import read_rows
from distill.plan.study import Plan

pytestmark = [pytest.mark.workflow, pytest.mark.long]

RESULTS = "results/trained"
TARGETS = [f"{RESULTS}/{name}" for name in ("runs.parquet", "references.json", "answers.json")]
AGGREGATES = {"collect_runs": 1, "fit_laws": 1, "answer_questions": 1}


def _config(project: Path) -> dict[str, Any]:
    """gpt2-xl teaches `own`, which teaches students; another student learns a corpus."""
    config: dict[str, Any] = miniature.read_config(project)
    config["study"] = "trained"
    config["sources"]["books"] = {"path": "data/books.jsonl", "fields": {"text": "body"}}
    config["methods"] |= {
        "scratch": {"ce": 1.0, "corpus": "books", "corpus_tokens": 16},
        "kd": {"forward_kl": 1.0},
        "half": {"ce": 0.5},
    }
    config["caches"] = {"exact": {"scheme": "final_hidden"}}
    own = {"student": "gpt2", "teacher": "gpt2-xl", "method": "sft", "samples": 16}
    config["teachers"]["own"] = {"trained": own, "max_tokens": 16, "batch_size": 16}
    config["train"]["epochs"] = 1
    block = {"students": ["gpt2"], "teachers": ["own"], "samples": [8]}
    config["runs"] = [
        block | {"methods": ["half"]},
        block | {"methods": ["kd"], "caches": ["exact"]},
        block | {"teachers": ["gpt2-xl"], "methods": ["scratch"], "samples": [8, 24]},
    ]
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study with a trained teacher is done."""
    project = miniature.copy_project(tmp_path_factory.mktemp("trained") / "project")
    miniature.make_inputs(project)
    rows = [{"body": f"Chapter {number}. {tiny.SENTENCES[number % 5]}"} for number in range(30)]
    (project / "data/books.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (project / miniature.CONFIG).write_text(yaml.safe_dump(_config(project), sort_keys=False))
    miniature.snakemake(project, *TARGETS, "--configfile", miniature.CONFIG)
    return project


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """The finished project, free to be changed."""
    return miniature.moved(finished, tmp_path / "moved")


def _plan(project: Path) -> Plan:
    return Plan(parse_study(dict(miniature.read_config(project))))


def _dry_run(project: Path, change: Callable[[Any], Any] = lambda config: None) -> dict[str, int]:
    """Jobs that a changed config asks for."""
    config = miniature.read_config(project)
    change(config)
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    return miniature.dry_run(project, miniature.CONFIG, "--", *TARGETS)


def test_a_student_becomes_a_teacher(finished: Path) -> None:
    plan = _plan(finished)
    table = pd.read_parquet(finished / RESULTS / "runs.parquet")
    run = plan.teachers.trained_run("own")
    assert run is not None
    training = json.loads((finished / plan.training.file(run, "training.json")).read_text())
    teachers = json.loads((finished / RESULTS / "references.json").read_text())["teachers"]
    own, given = teachers["own"], teachers["gpt2-xl"]
    assert own["train_flops"] == training["train_flops"] > 0
    assert own["train_kwh"] == training["energy_kwh"] > 0
    assert own["train_energy_from"] == training["energy_from"]
    assert own["trained"]["samples"] == 16
    assert own["trained"]["tokens_unique"] == training["tokens_unique"]
    assert given["train_flops"] is None
    assert given["train_kwh"] is None
    assert given["trained"] is None
    student = table[table["student"] == "gpt2"].iloc[0]
    for name in ("params", "params_non_embedding"):
        assert own[name] == student[name] < given[name]
    assert own["reference_loss"] > 0
    # Text drawn from it is judged by its own distribution: loss - loss_teacher = KL.
    judged = table[table["teacher"] == "own"]
    assert set(judged["method"]) == {"none", "half", "kd"}
    assert judged["loss_teacher"].to_numpy() == pytest.approx(own["loss"], abs=2e-3)
    identity = json.loads((finished / RESULTS / "references.json").read_text())["identity"]
    assert max(abs(item["z"]) for item in identity) < 4
    # The unlisted run left a student, but no row.
    assert "sft" not in set(table["method"])
    assert not (finished / plan.training.file(run, "metrics.json")).exists()
    weights = (finished / plan.training.file(run, "model.safetensors")).read_bytes()
    initial = finished / plan.students.file("gpt2")
    assert weights != (initial.parent / "model.safetensors").read_bytes()


def test_a_student_learns_without_a_teacher(finished: Path) -> None:
    table = pd.read_parquet(finished / RESULTS / "runs.parquet")
    scratch = table[table["method"] == "scratch"].sort_values("samples")
    assert list(scratch["samples"]) == [8, 24]
    assert list(scratch["tokens_unique"]) == [8 * 16, 24 * 16]
    assert (scratch[["teacher_flops", "target_flops", "teacher_seconds"]] == 0).all(axis=None)
    assert (scratch["total_flops"] == scratch["train_flops"]).all()
    assert (scratch["total_kwh"] == scratch["train_kwh"]).all()
    assert (scratch["kl_teacher"] > 0).all()
    small, large = (
        read_rows(path) for path in sorted(finished.glob(f"{RESULTS}/shards/corpus/*/*/n*.parquet"),
                                           key=lambda path: int(path.stem[1:]))
    )  # fmt: skip
    assert large[:8] == small
    plan = _plan(finished)
    run = next(run for run in plan.runs if run.method == "scratch")
    card = (finished / plan.training.file(run, "README.md")).read_text()
    assert f"after {run.samples} chunks of books" in card


def test_the_trained_teachers_text_is_paid_for_once(finished: Path) -> None:
    table = pd.read_parquet(finished / RESULTS / "runs.parquet")
    taught = table[(table["teacher"] == "own") & (table["samples"] == 8)]
    assert len(taught) == 2
    assert (taught["teacher_flops"] > 0).all()
    assert taught["teacher_flops_amortised"].sum() == pytest.approx(taught["teacher_flops"].iloc[0])


# Staleness.


def test_a_finished_study_reruns_nothing(moved: Path) -> None:
    assert _dry_run(moved) == {}
    shutil.rmtree(moved / ".snakemake")
    assert _dry_run(moved) == {}


def test_what_trained_the_teacher_makes_its_text_again_and_no_others(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["methods"]["sft"].update(ce=0.7))
    assert counts == {
        "train_student": 3, "generate_text": 2, "save_head": 1, "write_manifest": 1,
        "build_shard": 2, "evaluate_teacher": 1, "evaluate_student": 3, **AGGREGATES,
    }  # fmt: skip


def test_other_methods_leave_the_teacher_as_it_is(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["methods"]["half"].update(ce=0.4))
    assert counts == {"train_student": 1, "evaluate_student": 1, **AGGREGATES}


def test_listing_the_teachers_run_trains_nothing(moved: Path) -> None:
    block = {"students": ["gpt2"], "teachers": ["gpt2-xl"], "methods": ["sft"], "samples": [16]}
    counts = _dry_run(moved, lambda config: config["runs"].append(block))
    assert counts == {"evaluate_student": 1, **AGGREGATES}


def test_another_length_of_chunks_reruns_the_corpus_students_alone(moved: Path) -> None:
    counts = _dry_run(moved, lambda config: config["methods"]["scratch"].update(corpus_tokens=8))
    assert counts == {
        "build_corpus_shard": 2, "train_student": 2, "evaluate_student": 2, **AGGREGATES
    }  # fmt: skip


def test_a_changed_setting_is_named_where_snakemake_forgot_the_training(moved: Path) -> None:
    shutil.rmtree(moved / ".snakemake")
    config: dict[str, Any] = miniature.read_config(moved)
    config["teachers"]["own"]["trained"]["seed"] = 0
    config["methods"]["sft"]["ce"] = 0.7
    (moved / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert "has other settings than the study" in output


def test_too_small_a_corpus_is_one_sentence_before_the_first_job(moved: Path) -> None:
    config: dict[str, Any] = miniature.read_config(moved)
    config["runs"][-1]["samples"].append(2000)
    (moved / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert "2000 samples of 16 tokens are needed" in output
    assert "Traceback" not in output
