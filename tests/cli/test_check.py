"""`distill check` says what a run says before its first job."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import miniature
import program
from distill.cli.main import main


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data of the miniatures, below one folder."""
    folder = tmp_path_factory.mktemp("inputs")
    miniature.make_inputs(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, inputs: Path) -> Path:
    """A project with a config that is right."""
    folder = tmp_path / "my project ü"
    folder.mkdir()
    for name in ("models", "data"):
        (folder / name).symlink_to(inputs / name)
    (folder / "Snakefile").touch()
    (folder / "studies/miniature").mkdir(parents=True)
    text = (miniature.ROOT / miniature.CONFIG).read_text()
    (folder / miniature.CONFIG).write_text(text)
    return folder


@pytest.mark.slow
def test_a_right_config_is_described(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["check", miniature.CONFIG]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{miniature.CONFIG}: no mistakes. Study gpt2_alpaca_miniature, task in")
    for line in ("5 runs, 0 evaluated already", "0, 8, 16, 32", "gpt2-xl", "4 training, 5 eval"):
        assert line in out
    assert not (project / "results").exists()
    assert not list(project.glob(".probe*"))


@pytest.mark.slow
def test_json_says_the_same_from_anywhere(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records: list[dict[str, Any]] = []
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "own.yaml").write_text((project / miniature.CONFIG).read_text())
    for folder, words in (
        (project, [miniature.CONFIG]),
        (other, [str(project / miniature.CONFIG)]),
        (other, ["own.yaml", "-d", str(project)]),
    ):
        monkeypatch.chdir(folder)
        assert main(["check", *words, "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        records.append(json.loads(out))
        assert Path.cwd() == folder
    configs = [record.pop("config") for record in records]
    assert configs == [miniature.CONFIG, str(project / miniature.CONFIG), str(other / "own.yaml")]
    assert records[0] == records[1] == records[2]
    assert records[0] == {
        "schema": 1, "directory": str(project), "study": "gpt2_alpaca_miniature",
        "task": "instruction", "results": "results/gpt2_alpaca_miniature", "runs": 5,
        "evaluated": 0, "students": ["gpt2"], "teachers": ["gpt2-xl"], "methods": ["sft"],
        "samples": [0, 8, 16, 32],
        "jobs": {"teacher text": 3, "search": 0, "training": 4, "evaluation": 5, "benchmark": 0},
        "left_out": {},
        "limits": records[0]["limits"],
    }  # fmt: skip
    data, students = records[0]["limits"]
    assert data.startswith("no law over data: there are 3 training-set sizes of a student and")
    assert students.startswith("no law over size: there is 1 student of a method")


def test_rows_left_out_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    rows = json.loads((project / "data/alpaca.json").read_text())
    (project / "data/blank.json").write_text(json.dumps([*rows, {"instruction": " "}]))

    def change(config: dict[str, Any]) -> None:
        config["sources"]["alpaca"]["path"] = "data/blank.json"

    miniature.edit(project, change)
    assert main(["check", miniature.CONFIG]) == 0
    wanted = f"  left out  1 without instruction of {len(rows) + 1:,} rows of alpaca"
    assert wanted in capsys.readouterr().out.splitlines()


MISTAKES: dict[str, Any] = {
    "unknown key": (lambda c: c.update(runz=[]), "'runz' is not a known key; did you mean runs?"),
    "no model": (
        lambda c: c["sources"]["gpt2-xl"].update(path="models/none"),
        "models/none is not a model directory",
    ),
    "empty cell": (
        lambda c: c["sources"]["alpaca"]["fields"].update(prompt="none"),
        "no column 'none'",
    ),
    "too few rows": (lambda c: c["prompts"].update(pool=9000), "rows but data/alpaca.json has"),
    "reference": (
        lambda c: c["evaluate"]["reference"].update(passages=900),
        "evaluate.reference.passages is 900, but",
    ),
    "task folder": (
        lambda c: c["evaluate"].update(benchmarks={"capitals": {"include": "none"}}),
        "the folder none is missing",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_sentences_with_exit_code_2(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, sentence = MISTAKES[name]
    miniature.edit(project, change)
    monkeypatch.chdir(project)
    assert main(["check", miniature.CONFIG]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert main(["check", miniature.CONFIG, "--json"]) == 2
    out, again = capsys.readouterr()
    assert again == err
    error = err.removeprefix("Error: ").rstrip("\n")
    assert json.loads(out) == {"schema": 1, "error": error, "exit_code": 2}


def test_a_result_of_other_settings_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from distill.config.checks.study import parse_study
    from distill.plan.study import Plan

    monkeypatch.chdir(project)
    plan = Plan(parse_study(yaml.safe_load(Path(miniature.CONFIG).read_text())))
    path, _ = next(iter(plan.outputs.stored_specs()))
    Path(path).parent.mkdir(parents=True)
    Path(path).write_text('{"spec": {}}')
    assert main(["check", miniature.CONFIG]) == 2
    assert "has other settings than the study" in capsys.readouterr().err


def test_an_image_is_asked_for_on_request(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    both = ["--deployment", "conda", "--deployment", "apptainer"]
    monkeypatch.setattr("distill.cli.check.project", lambda: project)
    assert main(["check", miniature.CONFIG, *both]) == 2
    assert "container.sif does not exist; build it" in capsys.readouterr().err
    assert main(["check", miniature.CONFIG, *both[2:]]) == 2
    assert "use --software-deployment-method conda apptainer" in capsys.readouterr().err
    assert main(["check", miniature.CONFIG, *both[:2]]) == 0


@pytest.mark.slow
def test_missing_packages_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    assert main(["check", miniature.CONFIG]) == 2
    assert "torch cannot be imported" in capsys.readouterr().err
    assert main(["check", miniature.CONFIG, "--deployment", "conda"]) == 0


def test_a_table_of_ones_own_is_checked_with_its_rows(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    Path("own.csv").write_text("n,d,l\n1000,20000,3.1\n2000,20000,2.9\n")
    columns = {"params": "n", "tokens": "d", "loss": "l"}
    config = {"study": "mine", "runs_table": {"path": "own.csv", "columns": columns}}
    Path("own.yaml").write_text(yaml.safe_dump(config))
    assert main(["check", "own.yaml", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["task"], record["table"], record["study"]) == ("table", "own.csv", "mine")
    assert main(["check", "own.yaml"]) == 0
    assert "table     own.csv, 2 runs" in capsys.readouterr().out
    Path("own.csv").write_text("n,d,l\n1000,20000,3.1\n2000,20000,2.9\n2000,20000,2.9\n")
    assert main(["check", "own.yaml"]) == 0
    assert "1 exact duplicate (row 3) counts once" in capsys.readouterr().out
    Path("own.csv").write_text("n,d,l\n1000,20000,none\n")
    assert main(["check", "own.yaml"]) == 2
    assert "l" in capsys.readouterr().err
    for command in ("plan", "unused"):
        assert main([command, "own.yaml"]) == 2
        assert "own.yaml is a study of your own table" in capsys.readouterr().err


@pytest.mark.workflow
def test_the_workflow_says_the_same(tmp_path: Path, inputs: Path) -> None:
    """The same sentences, whether Snakemake asks or the command."""
    project = miniature.copy_project(tmp_path / "project")
    for name in ("models", "data"):
        (project / name).symlink_to(inputs / name)
    text = (project / miniature.CONFIG).read_text()
    for change, _ in MISTAKES.values():
        (project / miniature.CONFIG).write_text(text)
        miniature.edit(project, change)
        printed = miniature.snakemake(project, "-n", "--configfile", miniature.CONFIG, ok=False)
        checked = program.distill("check", miniature.CONFIG, cwd=project)
        assert checked.returncode == 2
        assert checked.stderr.startswith("Error: ")
        assert checked.stderr in printed
