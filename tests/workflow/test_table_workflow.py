"""The workflow on a table of one's own: laws, answers, figures and report without any model."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import miniature
from distill.core.files import read_json

pytestmark = pytest.mark.workflow
TRUTH = {"E": 1.8, "A": 480.0, "alpha": 0.35, "B": 2000.0, "beta": 0.37}
CONFIG = "mine.yaml"


def table(noise: float = 0.005) -> pd.DataFrame:
    """Chinchilla's law on six sizes, five amounts of data and two seeds, two methods."""
    rng = np.random.default_rng(1)
    rows = []
    for method, gain in (("kd", 0.9), ("sft", 1.0)):
        for size in 10.0 ** np.arange(6, 8.6, 0.5):
            for tokens in 10.0 ** np.arange(7, 9.1, 0.5):
                loss = TRUTH["E"] + TRUTH["A"] / size ** TRUTH["alpha"]
                loss += gain * TRUTH["B"] / tokens ** TRUTH["beta"]
                for seed in (0, 1):
                    noisy = loss * np.exp(rng.normal(scale=noise))
                    rows.append((size, tokens, noisy, method, seed))
    return pd.DataFrame(rows, columns=["N", "D", "val", "how", "again"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the study of the table has run."""
    project = miniature.copy_project(tmp_path_factory.mktemp("table") / "project")
    table().to_csv(project / "runs.csv", index=False)
    columns = {"params": "N", "tokens": "D", "loss": "val", "method": "how", "seed": "again"}
    config = {"study": "mine", "runs_table": {"path": "runs.csv", "columns": columns}}
    (project / CONFIG).write_text(yaml.safe_dump(config))
    miniature.snakemake(project, "--configfile", CONFIG)
    return project


def test_the_planted_law_comes_back(finished: Path) -> None:
    laws = read_json(finished / "results/mine/laws.json")["laws"]
    joint = [
        law for law in laws
        if law["best"] and law["target"] == "loss" and law["selected"]["student"] is None
    ]  # fmt: skip
    assert {law["selected"]["method"] for law in joint} == {"kd", "sft"}
    for law in joint:
        # The planted exponents are so near each other that the law with one for both may win.
        assert law["name"] in ("chinchilla", "tied")
        found = next(
            one["coefficients"]
            for one in laws
            if one["name"] == "chinchilla"
            and one["target"] == "loss"
            and one["selected"] == law["selected"]
        )
        for name in ("E", "alpha", "beta"):
            width = found[name]["high"] - found[name]["low"]
            assert abs(found[name]["value"] - TRUTH[name]) < width, (law["selected"], name)
        assert law["holdout"]["mean_relative_error"] < 0.02


def test_everything_is_made_and_no_model(finished: Path) -> None:
    results = finished / "results/mine"
    assert {"runs.csv", "answers.json", "report.html"} <= {path.name for path in results.iterdir()}
    drawn = {path.stem for path in (results / "figures").glob("*.png")}
    laws = {"law_curves", "size_curves", "judged", "rollouts", "exponents", "residuals"}
    assert drawn == {*laws, "pareto"}  # the table has no teacher
    assert not (finished / "resources").exists()
    answers = read_json(results / "answers.json")["answers"]
    assert {"advice", "predicted", "pareto"} <= {answer["key"] for answer in answers}
    assert {answer["status"] for answer in answers} <= {"answered", "cannot_tell", "not_applicable"}
    page = (results / "report.html").read_text()
    assert "scaling laws of a table" in page
    assert "Take a larger student" in page or "more data" in page


def test_an_edited_template_rewords_answers_and_report_alone(
    finished: Path, tmp_path: Path
) -> None:
    project = miniature.moved(finished, tmp_path / "moved")
    assert miniature.dry_run(project, CONFIG) == {}
    with (project / "report/answers/pareto.j2").open("a") as stream:
        stream.write("\n{# More. #}\n")
    assert miniature.dry_run(project, CONFIG) == {
        "answer_questions": 1, "write_report": 1, "write_provenance": 1,
    }  # fmt: skip


def _redraw(project: Path) -> None:
    """Change what three quick jobs depend on."""
    with (project / "scripts/distill/figures/figure.py").open("a") as stream:
        stream.write("\n_UNUSED = 1\n")


def test_a_clock_that_was_set_back_makes_nothing_again_and_again(
    finished: Path, tmp_path: Path
) -> None:
    project = miniature.moved(finished, tmp_path / "moved")
    for path in (project / "results").rglob("*"):
        later = path.stat().st_mtime + 7200
        os.utime(path, (later, later))
    _redraw(project)
    # Without checksums, as with files beyond a megabyte, times alone tell what is to be made again.
    plain = ("--configfile", CONFIG, "--max-checksum-file-size", "0")
    printed = miniature.snakemake(project, *plain)
    assert "The clock was set back: " in printed
    assert "rule plot_figures" in printed
    assert "rule fit_laws" not in printed
    assert miniature.dry_run(project, CONFIG, *plain[2:]) == {}


def test_of_two_runs_started_at_once_one_writes(finished: Path, tmp_path: Path) -> None:
    project = miniature.moved(finished, tmp_path / "moved")
    other = yaml.safe_load((project / CONFIG).read_text()) | {"study": "other"}
    (project / "other.yaml").write_text(yaml.safe_dump(other))
    _redraw(project)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", config],
            cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for config in (CONFIG, CONFIG, "other.yaml")
    ]  # fmt: skip
    printed = [run.communicate(timeout=600)[0] for run in started]
    codes = [run.returncode for run in started]
    assert sorted(codes) == [0, 1, 1], printed
    for code, text in zip(codes, printed, strict=True):
        assert ("another run of this workflow writes" in text) == (code != 0), text
        assert "Traceback" not in text
    miniature.snakemake(project, "--configfile", "other.yaml")
    miniature.snakemake(project, "--configfile", CONFIG)
    assert miniature.dry_run(project, CONFIG) == miniature.dry_run(project, "other.yaml") == {}


def test_another_table_is_seen_whatever_its_time(finished: Path, tmp_path: Path) -> None:
    project = miniature.moved(finished, tmp_path / "moved")
    table(noise=0.006).to_csv(project / "runs.csv", index=False)
    os.utime(project / "runs.csv", (1e9, 1e9))
    assert miniature.dry_run(project, CONFIG)["take_runs_table"] == 1
    os.utime(project / "runs.csv", (4e9, 4e9))
    printed = miniature.snakemake(project, "-n", "--configfile", CONFIG, ok=False)
    assert "runs_table.path: runs.csv is dated in the future" in printed
    assert "Traceback" not in printed


def test_only_a_changed_table_is_taken_again(finished: Path) -> None:
    assert miniature.dry_run(finished, CONFIG) == {}
    changed = table(noise=0.006)
    changed.to_csv(finished / "runs.csv", index=False)
    jobs = miniature.dry_run(finished, CONFIG)
    assert jobs == {
        "take_runs_table": 1, "fit_laws": 1, "answer_questions": 1, "plot_figures": 1,
        "write_report": 1, "write_provenance": 1,
    }  # fmt: skip


def test_a_mistake_is_told_before_any_job(finished: Path) -> None:
    config = yaml.safe_load((finished / CONFIG).read_text())
    config["runs_table"]["columns"]["loss"] = "loss"
    (finished / "wrong.yaml").write_text(yaml.safe_dump(config))
    printed = miniature.snakemake(finished, "-n", "--configfile", "wrong.yaml", ok=False)
    assert "runs_table.columns.loss: the table has no column 'loss'" in printed
    assert "Traceback" not in printed
