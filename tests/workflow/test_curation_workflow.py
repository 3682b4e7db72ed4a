"""Curations in the workflow: what a finished study holds, and what a change reruns."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import miniature
import program
from distill.config.checks.study import parse_study
from distill.plan.study import Plan

pytestmark = [pytest.mark.workflow, pytest.mark.long]

STUDY = "curations"
AFTER_TRAINING = {
    "collect_runs": 1,
    "fit_laws": 1,
    "answer_questions": 1,
    "plot_figures": 1,
    "write_report": 1,
    "write_provenance": 1,
}


def _config(project: Path) -> dict[str, Any]:
    config: dict[str, Any] = miniature.read_config(project)
    config["study"] = STUDY
    config["prompts"]["part_size"] = 12
    config["prompts"]["test"] = 12
    config["caches"] = {"exact": {"scheme": "final_hidden"}}
    config["methods"] = {"sft": {"ce": 1.0}, "kd": {"forward_kl": 1.0}}
    config["train"]["epochs"] = 1
    config["curations"] = {
        "likely": {"surplus": 2.0, "teacher_loss": {"max_quantile": 0.7}, "near_duplicates": {}},
        "noisy": {"corrupt": {"share": 0.5, "kind": "shuffle_words"}},
    }
    block = {"students": ["gpt2"], "teachers": ["gpt2-xl"], "samples": [8]}
    config["runs"] = [
        block | {"methods": ["sft"], "curations": ["raw", "noisy"]},
        block
        | {"methods": ["sft", "kd"], "curations": ["likely"], "caches": ["exact"], "samples": [12]},
    ]
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study with curations is done."""
    project = miniature.copy_project(tmp_path_factory.mktemp("curations") / "project")
    miniature.make_inputs(project)
    (project / miniature.CONFIG).write_text(yaml.safe_dump(_config(project), sort_keys=False))
    miniature.snakemake(project, "--configfile", miniature.CONFIG)
    return project


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """The finished project with its times and Snakemake's memory; free to be changed."""
    return miniature.moved(finished, tmp_path / "moved")


def test_the_shards_hold_what_was_kept_and_say_what_was_not(finished: Path) -> None:
    results = finished / "results" / STUDY
    plan = Plan(parse_study(dict(miniature.read_config(finished))))
    likely, text = (
        pd.read_parquet(path)
        for path in (
            results / "shards/gpt2-xl/likely/none/draw0/n12.parquet",
            next(finished.glob("resources/text/*/train-00000.parquet")),
        )
    )
    losses = pd.concat(
        [
            pd.read_parquet(path)
            for path in sorted(finished.glob("resources/losses/*/*/train-*.parquet"))
        ]
    ).set_index("id")["loss"]
    assert losses.between(0.1, 20).all()
    cut = losses[text["id"]].quantile(0.7)
    assert (losses[likely["id"]] <= cut).all()
    decisions = pd.read_parquet(results / "curated/gpt2-xl/likely/draw0/n12.decisions.parquet")
    dropped = decisions[decisions["dropped"].notna()]
    assert len(dropped) == len(decisions) - 12 > 0
    above = dropped[dropped["dropped"] == "high teacher loss"]
    assert (losses[above["id"]] > cut).all()
    soft = pd.read_parquet(results / "shards/gpt2-xl/likely/exact/draw0/n12.parquet")
    assert list(soft["id"]) == list(likely["id"])
    assert (
        f"| draw0/n12 | {len(decisions)} | 12 | 0 |"
        in (results / "shards/gpt2-xl/likely/none/README.md").read_text()
    )
    (entry,) = (
        item
        for item in json.loads((results / "references.json").read_text())["curations"]
        if item["curation"] == "likely"
    )
    assert (entry["read"], entry["kept"], entry["samples"]) == (len(decisions), 12, 12)
    assert sum(entry["dropped"].values()) == len(dropped)
    assert len(plan.rows.parts(next(run for run in plan.runs if run.curation == "likely"))) == 2


def test_corrupted_rows_are_trained_on_beside_clean_ones(finished: Path) -> None:
    folder = finished / "results" / STUDY / "shards/gpt2-xl"
    raw, noisy = (
        pd.read_parquet(folder / name / "none/draw0/n8.parquet") for name in ("raw", "noisy")
    )
    assert list(raw["id"]) == list(noisy["id"])
    changed = noisy["response_ids"].isna()
    assert 0 < changed.sum() < 8
    assert (raw["response"] != noisy["response"]).tolist() == changed.tolist()
    table = pd.read_parquet(finished / f"results/{STUDY}/runs.parquet")
    loss = table[table["samples"] == 8].set_index("curation")["loss"]
    assert loss["raw"] != loss["noisy"]


def test_the_runs_table_counts_dropped_rows(finished: Path) -> None:
    results = finished / "results" / STUDY
    table = pd.read_parquet(results / "runs.parquet")
    decisions = pd.read_parquet(results / "curated/gpt2-xl/likely/draw0/n12.decisions.parquet")
    spent = decisions["teacher_flops"].sum() + decisions["filter_flops"].sum()
    assert decisions["filter_flops"].gt(0).all()
    for flops in table[table["curation"] == "likely"]["teacher_flops"]:
        assert flops == pytest.approx(spent)
    # Rows 0 to 7 are read by raw and noisy too, all of them by the two runs of `likely`.
    assert table["teacher_flops_amortised"].sum() == pytest.approx(spent)


def test_a_finished_study_with_curations_reruns_nothing(finished: Path) -> None:
    assert miniature.dry_run(finished) == {}


def test_a_curations_setting_reruns_its_shards_and_students_alone(moved: Path) -> None:
    noisy = {"share": 0.25, "kind": "shuffle_words"}
    miniature.edit(moved, lambda config: config["curations"]["noisy"].update(corrupt=noisy))
    assert miniature.dry_run(moved) == {
        "curate_rows": 1, "build_shard": 1, "write_card": 1, "train_student": 1,
        "evaluate_student": 1, **AFTER_TRAINING,
    }  # fmt: skip


def test_other_cut_points_need_no_teacher(moved: Path) -> None:
    cuts = {"max_quantile": 0.8}
    miniature.edit(moved, lambda config: config["curations"]["likely"].update(teacher_loss=cuts))
    assert miniature.dry_run(moved) == {
        "curate_rows": 1, "build_shard": 2, "write_card": 2, "train_student": 2,
        "evaluate_student": 2, **AFTER_TRAINING,
    }  # fmt: skip


def test_a_curated_size_in_between_needs_no_teacher(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][1]["samples"].append(10))
    assert miniature.dry_run(moved) == {
        "curate_rows": 1, "build_shard": 2, "write_card": 2, "train_student": 2,
        "evaluate_student": 2, **AFTER_TRAINING,
    }  # fmt: skip


def test_a_larger_curated_size_asks_for_its_surplus(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][1]["samples"].append(24))
    counts = miniature.dry_run(moved)
    teacher = ("slice_prompts", "filter_prompts", "generate_text", "score_loss")
    assert {name: counts[name] for name in teacher} == dict.fromkeys(teacher, 2)


def test_too_few_rows_are_one_sentence_and_leave_nothing(moved: Path) -> None:
    miniature.edit(moved, lambda c: c["curations"]["likely"].update(length={"max_tokens": 1}))
    output = miniature.snakemake(moved, "--configfile", miniature.CONFIG, ok=False)
    assert "raise curations.likely.surplus to about" in output
    assert "Traceback" not in output


def test_what_a_removed_curation_left_is_listed(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][0].update(curations=["raw"]))
    listed = program.distill("unused", miniature.CONFIG, cwd=moved).stdout
    for kind in ("text", "decisions"):
        assert f"curated/gpt2-xl/noisy/draw0/n8.{kind}.parquet" in listed
    assert "likely" not in listed
