"""What comes from the hub is pinned to a commit, verified file by file, and carries no code."""

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fake_hub
import tiny
from distill.core.files import sha256_of
from distill.core.parquet import read_rows
from miniature import ROOT
from traps import Trap

TOKEN = "hf_planted0815"
FETCH = """
import json, sys
from types import SimpleNamespace
from distill.core.errors import UserError
from distill.runtime.job import job
from distill.data.fetch import fetch_data, fetch_model

specs, folder = json.loads(sys.argv[1]), sys.argv[2]
with job(SimpleNamespace(log=[folder + "/log.txt"])):
    for name, spec in specs.items():
        data = "fields" in spec
        out = f"{folder}/{name}/" + ("rows.parquet" if data else "manifest.json")
        try:
            (fetch_data if data else fetch_model)(spec, out)
        except UserError as error:
            print(json.dumps([name, str(error)]))
"""


@dataclass
class Fetched:
    """What came of each download: files below `folder`, or a sentence."""

    folder: Path
    sentences: dict[str, str]
    printed: str
    tokens: set[str]
    asked: list[str]
    model: Path


def _rows() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist([{"q": f"Say {number}"} for number in range(5)])
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    return sink.getvalue()


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    """Models and data of a hub on loopback, some altered on their way, some with code."""
    folder = tmp_path_factory.mktemp("downloads")
    trap = Trap(folder / "sprung")
    words = tiny.tokenizer()
    saved = tiny.save(folder / "model", tiny.model("llama", len(words)), words)
    model = {path.name: path.read_bytes() for path in saved.iterdir()}
    spoilt = model["model.safetensors"][:-1] + bytes([model["model.safetensors"][-1] ^ 1])
    code = {
        "pytorch_model.bin": trap.pickle(), "modeling_x.py": trap.code().encode(),
        "onnx/model.safetensors": b"x",
    }  # fmt: skip
    table, card = _rows(), b"---\n{}\n---\n"
    pickled = (
        b"---\nconfigs:\n- config_name: default\n  data_files: a.pkl\nbuilder_name: pandas\n---"
    )
    hub = {
        "models/o/whole": model | code,
        "models/o/altered": model,
        "datasets/o/whole": {"README.md": card, "data/train-0.parquet": table, "other.py": b"1/0"},
        "datasets/o/altered": {"README.md": card, "data/train-0.parquet": table},
        "datasets/o/script": {"README.md": card, "script.py": trap.code().encode()},
        "datasets/o/pickle": {"README.md": pickled, "a.pkl": trap.pickle()},
    }
    altered = {
        "models/o/altered/model.safetensors": spoilt,
        "datasets/o/altered/data/train-0.parquet": table.replace(b"Say 3", b"Say 9"),
    }
    pinned: dict[str, Any] = {"revision": fake_hub.COMMIT}
    specs = {key: pinned | {"hub": key.split("/", 1)[1]} for key in hub}
    for key, spec in specs.items():
        if key.startswith("datasets"):
            spec |= {"fields": {"prompt": "q"}, "rows": 5}
    assert altered["datasets/o/altered/data/train-0.parquet"] != table
    with fake_hub.serve(hub, altered) as server:
        environment = os.environ | {
            "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN,
            "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT / "scripts"),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", FETCH, json.dumps(specs), str(folder / "got")],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not trap.sprung
    return Fetched(
        folder / "got", dict(map(json.loads, done.stdout.splitlines())),
        done.stdout + done.stderr, server.tokens, server.asked, saved,
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_of_the_hub_is_what_the_hub_has_and_no_more(fetched: Fetched) -> None:
    folder = fetched.folder / "models/o/whole"
    assert "models/o/whole" not in fetched.sentences
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert {file["name"] for file in files} == {path.name for path in fetched.model.iterdir()}
    for file in files:
        assert file["sha256"] == sha256_of(fetched.model / file["name"]), file["name"]
    assert not any(".bin" in asked or ".py" in asked or "onnx" in asked.split("/resolve/")[-1]
                   for asked in fetched.asked if "/o/whole/" in asked and "datasets" not in asked)  # fmt: skip  # noqa: E501


@pytest.mark.slow
def test_data_of_the_hub_are_read(fetched: Fetched) -> None:
    rows = read_rows(fetched.folder / "datasets/o/whole/rows.parquet")
    assert [row["prompt"] for row in rows] == [f"Say {number}" for number in range(5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "file"),
    [("models/o/altered", "model.safetensors"), ("datasets/o/altered", "data/train-0.parquet")],
)
def test_what_was_altered_on_its_way_is_refused(fetched: Fetched, key: str, file: str) -> None:
    assert fetched.sentences[key] == (
        f"{file} of o/altered is not the file that the hub has at revision {fake_hub.COMMIT}; "
        "download it again"
    )
    assert not list((fetched.folder / key).glob("*.parquet"))
    assert not list((fetched.folder / key).glob("manifest.json"))


@pytest.mark.parametrize("key", ["datasets/o/script", "datasets/o/pickle"])
def test_data_that_are_a_program_are_refused(fetched: Fetched, key: str) -> None:
    sentence = fetched.sentences[key]
    assert sentence.startswith(f"o/{key.split('/')[-1]} at revision {fake_hub.COMMIT} could not")
    assert "\n" not in sentence


def test_the_hubs_token_is_shown_to_the_hub_alone(fetched: Fetched) -> None:
    assert fetched.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in fetched.printed
    files = [path for path in fetched.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    log = (fetched.folder / "log.txt").read_text()
    assert "files are as the hub has them" in log
    assert "HTTP Request" not in log  # real downloads are redirected to addresses that are signed


def test_a_pickle_would_have_run_without_these_precautions(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    pickle.loads(trap.pickle())
    assert trap.sprung
