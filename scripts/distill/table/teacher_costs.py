"""What a teacher's work cost, shared among the runs that use it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.contracts.costs import UNITS
from distill.contracts.run import Run
from distill.core.parquet import read_schema, read_table


def teacher_costs(
    shards: Mapping[Run, str | Path | None],
    decisions: Mapping[Run, str | Path | None] | None = None,
) -> dict[Run, dict[str, Any]]:
    """Marginal and amortised cost of the teacher's text and soft targets per run.

    Text counts the rows that a curation read and dropped for the run, and the teacher's own loss
    on all rows read where it chose by that. Soft targets count the rows kept: they could be made
    after.

    Marginal: all that the run's rows cost. Amortised: each row's cost is split evenly over the runs
    whose shard holds it (with that teacher for text, with that cache for soft targets), so that the
    runs' sum is what was spent. A row dropped for a run is split as one that its shard holds.

    Energy (kwh, and kwh_estimated of it) is None where that of any work is unknown.

    Args:
        shards: Training data per run, None for n = 0.
        decisions: Of the curation that chose the run's rows, if one did.
    """
    tables: dict[Run, list[dict[str, Any]]] = {}
    kinds = ("teacher", "target", "filter")
    users: dict[str, Counter[tuple[Any, ...]]] = {kind: Counter() for kind in kinds}
    alike: dict[tuple[Any, ...], list[Run]] = {}  # many seeds and students read one shard
    for run, path in shards.items():
        key = (run.teacher, run.cache, path, (decisions or {}).get(run))
        alike.setdefault(key, []).append(run)
    for (_, _, path, chosen), (run, *others) in alike.items():
        if path is None:
            continue
        shard_rows = read_costs(path, ["row"], ("teacher", "target", "layer"))
        tables[run] = [
            row
            | {
                f"target_{unit}": known_sum(
                    [_cost(row, kind, unit) for kind in ("target", "layer")]
                )
                for unit in UNITS
            }
            for row in shard_rows
        ]
        readers = 1 + len(others)
        users["target"].update({_user(run, r["row"], "target"): readers for r in tables[run]})
        if chosen:
            tables[run] = _with_dropped(tables[run], chosen)
        users["teacher"].update({_user(run, r["row"], "teacher"): readers for r in tables[run]})
        scored = (row["row"] for row in tables[run] if row.get("filter_flops"))
        users["filter"].update({_user(run, row, "filter"): readers for row in scored})

    def total(run: Run, kind: str, unit: str, suffix: str) -> float | None:
        shares = []
        for row in tables.get(run, []):
            if cost := _cost(row, kind, unit):
                cost /= users[kind][_user(run, row["row"], kind)] if suffix else 1
            shares.append(cost)
        return known_sum(shares)

    costs = {
        run: {
            f"{kind}_{unit}{suffix}": known_sum([total(run, part, unit, suffix) for part in parts])
            for kind, parts in (("teacher", ("teacher", "filter")), ("target", ("target",)))
            for unit in UNITS
            for suffix in ("", "_amortised")
        }
        for run, *_ in alike.values()
    }
    return {run: costs[first] for first, *others in alike.values() for run in (first, *others)}


def read_costs(
    path: str | Path, columns: Sequence[str], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of some columns, and of those costs that the file holds."""
    names = set(read_schema(path).names)
    costs = [f"{kind}_{unit}" for kind in kinds for unit in UNITS]
    return read_table(path, [*columns, *(name for name in costs if name in names)]).to_pylist()


def _cost(row: Mapping[str, Any], kind: str, unit: str) -> float | None:
    """A cost of a row, 0 where there was no such work; None for an unknown energy."""
    cost: float | None = row.get(f"{kind}_{unit}")
    if cost is None and "kwh" in unit:
        worked = row.get(f"{kind}_flops") or row.get(f"{kind}_seconds")
        return None if worked else 0.0
    return cost or 0.0


def known_sum(parts: Sequence[float | None]) -> float | None:
    """The sum, None where a part is."""
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def _user(run: Run, row: int, kind: str) -> tuple[Any, ...]:
    return (run.teacher, run.cache, row) if kind == "target" else (run.teacher, row)


def _with_dropped(rows: list[dict[str, Any]], decisions: str | Path) -> list[dict[str, Any]]:
    """A shard's rows with the costs of choosing them, and after them the rows dropped."""
    read = read_costs(decisions, ["row", "dropped"], ("teacher", "filter"))
    costs = {row["row"]: row for row in read}
    filters = [f"filter_{unit}" for unit in UNITS]
    chosen = [row | {name: costs[row["row"]].get(name) for name in filters} for row in rows]
    return chosen + [row for row in read if row["dropped"]]
