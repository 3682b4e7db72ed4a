"""Make the files that the studies in studies/miniature/ name, and run the workflow on them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM

import tiny

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "studies/miniature/gpt2_alpaca.yaml"
QA = "studies/miniature/gpt2_large_qa.yaml"
DOLLY = "studies/miniature/mistral_phi2_dolly.yaml"
PROJECT = ("Snakefile", "rules", "scripts", "envs", "profiles", "report", "studies", "config.yaml")

_VERBS = (
    "Describe",
    "Explain",
    "List facts about",
    "Write a poem about",
    "Summarise",
    "Compare",
    "Define",
    "Sketch",
)
_THINGS = ("rivers", "bread", "lighthouses", "boats", "spring weather", "gulls", "old mills",
           "the blue sky", "ovens", "poems", "cities", "forests", "bicycles", "music", "chess",
           "winter", "gardens", "maps", "bridges", "coffee", "clouds", "letters")  # fmt: skip


def alpaca_rows() -> list[dict[str, str]]:
    """Instructions in Alpaca's format, some with an input."""
    rows = []
    for number, (verb, thing) in enumerate((v, t) for t in _THINGS for v in _VERBS):
        context = f"Reader {number} knows little about {thing[::-1]}." if number % 3 == 0 else ""
        instruction = f"{verb} {thing}, case {number * 7919}, for {thing[::-1]} fans."
        rows.append({"instruction": instruction, "input": context, "output": f"Here: {thing}."})
    return rows


def copy_project(target: Path) -> Path:
    """A copy of the project's own files, to be edited by a test."""
    target.mkdir(parents=True)
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    return target


def dolly_rows() -> list[dict[str, str]]:
    """Instructions in Dolly's format, some with a context, one of them far too long."""
    rows = [
        {
            "instruction": row["instruction"],
            "context": row["input"],
            "response": f"{row['output']} {tiny.SENTENCES[number % 5]}",
            "category": "open_qa",
        }
        for number, row in enumerate(alpaca_rows())
    ]
    rows[0]["context"] = "word " * 500
    return rows


def make_inputs(folder: Path) -> None:
    """What the miniatures with models in GPT-2's format name, below `folder`."""
    tokenizer = tiny.tokenizer(chat=False)
    for name, layers, seed in (("teacher", 3, 0), ("student", 1, 1)):
        torch.manual_seed(seed)
        settings = {"n_layer": layers, "n_positions": 512, "initializer_range": 0.1}
        model = AutoModelForCausalLM.from_config(tiny.config("gpt2", len(tokenizer), **settings))
        model.save_pretrained(folder / "models" / name)
        tokenizer.save_pretrained(folder / "models" / name)
    _write_data(folder / "data", "alpaca.json", json.dumps(alpaca_rows()))


def make_dolly_inputs(folder: Path) -> None:
    """What the miniature with two tokenizers names, below `folder`."""
    words = tiny.tokenizer(chat=False)
    other = tiny.tokenizer(chat=False, vocabulary=350, ascii_only=True)  # other ids for equal bytes
    wide: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
    }
    wide |= {"initializer_range": 0.1}
    for name, kind, tokenizer, seed in (
        ("mistral", "mistral", words, 0),
        ("instruct", "mistral", words, 1),
        ("phi", "phi", other, 2),
    ):
        layers = {"num_hidden_layers": 4 if kind == "mistral" else 2}
        layers |= {"num_key_value_heads": 2} if kind == "mistral" else {}
        made = tiny.model(kind, len(tokenizer), seed, **wide, **layers)
        tiny.save(folder / "models" / name, made, tokenizer)
    lines = "\n".join(map(json.dumps, dolly_rows()))
    _write_data(folder / "data", "dolly.jsonl", lines)


def _write_data(data: Path, name: str, text: str) -> None:
    """A data set, and the reference text."""
    data.mkdir()
    (data / name).write_text(text)
    lines = [json.dumps({"text": sentence * 2}) for sentence in tiny.SENTENCES * 2]
    (data / "reference.jsonl").write_text("\n".join(lines) + "\n")


def read_config(project: Path, config: str = CONFIG) -> dict[str, object]:
    """A miniature's config."""
    loaded: dict[str, object] = yaml.safe_load((project / config).read_text())
    return loaded


def moved(finished: Path, target: Path) -> Path:
    """A finished project, moved with its times and Snakemake's memory; free to be changed."""
    subprocess.run(["cp", "-a", str(finished), str(target)], check=True)
    return target


def edit(project: Path, change: Callable[[dict[str, Any]], None], file: str = CONFIG) -> None:
    """Change a miniature's config."""
    config: dict[str, Any] = read_config(project, file)
    change(config)
    (project / file).write_text(yaml.safe_dump(config, sort_keys=False))


def snakemake(
    project: Path,
    *arguments: str,
    ok: bool = True,
    timeout: int = 3000,
    cores: Sequence[str] = ("--cores", "2"),
) -> str:
    """Run Snakemake in a project; returns all that it printed."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    outcome = subprocess.run(
        [sys.executable, "-m", "snakemake", *cores, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    output = outcome.stdout + outcome.stderr
    assert (outcome.returncode == 0) == ok, output[-6000:]
    return output


def dry_run(project: Path, config: str = CONFIG, *arguments: str) -> dict[str, int]:
    """Jobs per rule that a run would do now; empty when there is nothing to be done."""
    output = snakemake(project, "-n", "--configfile", config, *arguments)
    if "Nothing to be done" in output:
        return {}
    table = output.rsplit("Job stats:", 1)[1].split("Reasons:")[0]
    counts = {name: int(number) for name, number in re.findall(r"^(\w+)\s+(\d+)$", table, re.M)}
    return {name: number for name, number in counts.items() if name not in ("all", "total", "job")}


def start(project: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Snakemake in a process group of its own, as a terminal or SLURM does."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    with (project / "printed.txt").open("a") as stream:
        return subprocess.Popen(
            command, cwd=project, stdout=stream, stderr=stream, start_new_session=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip


def alive(project: Path) -> dict[int, str]:
    """Processes that work in a project, with their commands."""
    found = dict[int, str]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == project:
                command = (folder / "cmdline").read_text().replace("\0", " ")
                found |= {int(folder.name): command} if command else {}
        except OSError:
            continue  # it has ended
    return found


def left_alive(project: Path, orphans: dict[int, str]) -> list[str]:
    """Which of some processes do not end by themselves.

    A job that was importing when its workflow was killed writes nothing, and ends when it has done.
    """
    for _ in range(300):
        if not orphans.keys() & alive(project).keys():
            return []
        time.sleep(0.1)
    return [orphans[number] for number in orphans.keys() & alive(project).keys()]
