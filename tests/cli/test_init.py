"""`distill init` writes a config that passes `distill check`."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from distill.cli.main import main
from distill.config.checks.study import parse_study
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan

WORDS = ("river", "mill", "bread", "oven", "poem", "gull", "boat", "sky", "map", "letter", "garden")


def question(number: int) -> str:
    return " ".join([str(number * 7919), *random.Random(number).sample(WORDS, 6)]) + "?"


ROWS = [{"question": question(number), "answer": "A boat."} for number in range(60)]
pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a study runs in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    return tmp_path


def write_csv(path: Path, rows: list[dict[str, str]] = ROWS) -> None:
    cells = [[f'"{value}"' for value in row.values()] for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *map(",".join, cells)]) + "\n")


def init(*words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    """Run `distill init`; what it reports, with what it printed under `printed`."""
    assert main(["init", *words, "--json"]) == code
    out, err = capsys.readouterr()
    record: dict[str, Any] = json.loads(out)
    return record | {"printed": err}


def test_a_csv_becomes_a_study_that_check_accepts(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(project / "my data.csv")
    assert main(["init", "--data", "my data.csv"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(
        "my_data.yaml written. Guessed from 60 rows of my data.csv: prompt is 'question', response "
        "is 'answer'.\n"
    )
    assert "distill check my_data.yaml; make study CONFIG=my_data.yaml" in out
    assert main(["check", "my_data.yaml"]) == 0
    out, _ = capsys.readouterr()
    assert "no mistakes. Study my_data, task instruction" in out
    text = (project / "my_data.yaml").read_text()
    assert "fields: {prompt: question, response: answer} # guessed" in text
    study = parse_study(yaml.safe_load(text))
    assert (study.rows.pool, study.rows.test) == (45, 15)  # every row is used
    assert study.runs[0].samples == [5, 11, 22, 45]
    assert study.sources["teacher"].wheel


def messages(row: dict[str, str]) -> dict[str, Any]:
    turns = (("user", "question"), ("assistant", "answer"))
    return {"messages": [{"role": role, "content": row[column]} for role, column in turns]}


def test_every_format_is_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    lines = "".join(json.dumps(messages(row)) + "\n" for row in ROWS)
    (project / "chats.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (project / "list.json").write_text(json.dumps({"data": ROWS}))
    cells = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    (project / "columns.json").write_text(json.dumps(cells))
    (project / "cells.tsv").write_text("".join("\t".join(row.values()) + "\n" for row in [
        {"question": "question", "answer": "answer"}, *ROWS]))  # fmt: skip
    (project / "lines.txt").write_text("".join(row["question"] + "\n" for row in ROWS))
    (project / "parts").mkdir()
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(ROWS[part::2]), project / f"parts/{part}.parquet")
    both = {"prompt": "question", "response": "answer"}
    for name, fields in (
        ("chats.jsonl.gz", {"prompt": "messages"}),
        ("list.json", both),
        ("columns.json", both),
        ("cells.tsv", both),
        ("lines.txt", {"prompt": "text"}),
        ("parts", both),
        ("parts/*.parquet", both),
    ):
        out = f"{name.replace('/', '_').replace('*', 'all')}.yaml"
        record = init("--data", name, "--out", out, capsys=capsys)
        assert (record["fields"], record["rows"]) == (fields, 60), name
        assert main(["check", out]) == 0, capsys.readouterr().err
        capsys.readouterr()


def test_rows_that_resemble_others_are_not_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(project / "twice.csv", [*ROWS, *ROWS[:40]])
    record = init("--data", "twice.csv", capsys=capsys)
    assert record["pool"] + record["test"] == 60
    assert record["notes"] == ["40 of 100 prompts resemble others (near_duplicate)"]
    config = yaml.safe_load((project / "twice.yaml").read_text())
    pool = Plan(parse_study(config)).pool
    assert isinstance(pool, PromptPool)
    assert pool.scarce  # its parts take any row that is left


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        ("id,score\n1,2\n", [], "no column of own.csv looks like prompts (there are id, score)"),
        ("prompt\nWhy?\n", [], "own.csv has 1 different prompts of at most"),
        ("prompt\nWhy?\nWhat?\n", ["--teacher", "none"], "there is no model folder none"),
        ("prompt\nWhy?\nWhat?\n", ["--out", "own.csv"], "own.csv exists; name another file"),
        ("prompt\nWhy?\nWhat?\n", ["--data", "owm.csv"], "did you mean own.csv?"),
    ],
)
def test_what_cannot_be_a_study_is_told(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str], sentence: str
) -> None:
    (project / "own.csv").write_text(text)
    record = init("--data", "own.csv", *words, capsys=capsys, code=2)
    assert sentence in record["error"]
    assert not (project / "own.yaml").exists()


def test_a_model_on_the_hub_has_its_commit(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(project / "my.csv")
    commit = "0123456789" * 4
    init("--data", "my.csv", "--teacher", f"owner/big@{commit}", capsys=capsys)
    config = yaml.safe_load((project / "my.yaml").read_text())
    assert config["sources"]["teacher"] == {"hub": "owner/big", "revision": commit}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    record = init(
        "--data", "my.csv", "--teacher", "owner/big", "--out", "b.yaml", capsys=capsys, code=2
    )
    assert "give it as owner/big@<40 hexadecimal digits>" in record["error"]


def save(folder: Path, chat: bool = True, vocabulary: int = 300) -> None:
    words = tiny.tokenizer(chat=chat, vocabulary=vocabulary)
    model = tiny.model("llama", len(words), num_hidden_layers=3, max_position_embeddings=512)
    tiny.save(folder, model, words)


def test_local_models_set_template_methods_and_lengths(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(project / "my.csv")
    save(project / "models/big")
    save(project / "models/same")
    save(project / "models/other", vocabulary=350)
    save(project / "models/plain", chat=False)
    configs = {}
    for name, words in {
        "cut": ["--teacher", "models/big"],
        "same": ["--teacher", "models/big", "--student", "models/same"],
        "other": ["--teacher", "models/big", "--student", "models/other"],
        "plain": ["--teacher", "models/plain"],
    }.items():
        init("--data", "my.csv", "--out", f"{name}.yaml", *words, capsys=capsys)
        assert main(["check", f"{name}.yaml"]) == 0, capsys.readouterr().err
        configs[name] = yaml.safe_load((project / f"{name}.yaml").read_text())
        capsys.readouterr()
    students = {name: config["students"]["student"] for name, config in configs.items()}
    assert students["cut"] == {"init": "cut", "source": "teacher", "layers": 1}
    assert configs["cut"]["train"]["max_length"] == 512
    assert students["same"] == students["other"] == {"init": "pretrained", "source": "student"}
    methods = {name: list(config["methods"]) for name, config in configs.items()}
    both = ["sft", "kd"]
    assert methods == {"cut": both, "same": both, "other": ["sft"], "plain": both}
    assert configs["plain"]["prompts"]["template"] == "alpaca"
    assert "template" not in configs["cut"]["prompts"]
