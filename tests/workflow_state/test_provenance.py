"""The record of where results come from, and the check of results against it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import program
from distill.core.errors import UserError
from distill.core.files import read_json, write_json
from distill.runtime.environment import git_revision
from distill.workflow.provenance import FILE, Verdict, describe, verify

SPEC = {"config": {"study": "small"}, "runs": [{"student": "s", "seed": 3}]}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of two students, with their record, made in a project as the workflow makes them."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project / _make_results(Path())


def _make_results(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / "small"
    model, data = tmp_path / "models" / "big", tmp_path / "data" / "rows.parquet"
    for path, content in (
        (folder / "report.html", b"page"),
        (folder / "figures/a.svg", b"<svg/>"),
        (data, b"rows"),
        (model / "model.safetensors", b"big"),
        (folder / "students/s/n8/responses.jsonl", b"{}"),
        (folder / "students/s/n8/tensorboard/events", b"logged"),
        (folder / "students/s/n8/model.safetensors", b"eight"),
        (folder / "students/s/n16/model.safetensors", b"sixteen"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    listed = [{"name": "model.safetensors", "sha256": sha(b"big")}]
    write_json(model / "manifest.json", {"files": listed})
    records = []
    for name, weights, cpu in (("n8", b"eight", "one"), ("n16", b"sixteen", "two")):
        record: dict[str, Any] = {"git": None, "versions": {"torch": "2"}, "hardware": {"cpu": cpu}}
        record["model"] = {"sha256": {"model.safetensors": sha(weights)}}
        records.append(folder / "students/s" / name / "metrics.json")
        write_json(records[-1], record)
    outputs = [folder / "report.html", folder / "figures/a.svg"]
    made = describe(folder, SPEC, outputs, records, [model / "manifest.json"], [data])
    write_json(folder / FILE, made)
    return folder


@pytest.mark.slow
def test_the_record_says_what_went_in_and_what_came_out(results: Path) -> None:
    record = read_json(results / FILE)
    assert record["config"] == {"study": "small"}
    assert record["runs"] == [{"student": "s", "seed": 3}]
    assert {Path(path).name: digest for path, digest in record["inputs"].items()} == {
        "rows.parquet": sha(b"rows"), "model.safetensors": sha(b"big"),
    }  # fmt: skip
    assert record["outputs"]["students/s/n16/model.safetensors"] == sha(b"sixteen")
    assert record["outputs"]["report.html"] == sha(b"page")
    assert set(record["outputs"]) == {
        "report.html", "figures/a.svg", "students/s/n8/responses.jsonl",
        *(f"students/s/{n}/{file}" for n in ("n8", "n16")
          for file in ("metrics.json", "model.safetensors")),
    }  # fmt: skip
    assert record["made_with"] == {
        "git": [None], "versions": [{"torch": "2"}], "hardware": [{"cpu": "one"}, {"cpu": "two"}],
    }  # fmt: skip
    assert record["versions"]["python"] == sys.version.split()[0]
    assert set(record["git"]) == {"commit", "dirty"}
    assert record["packages"]["pyarrow"] == record["versions"]["pyarrow"]
    assert len(record["packages"]) > 50
    assert record["machine"]["cpus"] == os.cpu_count()


@pytest.mark.slow
def test_results_copied_elsewhere_are_as_written(results: Path, tmp_path: Path) -> None:
    assert verify(results) == Verdict(7, 2, [], [])
    moved = shutil.copytree(results, tmp_path / "elsewhere")
    shutil.rmtree(results)
    assert verify(moved) == Verdict(7, 0, [], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "report.html", "students/s/n8/metrics.json", "students/s/n8/model.safetensors",
        "students/s/n8/responses.jsonl",
    ],
)  # fmt: skip
def test_what_was_altered_or_lost_is_named(results: Path, name: str) -> None:
    content = (results / name).read_bytes()
    (results / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert verify(results).wrong == [f"{name}: differs from what the study wrote"]
    (results / name).write_bytes(content[:-1])
    assert verify(results).wrong == [f"{name}: differs from what the study wrote"]
    (results / name).unlink()
    assert verify(results).wrong == [f"{name}: is missing"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data/rows.parquet", "models/big/model.safetensors"])
def test_models_and_data_are_checked_where_they_are_at_hand(results: Path, name: str) -> None:
    Path(name).write_bytes(b"other")
    assert verify(results) == Verdict(7, 2, [f"{name}: differs from what the study read"], [])
    Path(name).unlink()
    assert verify(results) == Verdict(7, 1, [], [])


@pytest.mark.slow
def test_what_the_record_does_not_name_is_told(results: Path) -> None:
    (results / "students/s/n8/notes.txt").write_text("mine")
    assert verify(results).further == ["students/s/n8/notes.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../secret", "/etc/hostname"])
def test_a_record_cannot_point_outside(results: Path, name: str) -> None:
    record = read_json(results / FILE)
    (results.parent / "secret").write_text("s")
    write_json(results / FILE, record | {"outputs": {name: sha(b"s")}})
    assert verify(results).wrong == [f"{name}: is outside the folder of results"]


@pytest.mark.slow
def test_results_whose_folder_is_a_link_are_as_written(results: Path, tmp_path: Path) -> None:
    (results / "students").rename(tmp_path / "large disk")
    (results / "students").symlink_to(tmp_path / "large disk")
    assert verify(results).wrong == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "has no provenance.json"), ("{}", "lists no outputs"), ("[]", "lists no outputs"),
        ("{", "provenance.json"),
    ],
)  # fmt: skip
def test_a_lost_or_damaged_record_is_one_sentence(
    results: Path, content: str | None, sentence: str
) -> None:
    (results / FILE).unlink()
    if content is not None:
        (results / FILE).write_text(content)
    with pytest.raises(UserError, match=sentence):
        verify(results)


@pytest.mark.slow
def test_the_program_says_how_many_and_fails_where_something_differs(results: Path) -> None:
    def run(*folders: Path) -> tuple[int, str]:
        done = program.distill("verify", *folders)
        return done.returncode, done.stdout + done.stderr

    whole = f"{results}: 9 of 9 files are as written (7 results, 2 of models and data)\n"
    assert run(results) == (0, whole)
    (results / "report.html").write_text("other")
    assert run(results)[0] == 1
    code, printed = run(results, results.parent)
    assert code == 2
    assert "report.html: differs from what the study wrote" in printed
    assert "8 of 9 files are as written (7 results, 2" in printed
    assert f"Error: {results.parent} has no provenance.json" in printed
    assert json.loads((results / FILE).read_text())["schema"] == 1


def test_the_revision_says_whether_the_code_was_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert git_revision(tmp_path) is None
    for name in ("Snakefile", "rules/a.smk", "scripts/a.py", "envs/a.yaml", "report/a.rst", "b.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    clean = {"commit": git("rev-parse", "HEAD"), "dirty": False}
    for name in ("my_study.yaml", "b.md"):  # a config is in the record itself
        (tmp_path / name).write_text("other")
    assert git_revision(tmp_path) == clean
    (tmp_path / "scripts/new_loss.py").write_text("1")
    assert git_revision(tmp_path) == clean | {"dirty": True}
    (tmp_path / "scripts/new_loss.py").unlink()
    (tmp_path / "rules/a.smk").write_text("b")
    assert git_revision(tmp_path) == clean | {"dirty": True}
