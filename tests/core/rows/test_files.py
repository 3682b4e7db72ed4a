"""Paths of data sources, and files that are not what their names say."""

import gzip
import re
from pathlib import Path

import pytest

import data_files
from distill.core.errors import UserError
from distill.core.rows.files import data_files as files_of
from distill.core.rows.reading import DataSet


def told(path: Path, **spec: str) -> str:
    with pytest.raises(UserError) as caught:
        list(DataSet({"path": str(path), "fields": data_files.FIELDS, **spec}).rows())
    return str(caught.value)


def test_paths_that_lead_nowhere_say_why(tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl.gz").write_bytes(b"")
    (tmp_path / "link.csv").symlink_to("/nowhere/x.csv")
    (tmp_path / "empty").mkdir()
    near = told(tmp_path / "qa.jsonl")
    assert near.endswith(f"qa.jsonl does not exist; did you mean {tmp_path}/qa.jsonl.gz?")
    assert told(tmp_path / "QA.JSONL.GZ").endswith(f"did you mean {tmp_path}/qa.jsonl.gz?")
    assert told(tmp_path / "other.csv") == f"the file {tmp_path}/other.csv does not exist"
    broken = told(tmp_path / "link.csv")
    assert broken.endswith("link.csv is a broken link to /nowhere/x.csv; correct or replace it")
    assert "no file matches" in told(tmp_path / "*.parquet")
    assert f"the folder {tmp_path}/empty holds no data file" in told(tmp_path / "empty")
    assert told(tmp_path / "qa.jsonl.gz" / "x.csv").endswith("x.csv does not exist")


def test_the_home_directory_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").touch()
    assert files_of("~/x.csv") == [tmp_path / "x.csv"]
    assert files_of("~/*.csv") == [tmp_path / "x.csv"]


def test_a_name_with_the_signs_of_a_pattern_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").touch()
    assert files_of(tmp_path / "a[1].csv") == [tmp_path / "a[1].csv"]


@pytest.mark.parametrize(
    ("names", "split", "wanted"),
    [
        (["b.csv", "a.csv", ".c.csv", "_d.csv", "e.md"], "train", ["a.csv", "b.csv"]),
        (["train-1.csv", "test-1.csv", "more.csv"], "train", ["train-1.csv"]),
        (["train-1.csv", "test-1.csv", "more.csv"], "test", ["test-1.csv"]),
        (["val.csv", "training.csv"], "validation", ["val.csv"]),
        (["a/dev.csv", "b/dev.csv", "a/eval.csv"], "dev", ["a/dev.csv", "b/dev.csv"]),
        (["test/train.csv"], "train", ["test/train.csv"]),
        (["contested.csv", "trained.csv"], "train", ["contested.csv", "trained.csv"]),
    ],
)
def test_a_folder_gives_the_files_of_a_split(
    tmp_path: Path, names: list[str], split: str, wanted: list[str]
) -> None:
    for name in names:
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "x" / name).touch()
    assert [str(file.relative_to(tmp_path / "x")) for file in files_of(tmp_path / "x", split)] == (
        wanted
    )


def test_a_folder_without_the_split_or_of_several_formats_is_refused(tmp_path: Path) -> None:
    for name in ("test-1.csv", "valid-1.csv"):
        (tmp_path / name).touch()
    assert "has no split 'train' but test, validation; set the source's split" in told(tmp_path)
    (tmp_path / "train.csv").touch()
    (tmp_path / "train.json").touch()
    assert "several formats (1 .csv and 1 .json); name those of one, such as" in told(tmp_path)
    data_files.FILES["saved_splits"](tmp_path)
    assert "has no split 'dev' but train, test; set" in told(tmp_path / "x", split="dev")


def packed(data: bytes) -> bytes:
    """Compressed bytes, which name a test: equal at every time."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.docx", b"x", "must end in csv, tsv, json, jsonl, ndjson, parquet, arrow, xlsx or txt"),
        ("a", b"x", "must end in csv"),
        ("a.csv", packed(data_files.CSV.encode())[:-9], "is damaged .*; copy or compress"),
        ("a.csv.gz", packed(b"prompt,response\na,b\n")[:-1] + b"\1", "is damaged"),
        ("a.csv.bz2", b"BZh91AY&SYxxxx", "is damaged"),
        ("a.csv.xz", b"\xfd7zXZ\0xxxxxxxx", "is damaged"),
        ("a.csv.zst", data_files.ZSTD[:-9], "is damaged"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfdxxxxxxxxxxxxx", "is damaged"),
        ("a.parquet.gz", packed(b"PAR1xxxx"), "is compressed as a whole; decompress it"),
        ("a.zip", b"PK\x03\x04xxxxxxxx", "is an archive; unpack it and name the file inside"),
        ("a.xlsx", b"PK\x03\x04", "is not a readable Excel workbook .*; save it again, or as CSV"),
        ("a.arrow", b"ARROW1xxxxxxxx", "is not a readable Arrow file"),
        ("a.arrow", b"xxxxxxxxxxxxxxxx", "is not a readable Arrow file"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(data)
    text = told(tmp_path / name)
    assert str(tmp_path / name) in text
    assert "Windows" not in text
    assert re.search(sentence, text), text


def test_a_plain_name_is_enough_where_the_content_tells(tmp_path: Path) -> None:
    path, fields = data_files.FILES["parquet"](tmp_path)
    (tmp_path / path).rename(tmp_path / "x")
    assert len(list(DataSet({"path": str(tmp_path / "x"), "fields": fields}).rows())) == 30
