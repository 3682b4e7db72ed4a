"""At which size the loss plus a stated cost is lowest; claimed only inside the range of sizes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, Need, about_line
from distill.answers.contrast import contrast
from distill.answers.measured import Measured
from distill.answers.needs import need_precision
from distill.core.errors import UserError
from distill.stats.intervals import Spread
from distill.table.lines import Line, has_values, pooled_over

KEY = "sweet_spot"


def answer(study: Measured) -> list[Answer]:
    """The size of the lowest total, line by line.

    Raises:
        UserError: The cost names a column that the table does not hold.
    """
    cost = study.settings.get("cost")
    if not cost:
        need = Need("cost", change={"evaluate.cost.samples": None})
        return [
            Answer(
                KEY,
                about_line(line),
                "cannot_tell",
                {"cost": None, "samples": None, "largest_samples": line.sizes[-1]},
                (need,),
            )
            for line in study.lines
        ]
    totals = [_with_total(line, cost) for line in study.lines]
    spread = pooled_over(totals, "total")
    return [_sweet_spot(line, spread, cost) for line in totals]


def _with_total(line: Line, cost: Mapping[str, float]) -> Line:
    total = line.runs["loss"].copy()
    for column, price in cost.items():
        if not has_values(line.runs, column):
            raise UserError(
                f"the cost names column {column}, which the runs table does not hold for "
                f"{line.label}; use another column"
            )
        total += price * pd.to_numeric(line.runs[column], errors="coerce")
    return replace(line, runs=line.runs.assign(total=total))


def _sweet_spot(line: Line, spread: Spread | None, cost: Mapping[str, float]) -> Answer:
    cells = line.cells("total")
    smallest, largest = line.sizes[0], line.sizes[-1]
    best = int(cells["mean"].idxmin())
    numbers: dict[str, Any] = {
        "cost": dict(cost),
        "samples": None,
        "lowest_measured_at": best,
        "largest_samples": largest,
        "totals": [{"samples": n, "total": float(cells.loc[n, "mean"])} for n in line.sizes],
    }
    about = about_line(line)
    if best == largest:
        sizes = [*line.sizes, 2 * largest]
        need = Need("larger_size", 2 * largest, largest, {"runs[].samples": sizes})
        return Answer(KEY, about, "cannot_tell", numbers, (need,))
    if best == smallest:
        below = smallest // 2
        change = {"runs[].samples": [below, *line.sizes]} if below else {}
        need = Need("smaller_size", below or None, smallest, change)
        return Answer(KEY, about, "cannot_tell", numbers, (need,))
    ends = {
        "smallest_minus_best": contrast(cells, {smallest: 1, best: -1}, spread),
        "largest_minus_best": contrast(cells, {largest: 1, best: -1}, spread),
    }
    for name, end in ends.items():
        numbers |= end.numbers(name)
    unclear = [end for end in ends.values() if end.sign <= 0]
    if unclear:
        need = need_precision(min(unclear, key=lambda end: end.value), int(cells["count"].min()))
        return Answer(KEY, about, "cannot_tell", numbers, (need,))
    return Answer(KEY, about, "answered", numbers | {"samples": best})
