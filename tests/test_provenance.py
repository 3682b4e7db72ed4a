"""The record of where results come from, and the check of results against it."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.files import UserError, read_json, write_json
from distill.provenance import FILE, changed_outputs, describe

SCRIPT = Path(__file__).parent.parent / "scripts" / "verify_results.py"
SPEC = {"config": {"study": "small"}, "runs": [{"student": "s", "seed": 3}]}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two students, with their record."""
    folder = tmp_path / "results" / "small"
    model, data = tmp_path / "models" / "big", tmp_path / "data" / "rows.parquet"
    for path, content in (
        (folder / "report.html", b"page"),
        (folder / "figures/a.svg", b"<svg/>"),
        (data, b"rows"),
        (folder / "students/s/n8/model.safetensors", b"eight"),
        (folder / "students/s/n16/model.safetensors", b"sixteen"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    write_json(model / "manifest.json", {"files": [{"name": "model.safetensors", "sha256": "ab"}]})
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


def test_the_record_says_what_went_in_and_what_came_out(results: Path) -> None:
    record = read_json(results / FILE)
    assert record["config"] == {"study": "small"}
    assert record["runs"] == [{"student": "s", "seed": 3}]
    assert {Path(path).name: digest for path, digest in record["inputs"].items()} == {
        "rows.parquet": sha(b"rows"), "model.safetensors": "ab",
    }  # fmt: skip
    assert record["outputs"]["students/s/n16/model.safetensors"] == sha(b"sixteen")
    assert record["outputs"]["report.html"] == sha(b"page")
    assert set(record["outputs"]) == {
        "report.html", "figures/a.svg",
        *(f"students/s/{n}/{file}" for n in ("n8", "n16")
          for file in ("metrics.json", "model.safetensors")),
    }  # fmt: skip
    assert record["made_with"] == {
        "git": [None], "versions": [{"torch": "2"}], "hardware": [{"cpu": "one"}, {"cpu": "two"}],
    }  # fmt: skip
    assert record["versions"]["python"] == sys.version.split()[0]
    assert set(record["git"]) == {"commit", "dirty"}


def test_results_copied_elsewhere_are_as_written(results: Path, tmp_path: Path) -> None:
    assert changed_outputs(results) == (6, [])
    moved = shutil.copytree(results, tmp_path / "elsewhere")
    shutil.rmtree(results)
    assert changed_outputs(moved) == (6, [])


@pytest.mark.parametrize(
    "name", ["report.html", "students/s/n8/metrics.json", "students/s/n8/model.safetensors"]
)
def test_what_was_altered_or_lost_is_named(results: Path, name: str) -> None:
    content = (results / name).read_bytes()
    (results / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert changed_outputs(results) == (6, [f"{name}: is not what the study wrote"])
    (results / name).write_bytes(content[:-1])
    assert changed_outputs(results) == (6, [f"{name}: is not what the study wrote"])
    (results / name).unlink()
    assert changed_outputs(results) == (6, [f"{name}: is missing"])


def test_a_record_cannot_point_outside(results: Path) -> None:
    record = read_json(results / FILE)
    outside = results.parent / "secret"
    outside.write_text("s")
    write_json(results / FILE, record | {"outputs": {"../secret": sha(b"s")}})
    assert changed_outputs(results)[1] == ["../secret: lies outside the folder of results"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "holds no provenance.json"), ("{}", "names no outputs"), ("{", "provenance.json")],
)
def test_a_lost_or_damaged_record_is_one_sentence(
    results: Path, content: str | None, sentence: str
) -> None:
    (results / FILE).unlink()
    if content is not None:
        (results / FILE).write_text(content)
    with pytest.raises(UserError, match=sentence):
        changed_outputs(results)


def test_the_program_says_how_many_and_fails_where_something_differs(results: Path) -> None:
    def run(*folders: Path) -> tuple[int, str]:
        command = [sys.executable, str(SCRIPT), *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert run(results) == (0, f"{results}: 6 of 6 files are as written\n")
    (results / "report.html").write_text("other")
    code, printed = run(results, results.parent)
    assert code == 1
    assert "report.html: is not what the study wrote" in printed
    assert "5 of 6 files are as written" in printed
    assert f"Error: {results.parent} holds no provenance.json" in printed
    assert json.loads((results / FILE).read_text())["schema"] == 1
