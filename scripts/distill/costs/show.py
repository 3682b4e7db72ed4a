"""Show what a study will cost: totals per stage, wall time, one line per run, and the files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.contracts.run import LIVE
from distill.core.files import write_json, write_text
from distill.core.quantities import data_size, duration, short_count
from distill.costs.jobs import STAGES, Forecast, Job
from distill.costs.work import makespan

ALONE = ("latency",)
"""Stages whose jobs run one at a time."""
LIGHT = ("students", "results")
"""Stages whose jobs take no unit of the resource device."""


def wall_seconds(jobs: Sequence[Job], cores: int, device: int) -> float:
    """Seconds of a set of jobs, stage after stage; somewhat too long, as stages overlap.

    Jobs that share memory and cache slow each other down, which is not in it.
    """
    total = 0.0
    for stage in STAGES:
        most = 1 if stage in ALONE else None if stage in LIGHT else device
        each = [(job.seconds, job.threads) for job in jobs if job.stage == stage]
        total += makespan(each, cores, most)
    return total


def summarise(jobs: Sequence[Job], cores: Sequence[int], device: int) -> dict[str, Any]:
    """Totals per stage and of all, and the wall time at numbers of cores.

    Returns:
        stages (jobs, done, flops, seconds and disk_bytes, of all and of what is left, and
        memory_bytes, the most that one job takes), the same for all stages, and wall.
    """

    def totals(chosen: Sequence[Job]) -> dict[str, Any]:
        left = [job for job in chosen if not job.done]
        return {
            "jobs": len(chosen),
            "done": len(chosen) - len(left),
            "flops": sum(job.work.flops for job in chosen),
            "flops_left": sum(job.work.flops for job in left),
            "seconds": sum(job.seconds for job in chosen),
            "seconds_left": sum(job.seconds for job in left),
            "disk_bytes": sum(job.disk for job in chosen),
            "disk_bytes_left": sum(job.disk for job in left),
            "memory_bytes": max((job.memory for job in chosen), default=0.0),
        }

    stages = {stage: totals([job for job in jobs if job.stage == stage]) for stage in STAGES}
    left = [job for job in jobs if not job.done]
    return {
        "stages": {stage: found for stage, found in stages.items() if found["jobs"]},
        "all": totals(jobs),
        "wall": [
            {
                "cores": number,
                "seconds": wall_seconds(jobs, number, device),
                "seconds_left": wall_seconds(left, number, device),
            }
            for number in dict.fromkeys(cores)
        ],
    }


def render(
    study: str,
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    calibration: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """The plan as text: calibration, runs, stages, wall time, notes."""
    rates = " · ".join(
        f"{name} {rate / 1e9:,.0f}" for name, rate in calibration["gemm_flops_per_s"].items()
    )
    where = calibration["hardware"]["gpu"] or calibration["hardware"]["cpu"]
    lines = [
        f"Plan of {study}: estimates, calibrated for {calibration['seconds']:.0f} s on {where}",
        f"({calibration['threads']} thread(s) a job; matrix products in GFLOP/s: {rates}; bf16 is "
        f"{'faster' if calibration['bf16_gains'] else 'not faster'} here)",
        "",
    ]
    curated = any(row["curation"] != "raw" for row in rows)
    table = [
        [
            row["student"], row["teacher"], row["method"], row["cache"],
            *([row["curation"]] if curated else []),
            f"{row['draw']}/{row['seed']}", f"{row['samples']:,}", short_count(row["params"]),
            short_count(row["params_non_embedding"]),
            short_count(row["tokens_seen"]) + ("" if row["tokens_basis"] == "measured" else " ≤"),
            f"{row['updates']:,}", f"{row['train_flops']:.2e}", duration(row["train_job_seconds"]),
            duration(row["evaluate_job_seconds"]) if row["listed"] else "",
            data_size(row["student_bytes"] + row["shard_bytes"]),
            data_size(max(row["train_memory_bytes"], row["evaluate_memory_bytes"])),
            _state(row),
        ]
        for row in rows
    ]  # fmt: skip
    head = ["student", "teacher", "method", "cache", "draw/seed", "n", "params", "body",
            "tokens", "updates", "FLOPs", "train", "judge", "disk", "memory", ""]  # fmt: skip
    if curated:
        head.insert(4, "curation")
    lines += [*_aligned([head, *table], left=4), ""]
    stages = {**summary["stages"], "all": summary["all"]}
    body = [
        [
            name, f"{own['jobs']:,}", f"{own['done']:,}", f"{own['flops']:.2e}",
            duration(own["seconds"]), duration(own["seconds_left"]), data_size(own["disk_bytes"]),
            data_size(own["disk_bytes_left"]), data_size(own["memory_bytes"]),
        ]
        for name, own in stages.items()
    ]  # fmt: skip
    titles = ["stage", "jobs", "done", "FLOPs", "time", "left", "disk", "left", "memory of a job"]
    lines += [*_aligned([titles, *body], left=1), ""]
    lines += [
        f"Wall time on {wall['cores']} core(s): {duration(wall['seconds'])}, "
        f"{duration(wall['seconds_left'])} of it left."
        for wall in summary["wall"]
    ]
    return "\n".join([*lines, *notes]) + "\n"


def _state(row: Mapping[str, Any]) -> str:
    """How far a run is; one that is no row of the runs table only makes a teacher."""
    if not row["listed"]:
        return "teacher, done" if row["trained"] else "teacher"
    return "done" if row["evaluated"] else "trained" if row["trained"] else ""


def notes_of(forecast: Forecast) -> list[str]:
    """What an estimate rests on, and what it leaves out."""
    found = []
    limits = sorted(name for name, own in forecast.lengths.items() if not own.measured)
    if limits:
        found.append(
            f"No text of {', '.join(limits)} exists yet: tokens (≤) are the config's limits, so "
            "FLOPs, time and disk are too high; plan again once the first part is written."
        )
    if forecast.study.rows.source == "magpie" and not forecast.pricing.prompt_flops:
        found.append("Half of the prompts that the teacher begins are taken to be closed in time.")
    if served := sorted({name for name, _, _ in forecast.texts if forecast.served(name)}):
        found.append(
            f"Waiting for the server of {', '.join(served)} is not counted, nor its price."
        )
    if forecast.plan.teachers.trained_runs:
        found.append(
            "Wall time lacks what waits until the study has trained a teacher: its text and all "
            "that learns from it."
        )
    if any(forecast.plan.rows.curation(run) for run in forecast.runs if run.samples):
        found.append("Until a curation has chosen, as many of its first candidates stand for it.")
    if any(run.cache == LIVE for run in forecast.runs):
        found.append("Answers that students write are taken to be as long as on_policy allows.")
    if forecast.searches:
        found.append("Searches count every trial to its end; pruning makes them cheaper.")
    if any(forecast.study.train_of(run.method).early_stopping for run in forecast.runs if run.samples):  # fmt: skip  # noqa: E501
        found.append("Early stopping is counted as if it never stopped.")
    if jobs := len(forecast.plan.benchmarks.files):
        found.append(
            f"{jobs} scores on benchmarks are not counted: their documents are not read before."
        )
    found.append(
        "Downloads, models among resources and the environment are not counted; jobs side by side "
        "slow each other, and other work on the machine slows all."
    )
    return found


def write_plan(
    forecast: Forecast,
    calibration: Mapping[str, Any],
    cores: Sequence[int],
    device: int,
    folder: str | Path,
) -> str:
    """Write `plan.csv` and `plan.json` into `folder`; return the text.

    One line per run; those that only make a teacher stand last.
    """
    summary = summarise(list(forecast.jobs.values()), cores, device)
    notes, rows = notes_of(forecast), forecast.rows
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(Path(folder) / "plan.csv", stream.getvalue())
    write_json(
        Path(folder) / "plan.json",
        {
            "schema": 1,
            "study": forecast.study.study,
            "estimate": True,
            "calibration": calibration,
            "runs": rows,
            **summary,
            "jobs": [
                {
                    "stage": job.stage, "output": job.output, "flops": job.work.flops,
                    "seconds": job.seconds, "threads": job.threads, "disk_bytes": job.disk,
                    "memory_bytes": job.memory, "done": job.done,
                }
                for job in forecast.jobs.values()
            ],
            "notes": notes,
        },
    )  # fmt: skip
    return render(forecast.study.study, rows, summary, calibration, notes)


def _aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of columns, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
