"""The runs table: one row per run, from exactly the records that the run table names."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from distill.contracts.columns import COLUMNS, keys_in, left_out_by, nullable_in
from distill.contracts.energy import energy_of
from distill.contracts.run import LIVE, Run
from distill.core.completeness import answer_warnings
from distill.core.errors import UserError
from distill.core.files import altered, read_json, replacing, sha256_of, write_json
from distill.core.parquet import write_table
from distill.table.benchmarks import add_benchmarks
from distill.table.references import (
    add_training,
    curation_counts,
    qualitative_samples,
    references,
    timing_warnings,
)
from distill.table.teacher_costs import known_sum, teacher_costs

_NEEDED = {
    "model": [*keys_in("model"), "sha256"],
    "training": keys_in("training"),
    "heldout": [*keys_in("heldout"), "unigram_entropy", "identity"],
    "reference": keys_in("reference"),
    "versions": [],
    "hardware": ["cpu", "cpus", "gpu"],
    "spec": [],
}
"""What each metrics.json holds, by section."""


def read_metrics(path: str | Path) -> dict[str, Any]:
    """The record of a student's evaluation.

    Raises:
        UserError: It is damaged, or is not such a record.
    """
    record = read_json(path)
    sections = record if isinstance(record, dict) else {}
    for section, names in _NEEDED.items():
        content = sections.get(section)
        missing = (
            [name for name in names if name not in content] if isinstance(content, dict) else [""]
        )
        if missing:
            where = f"{section}.{missing[0]}".rstrip(".")
            raise UserError(
                f"{path} is not a record of an evaluation (it lacks {where}); delete it and run "
                "the workflow again"
            )
    return sections


def read_responses(path: str | Path, written: str | None) -> list[dict[str, Any]]:
    """A model's responses, which are as its evaluation wrote them."""
    if not Path(path).is_file() or sha256_of(path) != written:
        raise altered(path)
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def normalised_loss(loss: float, entropy: float, teacher: float) -> float:
    """1 at the teacher's loss and below it, 0 at the unigram entropy and above it, else linear.

    Args:
        loss: The student's held-out loss, nats per token.
        entropy: Unigram entropy of the held-out tokens, nats per token.
        teacher: The teacher's loss on them, nats per token.
    """
    if loss <= teacher:
        return 1.0
    return (entropy - loss) / (entropy - teacher) if loss < entropy else 0.0


def undisturbed(speed: Mapping[str, Any]) -> float | None:
    """Tokens per second of a speed record; None if its timing was disturbed."""
    return None if speed.get("disturbed") else float(speed["tokens_per_second"])


def combined_scores(
    weights: Mapping[str, float],
    perplexity: float,
    pass_rate: float | None,
    speed: float | None,
    score: float | None,
    teacher_speed: float | None,
) -> dict[str, float | None]:
    """The combined scores of a run.

    `combined` is study 1's formula as published; it adds different units, so tokens/s dominates.
    `combined_normalised` has fixed anchors: the normalised loss and speed / (speed + teacher's),
    which is one half at the teacher's speed. Adding a run changes no other run's score. None if
    no instructions were answered.

    Args:
        weights: Of perplexity, pass_rate and tokens_per_second in `combined`.
        perplexity: On held-out text.
        pass_rate: Share of instructions met, in [0, 1].
        speed: Tokens per second; None if its timing was disturbed.
        score: `normalised_loss`.
        teacher_speed: Tokens per second of the teacher; None if unknown.
    """
    if pass_rate is None:
        return dict.fromkeys(("combined", "combined_normalised", "combined_mean"))
    quality, rates = weights["perplexity"], weights["pass_rate"] * pass_rate
    literal = normalised = None
    if speed is not None:
        literal = quality / perplexity + rates + weights["tokens_per_second"] * speed
        if score is not None and teacher_speed is not None:
            share = speed / (speed + teacher_speed)
            normalised = quality * score + rates + weights["tokens_per_second"] * share
    return {
        "combined": literal,
        "combined_normalised": normalised,
        "combined_mean": None if score is None else (score + pass_rate) / 2,
    }


_LIVE = {"bytes_per_token": 0.0, "kept_mass": 1.0, "entropy": None, "manifest": {"scheme": LIVE}}
"""A live teacher, in the form of a cache's record: nothing is stored, nothing is lost."""


def _with_live(training: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """A run's costs with those of its live teacher, which no other run can share."""
    live = training.get("target_flops", 0)
    return {**costs} | {
        name: costs[name] + live for name in ("target_flops", "target_flops_amortised")
    }


def _totals(training: Mapping[str, Any], costs: Mapping[str, Any]) -> dict[str, Any]:
    """All FLOPs and all energy behind a run, and the share of the energy that is an estimate."""
    trained = energy_of(training, "energy_")
    training_costs = {"flops": training["train_flops"], **trained.columns()}
    totals = {
        f"total_{unit}{suffix}": known_sum(
            [
                training_costs[unit],
                *(costs[f"{kind}_{unit}{suffix}"] for kind in ("teacher", "target")),
            ]
        )
        for unit in training_costs
        for suffix in ("", "_amortised")
    }
    used, estimated = totals["total_kwh_amortised"], totals["total_kwh_estimated_amortised"]
    share = estimated / used if used and estimated is not None else None
    return totals | {"train_kwh": trained.kwh, "kwh_estimated": share}


def runs_table(
    records: Mapping[Run, dict[str, Any]],
    shards: Mapping[Run, str | Path | None],
    efficiency: Mapping[Run, dict[str, Any]],
    teacher_speed: Mapping[str, float | None],
    spec: dict[str, Any],
    caches: Mapping[Run, dict[str, Any] | None],
    decisions: Mapping[Run, str | Path | None] | None = None,
    left_out: Sequence[str] = (),
) -> pd.DataFrame:
    """Build the runs table.

    Args:
        records: metrics.json per run.
        shards: Training data per run, None for n = 0.
        efficiency: Speed and memory of each run's architecture.
        teacher_speed: Tokens per second of each teacher that is a model.
        spec: study, task, init (per student) and weights (of the combined score).
        caches: The record of each run's soft targets, None without.
        decisions: Of the curation that chose each run's rows, if one did.
        left_out: Columns that the study does not measure.

    Raises:
        UserError: A required metric is missing or not finite.
    """
    costs = teacher_costs(shards, decisions)
    rows = []
    may_be_null = {*nullable_in(spec["task"]), *left_out}
    for run, record in records.items():
        held, training, speed = record["heldout"], record["training"], efficiency[run]
        cost, passed = _with_live(training, costs[run]), record["instructions"]
        teacher = held["loss_teacher"]
        score = None
        if teacher is not None:
            score = normalised_loss(held["loss"], held["unigram_entropy"], teacher)
        sections = {
            **record,
            "study": {
                "study": spec["study"],
                "task": spec["task"],
                "init": spec["init"][run.student],
            },
            "run": vars(run),
            "speed": speed,
            "cache": caches.get(run),
            "costs": cost | _totals(training, cost),
            "scores": combined_scores(
                spec["weights"],
                held["perplexity"],
                passed and passed["fixed"]["rate"],
                undisturbed(speed),
                score,
                teacher_speed.get(run.teacher),
            ),
        }
        row = {name: column.read(sections) for name, column in COLUMNS.items()}
        for name, value in row.items():
            missing = value is None or (isinstance(value, float) and not math.isfinite(value))
            if missing and not (value is None and name in may_be_null):
                raise UserError(
                    f"{name} of {run.student}, {run.method}, n = {run.samples} is {value}; delete "
                    "its metrics.json and run again, or check its log"
                )
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in {*may_be_null, *(row.name for row in COLUMNS.values() if row.unit == "FLOPs")}:
        table[name] = table[name].astype("float64")
    keys = ["teacher", "student", "method", "curation", "cache", "samples", "draw", "seed"]
    return table.sort_values(keys, ignore_index=True)


def write_runs(table: pd.DataFrame, parquet: str | Path, csv: str | Path) -> None:
    """Write the runs table in both forms."""
    write_table(parquet, pa.Table.from_pandas(table, preserve_index=False))
    with replacing(csv) as temporary:
        table.to_csv(temporary, index=False)


def collect(
    spec: dict[str, Any],
    metrics: Sequence[str],
    responses: Sequence[str],
    shards: Sequence[str],
    decisions: Sequence[str],
    efficiency: Sequence[str],
    teachers: Sequence[str],
    near_duplicates: str,
    searches: Sequence[str],
    trained: Sequence[str],
    benchmarks: Sequence[str],
    out: Mapping[str, str],
) -> None:
    """Read all records of a study and write its runs table, references and samples.

    Args:
        spec: study, task, init, weights, runs (values of `Run`, in the order of `metrics`),
            shards (per run, its place in `shards` or None), decisions (likewise), efficiency
            (per run), teachers (name, place in `efficiency`), in the order of `teachers`,
            searches (names), methods (the settings of each) and, if any teacher is trained by the
            study, trained (name and values of `Run`, in the order of `trained`); with benchmarks,
            benchmarks: tasks (names), runs (place in `runs` and task) and teachers (name and task),
            in the order of `benchmarks`; and uncounted, the teachers whose FLOPs are not known.
        metrics: metrics.json per run.
        responses: responses.jsonl per run, then per teacher.
        shards: Training sets, each once.
        decisions: What curations decided, each once.
        efficiency: Speed records, each once.
        teachers: metrics.json per teacher that is a model.
        near_duplicates: Report on test and training prompts.
        searches: best.json per search, in the order of spec's searches.
        trained: training.json per teacher that the study trains.
        benchmarks: Scores on benchmarks.
        out: Paths of runs (Parquet), csv, references and samples (JSON).
    """
    runs = [Run(*values) for values in spec["runs"]]
    records = {run: read_metrics(path) for run, path in zip(runs, metrics, strict=True)}
    speeds = [read_json(path) for path in efficiency]
    names = [name for name, _ in spec["teachers"]]
    teacher_records = {name: read_json(path) for name, path in zip(names, teachers, strict=True)}
    speed_of = {name: speeds[place] for name, place in spec["teachers"]}
    places = dict(zip(runs, spec["shards"], strict=True))
    shard_of = {run: None if place is None else shards[place] for run, place in places.items()}
    record_of = {path: read_json(Path(path).with_suffix(".json")) for path in shards}
    shard_record = {run: {} if path is None else record_of[path] for run, path in shard_of.items()}
    caches = {
        run: _LIVE if run.cache == LIVE else shard.get("cache")
        for run, shard in shard_record.items()
    }
    chosen = dict(zip(runs, spec["decisions"], strict=True))
    table = runs_table(
        records,
        shard_of,
        {run: speeds[place] for run, place in zip(runs, spec["efficiency"], strict=True)},
        {name: undisturbed(speed) for name, speed in speed_of.items()},
        spec,
        caches,
        {run: None if place is None else decisions[place] for run, place in chosen.items()},
        left_out_by(records[runs[0]]["spec"]),  # all runs are evaluated alike
    )
    duplicates, study = read_json(near_duplicates), spec["study"]
    record = references(records, teacher_records, speed_of, duplicates, table, study)
    record["warnings"] += _text_warnings(spec, shard_record)
    students = zip(runs, spec["efficiency"], strict=True)
    timed = {run.student: speeds[place] for run, place in students} | speed_of
    record["warnings"] += timing_warnings(timed)
    record["methods"] = spec["methods"]
    record["caches"] = {run.cache: cache for run, cache in caches.items() if cache}
    record["curations"] = curation_counts(shard_record)
    record["searches"] = dict(zip(spec["searches"], map(read_json, searches), strict=True))
    teacher_runs = zip(spec.get("trained", []), trained, strict=True)
    taught = {name: (Run(*run), path) for (name, *run), path in teacher_runs}
    add_training(record["teachers"], taught)
    if benchmark_plan := spec.get("benchmarks"):
        table = add_benchmarks(table, record, benchmark_plan, runs, benchmarks)
    write_runs(table, out["runs"], out["csv"])
    write_json(out["references"], record)
    answers = _test_answers(responses, [*records.values(), *teacher_records.values()])
    student_answers = dict(zip(runs, answers[: len(runs)], strict=True))
    teacher_answers = dict(zip(names, answers[len(runs) :], strict=True))
    write_json(out["samples"], qualitative_samples(student_answers, teacher_answers))


def _test_answers(
    files: Sequence[str], records: Sequence[dict[str, Any]]
) -> list[list[dict[str, Any]]]:
    """The answers to held-out prompts in each file of responses, checked by its record."""
    return [
        [
            row
            for row in read_responses(file, record.get("responses_sha256"))
            if row["set"] == "test"
        ]
        for file, record in zip(files, records, strict=True)
    ]


def _text_warnings(spec: Mapping[str, Any], shards: Mapping[Run, dict[str, Any]]) -> list[str]:
    """Sentences on uncounted FLOPs and on empty or cut answers, from the record of each shard."""
    warnings = [
        f"the FLOPs of {name}'s text are not in the totals, as server.params is not stated"
        for name in spec.get("uncounted", [])
    ]
    largest: dict[str, dict[str, Any]] = {}
    for run, shard in shards.items():
        rows = largest.get(run.teacher, {}).get("rows", -1)
        if "empty" in shard and shard["rows"] > rows:
            largest[run.teacher] = shard
    if spec["task"] == "instruction":
        for teacher in dict.fromkeys(run.teacher for run in shards):
            if teacher in largest:
                warnings += answer_warnings(teacher, largest[teacher])
    return warnings
