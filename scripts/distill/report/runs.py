"""The report's tables of runs: their data, one mapping per row."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.runs import doubling, extrapolation
from distill.contracts.columns import COLUMNS, columns_of
from distill.stats.tokens import wilson_interval
from distill.table.lines import Line, has_values

RUN_TABLES = ("Quality", "Answers compared with the data set's own", "Training", "Scores")
COST_TABLES = ("FLOPs", "Seconds", "Energy")
"""Groups of columns that a table each shows."""
MOST_LISTED = 400
"""Runs and tests that a page lists one by one; of more it shows the first, and says so."""
FORECASTS = {"loss": "loss, nats", "perplexity": "perplexity", "gap": "KL, nats"}
"""Quantities that are predicted, by their key in an answer's numbers."""
Row = dict[str, Any]


def gains(asked: Mapping[str, list[Row]]) -> list[Row]:
    """The gains per doubling of all lines, a row per step.

    Args:
        asked: records of answers.json by question.
    """
    return [
        {"label": answer["label"], **step}
        for answer in asked.get(doubling.KEY, [])
        for step in answer["numbers"].get("gains_per_doubling", [])
    ]


def forecasts(asked: Mapping[str, list[Row]]) -> list[Row]:
    """Predicted beside measured values of the largest size of each line."""
    rows = []
    for answer in asked.get(extrapolation.KEY, []):
        numbers = answer["numbers"]
        for key, quantity in FORECASTS.items():
            if numbers.get(f"predicted_{key}") is None:
                continue
            rows.append(
                {
                    "label": answer["label"],
                    "quantity": quantity,
                    "samples": numbers["to"],
                    "predicted": numbers[f"predicted_{key}"],
                    "measured": numbers[f"measured_{key}"],
                    "error": numbers[f"relative_error_{key}"],
                    "outcome": _outcome(numbers) if key == "loss" else None,
                    "no_change": numbers.get(f"relative_error_{key}_no_change"),
                }
            )
    return rows


def _outcome(numbers: Row) -> str:
    """Whether a forecast was too high, too low, within the noise or untested."""
    low, high = numbers["miss_nats_low"], numbers["miss_nats_high"]
    if low is None:
        return "untested"
    return "high" if low > 0 else "low" if high < 0 else "noise"


def cell_of(runs: pd.DataFrame, columns: list[str]) -> Row:
    """The values of some columns in some runs, shape (runs,) each, without nulls."""
    return {
        name: pd.to_numeric(runs[name], errors="coerce").dropna().to_numpy(float)
        if name in runs
        else np.empty(0)
        for name in columns
    }


def filled_columns(lines: list[Line], group: str) -> list[str]:
    """Columns of a group in which some line has a number."""
    return [c for c in columns_of(group) if any(has_values(line.runs, c) for line in lines)]


def run_tables(lines: list[Line]) -> list[dict[str, Any]]:
    """A table per group of columns: the runs of each cell, and of students before training."""
    tables = []
    for title in RUN_TABLES:
        columns = filled_columns(lines, title)
        cells = [
            {"label": line.label, "samples": size, "runs": len(cell), **cell_of(cell, columns)}
            for line in lines
            for size in line.sizes
            if len(cell := line.runs[line.runs["samples"] == size])
        ]
        starts = pd.concat([line.before for line in lines])
        starts = starts[~starts.index.duplicated()]
        cells += [
            {"label": student, "kind": "start", "samples": 0, "runs": len(before),
             **cell_of(before, columns)}
            for student, before in starts.groupby("student", sort=False)
        ]  # fmt: skip
        if columns:
            tables.append({"title": title, "columns": columns, "rows": cells})
    return tables


def students_table(
    table: pd.DataFrame, lines: list[Line], references: Mapping[str, Any]
) -> dict[str, Any]:
    """The properties of each student's architecture, and of the teachers'."""
    columns = [
        c for c in columns_of("Students") if c in table and (c == "init" or has_values(table, c))
    ]
    numbers = [c for c in columns if not COLUMNS[c].text]
    rows = []
    for student in dict.fromkeys(line.student for line in lines):
        runs = table[table["student"] == student]
        inits = runs["init"].dropna().astype(str).unique() if "init" in runs else []
        rows.append({"label": student, "init": ", ".join(inits), **cell_of(runs, numbers)})
    for name, facts in references.get("teachers", {}).items():
        known = pd.DataFrame([{c: facts.get(c) for c in numbers}])
        rows.append({"label": name, "kind": "teacher", **cell_of(known, numbers)})
    return {"columns": columns, "rows": rows}


def pass_rates(
    table: pd.DataFrame, lines: list[Line], references: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Pass rates, those of one canned answer, and the paired tests of the largest size."""
    if not has_values(table, "pass_rate"):
        return None
    few = sum(len(line.runs) for line in lines) <= MOST_LISTED
    rows: list[Row] = []
    for line in lines:
        listed = line.runs if few else line.runs[_first(line.runs)]
        listed = listed.sort_values(["samples", "draw", "seed"])
        rows += [{**run, "label": line.label} for run in listed.to_dict("records")]
    starts = {line.student: line.before for line in lines}
    for student, before in starts.items():
        rows += [
            {**run, "label": student, "kind": "start", "draw": None}
            for run in before.to_dict("records")
        ]
    for name, facts in references.get("teachers", {}).items():
        rows.append({**facts, "label": name, "kind": "teacher"})
    paired = references.get("paired") or []
    largest = max((test["samples"] for test in paired), default=0)
    tests = [test for test in paired if test["samples"] == largest]
    if len(tests) > MOST_LISTED:
        tests = [test for test in tests if not (test["draw"] or test["seed"])]
    items = (references.get("items") or {}).get("large")
    low, high = wilson_interval(items // 2, items) if items else (0.0, 0.0)
    return {
        "rows": rows,
        "large": has_values(table, "pass_rate_large"),
        "items": items,
        "margin": (high - low) / 2,
        "floor": {
            k: rate for k, rate in (references.get("floor") or {}).items() if rate is not None
        },
        "tests": tests[:MOST_LISTED],
        "few": few,
        "more_tests": len(tests) > MOST_LISTED or not few,
        "count": len(paired),
        "apart": sum(test["p_value"] < 0.05 for test in paired),
        "largest": largest,
    }


def _first(runs: pd.DataFrame) -> pd.Series:
    """Which runs have the least draw of their size, and of that the least seed."""
    order = runs["draw"] * (runs["seed"].max() + 1) + runs["seed"]
    return order == order.groupby(runs["samples"]).transform("min")


def identity_checks(references: Mapping[str, Any]) -> dict[str, Any]:
    """How far a student's loss minus its teacher's is from their divergence, run by run."""
    tests = references.get("identity") or []
    distances = [abs(test["z"]) for test in tests if test.get("z") is not None]
    return {
        "rows": tests[:MOST_LISTED],
        "few": len(tests) <= MOST_LISTED,
        "count": len(distances),
        "good": sum(z < 3 for z in distances),
        "worst": max(distances, default=None),
    }


def costs(
    lines: list[Line], references: Mapping[str, Any], answers: list[dict[str, Any]]
) -> dict[str, Any]:
    """What each line's largest run cost, quality per kWh, and the study's own totals.

    Args:
        lines: of the runs table.
        references: references.json.
        answers: records of the question on energy and quality.
    """
    tables = []
    for title in COST_TABLES:
        if columns := filled_columns(lines, title):
            rows = [
                {"label": line.label, "samples": line.sizes[-1],
                 **cell_of(line.runs[line.runs["samples"] == line.sizes[-1]], columns)}
                for line in lines
            ]  # fmt: skip
            tables.append({"title": title, "columns": columns, "rows": rows})
    return {
        "tables": tables,
        "totals": _flat(references.get("costs") or {}),
        "quality": [cell for answer in answers for cell in answer["numbers"]["cells"]],
        "estimated": any(answer["numbers"].get("kwh_estimated") for answer in answers),
    }


def _flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten nested numbers to pairs of a name and a value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}: ")
        else:
            pairs.append((f"{prefix}{key}".replace("_", " "), value))
    return pairs
