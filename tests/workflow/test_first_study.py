"""A first study of one's own data: `distill init`, `distill check`, a dry run, a run."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import miniature
import tiny
from distill.cli.main import main

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with data and two small models."""
    folder = miniature.copy_project(tmp_path_factory.mktemp("first") / "project")
    rows = miniature.alpaca_rows()[:48]
    lines = [f'"{row["instruction"]}","{row["output"]}"\n' for row in rows]
    (folder / "my.csv").write_text("instruction,output\n" + "".join(lines))
    words = tiny.tokenizer()
    for name, layers in (("big", 3), ("small", 1)):
        torch.manual_seed(layers)
        settings = {"max_position_embeddings": 512, "num_hidden_layers": layers}
        tiny.save(folder / "models" / name, tiny.model("llama", len(words), **settings), words)
    return folder


def test_the_embedded_teacher_needs_no_further_word(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["init", "--data", "my.csv", "--out", "embedded.yaml"]) == 0
    assert main(["check", "embedded.yaml"]) == 0
    assert "What it will not answer:" in capsys.readouterr().out
    printed = miniature.snakemake(project, "-n", "--configfile", "embedded.yaml")
    assert "Will not be answered: no law over size: there is 1 student of a method" in printed
    assert "train_student" in printed
    assert "This was a dry-run" in printed


def test_a_first_study_runs_to_its_report(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    models = ["--teacher", "models/big", "--student", "models/small"]
    assert main(["init", "--data", "my.csv", *models]) == 0
    config = yaml.safe_load((project / "my.yaml").read_text())
    assert "reference" not in config["evaluate"]
    # Fewer instructions than a first study has; all else as written.
    text = (project / "my.yaml").read_text()
    few = text.replace(
        "  instruction_tokens: 32", "  instruction_tokens: 8\n  generated_instructions: 0"
    )
    assert few != text
    (project / "my.yaml").write_text(few.replace("    draws: [1, 2]\n", "    draws: [1]\n"))
    assert main(["check", "my.yaml"]) == 0
    miniature.snakemake(project, "--configfile", "my.yaml")
    runs = pd.read_csv(project / "results/my/runs.csv")
    assert len(runs) == 1 + 2 * 4 + 2
    assert runs["loss"].notna().all()
    assert (
        runs[["reference_loss", "reference_bits_per_byte", "pass_rate_large"]].isna().all(axis=None)
    )
    assert runs["pass_rate"].notna().all()
    answers = json.loads((project / "results/my/answers.json").read_text())["answers"]
    forgotten = [answer for answer in answers if answer["key"] == "forgetting"]
    assert {answer["status"] for answer in forgotten} == {"cannot_tell"}
    report = (project / "results/my/report.html").read_text()
    assert "the table has no reference loss" in report
    assert "<th>pass_<wbr>rate_<wbr>large" not in report
    samples = list(project.glob("resources/prompts/*/t*.parquet"))
    assert sum(len(pd.read_parquet(file)) for file in samples) == 48  # every row of the file


TASKS = """
study: tasks
sources:
  big: {path: models/big}
  small: {path: models/small}
  tasks:
    templates:
      - prompt: "Say where the {who} is: the {who} {verb.now} at the {place}."
        checks: {excludes: ["{place}"]}
    slots:
      who: [fox, king, cook, child]
      verb: [{now: runs}, {now: sits}, {now: waits}]
      place: [lake, farm, hill, gate]
prompts: {source: tasks, test: 12, pool: 32, part_size: 16, surplus: 1}
teachers: {big: {source: big, max_tokens: 8}}
students: {small: {init: pretrained, source: small}}
methods: {sft: {ce: 1.0}}
evaluate:
  instructions: {source: tasks, published: 8, more: 4}
  instruction_tokens: 8
  latency_tokens: 4
runs: [{students: [small], teachers: [big], methods: [sft], samples: [32]}]
"""


def test_prompts_of_templates_are_answered_and_checked(project: Path) -> None:
    (project / "tasks.yaml").write_text(TASKS)
    miniature.snakemake(project, "--configfile", "tasks.yaml")
    prompts = [
        pd.read_parquet(file)["prompt"]
        for file in sorted(project.glob("resources/prompts/tasks-*/t*.parquet"))
    ]
    assert sum(map(len, prompts)) == 12 + 32
    assert len(set(pd.concat(prompts))) == 12 + 32  # held-out prompts are not trained on
    runs = pd.read_csv(project / "results/tasks/runs.csv")
    assert runs["unigram_loss"].notna().tolist() == (runs["samples"] > 0).tolist()
    references = json.loads((project / "results/tasks/references.json").read_text())
    assert references["items"] == {"fixed": 8, "large": 4}
    for row in runs.itertuples():
        (file,) = project.glob(
            f"results/tasks/students/small/*/*/*/*/*/n{row.samples}/responses.jsonl"
        )
        asked = [json.loads(line) for line in file.read_text().splitlines()]
        fixed = [one for one in asked if one["set"] == "fixed"]
        assert {one["prompt"] for one in fixed} <= set(pd.concat(prompts))
        for one in fixed:
            place = one["prompt"].split()[-1].rstrip(".")
            absent = place not in one["text"].lower().replace(".", " ").split()
            assert one["passed"] == (bool(one["text"].strip()) and absent)
        assert row.pass_rate == sum(one["passed"] for one in fixed) / 8
    assert miniature.dry_run(project, "tasks.yaml") == {}
    (project / "tasks.yaml").write_text(TASKS.replace("published: 8", "published: 6"))
    rerun = miniature.dry_run(project, "tasks.yaml")
    assert rerun["evaluate_student"] == 2
    assert "train_student" not in rerun
    (project / "tasks.yaml").write_text(TASKS.replace("excludes:", "contains:"))
    rerun = miniature.dry_run(project, "tasks.yaml")
    assert rerun["fetch_data"] == 1
