"""Hostile configs, files and names through the real command: one sentence, and nothing runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import miniature
from distill.config.checks.study import parse_study
from distill.core.parquet import read_rows
from distill.plan.study import Plan

pytestmark = pytest.mark.workflow
ODD = "da ta/ü 東京 'x' \"y\" $(touch owned);`touch owned` &|*[a]?#%20 -rf.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its inputs."""
    made = miniature.copy_project(tmp_path_factory.mktemp("hostile") / "project")
    miniature.make_inputs(made)
    return made


def refused(project: Path, *arguments: str) -> str:
    """The sentences with which a dry run ends."""
    output = miniature.snakemake(project, "-n", *arguments, ok=False)
    assert "Traceback" not in output
    assert "Building DAG" not in output
    sentences = output[output.index("Error: ") :].strip()
    assert sentences.replace("\n", "").isprintable()
    return sentences


def written(project: Path, config: Any) -> list[str]:
    """The arguments that name a config."""
    (project / "bad.json").write_text(json.dumps(config))
    return ["--configfile", "bad.json"]


def test_bad_values_are_told_with_their_keys(project: Path) -> None:
    config: dict[str, Any] = dict(miniature.read_config(project))
    config["trian"] = {}
    config["train"] = {"epochs": True, "batch_size": "many"}
    told = refused(project, *written(project, config))
    assert told.startswith("Error: config: train.epochs: true and false")
    assert len(told.splitlines()) == 3
    config["teachers"]["\x1b[31m\u202eevil"] = {"source": float("nan")}
    told = refused(project, *written(project, config))
    assert told == (
        "Error: config: teachers: the key '\\x1b[31m\\u202eevil' contains the control character "
        "U+001B; remove it"
    )


def test_the_default_config_is_read_with_care(project: Path) -> None:
    text = (project / "config.yaml").read_text()
    tabbed = text.replace("  source: magpie", "\tsource: magpie").encode()
    for bad, sentence in (
        (tabbed, "is not valid YAML: while scanning"),
        (text.encode() + "# ü\n".encode("cp1252"), f"line {len(text.splitlines()) + 1}: not UTF"),
    ):
        (project / "config.yaml").write_bytes(bad)
        told = refused(project)
        assert told.startswith(f"Error: {project}/config.yaml")
        assert sentence in told
        assert len(told.splitlines()) == 1
    (project / "config.yaml").write_text(text)


def test_a_row_that_is_odd_is_told(project: Path) -> None:
    config: dict[str, Any] = dict(miniature.read_config(project))
    config["sources"]["alpaca"]["path"] = "data/odd.jsonl"
    (project / "data/odd.jsonl").write_text('{"\\u001b[31mred": "a"}\n')
    told = refused(project, *written(project, config))
    assert told == ("Error: data/odd.jsonl: no column 'instruction'; there are '\\x1b[31mred'")
    (project / "runs.csv").write_text("N,D,L\n1,2,3\n1,2\n")
    columns = {"params": "N", "tokens": "D", "loss": "L"}
    table = {"study": "mine", "runs_table": {"path": "runs.csv", "columns": columns}}
    assert "runs.csv, row 2 (line 3): 2 cells but 3" in refused(project, *written(project, table))


def test_a_file_of_any_name_is_read(project: Path) -> None:
    target = project / ODD
    target.parent.mkdir()
    target.write_bytes((project / "data/alpaca.json").read_bytes())
    config: dict[str, Any] = dict(miniature.read_config(project))
    config["sources"]["alpaca"]["path"] = ODD
    (project / "odd.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))
    rows = Plan(parse_study(config)).sources.rows("alpaca")
    miniature.snakemake(project, "--configfile", "odd.yaml", "--", rows)
    assert len(read_rows(project / rows)) == len(miniature.alpaca_rows())
    assert not list(project.rglob("owned*"))
