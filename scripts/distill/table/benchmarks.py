"""Scores on benchmarks in the runs table, and beside it against the teacher's."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from distill.contracts.columns import benchmark_columns
from distill.contracts.run import Run
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.stats.intervals import Estimate
from distill.stats.shares_kept import Score, against, difference, mean_score, share

CELL = ("teacher", "student", "method", "curation", "cache", "samples")
"""What the runs of a cell agree in: they differ by draw and seed."""
Record = Mapping[str, Any]
"""A score as `distill.evaluation.benchmarks.run_benchmark` writes it."""


def add_benchmarks(
    table: pd.DataFrame,
    references: dict[str, Any],
    asked: Mapping[str, Any],
    runs: Sequence[Run],
    files: Sequence[str],
) -> pd.DataFrame:
    """Read all scores; return the runs table with them.

    Args:
        table: The runs table.
        references: references.json, which gains `benchmarks`, the harness's version and a warning
            where there are several.
        asked: tasks (names), runs (place in `runs` and task) and teachers (name and task).
        runs: Of the study.
        files: Scores, in the order of asked's runs, then teachers.
    """
    scores: list[Record] = [read_json(path) for path in files]
    judged = [(runs[place], task) for place, task in asked["runs"]]
    students = dict(zip(judged, scores[: len(judged)], strict=True))
    taught = [(name, task) for name, task in asked["teachers"]]
    teachers = dict(zip(taught, scores[len(judged) :], strict=True))
    references["benchmarks"] = benchmark_summary(asked["tasks"], students, teachers)
    versions = sorted({one["versions"]["lm_eval"] for one in scores})
    references["versions"]["lm_eval"] = versions
    if len(versions) > 1:
        references["warnings"].append(f"benchmarks mix lm_eval {' and '.join(versions)}")
    return with_benchmarks(table, asked["tasks"], students)


def with_benchmarks(
    table: pd.DataFrame, tasks: Sequence[str], scores: Mapping[tuple[Run, str], Record]
) -> pd.DataFrame:
    """The runs table with two columns per task at its end, null for runs not judged on it."""
    keys = list(Run.__dataclass_fields__)
    runs = [Run(*values) for values in table[keys].itertuples(index=False, name=None)]
    out = table.copy()
    for task in tasks:
        found: list[Record] = [scores.get((run, task), {}) for run in runs]
        for column, key in zip(benchmark_columns(task), ("value", "stderr"), strict=True):
            out[column] = pd.Series([one.get(key) for one in found], dtype="float64")
    return out


def benchmark_summary(
    tasks: Sequence[str],
    students: Mapping[tuple[Run, str], Record],
    teachers: Mapping[tuple[str, str], Record],
) -> dict[str, Any]:
    """What references.json says of benchmarks.

    Returns:
        tasks (what each is), teachers (by name and task: value, stderr, cut) and cells: per cell
        of the runs table and task the mean score of its runs, and difference, above_chance, share
        and share_above_chance with their intervals, null where there is none.

    Raises:
        UserError: Models were evaluated on different documents of a task.
    """
    out: dict[str, Any] = {"tasks": {}, "teachers": {}, "cells": []}
    for task in tasks:
        own = {pair[0]: record for pair, record in students.items() if pair[1] == task}
        theirs = {pair[0]: record for pair, record in teachers.items() if pair[1] == task}
        out["tasks"][task] = _description(task, [*own.values(), *theirs.values()])
        for name, record in theirs.items():
            shown = {key: record[key] for key in ("value", "stderr", "cut")}
            out["teachers"].setdefault(name, {})[task] = shown
        cells: dict[tuple[Any, ...], list[Record]] = {}
        for run, record in own.items():
            cells.setdefault(tuple(getattr(run, key) for key in CELL), []).append(record)
        for cell, records in cells.items():
            found = dict(zip(CELL, cell, strict=True)) | {"task": task, "runs": len(records)}
            found["cut"] = max(record["cut"] for record in records)
            out["cells"].append(found | _compared(records, theirs.get(found["teacher"])))
    return out


def _description(task: str, records: Sequence[Record]) -> dict[str, Any]:
    """What a task is, the same for all who were judged on it."""
    shared = ("metric", "filter", "documents_sha256", "n", "fewshot", "version", "chance")
    first = records[0]
    for key in shared:
        if any(record[key] != first[key] for record in records):
            raise UserError(
                f"models were evaluated on different forms of the benchmark {task} ({key}: "
                f"{' and '.join(sorted({str(record[key]) for record in records}))}), because its data "
                f"or the harness changed between evaluations; delete the files benchmarks/{task}.json of "
                "students and teachers in the study's results and run again"
            )
    described = {key: first[key] for key in (*shared, "higher_is_better")}
    return described | {"limit": first["spec"]["limit"]}


def _score(record: Record) -> Score:
    return Score(record["value"], record["stderr"], record["documents"])


def _compared(records: Sequence[Record], teacher: Record | None) -> dict[str, Any]:
    """The mean score of a cell's runs, against guessing and against the teacher."""
    own, chance = mean_score([_score(record) for record in records]), records[0]["chance"]
    found: dict[str, Any] = {"value": own.value, "stderr": own.stderr}
    found |= _numbers("above_chance", None if chance is None else against(own, chance))
    taught = None if teacher is None else _score(teacher)
    found |= _numbers("difference", None if taught is None else difference(own, taught))
    shares = taught is not None and records[0]["higher_is_better"] is not False
    whole = share(own, taught) if taught is not None and shares else None
    found |= _numbers("share", whole)
    above = share(own, taught, chance) if taught is not None and chance is not None else None
    return found | _numbers("share_above_chance", above)


def _numbers(name: str, found: Estimate | None) -> dict[str, Any]:
    blank = Estimate(0.0, None, None, None)
    return dict.fromkeys(blank.numbers(name)) if found is None else found.numbers(name)
