"""The runs table: one row per run, from exactly the records that the run table names."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from distill.columns import COLUMNS, NULLABLE
from distill.files import UserError, read_json, replacing, write_json
from distill.instructions import (
    DUMMY_RESPONSE,
    Instruction,
    check_response,
    instruction_sets,
    mcnemar,
)
from distill.parquet import read_schema, read_table
from distill.plan import Run


def normalised_loss(loss: float, entropy: float, teacher: float) -> float:
    """1 at the teacher's loss, 0 at the unigram entropy of the held-out tokens and above it."""
    if loss <= teacher:
        return 1.0
    return (entropy - loss) / (entropy - teacher) if loss < entropy else 0.0


def combined_scores(
    weights: Mapping[str, float],
    perplexity: float,
    pass_rate: float,
    speed: float,
    score: float | None,
    teacher_speed: float | None,
) -> dict[str, float | None]:
    """The combined scores of a run.

    `combined` is study 1's formula as published; it adds unlike units, so tokens/s swamps the rest.
    `combined_normalised` has fixed anchors: the normalised loss and speed / (speed + teacher's),
    which is one half at the teacher's speed. Adding a run changes no other run's score.
    """
    literal = (
        weights["perplexity"] / perplexity
        + weights["pass_rate"] * pass_rate
        + weights["tokens_per_second"] * speed
    )
    if score is None or teacher_speed is None:
        return {"combined": literal, "combined_normalised": None, "combined_mean": None}
    return {
        "combined": literal,
        "combined_normalised": weights["perplexity"] * score
        + weights["pass_rate"] * pass_rate
        + weights["tokens_per_second"] * speed / (speed + teacher_speed),
        "combined_mean": (score + pass_rate) / 2,
    }


def teacher_costs(
    shards: Mapping[Run, str | Path | None],
    decisions: Mapping[Run, str | Path | None] | None = None,
) -> dict[Run, dict[str, float]]:
    """Marginal and amortised cost of the teacher's text and soft targets per run.

    Text counts the rows that a curation read and dropped for the run, and the teacher's own loss
    on all rows read where it chose by that. Soft targets count the rows kept: they could be made
    after.

    Marginal: all that the run's rows cost. Amortised: each row's cost is split evenly over the runs
    whose shard holds it (with that teacher for text, with that cache for soft targets), so that the
    runs' sum is what was spent. A row dropped for a run is split as one that its shard holds.

    Args:
        shards: Training data per run, None for n = 0.
        decisions: Of the curation that chose the run's rows, if one did.
    """
    tables: dict[Run, list[dict[str, Any]]] = {}
    kinds = ("teacher", "target", "filter")
    users: dict[str, Counter[tuple[Any, ...]]] = {kind: Counter() for kind in kinds}
    for run, path in shards.items():
        if path is None:
            continue
        columns = ["row", "teacher_flops", "teacher_seconds"]
        names = set(read_schema(path).names)
        columns += [name for name in _TARGET_COLUMNS if name in names]
        tables[run] = [
            row
            | {
                f"target_{unit}": sum(
                    row.get(name) or 0.0 for name in _TARGET_COLUMNS if unit in name
                )
                for unit in ("flops", "seconds")
            }
            for row in read_table(path, columns).to_pylist()
        ]
        users["target"].update(_user(run, row["row"], "target") for row in tables[run])
        if chosen := (decisions or {}).get(run):
            tables[run] = _with_dropped(tables[run], chosen)
        users["teacher"].update(_user(run, row["row"], "teacher") for row in tables[run])
        scored = (row["row"] for row in tables[run] if row.get("filter_flops"))
        users["filter"].update(_user(run, row, "filter") for row in scored)

    def total(run: Run, kind: str, unit: str, suffix: str) -> float:
        name = f"{kind}_{unit}"
        return math.fsum(
            row[name] / (users[kind][_user(run, row["row"], kind)] if suffix else 1)
            for row in tables.get(run, [])
            if row.get(name)
        )

    return {
        run: {
            f"{kind}_{unit}{suffix}": total(run, kind, unit, suffix)
            + (total(run, "filter", unit, suffix) if kind == "teacher" else 0.0)
            for kind in ("teacher", "target")
            for unit in ("flops", "seconds")
            for suffix in ("", "_amortised")
        }
        for run in shards
    }


_TARGET_COLUMNS = ("target_flops", "layer_flops", "target_seconds", "layer_seconds")


def _user(run: Run, row: int, kind: str) -> tuple[Any, ...]:
    return (run.teacher, run.cache, row) if kind == "target" else (run.teacher, row)


def _with_dropped(rows: list[dict[str, Any]], decisions: str | Path) -> list[dict[str, Any]]:
    """A shard's rows with the costs of choosing them, and after them the rows dropped."""
    columns = ["row", "dropped", "teacher_flops", "teacher_seconds"]
    read = read_table(decisions, [*columns, "filter_flops", "filter_seconds"]).to_pylist()
    costs = {row["row"]: row for row in read}
    filters = ("filter_flops", "filter_seconds")
    kept = [row | {name: costs[row["row"]][name] for name in filters} for row in rows]
    return kept + [row for row in read if row["dropped"]]


def _totals(training: Mapping[str, Any], costs: Mapping[str, float]) -> dict[str, float]:
    """All FLOPs behind a run."""
    return {
        f"total_flops{suffix}": training["train_flops"]
        + costs[f"teacher_flops{suffix}"]
        + costs[f"target_flops{suffix}"]
        for suffix in ("", "_amortised")
    }


def runs_table(
    records: Mapping[Run, dict[str, Any]],
    shards: Mapping[Run, str | Path | None],
    efficiency: Mapping[Run, dict[str, Any]],
    teacher_speed: Mapping[str, float | None],
    spec: dict[str, Any],
    caches: Mapping[Run, dict[str, Any] | None],
    decisions: Mapping[Run, str | Path | None] | None = None,
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

    Raises:
        UserError: A required metric is missing or not finite.
    """
    costs = teacher_costs(shards, decisions)
    rows = []
    for run, record in records.items():
        held, training, speed = record["heldout"], record["training"], efficiency[run]
        fixed, large = record["instructions"]["fixed"], record["instructions"]["large"]
        cache, answers = caches.get(run) or {}, record["answers"] or {}
        teacher = held["loss_teacher"]
        score = None
        if teacher is not None:
            score = normalised_loss(held["loss"], held["unigram_entropy"], teacher)
        row: dict[str, Any] = {
            "study": spec["study"],
            "task": spec["task"],
            "init": spec["init"][run.student],
            **{name: getattr(run, name) for name in Run.__dataclass_fields__},
            **{
                name: record["model"][name]
                for name in ("params", "params_non_embedding", "size_mb")
            },
            **{
                name: training[name]
                for name in (
                    "updates",
                    "tokens_seen",
                    "tokens_unique",
                    "train_flops",
                    "train_seconds",
                )
            },
            **{
                name: held[name]
                for name in (
                    "unseen_token_share",
                    "loss",
                    "loss_stderr",
                    "loss_teacher",
                    "perplexity",
                    "bits_per_byte",
                    "kl_teacher",
                    "kl_floor",
                    "top1_agreement",
                    "ece",
                )
            },
            **{name: answers.get(name) for name in ("bleu", "rouge_l")},
            **{
                f"cache_{name}": cache.get(name)
                for name in ("bytes_per_token", "kept_mass", "entropy")
            },
            "reference_loss": record["reference"]["loss"],
            "reference_bits_per_byte": record["reference"]["bits_per_byte"],
            "pass_rate": fixed["rate"],
            "pass_rate_low": fixed["low"],
            "pass_rate_high": fixed["high"],
            "pass_rate_large": large["rate"],
            **{
                name: speed[name]
                for name in (
                    "tokens_per_second",
                    "tokens_per_second_median",
                    "ttft_ms",
                    "peak_memory_mb",
                    "flops_per_token",
                )
            },
            **costs[run],
            **_totals(training, costs[run]),
            **combined_scores(
                spec["weights"],
                held["perplexity"],
                fixed["rate"],
                speed["tokens_per_second"],
                score,
                teacher_speed.get(run.teacher),
            ),
        }
        for name in COLUMNS:
            value = row[name]
            missing = value is None or (isinstance(value, float) and not math.isfinite(value))
            if missing and not (value is None and name in NULLABLE):
                raise UserError(
                    f"{name} of {run.student}, {run.method}, n = {run.samples} is {value}; delete "
                    "its metrics.json and run again, or look into its log"
                )
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in NULLABLE:
        table[name] = table[name].astype("float64")
    for name in [name for name in COLUMNS if "flops" in name]:
        table[name] = table[name].astype("float64")
    keys = ["teacher", "student", "method", "curation", "cache", "samples", "draw", "seed"]
    return table.sort_values(keys, ignore_index=True)


def write_runs(table: pd.DataFrame, parquet: str | Path, csv: str | Path) -> None:
    """Write the runs table in both forms."""
    with replacing(parquet) as temporary:
        table.to_parquet(temporary, index=False)
    with replacing(csv) as temporary:
        table.to_csv(temporary, index=False)


_RUN_KEYS = ("student", "method", "curation", "cache", "samples", "draw", "seed")


def _floor(items: Sequence[Instruction]) -> float:
    """Pass rate of one fixed plain sentence: what knowing nothing scores."""
    return sum(check_response(item, DUMMY_RESPONSE) for item in items) / len(items)


def paired_tests(records: Mapping[Run, dict[str, Any]], sets: Mapping[str, Any]) -> list[Any]:
    """Paired (McNemar) comparisons of pass rates.

    Every run against the dummy answer, and the students of one teacher, method and size against
    each other, at draw and seed of the first run.

    Args:
        records: metrics.json per run.
        sets: Instructions per set, for the dummy's results.
    """
    dummy = {
        name: {item.id: check_response(item, DUMMY_RESPONSE) for item in items}
        for name, items in sets.items()
    }
    tests = []

    def compare(run: Run, against: str, other: Mapping[str, Mapping[str, bool]]) -> None:
        for name in sets:
            own = records[run]["instructions"][name]["results"]
            test = mcnemar([own[key] for key in own], [other[name][key] for key in own])
            head = {key: getattr(run, key) for key in _RUN_KEYS}
            tests.append({**head, "against": against, "set": name, **test})

    for run in records:
        compare(run, "dummy", dummy)
        for other in records:
            same = all(
                getattr(run, key) == getattr(other, key)
                for key in ("teacher", "method", "curation", "cache", "samples", "draw", "seed")
            )
            if same and run.student < other.student:
                results = {name: records[other]["instructions"][name]["results"] for name in sets}
                compare(run, other.student, results)
    return tests


def references(
    records: Mapping[Run, dict[str, Any]],
    teachers: Mapping[str, dict[str, Any]],
    efficiency: Mapping[str, dict[str, Any]],
    near_duplicates: dict[str, Any],
    table: pd.DataFrame,
    study: str,
) -> dict[str, Any]:
    """What the figures and the report show beside the runs: teachers, floor, checks, costs.

    Args:
        records: metrics.json per run.
        teachers: metrics.json per teacher that is a model.
        efficiency: Speed and memory per such teacher.
        near_duplicates: Similarity of test and training prompts.
        table: The runs table.
        study: Name of the study.
    """
    sets = instruction_sets(next(iter(records.values()))["spec"]["generated_instructions"])
    shown: dict[str, Any] = {}
    for name, record in teachers.items():
        speed, model = efficiency[name], record["model"]
        shown[name] = {
            **{
                key: record["heldout"][key]
                for key in ("loss", "loss_stderr", "perplexity", "bits_per_byte", "ece")
            },
            "reference_loss": record["reference"]["loss"],
            "reference_bits_per_byte": record["reference"]["bits_per_byte"],
            **{
                f"pass_rate{key}": record["instructions"]["fixed"][value]
                for key, value in (("", "rate"), ("_low", "low"), ("_high", "high"))
            },
            "pass_rate_large": record["instructions"]["large"]["rate"],
            **{key: model[key] for key in ("size_mb", "params", "params_non_embedding")},
            **{key: speed[key] for key in ("tokens_per_second", "flops_per_token")},
            "responses": record["responses"],
        }
    versions: dict[str, set[str]] = {}
    machines: set[str] = set()
    for record in [*records.values(), *teachers.values()]:
        for package, version in record["versions"].items():
            versions.setdefault(package, set()).add(version)
        machine = record["hardware"]
        machines.add(f"{machine['cpu']} x {machine['cpus']}, GPU: {machine['gpu'] or 'none'}")
    mixed = {name: sorted(found) for name, found in versions.items() if len(found) > 1}
    warnings = [
        f"rows mix {name} {' and '.join(found)}: numbers may differ slightly for that reason alone"
        for name, found in mixed.items()
    ]
    warnings += ["rows come from several machines"] if len(machines) > 1 else []
    identity = [
        {
            **{key: getattr(run, key) for key in _RUN_KEYS},
            **record["heldout"]["identity"],
        }
        for run, record in records.items()
        if record["heldout"]["identity"] is not None
    ]
    return {
        "schema": 1,
        "study": study,
        "teachers": shown,
        "floor": {name: _floor(items) for name, items in sets.items()},
        "unigram_entropy": {
            run.teacher: record["heldout"]["unigram_entropy"] for run, record in records.items()
        },
        "identity": identity,
        "near_duplicates": near_duplicates,
        "paired": paired_tests(records, sets),
        "costs": {
            "teacher_flops_total": float(table["teacher_flops_amortised"].sum()),
            "teacher_seconds_total": float(table["teacher_seconds_amortised"].sum()),
            "train_flops_total": float(table["train_flops"].sum()),
            "train_seconds_total": float(table["train_seconds"].sum()),
        },
        "versions": {name: sorted(found) for name, found in sorted(versions.items())},
        "hardware": sorted(machines),
        "warnings": warnings,
        "largest_samples": int(table["samples"].max()),
    }


def add_training(teachers: dict[str, Any], trained: Mapping[str, tuple[Run, str | Path]]) -> None:
    """Add to each teacher what its training cost: null for a given one, whose history is its own.

    Args:
        teachers: Of the references, by name; changed in place.
        trained: Run and training.json of each teacher that the study trains.
    """
    for name, entry in teachers.items():
        entry["train_flops"], entry["trained"] = None, None
        if name in trained:
            run, path = trained[name]
            record = read_json(path)
            entry["train_flops"] = record["train_flops"]
            entry["trained"] = {
                **{key: getattr(run, key) for key in Run.__dataclass_fields__},
                "tokens_seen": record["tokens_seen"],
                "tokens_unique": record["tokens_unique"],
            }


def qualitative_samples(
    responses: Mapping[Run, Sequence[dict[str, Any]]],
    teachers: Mapping[str, Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    """A few held-out prompts with the answers of every teacher and student (draw 0, first seed)."""
    prompts: dict[str, dict[str, Any]] = {}

    def entry(answer: dict[str, Any]) -> dict[str, Any]:
        blank = {"id": answer["id"], "prompt": answer["prompt"], "teacher": {}, "students": []}
        return prompts.setdefault(answer["id"], blank)

    for name, answers in teachers.items():
        for answer in answers:
            if answer["set"] == "test":
                entry(answer)["teacher"][name] = answer["text"]
    first_seed = min(run.seed for run in responses)
    for run, answers in responses.items():
        for answer in answers:
            if answer["set"] == "test" and run.draw == 0 and run.seed == first_seed:
                keys = ("student", "method", "curation", "cache", "samples")
                head = {key: getattr(run, key) for key in keys}
                shown = {**head, "text": answer["text"], "passed": answer["passed"]}
                entry(answer)["students"].append(shown)
    return {"schema": 1, "prompts": list(prompts.values())}


def _curations(shards: Mapping[Run, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each curation read, kept and dropped, per training set (whatever its soft targets)."""
    keys = ("teacher", "curation", "draw", "samples")
    found = {
        tuple(getattr(run, key) for key in keys): record["curation"]
        for run, record in shards.items()
        if record.get("curation")
    }
    return [dict(zip(keys, key, strict=True)) | found[key] for key in sorted(found)]


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
    out: Mapping[str, str],
) -> None:
    """Read all records of a study and write its runs table, references and samples.

    Args:
        spec: study, task, init, weights, runs (values of `Run`, in the order of `metrics`),
            shards (per run, its place in `shards` or None), decisions (likewise), efficiency
            (per run), teachers (name, place in `efficiency`), in the order of `teachers`,
            searches (names), methods (the settings of each) and, if any teacher is trained by the
            study, trained (name and values of `Run`, in the order of `trained`).
        metrics: metrics.json per run.
        responses: responses.jsonl per run, then per teacher.
        shards: Training sets, each once.
        decisions: What curations decided, each once.
        efficiency: Speed records, each once.
        teachers: metrics.json per teacher that is a model.
        near_duplicates: Report on test and training prompts.
        searches: best.json per search, in the order of spec's searches.
        trained: training.json per teacher that the study trains.
        out: Paths of runs (Parquet), csv, references and samples (JSON).
    """
    runs = [Run(*values) for values in spec["runs"]]
    records = {run: read_json(path) for run, path in zip(runs, metrics, strict=True)}
    speeds = [read_json(path) for path in efficiency]
    names = [name for name, _ in spec["teachers"]]
    judged = {name: read_json(path) for name, path in zip(names, teachers, strict=True)}
    speed_of = {name: speeds[place] for name, place in spec["teachers"]}
    places = dict(zip(runs, spec["shards"], strict=True))
    shard_of = {run: None if place is None else shards[place] for run, place in places.items()}
    shown = {
        run: {} if path is None else read_json(Path(path).with_suffix(".json"))
        for run, path in shard_of.items()
    }
    caches = {run: record.get("cache") for run, record in shown.items()}
    chosen = dict(zip(runs, spec["decisions"], strict=True))
    table = runs_table(
        records,
        shard_of,
        {run: speeds[place] for run, place in zip(runs, spec["efficiency"], strict=True)},
        {name: speed["tokens_per_second"] for name, speed in speed_of.items()},
        spec,
        caches,
        {run: None if place is None else decisions[place] for run, place in chosen.items()},
    )
    write_runs(table, out["runs"], out["csv"])
    beside = references(records, judged, speed_of, read_json(near_duplicates), table, spec["study"])
    beside["methods"] = spec["methods"]
    beside["caches"] = {run.cache: record for run, record in caches.items() if record}
    beside["curations"] = _curations(shown)
    found = zip(spec["searches"], searches, strict=True)
    beside["searches"] = {name: read_json(path) for name, path in found}
    made = zip(spec.get("trained", []), trained, strict=True)
    add_training(beside["teachers"], {name: (Run(*run), path) for (name, *run), path in made})
    write_json(out["references"], beside)
    answers = [
        [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        for path in responses
    ]
    students = dict(zip(runs, answers[: len(runs)], strict=True))
    taught = dict(zip(names, answers[len(runs) :], strict=True))
    write_json(out["samples"], qualitative_samples(students, taught))
