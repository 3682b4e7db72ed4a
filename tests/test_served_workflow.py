"""Teachers behind llama.cpp and `transformers serve` on loopback, from the config to the report."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xllamacpp
import yaml

import miniature
import tiny
import tiny_gguf
from distill.checks import parse_study
from distill.models import load_model
from distill.parquet import read_rows
from distill.plan import Plan

pytestmark = pytest.mark.workflow

KEY = "sk-loopback-4711"
RESULTS = "results/served"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(project: Path, ports: tuple[int, int]) -> dict[str, Any]:
    """`far` gives text with log-probabilities; `near` text that the same model scores here."""
    config: dict[str, Any] = miniature.read_config(project)
    config["study"] = "served"
    config["prompts"] |= {"template": "chat", "test": 16, "pool": 16, "part_size": 16}
    del config["prompts"]["draw_pool"]
    config["sources"] = {
        "model": {"path": "models/served"}, "small": {"path": "models/small"},
        **{name: config["sources"][name] for name in ("alpaca", "wikipedia")},
    }  # fmt: skip
    far, near = (f"http://127.0.0.1:{port}/v1" for port in ports)
    config["teachers"] = {
        "far": {
            "max_tokens": 24,
            "server": {
                "url": far, "model": "tiny", "software": "llama.cpp", "key_variable": "FAR_KEY",
                "tokenizer": "small", "top_logprobs": 9, "params": 5e4, "concurrency": 3,
            },
        },
        "near": {
            "max_tokens": 24,
            "source": "model",
            "server": {
                "url": near, "model": str(project / "models/served"), "software": "transformers",
            },
        },
    }  # fmt: skip
    config["students"] = {"small": {"init": "pretrained", "source": "small"}}
    config["caches"] = {"top": {"scheme": "top_k_tail", "k": 8}}
    config["methods"]["kd"] = {"ce": 0.5, "forward_kl": 0.5}
    block = {"students": ["small"], "samples": [8]}
    config["runs"] = [
        block | {"teachers": ["far"], "methods": ["kd"], "caches": ["top"]},
        block | {"teachers": ["near"], "methods": ["sft"]},
    ]
    return config


def _make_models(project: Path) -> Any:
    """A served model, also as GGUF, and a smaller student; returns their tokenizer."""
    words = tiny.tokenizer(vocabulary=160, ascii_only=True)
    longer = {"max_position_embeddings": 512, "vocabulary": len(words)}
    model = tiny.model("llama", seed=1, initializer_range=0.2, **longer)
    model.lm_head.weight.data[words.eos_token_id] *= 3  # some answers end by themselves
    tiny.save(project / "models/served", model, words)
    tiny_gguf.write_gguf(project / "models/served.gguf", model, words)
    small = tiny.model("llama", seed=2, num_hidden_layers=1, initializer_range=0.2, **longer)
    tiny.save(project / "models/small", small, words)
    return words


@contextlib.contextmanager
def _llama_cpp(file: Path, port: int) -> Iterator[None]:
    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.hostnames, settings.port, settings.api_keys = ["127.0.0.1"], port, [KEY]
    settings.n_ctx, settings.n_parallel = 2048, 4
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(settings)
    try:
        yield
    finally:
        del server


@contextlib.contextmanager
def _transformers(folder: Path, port: int) -> Iterator[None]:
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--device", "cpu"]
    process = subprocess.Popen(
        [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
                break
            time.sleep(0.25)
        yield
    finally:
        process.terminate()
        process.wait()


def _written(project: Path) -> Iterator[tuple[Path, bytes]]:
    """All that is in a project, symbolic links and the served models apart."""
    for path in project.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def test_served_teachers_reach_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = miniature.copy_project(tmp_path / "project")
    miniature.make_inputs(project)
    words = _make_models(project)
    ports = _free_port(), _free_port()
    config = _config(project, ports)
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    plan = Plan(parse_study(config))
    monkeypatch.delenv("FAR_KEY", raising=False)

    # Planning needs neither servers nor a key; a run names the key before its first job.
    counts = miniature.dry_run(project)
    assert (counts["ask_server"], counts["take_answers"], counts["take_log_probs"]) == (4, 4, 1)
    output = miniature.snakemake(project, "--configfile", miniature.CONFIG, ok=False)
    assert "teachers.far.server.key_variable: the environment variable FAR_KEY is not" in output
    assert not (project / "resources").exists()

    # A wrong key fails with one sentence, and neither it nor the right one is written anywhere.
    target = plan.served_part("far", "train", 0)
    monkeypatch.setenv("FAR_KEY", "sk-wrong-0815")
    with _llama_cpp(project / "models/served.gguf", ports[0]):
        output = miniature.snakemake(
            project, "--configfile", miniature.CONFIG, "--", target, ok=False
        )
        assert f"teachers.far: http://127.0.0.1:{ports[0]}/v1 answers HTTP 401" in output
        assert "sk-wrong" not in output
        monkeypatch.setenv("FAR_KEY", KEY)
        monkeypatch.setenv("OPENAI_LOG", "debug")
        with _transformers(project / "models/served", ports[1]):
            output = miniature.snakemake(project, "--configfile", miniature.CONFIG)
    assert KEY not in output
    for path, content in _written(project):
        assert KEY.encode() not in content, path
        assert b"sk-wrong" not in content, path

    table = pd.read_parquet(project / RESULTS / "runs.parquet").set_index(["teacher", "method"])
    far, near = table.loc[("far", "kd")], table.loc[("near", "sft")]
    assert far["loss"] < table.loc[("far", "none")]["loss"]
    assert table["kl_teacher"].isna().groupby("teacher").all().to_dict() == {
        "far": True, "near": False,
    }  # fmt: skip
    assert table["loss_teacher"].notna().all()
    assert pd.isna(far["cache_entropy"])
    assert 0.2 < far["cache_kept_mass"] < 1
    assert (far["teacher_flops"] > 0) and (near["teacher_flops"] == 0)  # noqa: PT018
    references = json.loads((project / RESULTS / "references.json").read_text())
    assert references["warnings"] == [
        "the FLOPs of near's text are not in the totals, as server.params is not stated"
    ]
    assert max(abs(item["z"]) for item in references["identity"]) < 4
    assert set(references["teachers"]) == {"near"}
    page = (project / RESULTS / "report.html").read_text()
    assert "the FLOPs of near" in page

    _check_log_probs(project, plan, words)

    # Where the servers are is no part of any result.
    config["teachers"]["far"]["server"] |= {"url": "http://elsewhere/v1", "concurrency": 1}
    config["teachers"]["near"]["server"] |= {"url": "https://other/v1", "retries": 0}
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    monkeypatch.delenv("FAR_KEY")
    assert miniature.dry_run(project) == {}
    # What only reads the answers asks for none.
    config["teachers"]["near"]["server"]["params"] = 1e5
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    counts = miniature.dry_run(project)
    assert counts["take_answers"] == 2
    assert "ask_server" not in counts


def _check_log_probs(project: Path, plan: Plan, words: Any) -> None:
    """llama.cpp's log-probabilities are the model's own, at the tokens that stand in the text."""
    model = load_model(project / "models/served", precision="fp32", sequence=256)
    rows = read_rows(project / plan.text_part("far", "train", 0))
    answers = read_rows(project / plan.served_part("far", "train", 0))
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    for row, answer in zip(rows, answers, strict=True):
        ids = row["response_ids"]
        assert answer["ids"] == ids
        assert answer["tokens"] == len(ids)
        assert (ids[-1] in words.all_special_ids) is (row["finish_reason"] == "stop")
        whole = torch.tensor([[*row["prompt_ids"], *ids]])
        with torch.inference_mode():
            logs = model(whole).logits[0, len(row["prompt_ids"]) - 1 : -1].log_softmax(-1)
        own = logs.gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(torch.tensor(answer["log_p"]), own, atol=2e-3, rtol=0)
        values, names = logs.topk(9)
        torch.testing.assert_close(torch.tensor(answer["top_log_p"]), values, atol=2e-3, rtol=0)
        assert answer["top_ids"][0][0] == names[0, 0]
    answers = read_rows(project / plan.served_part("near", "train", 0))
    assert len({answer["response"] for answer in answers}) == len(answers)
    assert {answer["finish_reason"] for answer in answers} == {"stop", "length"}
