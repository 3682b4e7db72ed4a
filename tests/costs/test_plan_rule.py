"""The rule plan and the command on a fresh miniature, of which nothing is made yet."""

import json
from pathlib import Path

import pandas as pd
import pytest

import miniature
import program
from distill.config.checks.study import parse_study
from distill.core.files import read_json
from distill.plan.study import Plan

pytestmark = pytest.mark.workflow


def test_a_fresh_study_is_planned(tmp_path: Path) -> None:
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)
    printed = miniature.snakemake(project, "--configfile", miniature.CONFIG, "--", "plan")
    plan = Plan(parse_study(miniature.read_config(project)))
    table = pd.read_csv(project / plan.results / "plan.csv")
    record = read_json(project / plan.results / "plan.json")
    assert record["schema"] == 1
    assert len(table) == len(record["runs"]) == len(plan.runs)
    assert (table["tokens_basis"] == "limit").all()
    assert (table.loc[table["samples"] > 0, "train_flops"] > 0).all()
    assert not table["trained"].any()
    assert record["calibration"]["job_start_s"] > 0
    assert {job["done"] for job in record["jobs"]} == {False}
    assert "Wall time on" in printed


def test_the_command_says_the_same_and_fetches_models_first(tmp_path: Path) -> None:
    """Times differ from one calibration to the next; all else is equal."""
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)
    command = ["plan", miniature.CONFIG, "--cores", "3", "--device", "2", "--json"]
    done = program.distill(*command, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    plan = Plan(parse_study(miniature.read_config(project)))
    file = project / plan.results / "plan.json"
    assert record == read_json(file)
    assert record["wall"][0]["cores"] == 3
    assert miniature.dry_run(project)["fetch_data"] > 0
    assert "fetch_model" not in miniature.dry_run(project)
    table = pd.read_csv(file.with_name("plan.csv"))
    miniature.snakemake(project, "--configfile", miniature.CONFIG, "--", "plan")
    timed = [name for name in table if "seconds" in name or "memory" in name]
    again = pd.read_csv(file.with_name("plan.csv"))
    pd.testing.assert_frame_equal(table.drop(columns=timed), again.drop(columns=timed))
    jobs = [
        {job["output"]: job["flops"] for job in one["jobs"]} for one in (record, read_json(file))
    ]
    assert jobs[0] == jobs[1]


def test_a_model_that_cannot_be_fetched_is_one_sentence(tmp_path: Path) -> None:
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)
    next((project / "models/teacher").glob("*.safetensors")).write_bytes(b"none")
    done = program.distill("plan", miniature.CONFIG, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: the models of the study cannot be fetched: ")
    assert "is not a safetensors file" in done.stderr
    assert done.stderr.count("\n") == 1
