"""Commands that write or delete: reference, container, unused; and verify's JSON."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import miniature
import program
from distill.cli.main import main
from distill.core.files import write_json


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the project with its docs, whose own library runs."""
    folder = miniature.copy_project(tmp_path / "clone")
    shutil.copytree(miniature.ROOT / "docs", folder / "docs")
    shutil.copy2(miniature.ROOT / "Makefile", folder)
    return folder


def run(clone: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    settings = {**os.environ, "PYTHONPATH": str(clone / "scripts"), **environment}
    done = program.distill(*words, cwd=clone.parent, env=settings)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_reference_writes_what_differs_and_says_so_before(clone: Path) -> None:
    assert run(clone, "reference", "--check") == (0, "all pages are current\n", "")
    page, schema = clone / "docs/reference/cli.md", clone / "docs/reference/config.schema.json"
    text = page.read_text()
    page.write_text("other")
    schema.unlink()
    sentence = "Error: docs/reference is not current (config.schema.json, cli.md); run distill ref"
    code, out, err = run(clone, "reference", "--check")
    assert (code, out) == (1, "")
    assert err.startswith(sentence)
    assert page.read_text() == "other"
    code, out, _ = run(clone, "reference", "--json")
    written = ["config.schema.json", "cli.md"]
    assert (code, json.loads(out)) == (0, {"schema": 1, "written": written})
    assert page.read_text() == text
    assert run(clone, "reference", "--check")[0] == 0


@pytest.mark.slow
def test_a_command_that_changes_its_options_changes_the_page(clone: Path) -> None:
    file = clone / "scripts/distill/cli/verify.py"
    changed = file.read_text().replace('summary="compare', 'summary="juxtapose')
    assert changed != file.read_text()
    file.write_text(changed)
    assert run(clone, "reference", "--check")[0] == 1
    assert run(clone, "reference") == (0, "docs/reference/cli.md written\n", "")
    assert "juxtapose" in (clone / "docs/reference/cli.md").read_text()


@pytest.mark.slow
def test_a_library_without_its_project_says_so(clone: Path) -> None:
    (clone / "Snakefile").unlink()
    for command in ("reference", "container"):
        code, out, err = run(clone, command)
        assert (code, out) == (2, "")
        assert err.startswith(f"Error: {clone} holds no Snakefile: distill works in a clone")
        assert err.count("\n") == 1


@pytest.mark.slow
def test_the_container_needs_conda(clone: Path) -> None:
    code, out, err = run(clone, "container", PATH="/nowhere")
    assert (code, out) == (2, "")
    assert err == (
        "Error: snakemake --containerize needs conda, which is not on the PATH; add it\n"
    )


def test_the_containers_definition_is_compared_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distill.cli.container.project", lambda: tmp_path)
    monkeypatch.setattr("distill.workflow.container.definition", lambda root: f"of {root.name}\n")
    file = tmp_path / "envs/container.def"
    assert main(["container", "--check"]) == 1
    assert "is not current; run distill container" in capsys.readouterr().err
    assert not file.exists()
    assert main(["container", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"]
    assert file.read_text() == f"of {tmp_path.name}\n"
    assert main(["container", "--check", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["written"]


def test_unused_work_is_listed_then_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy2(miniature.ROOT / miniature.CONFIG, "my study.yaml")
    left = Path("resources/models/of-nobody")
    left.mkdir(parents=True)
    (left / "weights").write_bytes(bytes(2**20))
    record: dict[str, Any] = {"schema": 1, "deleted": False, "total_mb": 1.0}
    record["unused"] = [{"path": str(left), "mb": 1.0}]
    assert main(["unused", "my study.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert left.is_dir()
    assert main(["unused", "my study.yaml", "--delete"]) == 0
    assert capsys.readouterr().out == f"       1.0 MB  {left}\n       1.0 MB  deleted in 1 place\n"
    assert not left.exists()
    assert main(["unused", "my study.yaml", "none.yaml", "--delete"]) == 2
    assert "none.yaml does not exist" in capsys.readouterr().err


def test_verify_reports_each_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "results" / "a"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("page")
    (folder / "notes.txt").write_text("mine")
    digest = "0" * 64
    write_json(folder / "provenance.json", {"outputs": {"report.html": digest}, "inputs": {}})
    assert main(["verify", str(folder), "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "schema": 1,
        "folders": [
            {
                "folder": str(folder), "outputs": 1, "inputs": 0,
                "wrong": ["report.html: differs from what the study wrote"],
                "not_in_record": ["notes.txt"],
            }
        ],
    }  # fmt: skip
    assert main(["verify", str(folder), str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "0 of 1 files are as written" in out
    assert err.startswith(f"Error: {tmp_path} has no provenance.json")
