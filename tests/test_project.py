"""What must stay in step: pins, profiles, generated docs, house rules."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import write_schema
from distill.checks import parse_study
from distill.columns import COLUMNS, MEASURED, NULLABLE
from distill.digest import CodeDigests
from distill.figures import FIGURES
from distill.plan import Plan
from distill.validation import check_yaml
from miniature import ROOT

ADAPTERS = sorted((ROOT / "scripts").glob("*.py"))
PROGRAMS = {"ask", "list_unused", "verify_results", "write_schema"}


def _pins(lines: list[str]) -> dict[str, str]:
    found = [line.split("==") for line in lines if "==" in line]
    return {name.strip().lower(): version.strip() for name, version in found}


def _env_pins(path: Path) -> dict[str, str]:
    loaded = yaml.safe_load(path.read_text())
    assert [entry for entry in loaded["dependencies"] if isinstance(entry, str)] == [
        "python=3.11",
        "pip",
    ]
    (listed,) = [entry["pip"] for entry in loaded["dependencies"] if isinstance(entry, dict)]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in listed)
    return _pins(listed)


def test_conda_environments_and_requirements_pin_the_same_versions() -> None:
    files = ("requirements.txt", "requirements-harness.txt")
    wanted = _pins([line for name in files for line in (ROOT / "envs" / name).read_text().split()])
    used: set[str] = set()
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        pins = _env_pins(path)
        assert pins == {name: wanted[name] for name in pins}, path.name
        used |= set(pins)
    assert set(wanted) - used <= {"snakemake", "snakemake-executor-plugin-slurm", "pygments"}


def test_each_environment_pins_what_its_scripts_import() -> None:
    names = {"yaml": "pyyaml", "if_verifiable": "if-verifiable", "rouge_score": "rouge-score"}
    names["lm_eval"] = "lm-eval"
    checked = 0
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^\s*rule ", path.read_text(), flags=re.M)[1:]:
            (environment,) = re.findall(r'"\.\./envs/(\w+)\.yaml"', rule)
            (script,) = re.findall(r'"\.\./scripts/(\w+)\.py"', rule)
            pins = _env_pins(ROOT / f"envs/{environment}.yaml")
            for module in sorted(_third_party(script)):
                name = names.get(module, module)
                assert name in pins, f"{script} imports {module}, which {environment}.yaml lacks"
                checked += 1
    assert checked > 50


def _third_party(script: str) -> set[str]:
    import sys

    todo, seen, found = [ROOT / f"scripts/{script}.py"], set(), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
                modules += [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                inner = (ROOT / "scripts").joinpath(*module.split(".")).with_suffix(".py")
                if inner.is_file():
                    todo.append(inner)
                elif (top := module.split(".")[0]) not in sys.stdlib_module_names:
                    found.add(top)
    return found - {"distill"}


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
    assert set(profile["set-resources"]) == heavy
    assert {wanted["slurm_partition"] for wanted in profile["set-resources"].values()} == {"gpu"}
    assert {wanted["gpu"] for wanted in profile["set-resources"].values()} == {1}
    rules = {block.split(":")[0] for block in blocks}
    assert set(re.split(", *", profile["slurm-array-jobs"])) <= rules
    for block in blocks:
        if block.split(":")[0] in heavy - {"plan"}:  # a kill for want of either is tried with more
            assert re.search(r"mem_mb=lambda.*attempt,", block), block
            assert re.search(r"runtime=lambda.*attempt,", block), block
    assert profile["retries"] > 0
    assert not any(re.search("retries: [1-9]", block) for block in blocks)  # within a cluster's job


def test_the_pages_and_the_schema_say_what_the_code_says() -> None:
    for name, text in write_schema.PAGES.items():
        assert (write_schema.DOCS / name).read_text() == text(), name


def test_measured_and_nullable_columns_exist() -> None:
    assert set(MEASURED) | set(NULLABLE) <= set(COLUMNS)


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


def test_every_figure_has_a_caption_and_a_rule() -> None:
    common = (ROOT / "rules/common.smk").read_text()
    block = common.split("FIGURES = [")[1].split("def load_study")[0]
    assert set(re.findall(r'"(\w+)"', block)) == set(FIGURES)
    assert {path.stem for path in (ROOT / "report").glob("*.rst")} == set(FIGURES)


def test_adapters_are_short_and_read_no_config() -> None:
    for path in ADAPTERS:
        text = path.read_text()
        assert "snakemake.config" not in text
        if path.stem not in PROGRAMS:
            assert len(text.splitlines()) <= 45, path.name


def test_the_library_does_not_know_snakemake() -> None:
    for path in (ROOT / "scripts/distill").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "snakemake"], path.name


def test_training_does_not_import_evaluation_or_plotting() -> None:
    imported = _modules_of("train_student")
    assert not imported & {"evaluation", "judge", "figures", "report", "verdict", "collect"}
    assert not _modules_of("generate_text") & {"training", "losses", "evaluation", "collect"}


def _modules_of(script: str) -> set[str]:
    todo, seen = [ROOT / f"scripts/{script}.py"], set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            names = re.findall(r"from distill\.(\w+) import", path.read_text())
            todo += [ROOT / f"scripts/distill/{name}.py" for name in names]
    return {path.stem for path in seen}


def test_every_rule_has_log_conda_resources_and_code() -> None:
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^\s*rule ", path.read_text(), flags=re.M)[1:]:
            for directive in ("log:", "conda:", "resources:", "code=code("):
                assert directive in rule, f"{path.name}: {rule.split(':')[0]} lacks {directive}"


def test_every_script_has_a_digest() -> None:
    digests = CodeDigests(ROOT / "scripts")
    assert len({digests.of(path) for path in ADAPTERS}) == len(ADAPTERS)
