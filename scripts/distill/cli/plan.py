"""`distill plan`: what a study will cost, before it runs."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.cli.command import Command, Outcome, add_json, positive
from distill.cli.studies import (
    CONFIG,
    SNAKEFILE,
    add_directory,
    project,
    read_plan,
    working_in,
)
from distill.core.errors import UserError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", default=CONFIG, help="default: %(default)s"
    )
    parser.add_argument(
        "--cores", type=positive, metavar="N", help="cores of the wall time (default: all)"
    )
    parser.add_argument(
        "--device", type=positive, metavar="N",
        help="heavy jobs at a time (default: as in profiles/default)",
    )  # fmt: skip
    add_directory(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    with working_in(options.directory, [options.config]) as (path,):
        plan = read_plan(path)
        manifests = [plan.sources.manifest(source) for source in plan.sources.models.values()]
        _fetch(path, [file for file in manifests if not Path(file).is_file()])

        from distill.core.files import read_json
        from distill.plan.figures import figures_of
        from distill.runtime.job import leave_out

        leave_out("peft")  # and with it bitsandbytes, which complains on stderr
        from distill.costs.estimate import estimate

        device = options.device or _profile()["resources"]["device"]
        text = estimate(
            plan, figures_of(plan.study, plan.runs), options.cores or os.cpu_count() or 1, device
        )
        return Outcome(read_json(Path(plan.results) / "plan.json"), text.rstrip("\n"))


def _profile() -> dict[str, Any]:
    """Snakemake's default profile."""
    import yaml

    file = project() / "profiles" / "default" / "config.yaml"
    profile: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return profile


def _fetch(config: Path, manifests: Iterable[str]) -> None:
    """Let Snakemake fetch models, whose architectures a plan depends on.

    Raises:
        UserError: It fails.
    """
    wanted = sorted(set(manifests))
    if not wanted:
        return
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
    command += ["--snakefile", str(project() / SNAKEFILE), "--configfile", str(config)]
    done = subprocess.run([*command, "--", *wanted], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        reason = lines[0].removeprefix("Error: ") if lines else done.stderr.strip()[-500:]
        raise UserError(f"the models of the study cannot be fetched: {reason}")


COMMAND = Command(
    summary="estimate FLOPs, time, disk and memory before a run",
    details="Print the run table with estimated FLOPs, time, disk and memory, what is done already,"
    " and the wall time, as snakemake plan does; write plan.csv and plan.json into the study's "
    "results. It takes seconds to time this machine. Models that are missing in resources/ are "
    "fetched first, by Snakemake.",
    examples=("distill plan", "distill plan my_study.yaml --cores 8"),
    add_options=_add_options,
    run=_run,
)
