"""Teachers behind llama.cpp and `transformers serve` on loopback, from the config to the report."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xllamacpp
import yaml

import miniature
import scripted_server
import tiny
import tiny_gguf
from distill.config.checks.study import parse_study
from distill.core.parquet import read_rows
from distill.models.opening import load_model
from distill.models.tokenizers import load_tokenizer
from distill.plan.study import Plan

pytestmark = pytest.mark.workflow

KEY, WRONG, TOKEN, OTHER = "sk-loopback-4711", "sk-wrong-0815", "hf_planted4711", "other-planted-42"
RESULTS = "results/served"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(project: Path, ports: tuple[int, int]) -> dict[str, Any]:
    """`far` gives text with log-probabilities, `near` text alone."""
    config: dict[str, Any] = miniature.read_config(project)
    config["study"] = "served"
    config["prompts"] |= {"template": "chat", "test": 16, "pool": 16, "part_size": 16}
    del config["prompts"]["draw_pool"]
    config["sources"] = {
        "small": {"path": "models/small"},
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
    # Its flash attention and its cache are in fp16 otherwise, which moves log p by 0.02.
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
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


@dataclass
class Study:
    """A project with two served teachers, and what was printed on the way to its report."""

    project: Path
    planned: dict[str, int]
    without_key: str
    with_wrong_key: str
    with_echoed_key: str
    finished: str

    @property
    def plan(self) -> Plan:
        """Of the config as it stands."""
        return Plan(parse_study(dict(miniature.read_config(self.project))))


def _echoed(project: Path, call: tuple[str, ...], part: str) -> str:
    """What is printed, with all that Snakemake can print, where a server repeats the key."""
    config = (project / miniature.CONFIG).read_text()

    def refuse(*_: Any) -> scripted_server.Reply:
        shown = server.headers[-1]["authorization"]
        return 401, {"X-Shown": shown}, {"error": {"message": f"no such key: {shown}"}}

    with scripted_server.serve(refuse) as server:
        far = {"url": server.url}
        miniature.edit(project, lambda config: config["teachers"]["far"]["server"].update(far))
        loud = ("--printshellcmds", "--verbose", "--", part)
        printed = miniature.snakemake(project, *call, *loud, ok=False)
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    (project / miniature.CONFIG).write_text(config)
    return printed


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Plan without servers, run without a key, with a wrong one, with one that the server repeats
    in its error, then to the end; other secrets are in the environment as well."""
    project = miniature.copy_project(tmp_path_factory.mktemp("served") / "project")
    miniature.make_inputs(project)
    _make_models(project)
    ports = _free_port(), _free_port()
    config = _config(project, ports)
    (project / miniature.CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    call = ("--configfile", miniature.CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FAR_KEY", raising=False)
        patch.setenv("OPENAI_LOG", "debug")
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("SOME_PASSWORD", OTHER)
        planned = miniature.dry_run(project)
        without = miniature.snakemake(project, *call, ok=False)
        assert not (project / "resources").exists()
        part = Plan(parse_study(config)).served.part("far", "train", 0)
        with _llama_cpp(project / "models/served.gguf", ports[0]):
            patch.setenv("FAR_KEY", WRONG)
            wrong = miniature.snakemake(project, *call, "--", part, ok=False)
            patch.setenv("FAR_KEY", KEY)
            echoed = _echoed(project, call, part)
            with _transformers(project / "models/served", ports[1]):
                done = miniature.snakemake(project, *call)
    return Study(project, planned, without, wrong, echoed, done)


def _written(project: Path) -> Iterator[tuple[Path, bytes]]:
    """All that is in a project, symbolic links and the served models apart."""
    for path in project.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


def test_planning_needs_neither_server_nor_key(study: Study) -> None:
    names = ("ask_server", "take_answers", "take_log_probs")
    assert [study.planned[name] for name in names] == [4, 4, 1]


def test_a_key_is_missed_before_the_first_job_and_written_nowhere(study: Study) -> None:
    assert "teachers.far.server.key_variable: the environment variable FAR_KEY is not set" in (
        study.without_key
    )
    assert "rule ask_server" not in study.without_key
    assert re.search(
        r"teachers.far: http://127.0.0.1:\d+/v1 answers HTTP 401", study.with_wrong_key
    )
    assert "answers HTTP 401: no such key: Bearer …; check the key" in study.with_echoed_key
    secrets = (KEY, WRONG, TOKEN, OTHER)
    for printed in (
        study.without_key, study.with_wrong_key, study.with_echoed_key, study.finished
    ):  # fmt: skip
        assert not [secret for secret in secrets if secret in printed]
    places = set()
    for path, content in _written(study.project):
        places.add(path.relative_to(study.project).parts[:2])
        assert not [secret for secret in secrets if secret.encode() in content], path
    for place in (".snakemake/metadata", ".snakemake/log", "logs/ask_server", "results/served"):
        assert tuple(place.split("/")) in places


def test_served_teachers_reach_the_report(study: Study) -> None:
    results = study.project / RESULTS
    table = pd.read_parquet(results / "runs.parquet").set_index(["teacher", "method"])
    far, near = table.loc[("far", "kd")], table.loc[("near", "sft")]
    assert far["loss"] < table.loc[("far", "none")]["loss"]
    assert far["loss"] > far["loss_teacher"] > 0
    assert pd.isna(near["loss_teacher"])
    assert table["kl_teacher"].isna().all()
    assert pd.isna(far["cache_entropy"])
    assert 0.2 < far["cache_kept_mass"] < 1
    assert far["teacher_flops"] > 0
    assert near["teacher_flops"] == 0
    references = json.loads((results / "references.json").read_text())
    ends = "reach max_tokens: raise it, or use a teacher that ends its answers"
    told = [text for text in references["warnings"] if not text.endswith(ends)]
    # How many answers of a random model are empty depends on the machine's rounding.
    assert [text for text in told if "are empty: check" not in text] == [
        "the energy of 2 of 4 rows is not known: a server's, that of a GPU without NVML, or "
        "results of an earlier version",
        "the FLOPs of near's text are not in the totals, as server.params is not stated",
    ]
    assert references["teachers"] == {}
    assert "the FLOPs of near" in (results / "report.html").read_text()
    answers = read_rows(study.project / study.plan.served.part("near", "train", 0))
    assert len({answer["response"] for answer in answers}) > 12  # sampled, not greedy
    assert {answer["finish_reason"] for answer in answers} == {"stop", "length"}


def test_log_probs_of_llama_cpp_are_the_models_own(study: Study) -> None:
    """At the tokens that stand in the text, and of the likeliest."""
    model = load_model(study.project / "models/served", precision="fp32", sequence=256)
    tokenizer = load_tokenizer(study.project / "models/served")
    special = {word for word, token in tokenizer.added_tokens_decoder.items() if token.special}
    rows = read_rows(study.project / study.plan.text.part("far", "train", 0))
    answers = read_rows(study.project / study.plan.served.part("far", "train", 0))
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    for row, answer in zip(rows, answers, strict=True):
        ids = row["response_ids"]
        assert answer["ids"] == ids
        assert answer["tokens"] == len(ids)
        assert (ids[-1] in special) is (row["finish_reason"] == "stop")
        whole = torch.tensor([[*row["prompt_ids"], *ids]])
        with torch.inference_mode():
            logs = model(whole).logits[0, len(row["prompt_ids"]) - 1 : -1].log_softmax(-1)
        own = logs.gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1)
        for told, found in (("log_p", own), ("top_log_p", logs.topk(9).values)):
            torch.testing.assert_close(torch.tensor(answer[told]), found, atol=1e-4, rtol=0)


def test_what_only_reads_or_finds_the_answers_asks_for_none(study: Study, tmp_path: Path) -> None:
    project = miniature.moved(study.project, tmp_path / "moved")

    def elsewhere(config: dict[str, Any]) -> None:
        config["teachers"]["far"]["server"] |= {"url": "http://elsewhere/v1", "concurrency": 1}
        config["teachers"]["near"]["server"] |= {"url": "https://other/v1", "retries": 0}

    miniature.edit(project, elsewhere)
    assert miniature.dry_run(project) == {"write_provenance": 1}
    miniature.edit(project, lambda config: config["teachers"]["near"]["server"].update(params=1e5))
    counts = miniature.dry_run(project)
    assert counts["take_answers"] == 2
    assert "ask_server" not in counts


@pytest.mark.long
def test_the_same_model_here_scores_what_a_server_wrote(study: Study, tmp_path: Path) -> None:
    """No server runs any more: the answers are at hand."""
    project = miniature.moved(study.project, tmp_path / "moved")

    def with_source(config: dict[str, Any]) -> None:
        config["study"] = "scored"
        config["sources"]["model"] = {"path": "models/served"}
        config["teachers"] = {"near": config["teachers"]["near"] | {"source": "model"}}
        config["caches"] = {"exact": {"scheme": "final_hidden"}}
        del config["runs"][0]
        config["runs"][0] |= {"methods": ["kd"], "caches": ["exact"]}

    miniature.edit(project, with_source)
    target = "results/scored/references.json"
    miniature.snakemake(project, "--configfile", miniature.CONFIG, "--", target)
    references = json.loads((project / target).read_text())
    assert len(references["identity"]) == 2
    assert max(abs(item["z"]) for item in references["identity"]) < 4
    table = pd.read_parquet(project / "results/scored/runs.parquet")
    assert (table["kl_teacher"] > 0).all()
    assert table["loss_teacher"].notna().all()
