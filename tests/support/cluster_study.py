"""Shared makers of tests."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

import miniature

PROFILE = "profiles/slurm/config.yaml"


RESULTS = "results/gpt2_alpaca_miniature"


def small_project(folder: Path) -> Path:
    """The miniature with three students, whose jobs are soon asked after."""
    project = miniature.copy_project(folder / "project")
    miniature.make_inputs(project)

    def fewer(config: dict[str, Any]) -> None:
        config["prompts"]["pool"] = 48
        config["runs"] = [{**config["runs"][0], "samples": [8, 16]}]

    miniature.edit(project, fewer)
    profile = yaml.safe_load((project / PROFILE).read_text())
    profile["slurm-init-seconds-before-status-checks"] = 3  # the rest is as it is
    (project / PROFILE).write_text(yaml.safe_dump(profile))
    return project


def on_cluster(project: Path, *arguments: str, ok: bool = True, timeout: int = 1200) -> str:
    """Run the study as the README says."""
    profile = ("--workflow-profile", str(Path(PROFILE).parent), "--configfile", miniature.CONFIG)
    return miniature.snakemake(project, *arguments, *profile, ok=ok, timeout=timeout, cores=())


def asked(*command: str) -> list[str]:
    """The lines that a command of SLURM prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()
