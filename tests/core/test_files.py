import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from distill.core.errors import UserError
from distill.core.files import read_json, replacing, write_json, write_text
from distill.core.parquet import read_metadata, read_rows, read_table, write_rows

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_holds_no_nan(tmp_path: Path, value: float) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"loss": 1.5, "name": "ü"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": [value]})
    assert read_json(path) == {"loss": 1.5, "name": "ü"}
    assert "ü" in path.read_text(encoding="utf-8")


def test_unreadable_files_give_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"{ \xff")
    for read in (read_json, read_table):
        with pytest.raises(UserError, match="is missing; run the workflow again"):
            read(tmp_path / "none")
        with pytest.raises(UserError, match=r"bad is not .*; delete it and run the workflow again"):
            read(tmp_path / "bad")


def test_rows_come_back_in_order_with_their_metadata(tmp_path: Path) -> None:
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    write_rows(one, [{"a": 1, "b": "x"}, {"a": 2, "b": None}], SCHEMA, spec={"n": [1, None]})
    write_rows(two, [{"a": 0, "b": ""}], SCHEMA, spec=None)
    assert [row["a"] for row in read_rows([two, one])] == [0, 1, 2]
    assert read_rows(one) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert read_metadata(one, "spec") == {"n": [1, None]}
    assert read_metadata(two, "spec") is None
    with pytest.raises(UserError, match="lacks the column c"):
        read_table(one, ["a", "c"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "shown", "traced"),
    [
        ("UserError('lower it')", "Error: lower it", False),
        ("KeyError('oops')", "Error: KeyError: 'oops' (traceback in", True),
    ],
)
def test_a_failing_job_says_one_sentence(
    tmp_path: Path, error: str, shown: str, traced: bool
) -> None:
    code = (
        "from types import SimpleNamespace\n"
        "from distill.runtime.job import job\n"
        "from distill.core.errors import UserError\n"
        "with job(SimpleNamespace(log=['logs/job.log'])):\n"
        f"    raise {error}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "scripts")}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    log = (tmp_path / "logs" / "job.log").read_text()
    assert ended.returncode == 1
    assert ended.stderr.strip().startswith(shown)
    assert len(ended.stderr.strip().splitlines()) == 1
    assert ("Traceback" in log) is traced
