"""What is checked before the first job: rows of local data sets, packages, an image, copies."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import teaching
import tiny
from distill.config.checks.study import parse_study
from distill.core.checksums import list_files
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.core.parquet import write_rows
from distill.plan.study import Plan
from distill.workflow.snakemake_state import check_times
from distill.workflow.startup import (
    check_array_gpus,
    check_array_limits,
    check_cells,
    check_changed_files,
    check_image,
    check_packages,
    check_table_reader,
)

HEAD = "Frage,Antwort\n"


def check(tmp_path: Path, text: str, name: str = "own.csv", answers: bool = True) -> None:
    """Check a study on a file whose answers are the teacher's text, or only for comparison."""
    file = tmp_path / name
    file.write_text(text)
    config: dict[str, Any] = tiny.study()
    (tmp_path / "prose.csv").write_text("text\nA boat.\n")
    config["sources"]["prose"]["path"] = str(tmp_path / "prose.csv")
    fields = {"prompt": "Frage", "response": "Antwort"}
    config["sources"]["faq"] = {"path": str(file), "fields": fields}
    config["prompts"] = {"source": "faq", "template": "{prompt}", "pool": 64, "part_size": 16}
    config["teachers"]["authors"] = {"text": "faq"} if answers else {"source": "base"}
    check_cells(Plan(parse_study(config)))


def test_rows_that_are_whole_pass(tmp_path: Path) -> None:
    check(tmp_path, HEAD + '"Was, bitte?","Ein ""Boot""\nund ein Meer"\nWo?,Dort.\n')
    check(tmp_path, HEAD + "Was?,\n", answers=False)
    check(tmp_path, HEAD + "Was?,Das.\nWo?,\n")  # half of the rows may lack an answer
    check(tmp_path, "Frage;Antwort\nWas, bitte?;Das.\n")
    check(tmp_path, json.dumps([{"Frage": "Was?", "Antwort": "Das.", "n": 1}]), name="own.json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            HEAD + "Was?,Das.\nWo?, \nWer?,\n",
            r"own.csv: 2 of 3 rows would be left out, .* 2 without Antwort \(.*, rows 2, 3\)",
        ),
        (HEAD + '"",Das.\n', "own.csv: 1 of 1 rows would be left out, all of them: 1 without Fra"),
        ("Frage,Text\nWas?,Das.\n", "own.csv: no column 'Antwort'; there are Frage, Text"),
        (HEAD + "Was?\n", r"own.csv, row 1 \(line 2\): 1 cells but 2 columns"),
        (HEAD + "Was, bitte?,Das.\n", r"own.csv, row 1 \(line 2\): more cells than columns"),
    ],
)
def test_a_row_that_is_not_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check(tmp_path, text)


def test_other_data_sets_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own.json, row 2: Frage is not text"):
        check(tmp_path, '[{"Frage": "a", "Antwort": "b"}, {"Frage": 1.5}]', name="own.json")


def test_limits_that_would_leave_jobs_out_of_an_array_are_told() -> None:
    check_array_limits("generate_text", 10_000, 10_000)
    check_array_limits(None, 50, 4)
    check_array_limits("", 50, 4)
    with pytest.raises(UserError, match=r"^jobs is limited to 50, .* set it to 10000, or turn"):
        check_array_limits("generate_text", 50, 10_000)
    with pytest.raises(UserError, match=r"^resources device is limited to 4, "):
        check_array_limits("generate_text", None, 4)


def test_an_array_whose_jobs_ask_for_different_numbers_of_gpus_is_told() -> None:
    config: dict[str, Any] = tiny.study()
    teacher = config["teachers"]["big"]
    config["teachers"]["wide"] = teacher | {"device_map": "auto", "gpus": 2}
    plan = Plan(parse_study(config))
    check_array_gpus(None, plan)
    check_array_gpus("", plan)
    check_array_gpus("generate_text", Plan(parse_study(tiny.study())))
    with pytest.raises(UserError, match=r"^config: teachers: .*calm 1, wide 2.*turn arrays off"):
        check_array_gpus("generate_text", plan)


def test_missing_packages_are_told_before_the_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    check_packages(own_table=False)
    check_packages(own_table=True)
    check_table_reader()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    check_packages(own_table=True)
    with pytest.raises(UserError, match=r"^torch cannot be imported .* or add --use-conda"):
        check_packages(own_table=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="run pip install pandas pyarrow"):
        check_table_reader()


def test_an_image_is_asked_for_only_where_jobs_run_in_one(tmp_path: Path) -> None:
    image = tmp_path / "container.sif"
    check_image(str(image), ["conda"])
    with pytest.raises(UserError, match=r"container.sif does not exist; build it with apptainer"):
        check_image(str(image), ["conda", "apptainer"])
    image.touch()
    check_image(str(image), ["conda", "apptainer"])
    with pytest.raises(UserError, match="use --software-deployment-method conda apptainer"):
        check_image(str(image), ["apptainer"])


def remember(name: str) -> None:
    """What Snakemake leaves of a file that it made."""
    file = Path(".snakemake/metadata", base64.urlsafe_b64encode(name.encode()).decode())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")


def test_a_copied_result_is_not_made_again_for_its_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.parquet").touch()
    job = (["rows.parquet"], {"own.csv"})
    with pytest.raises(SystemExit, match=r"rows.parquet is older than own.csv.*run once with --to"):
        check_times([([], set()), job])
    check_times([(["rows.parquet"], set()), (["none.parquet"], {"own.csv"})])
    remember("own.csv")  # made here since: what follows from it is to be made anew
    check_times([job])
    Path(".snakemake/metadata").rename("gone")
    remember("rows.parquet")  # made here: Snakemake has seen that own.csv's content differs
    check_times([job])


def test_a_damaged_file_is_told_before_what_was_made_from_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = teaching.plan({"ce": 1.0})
    run = next(run for run in plan.runs if run.samples)
    shard, model = Path(plan.shards.file(run)), Path(plan.training.file(run, "model.safetensors"))
    metrics = model.with_name("metrics.json")
    check_changed_files(plan)  # nothing is there yet
    write_rows(shard, [{"a": 1}], pa.schema({"a": pa.int64()}))
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    write_json(model.with_name("training.json"), {"files": list_files(model.parent)})
    write_json(metrics, {})
    whole = shard.read_bytes()
    for age, path in enumerate((metrics, model, shard)):
        os.utime(path, (1e9 - age, 1e9 - age))

    def touch(path: Path, content: bytes, time: float) -> None:
        path.write_bytes(content)
        os.utime(path, (time, time))

    touch(shard, whole[:-9], 1e9 - 9)  # older: no job would begin with it
    check_changed_files(plan)
    touch(shard, whole[:-9], 1e9 + 9)
    with pytest.raises(UserError, match=rf"{shard} is not a readable Parquet file .*; delete it"):
        check_changed_files(plan)
    touch(shard, whole, 1e9 + 9)
    check_changed_files(plan)
    touch(model, b"weight", 1e9 + 10)
    with pytest.raises(UserError, match=rf"{model} is not as it was written .*; delete {model} a"):
        check_changed_files(plan)
    touch(model, b"weights", 1e9 + 10)
    check_changed_files(plan)
