"""The rule plan on a fresh miniature, of which nothing is made yet."""

from pathlib import Path

import pandas as pd
import pytest

import miniature
from distill.config.checks.checks import parse_study
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
