"""What must stay in step: pins, profiles, generated docs, house rules."""

import hashlib
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

import environments
from distill.cli.commands import COMMANDS
from distill.cli.pages import pages
from distill.config.checks.study import parse_study
from distill.config.reading import check_yaml
from distill.config.study import Study
from distill.contracts.columns import COLUMNS
from distill.contracts.figures import FIGURES, TRAITS
from distill.figures.figure import Section, find_figure
from distill.plan.study import Plan
from distill.report.runs import COST_TABLES, RUN_TABLES
from distill.workflow.digest import CodeDigests
from miniature import ROOT

ADAPTERS = sorted((ROOT / "scripts").glob("*.py"))


def test_conda_environments_and_requirements_pin_the_same_versions() -> None:
    wanted = environments.requirements("requirements.txt", "requirements-harness.txt")
    used: set[str] = set()
    for name in environments.NAMES:
        asked, pins = environments.dependencies(name)
        assert asked == ["python=3.11", "pip"]
        assert pins == {package: wanted[package] for package in pins}, name
        used |= set(pins)
    assert set(wanted) - used <= {"snakemake", "snakemake-executor-plugin-slurm", "pygments"}


def test_versions_named_in_the_pages_are_the_pinned_ones() -> None:
    wanted = environments.requirements("requirements.txt", "requirements-harness.txt")
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(map(Path.read_text, files))
    version = r"([\w-]+)==(\d[\w.]*)"
    wanted |= dict(re.findall(f"wheel: {version}", (ROOT / "config.yaml").read_text()))
    named = re.findall(version, text)
    assert ("snakemake", wanted["snakemake"]) in named
    assert named == [(name, wanted[name]) for name, _ in named]


@pytest.mark.slow
def test_each_environment_pins_what_its_scripts_import() -> None:
    names = {"yaml": "pyyaml", "if_verifiable": "if-verifiable", "rouge_score": "rouge-score"}
    names |= {"lm_eval": "lm-eval", "pynvml": "nvidia-ml-py", "python_calamine": "python-calamine"}
    names |= {"compressed_tensors": "compressed-tensors"}
    checked = 0
    for environment, scripts in environments.scripts().items():
        _, pins = environments.dependencies(environment)
        for script in scripts:
            ours, others = environments.imports([ROOT / f"scripts/{script}.py"])
            assert ours
            for module in sorted(others):
                name = names.get(module, module)
                assert name in pins, f"{script} imports {module}, which {environment}.yaml lacks"
                checked += 1
    assert checked > 50


def test_the_container_is_made_from_these_environments() -> None:
    text = (ROOT / "envs/container.def").read_text()
    assert re.search(r"^From: \S+@sha256:[0-9a-f]{64}$", text, re.M)
    whole = hashlib.sha256()
    for name in environments.NAMES:
        content = (ROOT / f"envs/{name}.yaml").read_bytes()
        whole.update(content)
        prefix = f"/conda-envs/{hashlib.md5(content).hexdigest()}"
        file = f"{prefix}/environment.yaml"
        shown = "".join(f"#   {line}\n" for line in content.decode().strip().split("\n"))
        assert f"#   prefix: {prefix}\n{shown}" in text, f"run make container: {name}.yaml differs"
        assert f"    envs/{name}.yaml {file}\n" in text
        assert f"    conda env create --prefix {prefix} --file {file}\n" in text
    assert f"conda_env_hash {whole.hexdigest()}\n" in text
    assert text.count("conda env create") == len(environments.NAMES)


def test_both_profiles_rerun_for_the_same_reasons() -> None:
    profiles = [
        yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
        for name in ("default", "slurm")
    ]
    for key in ("rerun-triggers", "rerun-incomplete", "nolock"):
        assert profiles[0][key] == profiles[1][key]
    assert profiles[0]["rerun-triggers"] == ["mtime", "params", "input"]


def test_what_computes_with_a_model_asks_for_a_gpu_on_a_cluster() -> None:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    blocks = [
        block
        for file in (ROOT / "rules").glob("*.smk")
        for block in re.split(r"^ *rule ", file.read_text(), flags=re.M)[1:]
    ]
    heavy = {block.split(":")[0] for block in blocks if "device=" in block} - {"ask_server"}
    assert profile["set-resources"].keys() == heavy
    assert {wanted["slurm_partition"] for wanted in profile["set-resources"].values()} == {"gpu"}
    # How many, the rules know from the study: the profile's number would take their place.
    assert not any("gpu" in wanted for wanted in profile["set-resources"].values())
    assert {block.split(":")[0] for block in blocks if re.search(r"^ *gpu=", block, re.M)} == heavy
    rules = {block.split(":")[0] for block in blocks}
    assert set(re.split(", *", profile["slurm-array-jobs"])) <= rules
    for block in blocks:
        if block.split(":")[0] in heavy - {"plan"}:  # a kill for want of either is tried with more
            assert re.search(r"mem_mb=lambda wildcards, attempt: .*attempt", block), block
            assert re.search(r"runtime=lambda wildcards, attempt: .*attempt", block), block
    assert profile["retries"] > 0
    assert not any(re.search("retries: [1-9]", block) for block in blocks)  # within a cluster's job


@pytest.mark.slow
def test_the_pages_and_the_schema_say_what_the_code_says() -> None:
    for name, text in pages(ROOT, COMMANDS).items():
        assert (ROOT / "docs/reference" / name).read_text() == text, (
            f"{name}: run distill reference"
        )


def test_columns_name_tasks_and_tables_that_exist() -> None:
    tasks = set(get_args(Study.model_fields["task"].annotation))
    tables = {*RUN_TABLES, *COST_TABLES, "Students"}
    assert {task for column in COLUMNS.values() for task in column.null_in} <= tasks
    assert {title for column in COLUMNS.values() for title in column.groups} == tables
    assert len({column.path for column in COLUMNS.values()}) == len(COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["config.yaml", *map(str, sorted(ROOT.glob("studies/*.yaml")))])
def test_each_shipped_study_is_valid(path: str) -> None:
    check_yaml(ROOT / path)
    plan = Plan(parse_study(yaml.safe_load((ROOT / path).read_text())))
    assert len(plan.runs) > 1


def test_the_default_study_has_what_it_promises() -> None:
    plan = Plan(parse_study(yaml.safe_load((ROOT / "config.yaml").read_text())))
    students = {run.student for run in plan.runs}
    assert len(students) >= 2
    assert len({run.samples for run in plan.runs if run.samples}) >= 4
    assert {(run.student, run.samples) for run in plan.runs} >= {(name, 0) for name in students}
    assert {run.draw for run in plan.runs} == {0, 1}


def test_every_figure_has_a_module_a_caption_and_a_place() -> None:
    folder = ROOT / "scripts/distill/figures"
    modules = {path.stem for path in folder.glob("*.py") if "\nFIGURE = " in path.read_text()}
    assert modules == set(FIGURES)
    assert {path.stem for path in (ROOT / "report").glob("*.rst")} == set(FIGURES)
    assert set().union(*FIGURES.values()) <= set(TRAITS)
    pages = "".join(path.read_text() for path in (ROOT / "report").glob("*.j2"))
    placed = set(re.findall(r'\{\{ figures_of\(figures, "(\w+)"\) \}\}', pages))
    assert placed == set(get_args(Section)) >= {find_figure(name).section for name in FIGURES}


def test_adapters_are_short_and_read_no_config() -> None:
    for path in ADAPTERS:
        text = path.read_text()
        assert "snakemake.config" not in text
        assert len(text.splitlines()) <= 45, path.name


def test_every_rule_has_log_conda_resources_and_code() -> None:
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^\s*rule ", path.read_text(), flags=re.M)[1:]:
            for directive in ("log:", "conda:", "resources:", "code=code("):
                assert directive in rule, f"{path.name}: {rule.split(':')[0]} lacks {directive}"


@pytest.mark.slow
def test_every_script_has_a_digest() -> None:
    digests = CodeDigests(ROOT / "scripts")
    assert len({digests.of(path) for path in ADAPTERS}) == len(ADAPTERS)


def test_a_data_file_beside_the_code_is_part_of_a_digest() -> None:
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    files = list((ROOT / "scripts/distill").rglob("*.json"))
    assert files
    assert [path for path in files if f'"{path.relative_to(ROOT)}"' not in rules] == []
