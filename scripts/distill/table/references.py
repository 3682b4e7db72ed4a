"""What accompanies the runs table: teachers, floors, paired tests, checks and sample answers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from distill.contracts.columns import COLUMNS
from distill.contracts.run import Run
from distill.core.files import read_json
from distill.stats.tokens import mcnemar

_RUN_KEYS = ("student", "method", "curation", "cache", "samples", "draw", "seed")


@cache
def _test(only_first: int, only_second: int) -> dict[str, int | float]:
    """The paired test depends on two counts, of which there are few, however many the pairs."""
    first = [True] * only_first + [False] * only_second
    return mcnemar(first, [not passed for passed in first])


def paired_tests(
    records: Mapping[Run, dict[str, Any]], dummy: Mapping[str, Mapping[str, bool]]
) -> list[Any]:
    """Paired (McNemar) comparisons of pass rates.

    Every run against the dummy answer, and the students of one teacher, method and size against
    each other, draw by draw and seed by seed.

    Args:
        records: metrics.json per run.
        dummy: The dummy's results per set.
    """
    tests = []

    def compare(run: Run, against: str, other: Mapping[str, Mapping[str, bool]]) -> None:
        for name in dummy:
            results_of_run = records[run]["instructions"][name]["results"]
            pairs = [(passed, other[name][key]) for key, passed in results_of_run.items()]
            counts = [sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)]
            test = _test(*counts)
            head = {key: getattr(run, key) for key in _RUN_KEYS}
            tests.append({**head, "against": against, "set": name, **test})

    rivals: dict[Run, list[Run]] = {}
    for run in records:
        rivals.setdefault(replace(run, student=""), []).append(run)
    for run in records:
        compare(run, "dummy", dummy)
        for other in rivals[replace(run, student="")]:
            if run.student < other.student:
                results = {name: records[other]["instructions"][name]["results"] for name in dummy}
                compare(run, other.student, results)
    return tests


def _machines(records: Sequence[Mapping[str, Any]]) -> set[str]:
    hardware = [record["hardware"] for record in records]
    return {f"{one['cpu']} x {one['cpus']}, GPU: {one['gpu'] or 'none'}" for one in hardware}


def _versions(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Of each package, all that made a row."""
    names = {name for record in records for name in record["versions"]}
    return {
        name: sorted({one["versions"][name] for one in records if name in one["versions"]})
        for name in sorted(names)
    }


def mixtures(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on versions, machines and precisions that differ between rows.

    Args:
        records: metrics.json of students and teachers; students alone are asked for precision.
    """
    several = {name: values for name, values in _versions(records).items() if len(values) > 1}
    slightly = "numbers may differ slightly for that reason alone"
    sentences = [
        f"rows mix {name} {' and '.join(values)}: {slightly}" for name, values in several.items()
    ]
    sentences += ["rows come from several machines"] if len(_machines(records)) > 1 else []
    students = [record for record in records if "training" in record]
    used = {
        "trained": [one["training"].get("precision") for one in students],
        "evaluated": [one.get("precision") for one in students],
    }
    for what, precisions in used.items():
        if len(values := sorted({one for one in precisions if one})) > 1:
            sentences.append(f"rows were {what} in {' and '.join(values)}: {slightly}")
    return sentences


def timing_warnings(speeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on timings that were disturbed, or are in an order that cannot be.

    Args:
        speeds: Speed record of each student and teacher, with the architecture in its spec.
    """
    again = "run `snakemake --cores 1 --forcerun measure_efficiency` while the machine is idle"
    disturbed = [name for name, speed in speeds.items() if speed.get("disturbed")]
    sentences = []
    if disturbed:
        sentences.append(
            f"other programs disturbed the timing of {', '.join(disturbed)}, whose speeds are left "
            f"out of fronts and scores; {again}"
        )
    kinds: dict[str, list[tuple[float, float, str]]] = {}
    for name, speed in speeds.items():
        spec = dict(speed.get("spec", {}).get("architecture", {}))
        layers = spec.pop("layers", math.inf)  # a whole model has more than any cut of it
        if name not in disturbed and isinstance(layers, (int, float)):
            kind = json.dumps(spec, sort_keys=True)
            kinds.setdefault(kind, []).append((layers, float(speed["tokens_per_second"]), name))
    for models in kinds.values():
        for (fewer, slow, one), (more, fast, other) in pairwise(sorted(models)):
            if fewer < more and slow < fast:
                sentences.append(
                    f"{one} was slower ({slow:.0f} tokens/s) than {other} ({fast:.0f}), although "
                    f"it has fewer layers of the same model: this timing cannot be right; {again}"
                )
    return sentences


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
    first = next(iter(records.values()))
    dummy: dict[str, dict[str, bool]] = {}
    if first["instructions"] is not None:
        dummy = {name: met["dummy"] for name, met in first["instructions"].items()}
    teacher_entries: dict[str, Any] = {}
    for name, record in teachers.items():
        sections = record | {"speed": efficiency[name]}
        teacher_entries[name] = {
            **{
                column.name: column.read(sections)
                for column in COLUMNS.values()
                if column.teacher and sections.get(column.path.split(".")[0]) is not None
            },
            **{f"job_{key}": value for key, value in record["job"].items()},
            "responses": record["responses"],
        }
    all_records = [*records.values(), *teachers.values()]
    warnings = mixtures(all_records)
    if unknown := int(table["total_kwh_amortised"].isna().sum()):
        warnings.append(
            f"the energy of {unknown} of {len(table)} rows is not known: a server's, that of a GPU "
            "without NVML, or results of an earlier version"
        )
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
        "teachers": teacher_entries,
        "floor": {name: sum(met.values()) / len(met) for name, met in dummy.items()},
        "items": {name: len(met) for name, met in dummy.items()},
        "unigram_entropy": {
            run.teacher: record["heldout"]["unigram_entropy"] for run, record in records.items()
        },
        "unigram_loss": _unigram_losses(table),
        "identity": identity,
        "near_duplicates": near_duplicates,
        "paired": paired_tests(records, dummy),
        "costs": {
            "teacher_flops_total": float(table["teacher_flops_amortised"].sum()),
            "teacher_seconds_total": float(table["teacher_seconds_amortised"].sum()),
            "train_flops_total": float(table["train_flops"].sum()),
            "train_seconds_total": float(table["train_seconds"].sum()),
            **_energy_totals(table),
        },
        "versions": _versions(all_records),
        "hardware": sorted(_machines(all_records)),
        "warnings": warnings,
        "largest_samples": int(table["samples"].max()),
    }


def _unigram_losses(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean loss of the unigram model per teacher and number of samples, in nats per token."""
    known = table[table["unigram_loss"].notna()]
    losses: dict[str, dict[str, float]] = {}
    for (teacher, samples), cell in known.groupby(["teacher", "samples"]):
        losses.setdefault(str(teacher), {})[str(samples)] = float(cell["unigram_loss"].mean())
    return losses


def _energy_totals(table: pd.DataFrame) -> dict[str, float | None]:
    """Energy of the teacher's text, of training, of all with soft targets, and how much of it is
    an estimate; null where that of any run is unknown."""
    estimated = (table["kwh_estimated"].fillna(0.0) * table["total_kwh_amortised"]).sum()
    total = float(table["total_kwh_amortised"].sum())
    totals = {
        "teacher_kwh_total": float(table["teacher_kwh_amortised"].sum()),
        "train_kwh_total": float(table["train_kwh"].sum()),
        "kwh_total": total,
        "kwh_estimated_share": float(estimated) / total if total else 0.0,
    }
    known = bool(table["total_kwh_amortised"].notna().all())
    return dict(totals) if known else dict.fromkeys(totals)


def add_training(teachers: dict[str, Any], trained: Mapping[str, tuple[Run, str | Path]]) -> None:
    """Add to each teacher what its training cost: null for a given one, whose history is its own.

    Args:
        teachers: Of the references, by name; changed in place.
        trained: Run and training.json of each teacher that the study trains.
    """
    for name, entry in teachers.items():
        entry |= dict.fromkeys(("train_flops", "train_kwh", "train_energy_from", "trained"))
        if name in trained:
            run, path = trained[name]
            record = read_json(path)
            entry["train_flops"] = record["train_flops"]
            entry["train_kwh"] = record.get("energy_kwh")
            entry["train_energy_from"] = record.get("energy_from")
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
                sample = {**head, "text": answer["text"], "passed": answer["passed"]}
                entry(answer)["students"].append(sample)
    return {"schema": 1, "prompts": list(prompts.values())}


def curation_counts(shards: Mapping[Run, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each curation read, kept and dropped, per training set (whatever its soft targets)."""
    keys = ("teacher", "curation", "draw", "samples")
    counts = {
        tuple(getattr(run, key) for key in keys): record["curation"]
        for run, record in shards.items()
        if record.get("curation")
    }
    return [dict(zip(keys, key, strict=True)) | counts[key] for key in sorted(counts)]
