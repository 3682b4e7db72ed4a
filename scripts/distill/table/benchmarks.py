"""Benchmark scores in the runs table, and in references.json against the teacher's."""

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
    plan: Mapping[str, Any],
    runs: Sequence[Run],
    files: Sequence[str],
) -> pd.DataFrame:
    """Read all scores; return the runs table with them.

    Args:
        table: The runs table.
        references: references.json, which gains `benchmarks`, the harness's version and a warning
            where there are several.
        plan: tasks (names), runs (place in `runs` and task) and teachers (name and task).
        runs: Of the study.
        files: Scores, in the order of asked's runs, then teachers.
    """
    scores: list[Record] = [read_json(path) for path in files]
    pairs = [(runs[place], task) for place, task in plan["runs"]]
    students = dict(zip(pairs, scores[: len(pairs)], strict=True))
    teacher_pairs = [(name, task) for name, task in plan["teachers"]]
    teachers = dict(zip(teacher_pairs, scores[len(pairs) :], strict=True))
    references["benchmarks"] = benchmark_summary(plan["tasks"], students, teachers)
    versions = sorted({one["versions"]["lm_eval"] for one in scores})
    references["versions"]["lm_eval"] = versions
    if len(versions) > 1:
        references["warnings"].append(f"benchmarks mix lm_eval {' and '.join(versions)}")
    return with_benchmarks(table, plan["tasks"], students)


def with_benchmarks(
    table: pd.DataFrame, tasks: Sequence[str], scores: Mapping[tuple[Run, str], Record]
) -> pd.DataFrame:
    """The runs table with two columns per task at its end, null for runs not evaluated on it."""
    keys = list(Run.__dataclass_fields__)
    runs = [Run(*values) for values in table[keys].itertuples(index=False, name=None)]
    out = table.copy()
    for task in tasks:
        records: list[Record] = [scores.get((run, task), {}) for run in runs]
        for column, key in zip(benchmark_columns(task), ("value", "stderr"), strict=True):
            out[column] = pd.Series([one.get(key) for one in records], dtype="float64")
    return out


def benchmark_summary(
    tasks: Sequence[str],
    students: Mapping[tuple[Run, str], Record],
    teachers: Mapping[tuple[str, str], Record],
) -> dict[str, Any]:
    """The entry `benchmarks` of references.json.

    Returns:
        tasks (what each is), teachers (by name and task: value, stderr, cut) and cells: per cell
        of the runs table and task the mean score of its runs, and difference, above_chance, share
        and share_above_chance with their intervals, null where there is none.

    Raises:
        UserError: Models were evaluated on different documents of a task.
    """
    out: dict[str, Any] = {"tasks": {}, "teachers": {}, "cells": []}
    for task in tasks:
        student_records = {pair[0]: record for pair, record in students.items() if pair[1] == task}
        teacher_records = {pair[0]: record for pair, record in teachers.items() if pair[1] == task}
        out["tasks"][task] = _description(
            task, [*student_records.values(), *teacher_records.values()]
        )
        for name, record in teacher_records.items():
            entry = {key: record[key] for key in ("value", "stderr", "cut")}
            out["teachers"].setdefault(name, {})[task] = entry
        cells: dict[tuple[Any, ...], list[Record]] = {}
        for run, record in student_records.items():
            cells.setdefault(tuple(getattr(run, key) for key in CELL), []).append(record)
        for cell, records in cells.items():
            summary = dict(zip(CELL, cell, strict=True)) | {"task": task, "runs": len(records)}
            summary["cut"] = max(record["cut"] for record in records)
            out["cells"].append(
                summary | _compared(records, teacher_records.get(summary["teacher"]))
            )
    return out


def _description(task: str, records: Sequence[Record]) -> dict[str, Any]:
    """What a task is, the same for all models evaluated on it."""
    shared = ("metric", "filter", "documents_sha256", "n", "fewshot", "version", "chance")
    first = records[0]
    for key in shared:
        if any(record[key] != first[key] for record in records):
            raise UserError(
                f"models were evaluated on different forms of the benchmark {task} ({key}: "
                f"{' and '.join(sorted({str(record[key]) for record in records}))}), because its "
                "data or the harness changed between evaluations; delete the files "
                f"benchmarks/{task}.json of students and teachers in the study's results and run "
                "again"
            )
    described = {key: first[key] for key in (*shared, "higher_is_better")}
    return described | {"limit": first["spec"]["limit"]}


def _score(record: Record) -> Score:
    return Score(record["value"], record["stderr"], record["documents"])


def _compared(records: Sequence[Record], teacher: Record | None) -> dict[str, Any]:
    """The mean score of a cell's runs, against guessing and against the teacher."""
    score, chance = mean_score([_score(record) for record in records]), records[0]["chance"]
    numbers: dict[str, Any] = {"value": score.value, "stderr": score.stderr}
    numbers |= _numbers("above_chance", None if chance is None else against(score, chance))
    teacher_score = None if teacher is None else _score(teacher)
    numbers |= _numbers(
        "difference", None if teacher_score is None else difference(score, teacher_score)
    )
    shares = teacher_score is not None and records[0]["higher_is_better"] is not False
    share_of_teacher = share(score, teacher_score) if teacher_score is not None and shares else None
    numbers |= _numbers("share", share_of_teacher)
    above = (
        share(score, teacher_score, chance)
        if teacher_score is not None and chance is not None
        else None
    )
    return numbers | _numbers("share_above_chance", above)


def _numbers(name: str, value: Estimate | None) -> dict[str, Any]:
    blank = Estimate(0.0, None, None, None)
    return dict.fromkeys(blank.numbers(name)) if value is None else value.numbers(name)
