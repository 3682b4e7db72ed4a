"""Environments made by conda: a study in them, beside a Snakemake that has nothing to lend."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

import environments
import miniature
from distill.core.files import read_json
from distill.workflow.container import DEFINITION, definition

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(shutil.which("conda") is None, reason="no conda on the PATH"),
]

STUDY = "gpt2_alpaca_miniature"
BENCHMARK = {"benchmarks": {"capitals": {"include": "studies/miniature/tasks"}}}
# Modules and packages as JSON in, versions of the packages out.
IMPORT = (
    "-c",
    "import importlib, json, sys\n"
    "from importlib import metadata\n"
    "sys.path.append('scripts')\n"
    "modules, packages = json.loads(sys.argv[1])\n"
    "[importlib.import_module(name) for name in modules]\n"
    "print(json.dumps({name: metadata.version(name) for name in packages}))\n",
)
ENDS = {"plot_figures": 1, "write_report": 1, "write_provenance": 1}


def test_the_containers_definition_is_what_snakemake_generates(tmp_path: Path) -> None:
    project = miniature.copy_project(tmp_path / "project")
    written = (miniature.ROOT / DEFINITION).read_text()
    assert definition(project) == written, "run make container"


@dataclass(frozen=True)
class Finished:
    """A miniature that ran to its end with conda.

    Attributes:
        project: Its folder.
        launcher: Folder of an environment with Snakemake alone.
    """

    project: Path
    launcher: Path

    def snakemake(self, *arguments: str) -> str:
        """Run the lonely Snakemake; returns what it prints."""
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        environment |= {"HF_HUB_OFFLINE": "1", "PATH": _path(self.launcher)}
        command = ["snakemake", "--cores", "1", "--configfile", miniature.CONFIG, *arguments]
        outcome = subprocess.run(
            command, cwd=self.project, env=environment, capture_output=True, text=True, timeout=3000
        )
        output = outcome.stdout + outcome.stderr
        assert outcome.returncode == 0, output[-6000:]
        return output

    def prefix(self, name: str) -> Path:
        """Folder of an environment that conda made."""
        wanted = (environments.ENVS / f"{name}.yaml").read_bytes()
        made = self.project.glob(".snakemake/conda/*.yaml")
        (copy,) = [file for file in made if file.read_bytes() == wanted]
        return copy.with_suffix("")


def _path(launcher: Path) -> str:
    """The PATH with the launcher first and this test's own environment nowhere."""
    own = Path(sys.executable).parent
    kept = [folder for folder in os.environ["PATH"].split(":") if Path(folder) != own]
    return ":".join([str(launcher / "bin"), *kept])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The miniature with a benchmark, in three environments; each job logs its interpreter."""
    folder = tmp_path_factory.mktemp("conda")
    launcher = folder / "launcher"
    version = environments.requirements("requirements.txt")["snakemake"]
    subprocess.run([sys.executable, "-m", "venv", str(launcher)], check=True)
    pip = [str(launcher / "bin/pip"), "install", "--quiet", f"snakemake=={version}"]
    subprocess.run(pip, check=True)
    project = miniature.copy_project(folder / "project")
    miniature.make_inputs(project)
    miniature.edit(project, lambda config: config["evaluate"].update(BENCHMARK))
    job = project / "scripts/distill/runtime/job.py"
    old = '    logging.info("host'
    assert job.read_text().count(old) == 1
    shown = '    logging.info("python %s", sys.executable)\n'
    job.write_text(job.read_text().replace(old, shown + old))
    made = Finished(project, launcher)
    made.snakemake("--use-conda")
    return made


@pytest.mark.long
def test_the_miniature_runs_to_its_end_on_the_environments_interpreters(finished: Finished) -> None:
    for name in ("torch", "numpy", "pandas"):
        lacking = [str(finished.launcher / "bin/python"), "-c", f"import {name}"]
        assert subprocess.run(lacking, capture_output=True).returncode != 0
    results = finished.project / "results" / STUDY
    assert (results / "report.html").stat().st_size > 10_000
    table = pd.read_parquet(results / "runs.parquet")
    assert sorted(table["samples"]) == [0, 8, 8, 16, 32]
    assert table["benchmark_capitals"].notna().all()
    used: dict[str, set[str]] = {}
    for log in (finished.project / "logs").rglob("*.log"):
        (python,) = re.findall(r" python (\S+)$", log.read_text(), re.M)
        used.setdefault(log.relative_to(finished.project / "logs").parts[0], set()).add(python)
    rules = {"train_student": "model", "fit_laws": "analysis", "benchmark_student": "harness"}
    for rule, name in rules.items():
        assert used[rule] == {str(finished.prefix(name) / "bin/python")}, rule
    prefixes = {str(finished.prefix(name) / "bin/python") for name in environments.NAMES}
    assert set().union(*used.values()) == prefixes
    record = read_json(next(results.rglob("metrics.json")))
    pins = environments.dependencies("model")[1]
    for package in ("torch", "transformers", "pyarrow"):
        assert record["versions"][package].split("+")[0] == pins[package]


@pytest.mark.long
@pytest.mark.parametrize("name", environments.NAMES)
def test_an_environment_is_whole_without_the_launchers_packages(
    finished: Finished, name: str
) -> None:
    python = str(finished.prefix(name) / "bin/python")
    _, pins = environments.dependencies(name)
    files = [miniature.ROOT / f"scripts/{script}.py" for script in environments.scripts()[name]]
    ours, others = environments.imports(files)
    assert len(ours) > 10
    asked = json.dumps([[*sorted(others), *sorted(ours)], list(pins)])
    for command in ((*IMPORT, asked), ("-m", "pip", "check")):
        done = subprocess.run(
            [python, "-I", *command], cwd=finished.project, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        if command[-1] == asked:
            installed = json.loads(done.stdout.splitlines()[-1])
            assert {key: value.split("+")[0] for key, value in installed.items()} == pins


@pytest.mark.long
def test_conda_on_or_off_reruns_nothing(finished: Finished) -> None:
    """Also of results whose figures were drawn without it."""
    assert miniature.dry_run(finished.project) == {}
    assert "Nothing to be done" in finished.snakemake("--use-conda", "-n")
    with (finished.project / "scripts/distill/figures/figure.py").open("a") as stream:
        stream.write("\n_UNUSED = 1\n")
    assert miniature.dry_run(finished.project) == ENDS
    miniature.snakemake(finished.project, "--configfile", miniature.CONFIG)
    log = finished.project / f"logs/plot_figures/results/{STUDY}.log"
    assert f"python {sys.executable}" in log.read_text()
    assert "Nothing to be done" in finished.snakemake("--use-conda", "-n")
    assert miniature.dry_run(finished.project) == {}
