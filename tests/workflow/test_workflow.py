"""The workflow on a finished miniature: its results, and what a change reruns."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import miniature
import program
import tiny
from distill.answers.runs import benchmarks
from distill.config.checks.study import parse_study
from distill.contracts.columns import COLUMNS, benchmark_columns
from distill.plan.study import Plan
from distill.workflow.provenance import verify

pytestmark = pytest.mark.workflow

STUDY = "gpt2_alpaca_miniature"
AGGREGATES = {
    "check_near_duplicates": 1,
    "collect_runs": 1,
    "fit_laws": 1,
    "answer_questions": 1,
    "plot_figures": 1,
    "write_report": 1,
    "write_provenance": 1,
}
SCORES = benchmark_columns("capitals")
TRAINED = 9  # runs of the finished miniature with samples > 0
SHOWN = {"plot_figures": 1, "write_report": 1, "write_provenance": 1}


def _without(counts: dict[str, int], *names: str) -> dict[str, int]:
    return {name: number for name, number in counts.items() if name not in names}


def _finish_config(project: Path) -> None:
    """The miniature with soft targets, a search and methods that can change alone."""
    config: dict[str, Any] = miniature.read_config(project)
    block: dict[str, Any] = {"students": ["gpt2"], "teachers": ["gpt2-xl"]}
    config["prompts"]["validation"] = 8
    config["caches"] = {
        "exact": {"scheme": "final_hidden"},
        "top": {
            "scheme": "top_k",
            "k": 4,
            "hidden": {"layers": [2], "projection": "pca", "width": 4},
        },
    }
    layers = {"weight": 0.1, "layers": {1: 2}}
    config["methods"] |= {
        "kd": {"ce": 0.5, "forward_kl": 0.5, "hidden": layers},
        "rkl": {"reverse_kl": 1.0, "train": {"early_stopping": {"patience": 1}}},
        "tuned": {"search": "rate"},
        "half": {"ce": 0.5},
        "gkd": {"jsd": 1.0, "on_policy": {"share": 0.5, "max_tokens": 8}},
    }
    bounds = {"low": 1e-4, "high": 1e-2, "log": True}
    config["searches"] = {
        "rate": {"student": "gpt2", "teacher": "gpt2-xl", "method": "sft", "samples": 8,
                 "trials": 2, "space": {"train.learning_rate": bounds}}
    }  # fmt: skip
    config["train"] |= {"weight_decay": 0.01, "warmup_ratio": 0.1}
    config["evaluate"]["benchmarks"] = {"capitals": {"include": "studies/miniature/tasks"}}
    config["runs"][0]["benchmarks"] = []
    block["benchmarks"] = []
    config["runs"] += [
        block | {"methods": ["kd"], "caches": ["top"], "samples": [16]},
        block | {"methods": ["rkl"], "caches": ["exact"], "samples": [16]},
        block | {"methods": ["tuned"], "samples": [8]},
        block | {"methods": ["half", "gkd"], "samples": [8]},
    ]
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose miniature study is done."""
    project = miniature.copy_project(tmp_path_factory.mktemp("finished") / "project")
    miniature.make_inputs(project)
    _finish_config(project)
    miniature.snakemake(project, "--configfile", miniature.CONFIG)
    return project


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Path:
    """The finished project, moved with its times and Snakemake's memory; free to be changed."""
    return miniature.moved(finished, tmp_path / "moved")


def _replace(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# Results.


def test_every_promised_file_is_there_and_the_table_has_the_documented_columns(
    finished: Path,
) -> None:
    results = finished / "results" / STUDY
    for name in (
        "report.html",
        "runs.csv",
        "answers.json",
        "laws.json",
        "references.json",
        "samples.json",
    ):
        assert (results / name).stat().st_size > 100
    table = pd.read_parquet(results / "runs.parquet")
    assert list(table.columns) == [*COLUMNS, *SCORES]
    sizes = table.groupby("method")["samples"].apply(sorted).to_dict()
    assert sizes == {
        "gkd": [8], "half": [8], "kd": [16], "none": [0], "rkl": [16], "sft": [8, 8, 16, 32],
        "tuned": [8],
    }  # fmt: skip
    assert set(table["cache"]) == {"none", "top", "exact", "live"}
    assert set(table["draw"]) == {0, 1}
    untrained = table[table["samples"] == 0].iloc[0]
    assert untrained["unseen_token_share"] == 1
    assert untrained["updates"] == 0
    assert list(table.query("method == 'sft' and draw == 0")["updates"]) == [2, 4, 8]


def test_soft_targets_are_recorded_with_their_cost_and_content(finished: Path) -> None:
    table = pd.read_parquet(finished / f"results/{STUDY}/runs.parquet").set_index("method")
    assert table.loc["kd", "target_flops"] > 0
    assert table.loc["rkl", "target_flops"] == 0  # its states fell out of generation
    assert table.loc["half", "target_flops"] == 0
    assert 0 < table.loc["kd", "cache_kept_mass"] < 1
    assert table.loc["rkl", "cache_kept_mass"] == 1
    assert table.loc["kd", "cache_bytes_per_token"] < table.loc["rkl", "cache_bytes_per_token"]
    assert 0 <= table["bleu"].min() <= table["bleu"].max() <= 1
    assert table["ece"].between(0, 1).all()
    live = table.loc["gkd"]
    assert live["target_flops"] == live["target_flops_amortised"] > table.loc["kd", "target_flops"]
    assert live["cache_bytes_per_token"] == 0
    assert live["cache_kept_mass"] == 1
    for name in ("kd", "rkl", "gkd"):
        row = table.loc[name]
        for unit in ("flops", "kwh"):
            parts = row[f"train_{unit}"] + row[f"teacher_{unit}"] + row[f"target_{unit}"]
            assert row[f"total_{unit}"] == pytest.approx(parts)


def test_every_job_with_a_model_records_its_energy(finished: Path) -> None:
    results = finished / f"results/{STUDY}"
    table = pd.read_parquet(results / "runs.parquet")
    trained = table[table["samples"] > 0]
    assert (trained[["train_kwh", "teacher_kwh", "total_kwh_amortised"]] > 0).all(axis=None)
    assert trained["kwh_estimated"].between(0, 1).all()
    assert (table.loc[table["samples"] == 0, "total_kwh"] == 0).all()
    methods = trained.set_index("method")
    assert methods.loc["kd", "target_kwh"] > 0
    assert methods.loc["gkd", "target_kwh"] == 0  # what its teacher used, training used
    for row in trained.itertuples():
        assert row.total_kwh_amortised <= row.total_kwh * (1 + 1e-9)
    records = [json.loads(path.read_text())["training"] for path in results.rglob("metrics.json")
               if "students" in path.parts]  # fmt: skip
    assert {record["energy_from"] for record in records if record["updates"]} <= {
        "measured", "estimated",
    }  # fmt: skip
    teachers = json.loads((results / "references.json").read_text())["teachers"]
    assert all(teacher["job_energy_kwh"] > 0 for teacher in teachers.values())
    drawn = pd.read_csv(results / "figures/pareto.csv")
    assert set(drawn.loc[drawn["column"].str.contains("kWh"), "kind"]) == {"mean", "front"}


def test_a_cache_says_whose_it_is_and_opens_as_a_data_set(finished: Path) -> None:
    (manifest,) = finished.glob("resources/caches/*/top-k-*/manifest.json")
    record = json.loads(manifest.read_text())
    assert record["scheme"] == "top_k"
    (teacher,) = record["teachers"]
    assert teacher["teacher"] == "gpt2-xl"
    (text,) = finished.glob("resources/text/*/train-00000.parquet")
    digest = json.loads(datasets_metadata(text)["tokenizer_sha256"])
    assert teacher["tokenizer_sha256"] == digest
    part = datasets.load_dataset(
        "parquet", data_files=str(manifest.with_name("train-00000.parquet")), split="train"
    )
    assert len(part) == 24
    assert len(part[0]["ids"]) == 2 * 4 * part[0]["tokens"]


def datasets_metadata(path: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    return {key.decode(): value.decode() for key, value in pq.read_schema(path).metadata.items()}


def test_a_student_learns_from_a_live_teacher(finished: Path) -> None:
    folder = finished / "results" / STUDY
    (record,) = folder.glob("students/gpt2/gpt2-xl/gkd/raw/live/*/n8/training.json")
    made = json.loads(record.read_text())
    assert made["updates"] == 2
    assert made["sampled_updates"] == 1
    assert 8 <= made["sampled_tokens"] <= 8 * 8
    assert not (folder / "shards/gpt2-xl/raw/live").exists()
    text = (folder / "report.html").read_text()
    assert "50 % of updates on the student" in text


def test_a_search_feeds_the_runs_that_name_it(finished: Path) -> None:
    results = finished / "results" / STUDY
    best = json.loads((results / "searches/rate/best.json").read_text())
    assert len(best["trials"]) == 2
    assert best["loss"] == min(trial["loss"] for trial in best["trials"] if not trial["pruned"])
    (record,) = results.glob("students/gpt2/gpt2-xl/tuned/*/*/*/n8/training.json")
    assert json.loads(record.read_text())["settings"] == best["settings"]


def test_early_stopping_keeps_the_best_validation_loss(finished: Path) -> None:
    folder = finished / "results" / STUDY / "students/gpt2/gpt2-xl/rkl"
    (record,) = folder.glob("*/*/*/n16/training.json")
    made = json.loads(record.read_text())
    losses = {entry["update"]: entry["loss"] for entry in made["validation"]}
    assert losses[made["best_update"]] == min(losses.values())


def test_loss_minus_teacher_loss_is_the_kl_within_its_error(finished: Path) -> None:
    references = json.loads((finished / f"results/{STUDY}/references.json").read_text())
    assert len(references["identity"]) == TRAINED + 1
    assert max(abs(item["z"]) for item in references["identity"]) < 4
    teacher = references["teachers"]["gpt2-xl"]
    table = pd.read_parquet(finished / f"results/{STUDY}/runs.parquet")
    assert table["loss_teacher"].to_numpy() == pytest.approx(teacher["loss"], abs=2e-3)


def test_students_and_teachers_are_judged_on_the_benchmarks_that_their_runs_name(
    finished: Path,
) -> None:
    results = finished / "results" / STUDY
    files = sorted(str(path.relative_to(results)) for path in results.glob("**/benchmarks/*.json"))
    student, untrained, teacher = (
        "students/gpt2/gpt2-xl/sft/raw/none/draw1-seed0/n8/",
        "students/gpt2/gpt2-xl/none/raw/none/draw0-seed0/n0/",
        "teachers/gpt2-xl/",
    )
    assert files == sorted(
        f"{folder}benchmarks/capitals.json" for folder in ("", student, untrained, teacher)
    )
    table = pd.read_parquet(results / "runs.parquet").set_index(["method", "draw", "samples"])
    judged = table["benchmark_capitals"].dropna()
    assert sorted(judged.index) == [("none", 0, 0), ("sft", 1, 8)]
    score = json.loads((results / f"{student}benchmarks/capitals.json").read_text())
    assert score["n"] == 12
    assert score["documents"].count(1.0) / 12 == pytest.approx(judged["sft", 1, 8])
    assert table.loc[("sft", 1, 8), "benchmark_capitals_stderr"] == score["stderr"]
    theirs = json.loads((results / f"{teacher}benchmarks/capitals.json").read_text())
    assert theirs["documents_sha256"] == score["documents_sha256"]
    references = json.loads((results / "references.json").read_text())
    assert references["benchmarks"]["tasks"]["capitals"]["chance"] == pytest.approx(7 / 24)
    answers = json.loads((results / "answers.json").read_text())["answers"]
    assert benchmarks.KEY in {answer["key"] for answer in answers}
    page = (results / "report.html").read_text()
    assert "<h2>Benchmarks</h2>" in page
    assert "gpt2 before training" in page


def test_amortised_teacher_cost_adds_up_to_what_was_spent(finished: Path) -> None:
    table = pd.read_parquet(finished / f"results/{STUDY}/runs.parquet")
    texts = [
        datasets.load_dataset("parquet", data_files=str(path), split="train").to_pandas()
        for path in sorted((finished / "resources/text").glob("*/train-*.parquet"))
    ]
    rows = pd.concat(texts)
    plan = Plan(_study(finished))
    used = {row for run in plan.runs for row in plan.rows.of(run)}
    spent = rows[rows["row"].isin(used)]["teacher_flops"].sum()
    assert table["teacher_flops_amortised"].sum() == pytest.approx(spent)


def _study(project: Path) -> Any:
    return parse_study(dict(miniature.read_config(project)))


def test_a_student_and_a_shard_open_with_the_libraries(finished: Path) -> None:
    folder = next(finished.glob(f"results/{STUDY}/students/gpt2/gpt2-xl/sft/*/*/*/n32"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("A boat", return_tensors="pt").input_ids
    assert model(ids).logits.shape[-1] == model.config.vocab_size
    assert "library_name: transformers" in (folder / "README.md").read_text()
    assert not (folder / "resume").exists()
    assert list((folder / "tensorboard").glob("events*"))
    shard = next(finished.glob(f"results/{STUDY}/shards/*/raw/none/draw0/n8.parquet"))
    small = datasets.load_dataset("parquet", data_files=str(shard), split="train")
    larger = datasets.load_dataset(
        "parquet", data_files=str(shard).replace("n8", "n32"), split="train"
    )
    assert small["id"][:] == larger["id"][:8]
    assert (shard.parents[1] / "README.md").read_text().startswith("---")


@pytest.mark.long
def test_running_the_same_study_again_elsewhere_gives_the_same_students(
    finished: Path, tmp_path: Path
) -> None:
    again = miniature.copy_project(tmp_path / "again")
    for name in ("models", "data"):
        shutil.copytree(finished / name, again / name)
    shutil.copy2(finished / miniature.CONFIG, again / miniature.CONFIG)
    plan = Plan(_study(finished))
    wanted = [
        plan.training.file(run, "metrics.json")
        for run in plan.runs
        if (run.method, run.samples, run.draw) in {("sft", 8, 1), ("kd", 16, 0), ("rkl", 16, 0)}
    ]
    assert len(wanted) == 3
    # One core against two: neither the order of parts nor their number at once may matter.
    miniature.snakemake(again, *wanted, "--configfile", miniature.CONFIG, "--cores", "1")
    for path in wanted:
        first, second = (json.loads((project / path).read_text()) for project in (finished, again))
        for key in ("heldout", "reference", "instructions", "answers"):
            assert first[key] == second[key]
        assert first["model"]["sha256"] == second["model"]["sha256"]


def test_ready_made_text_is_a_teacher_too(moved: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["study"] = "ready_made"
        config["teachers"] = {"authors": {"text": "alpaca"}}
        del config["searches"], config["methods"]["tuned"], config["evaluate"]["benchmarks"]
        config["runs"] = [
            {"students": ["gpt2"], "teachers": ["authors"], "methods": ["sft"], "samples": [8, 16]}
        ]

    miniature.edit(moved, change)
    miniature.snakemake(moved, "--configfile", miniature.CONFIG)
    table = pd.read_parquet(moved / "results/ready_made/runs.parquet")
    assert sorted(table["samples"]) == [0, 8, 16]
    assert table["kl_teacher"].isna().all()
    assert (table["teacher_flops"] == 0).all()
    assert table["loss"].iloc[-1] < table["loss"].iloc[0]
    shard = next(moved.glob("results/ready_made/shards/authors/raw/none/draw0/n8.parquet"))
    rows = pd.read_parquet(shard)
    given = {row["instruction"]: row["output"] for row in miniature.alpaca_rows()}
    assert [given[prompt] for prompt in rows["prompt"]] == list(rows["response"])
    assert (moved / "results/ready_made/report.html").stat().st_size > 10_000


@pytest.mark.long
def test_a_student_with_another_tokenizer_learns_by_aligned_spans(moved: Path) -> None:
    words = tiny.tokenizer(chat=False, vocabulary=330)
    small = {"n_layer": 1, "n_positions": 512, "initializer_range": 0.1}
    tiny.save(moved / "models/other", tiny.model("gpt2", len(words), **small), words)

    def change(config: dict[str, Any]) -> None:
        config["study"] = "across"
        config["sources"]["other"] = {"path": "models/other"}
        config["students"] = {"other": {"init": "pretrained", "source": "other"}}
        config["methods"] = {"spans": {"ce": 0.5, "spans": 1.0}}
        # A random teacher writes bytes that are no text: it scores the data set's answers instead.
        config["teachers"] = {"gpt2-xl": {"source": "gpt2-xl", "text": "alpaca"}}
        block = {"students": ["other"], "teachers": ["gpt2-xl"], "methods": ["spans"]}
        config["runs"] = [block | {"caches": ["exact"], "samples": [32]}]
        del config["searches"]

    miniature.edit(moved, change)
    plan = Plan(_study(moved))
    (run,) = (run for run in plan.runs if run.samples)
    record, metrics = (plan.training.file(run, f"{name}.json") for name in ("training", "metrics"))
    miniature.snakemake(moved, metrics, "--configfile", miniature.CONFIG)
    made = json.loads((moved / record).read_text())
    assert made["spec"]["method"]["spans"] == 1.0
    assert made["spans"]["student_tokens"] > 0.9
    assert made["spans"]["teacher_tokens"] > 0.9
    assert 0 < made["spans"]["words"] < 1
    assert json.loads((moved / metrics).read_text())["heldout"]


# Staleness, as dry-run job counts against real finished files.


def test_a_finished_study_reruns_nothing(finished: Path) -> None:
    assert miniature.dry_run(finished) == {}


def test_moving_the_checkout_and_touching_scripts_reruns_nothing(moved: Path) -> None:
    for script in (moved / "scripts").rglob("*.py"):
        script.touch()
    assert miniature.dry_run(moved) == {}
    miniature.edit(moved, lambda config: config["train"].update(learning_rate=1e-4))
    assert miniature.dry_run(moved)["train_student"] == TRAINED


def test_a_copy_without_snakemakes_memory_continues_but_names_a_changed_setting(
    moved: Path,
) -> None:
    shutil.rmtree(moved / ".snakemake")
    assert miniature.dry_run(moved) == {}
    miniature.edit(moved, lambda config: config["train"].update(learning_rate=1e-4))
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert "has other settings than the study" in output
    assert "training.json" in output


def test_results_under_a_fresh_checkout_go_on_and_a_changed_setting_is_seen(
    finished: Path, tmp_path: Path
) -> None:
    project = miniature.copy_project(tmp_path / "clone")
    shutil.copy2(finished / miniature.CONFIG, project / miniature.CONFIG)
    for file in project.rglob("*"):
        file.touch()
    (project / ".snakemake").mkdir()
    for name in ("results", "resources", "data", "models", ".snakemake/metadata"):
        subprocess.run(["cp", "-a", finished / name, project / name], check=True)
    assert miniature.dry_run(project) == {}
    miniature.edit(project, lambda config: config["train"].update(learning_rate=1e-4))
    assert miniature.dry_run(project)["train_student"] == TRAINED


def test_a_copy_without_memory_and_times_is_not_computed_again(moved: Path) -> None:
    shutil.rmtree(moved / ".snakemake")
    (moved / "data/alpaca.json").touch()
    call = ("--configfile", miniature.CONFIG)
    output = miniature.snakemake(moved, *call, ok=False)
    assert "is older than data/alpaca.json" in output
    assert "Traceback" not in output
    miniature.snakemake(moved, *call, "--touch")
    assert miniature.dry_run(moved) == {}


def test_finished_results_are_as_written_here_and_elsewhere(moved: Path, tmp_path: Path) -> None:
    results = moved / "results" / STUDY
    found = verify(results)
    assert (found.wrong, found.further) == ([], [])
    promised = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    record = json.loads((results / "provenance.json").read_text())
    left_out = {name for name in promised if "/tensorboard/" in name or "/resume/" in name}
    left_out.add("provenance.json")
    assert set(record["outputs"]) == promised - left_out
    assert found.inputs == len(record["inputs"]) > 10
    assert record["config"]["prompts"]["seed"] == 0
    assert {run["seed"] for run in record["runs"]} == {0}
    elsewhere = shutil.copytree(results, tmp_path / "a" / "b")
    assert verify(elsewhere).wrong == []
    with (elsewhere / "figures/pareto.csv").open("a") as stream:
        stream.write("1")
    assert verify(elsewhere).wrong == ["figures/pareto.csv: differs from what the study wrote"]


def test_comments_docstrings_and_key_order_rerun_nothing(moved: Path) -> None:
    path = moved / miniature.CONFIG
    config: dict[str, Any] = miniature.read_config(moved)
    config["train"] = dict(reversed(config["train"].items()))
    config["runs"] = list(reversed(config["runs"]))
    path.write_text(
        "# a comment\n" + yaml.safe_dump(dict(reversed(config.items())), sort_keys=False)
    )
    _replace(moved, "scripts/distill/training/losses.py", '"""Losses', '"""The losses')
    with (moved / "scripts/distill/models/sampling.py").open("a") as stream:
        stream.write("\n# nothing new\n")
    assert miniature.dry_run(moved) == {}


def test_swapping_two_values_is_seen(moved: Path) -> None:
    miniature.edit(moved, lambda c: c["train"].update(weight_decay=0.1, warmup_ratio=0.01))
    assert miniature.dry_run(moved)["train_student"] == TRAINED


def test_numbers_written_as_text_are_the_same_numbers(moved: Path) -> None:
    miniature.edit(moved, lambda c: c["train"].update(learning_rate="5e-4", batch_size="8"))
    assert miniature.dry_run(moved) == {}


def test_inserting_a_size_costs_no_teacher_job(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][0]["samples"].insert(2, 24))
    counts = miniature.dry_run(moved)
    assert counts == {
        "build_shard": 1, "train_student": 1, "evaluate_student": 1,
        **_without(AGGREGATES, "check_near_duplicates"),
    }  # fmt: skip


def test_a_larger_size_costs_its_new_parts_shard_and_student(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][0]["samples"].append(60))
    counts = miniature.dry_run(moved)
    assert counts == {
        "slice_prompts": 1, "filter_prompts": 1, "generate_text": 1, "build_shard": 1,
        "train_student": 1, "evaluate_student": 1, **AGGREGATES,
    }  # fmt: skip


def test_removing_and_reordering_runs_touches_no_other(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"].pop())
    assert miniature.dry_run(moved) == _without(AGGREGATES, "check_near_duplicates")


def test_one_methods_weight_reruns_only_its_students(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["methods"]["half"].update(ce=0.25))
    assert miniature.dry_run(moved) == {
        "train_student": 1, "evaluate_student": 1, **_without(AGGREGATES, "check_near_duplicates")
    }  # fmt: skip


AFTER_TRAINING = _without(AGGREGATES, "check_near_duplicates")


def test_a_live_teacher_costs_its_students_alone(moved: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["methods"]["gkd"]["on_policy"]["share"] = 0.25
        config["methods"]["own"] = {"forward_kl": 1.0, "on_policy": {"share": 1.0, "max_tokens": 9}}
        block = {"students": ["gpt2"], "teachers": ["gpt2-xl"], "methods": ["own"], "samples": [16]}
        config["runs"].append(block | {"benchmarks": []})

    miniature.edit(moved, change)
    assert miniature.dry_run(moved) == {
        "train_student": 2, "evaluate_student": 2, **AFTER_TRAINING
    }  # fmt: skip


def test_one_soft_methods_weight_reruns_neither_generation_nor_scoring(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["methods"]["kd"].update(forward_kl=0.25))
    assert miniature.dry_run(moved) == {
        "train_student": 1, "evaluate_student": 1, **AFTER_TRAINING
    }  # fmt: skip


def test_a_caches_setting_reruns_its_parts_shard_and_student_alone(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["caches"]["top"].update(k=5))
    assert miniature.dry_run(moved) == {
        "write_manifest": 1, "cache_targets": 1, "build_shard": 1, "train_student": 1,
        "evaluate_student": 1, **AFTER_TRAINING,
    }  # fmt: skip


def test_other_stored_layers_leave_the_targets_as_they_are(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["caches"]["top"]["hidden"].update(bits=16))
    assert miniature.dry_run(moved) == {
        "fit_projection": 1, "score_layers": 1, "build_shard": 1, "train_student": 1,
        "evaluate_student": 1, **AFTER_TRAINING,
    }  # fmt: skip


def test_a_further_cache_costs_its_parts_shard_and_student(moved: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["caches"]["draws"] = {"scheme": "sampled", "draws": 20}
        config["methods"]["soft"] = {"forward_kl": 1.0}
        block = {"students": ["gpt2"], "teachers": ["gpt2-xl"], "methods": ["soft"]}
        config["runs"].append(block | {"caches": ["draws"], "samples": [16], "benchmarks": []})

    miniature.edit(moved, change)
    assert miniature.dry_run(moved) == {
        "write_manifest": 1, "cache_targets": 1, "write_card": 1, "build_shard": 1,
        "train_student": 1, "evaluate_student": 1, **AFTER_TRAINING,
    }  # fmt: skip


OWN_TASKS = {"include": "studies/miniature/tasks"}
SCORED = {"prepare_benchmark": 1, "benchmark_student": 2, "benchmark_teacher": 1}


def test_a_benchmark_costs_its_own_scores_alone(moved: Path) -> None:
    miniature.edit(moved, lambda c: c["evaluate"]["benchmarks"].update(sums=OWN_TASKS))
    assert miniature.dry_run(moved) == SCORED | AFTER_TRAINING
    more = OWN_TASKS | {"metric": "acc_norm"}
    miniature.edit(moved, lambda c: c["evaluate"].update(benchmarks={"capitals": more}))
    assert miniature.dry_run(moved) == SCORED | AFTER_TRAINING
    miniature.edit(moved, lambda c: c["evaluate"].pop("benchmarks"))
    miniature.edit(moved, lambda c: [block.pop("benchmarks", 0) for block in c["runs"]])
    assert miniature.dry_run(moved) == AFTER_TRAINING


def test_a_run_that_names_a_benchmark_is_not_trained_again(moved: Path) -> None:
    miniature.edit(moved, lambda c: c["runs"][0].update(benchmarks=["capitals"]))
    assert miniature.dry_run(moved) == {"benchmark_student": 3} | AFTER_TRAINING


def test_other_data_are_seen_whatever_their_time(moved: Path) -> None:
    data, weights = moved / "data/alpaca.json", moved / "models/student/model.safetensors"
    data.write_text(data.read_text().replace("poem", "song"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    for file in (data, weights):
        os.utime(file, (1e9, 1e9))
    counts = miniature.dry_run(moved)
    assert (counts["fetch_data"], counts["fetch_model"]) == (1, 1)


def test_changed_data_of_a_task_are_seen(moved: Path) -> None:
    with (moved / "studies/miniature/tasks/capitals.jsonl").open("a") as stream:
        stream.write('{"country": "Ireland", "capital": "Dublin", "choices": ["Cork", "Dublin"]}\n')
    assert miniature.dry_run(moved) == SCORED | AFTER_TRAINING


def test_another_search_space_reruns_the_search_and_what_names_it(moved: Path) -> None:
    space = {"method.ce": {"low": 0.1, "high": 2}}
    miniature.edit(moved, lambda config: config["searches"]["rate"].update(space=space))
    assert miniature.dry_run(moved) == {
        "search_settings": 1, "train_student": 1, "evaluate_student": 1, **AFTER_TRAINING
    }  # fmt: skip


def test_another_student_or_seed_adds_only_its_runs(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"][0].update(seeds=[0, 1]))
    assert miniature.dry_run(moved) == {
        "train_student": 3, "evaluate_student": 3, **_without(AGGREGATES, "check_near_duplicates")
    }  # fmt: skip


def test_a_changed_loss_retrains_and_generates_nothing(moved: Path) -> None:
    with (moved / "scripts/distill/training/losses.py").open("a") as stream:
        stream.write("\n_UNUSED = 1\n")
    counts = miniature.dry_run(moved)
    assert counts["train_student"] == TRAINED + 1
    assert counts["search_settings"] == 1
    teacher = {"generate_text", "score_text", "score_layers", "cache_targets", "slice_prompts"}
    assert not (teacher | {"build_shard", "build_student"}) & set(counts)


def test_changed_evaluation_trains_nothing(moved: Path) -> None:
    _replace(moved, "scripts/distill/evaluation/held_out.py", "min(first + 512", "min(first + 256")
    counts = miniature.dry_run(moved)
    assert counts == {
        "evaluate_student": TRAINED + 1,
        "evaluate_teacher": 1,
        **_without(AGGREGATES, "check_near_duplicates"),
    }


def test_a_changed_figure_redraws_and_trains_nothing(moved: Path) -> None:
    with (moved / "scripts/distill/figures/figure.py").open("a") as stream:
        stream.write("\n_UNUSED = 1\n")
    assert miniature.dry_run(moved) == SHOWN


def test_a_caption_rewrites_the_report_alone(moved: Path) -> None:
    with (moved / "report/perplexity.rst").open("a") as stream:
        stream.write("\nMore.\n")
    assert miniature.dry_run(moved) == {"write_report": 1, "write_provenance": 1}


def test_a_changed_teacher_setting_leaves_the_students_initial_weights(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["teachers"]["gpt2-xl"].update(temperature=0.9))
    counts = miniature.dry_run(moved)
    assert counts["generate_text"] == 4
    assert not {"build_student", "fetch_model", "slice_prompts", "filter_prompts"} & set(counts)


def test_deleting_students_is_noticed(moved: Path) -> None:
    shutil.rmtree(moved / f"results/{STUDY}/students")
    assert miniature.dry_run(moved)["train_student"] == TRAINED + 1


def test_another_study_shares_the_teachers_work(moved: Path) -> None:
    miniature.edit(moved, lambda config: config.update(study="second"))
    counts = miniature.dry_run(moved)
    assert counts["train_student"] == TRAINED + 1
    shared = {"generate_text", "score_layers", "cache_targets", "fetch_model", "build_student"}
    assert not shared & set(counts)


def test_a_config_on_the_command_line_replaces_the_default(moved: Path) -> None:
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, "--forceall")
    assert "smollm2" not in output


def test_a_setting_on_the_command_line_is_coerced_and_used(moved: Path) -> None:
    counts = miniature.dry_run(moved, miniature.CONFIG, "--config", "train={epochs: 3}")
    assert counts["train_student"] == TRAINED


@pytest.mark.parametrize(("asked", "tries"), [((), 2), (("--retries", "2"), 3)])
def test_the_command_line_can_ask_for_more_retries(
    tmp_path: Path, asked: tuple[str, ...], tries: int
) -> None:
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)
    lines = "with open('tries', 'a') as stream:\n    stream.write('x')\nraise SystemExit(3)\n"
    (project / "scripts/fetch_data.py").write_text(lines)
    only = ("--configfile", miniature.CONFIG, "--until", "fetch_data", "--cores", "1")
    miniature.snakemake(project, *only, *asked, ok=False)
    assert len((project / "tries").read_text()) == 2 * tries  # of two data sets


# Mistakes: one sentence, before the first job.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["train"].update(learningrate=1), "did you mean learning_rate"),
        (lambda c: c["runs"][0].update(students=["gpt3"]), "there is no student 'gpt3'"),
        (lambda c: c["runs"][0]["samples"].append(73), "73 is larger than prompts.pool"),
        (lambda c: c["sources"]["alpaca"].update(path="data/none.json"), "does not exist"),
        (lambda c: c["sources"]["gpt2"].update(path="models/none"), "is not a model directory"),
        (lambda c: c["students"].update({"a b": c["students"]["gpt2"]}), "is not a valid name"),
        (lambda c: c["runs"][0]["samples"].append(8), "has a duplicate"),
    ],
)
def test_a_mistake_in_the_config_is_one_sentence(
    moved: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    miniature.edit(moved, change)
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert says in output
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) <= 3, output


def test_a_key_given_twice_is_refused(moved: Path) -> None:
    with (moved / miniature.CONFIG).open("a") as stream:
        stream.write("\nstudy: again\n")
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert "'study' is given twice" in output


def test_a_missing_config_file_is_named(finished: Path) -> None:
    output = miniature.snakemake(finished, "-n", "--configfile", "studies/none.yaml", ok=False)
    assert "studies/none.yaml" in output


def test_without_a_device_limit_the_workflow_refuses_to_start(finished: Path) -> None:
    output = miniature.snakemake(
        finished, "-n", "--configfile", miniature.CONFIG, "--workflow-profile", "none", ok=False
    )
    assert "--resources device" in output


def test_too_few_rows_of_a_local_file_are_noticed_before_the_first_job(moved: Path) -> None:
    (moved / "data/alpaca.json").write_text(json.dumps(miniature.alpaca_rows()[:20]))
    output = miniature.snakemake(moved, "-n", "--configfile", miniature.CONFIG, ok=False)
    assert "lower prompts.pool" in output


def test_a_failing_job_leaves_no_output_and_one_sentence(moved: Path) -> None:
    same = [
        {"instruction": "Say yes." + "!" * number, "input": "", "output": "Yes."}
        for number in range(150)
    ]
    (moved / "data/alpaca.json").write_text(json.dumps(same))
    output = miniature.snakemake(moved, "--configfile", miniature.CONFIG, ok=False)
    assert "raise prompts.surplus" in output
    assert "start.smk" not in output  # what is done at the end has no trouble of its own
    assert not list(moved.glob("resources/prompts/*/test-00000.parquet"))
    assert not [path for path in moved.rglob("*.tmp") if ".snakemake" not in path.parts]


def test_a_second_writer_is_refused(moved: Path) -> None:
    import fcntl

    (moved / "scripts/distill/figures/figure.py").open("a").write("\n_UNUSED = 1\n")
    with (moved / ".snakemake/writer.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        output = miniature.snakemake(moved, "--configfile", miniature.CONFIG, ok=False)
    assert "another run of this workflow" in output


def test_a_killed_run_leaves_no_job_behind_and_goes_on(moved: Path) -> None:
    (record,) = moved.glob(f"results/{STUDY}/students/gpt2/gpt2-xl/kd/*/*/*/n16/training.json")
    losses = json.loads(record.read_text())["losses"]
    shutil.rmtree(record.parent)
    arguments = (str(record.relative_to(moved)), "--configfile", miniature.CONFIG)
    run = miniature.start(moved, *arguments)
    while not any("train_student" in command for command in miniature.alive(moved).values()):
        assert run.poll() is None, (moved / "printed.txt").read_text()
        time.sleep(0.05)
    run.kill()  # it alone: its jobs get no signal
    run.wait()
    assert miniature.left_alive(moved, miniature.alive(moved)) == []
    assert not record.exists()
    miniature.snakemake(moved, *arguments)
    assert json.loads(record.read_text())["losses"] == losses


def test_unused_results_are_listed_and_deleted_on_request(moved: Path) -> None:
    miniature.edit(moved, lambda config: config["runs"].pop())
    listed = program.distill("unused", miniature.CONFIG, cwd=moved).stdout
    assert "students/gpt2/gpt2-xl/half" in listed
    assert "students/gpt2/gpt2-xl/gkd" in listed
    assert "in 2 places" in listed
    assert program.distill("unused", miniature.CONFIG, "--delete", cwd=moved).returncode == 0
    assert not list(moved.glob(f"results/{STUDY}/students/gpt2/gpt2-xl/half/*/*/*/n8"))
    assert "train_student" not in miniature.dry_run(moved)


# Faults.


def _damage(path: Path, keep_time: bool) -> bytes:
    """Cut a file to its first half; returns what it was."""
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(content[: len(content) // 2])
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return content


def _sentences(output: str) -> set[str]:
    return {line for line in output.splitlines() if line.startswith("Error: ")}


def test_a_damaged_file_is_named_and_mended_by_deleting_it(moved: Path) -> None:
    """A shard, a student, and a part of the text; what does not depend on them stays."""
    plan = Plan(_study(moved))
    run = next(run for run in plan.runs if (run.method, run.samples, run.draw) == ("sft", 16, 0))
    other = moved / plan.training.file(plan.runs[0], "model.safetensors")
    before, record = other.read_bytes(), moved / plan.training.file(run, "metrics.json")
    measured = json.loads(record.read_text())
    part = moved / plan.text.held_out(run.teacher, "test")[0]
    for damaged, keep_time in (
        (moved / plan.shards.file(run), True),
        (moved / plan.training.file(run, "model.safetensors"), True),
        (part, True),
    ):
        content = _damage(damaged, keep_time)
        record.unlink()
        wanted = str(record.relative_to(moved))
        output = miniature.snakemake(moved, wanted, "--configfile", miniature.CONFIG, ok=False)
        name = damaged.relative_to(moved)
        (sentence,) = _sentences(output)
        assert sentence.startswith(f"Error: {name} is not ")
        assert "and run the workflow again" in sentence
        assert "Traceback" not in output
        assert other.read_bytes() == before
        assert not record.exists()
        damaged.write_bytes(content) if damaged == part else damaged.unlink()
        miniature.snakemake(moved, wanted, "--configfile", miniature.CONFIG)
        again = json.loads(record.read_text())
        for key in ("heldout", "reference", "instructions"):
            assert again[key] == measured[key]


def test_a_full_or_read_only_disk_is_told_and_the_study_goes_on_when_mended(
    moved: Path, disk: Callable[..., Path]
) -> None:
    plan, results = Plan(_study(moved)), moved / "results"
    run = next(run for run in plan.runs if (run.method, run.samples, run.draw) == ("sft", 8, 1))
    model = moved / plan.training.file(run, "model.safetensors")
    other = moved / plan.training.file(plan.runs[0], "model.safetensors")
    weights, before = model.read_bytes(), other.read_bytes()
    results.rename(moved / "aside")
    disk("size=200m", results)
    subprocess.run(["cp", "-a", f"{moved}/aside/.", str(results)], check=True)
    model.unlink()
    command = (str(model.relative_to(moved)), "--configfile", miniature.CONFIG)

    subprocess.run(["mount", "-o", "remount,ro", str(results)], check=True)
    output = miniature.snakemake(moved, *command, ok=False)
    (sentence,) = _sentences(output)
    assert sentence.startswith(
        f"Error: {results} cannot be written because its disk is read-only; mou"
    )
    assert "Execute" not in output  # before the first job
    subprocess.run(["mount", "-o", "remount,rw", str(results)], check=True)

    fill = results / "fill"
    with fill.open("wb") as stream:
        stream.truncate(0)
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(results).free - 24 * 1024)
    output = miniature.snakemake(moved, *command, ok=False)
    (sentence,) = _sentences(output)
    assert sentence.startswith("Error: no space is left on the disk that holds results/")
    assert "Traceback" not in output
    assert other.read_bytes() == before
    assert not model.exists()
    fill.unlink()
    miniature.snakemake(moved, *command)
    assert model.read_bytes() == weights
