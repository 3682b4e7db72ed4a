"""Whether a lower loss improves the task metric: rank correlation of pass rates and losses."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd
from scipy import stats

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.needs import need_sizes
from distill.config.evaluation import MOST_INSTRUCTIONS
from distill.stats.intervals import LEVEL, Estimate
from distill.table.lines import Line, has_values, sort_out

KEY = "task_metric"
RATES = {"pass_rate": ("fixed", 50), "pass_rate_large": ("large", 200)}
"""Columns of pass rates, their name in references.json, and their items if it does not say."""
FEWEST = 6
"""Least number of cells for a correlation: below it the interval covers nearly everything."""


def answer(study: Measured) -> list[Answer]:
    """For each pass rate and teacher, whether runs of a lower loss have a higher rate.

    The floors of references.json are the rates of a fixed dummy answer, `items` its numbers of
    prompts.
    """
    floors, items = (study.references.get(key) or {} for key in ("floor", "items"))
    return [
        _metric(group, column, floors.get(name), items.get(name, default))
        for group in sort_out(study.parts, "teacher", "group")
        for column, (name, default) in RATES.items()
    ]


def _metric(group: list[Line], column: str, floor: float | None, items: int) -> Answer:
    cells = [cell for line in group for cell in _cells(line, column)]
    table = pd.DataFrame(cells, columns=["loss", "rate", "runs"])
    numbers: dict[str, Any] = {
        "metric": column,
        "items": items,
        "floor": floor,
        "cells": len(table),
        "runs": int(table["runs"].sum()),
    }
    about = {"teacher": group[0].teacher, "label": column}

    def unknown(*needs: Need) -> Answer:
        return Answer(KEY, about, "cannot_tell", numbers, needs)

    if len(table) < FEWEST:
        if not cells:
            ask = {"evaluate.generated_instructions": items} if column != "pass_rate" else {}
            return unknown(Need("column", [column], change=ask))
        more = need_sizes(math.ceil(FEWEST / len(group)), group[0].sizes)
        return unknown(replace(more, what="cells", wanted=FEWEST, present=len(table)))
    best, worst = table.loc[table["loss"].idxmin()], table.loc[table["loss"].idxmax()]
    numbers |= {
        "sampling_error": math.sqrt(float((table["rate"] * (1 - table["rate"])).mean()) / items),
        "rate_sd": float(table["rate"].std()),
        "rate_at_lowest_loss": float(best["rate"]),
        "rate_at_highest_loss": float(worst["rate"]),
        "lowest_loss": float(best["loss"]),
        "highest_loss": float(worst["loss"]),
    }
    if floor is None:
        return unknown(Need("floor"))
    # Each cell against the floor, all together at 90 % (Bonferroni). The items of runs of a cell
    # are the same, so more runs do not reduce the error.
    quantile = float(stats.norm.ppf(1 - (1 - LEVEL) / 2 / len(table)))
    errors = ((table["rate"] * (1 - table["rate"]) + floor * (1 - floor)) / items) ** 0.5
    distances = (table["rate"] - floor).abs()
    clear = int((distances > quantile * errors).sum())
    numbers["clear_of_floor"] = clear
    if clear == 0:
        return unknown(_items(column, items, float((quantile * errors / distances).min())))
    if table["rate"].nunique() == 1 or table["loss"].nunique() == 1:
        return unknown(Need("varying_cells", True, False))
    correlation = rank_correlation(table["loss"], table["rate"])
    numbers |= correlation.numbers("rank_correlation")
    if correlation.sign:
        return Answer(KEY, about, "answered", numbers)
    return unknown(Need("precision", None, len(table)))


def _items(column: str, items: int, ratio: float) -> Need:
    """The items at which the cell furthest from the floor would be clear of it.

    Args:
        column: The rate; the items of the fixed set cannot be changed.
        items: How many there are.
        ratio: Least ratio of the margin to the distance from the floor; infinite at the floor.
    """
    needed = math.ceil(items * ratio**2) if math.isfinite(ratio) else None
    large = RATES[column][0] == "large"
    free = large and needed is not None and needed <= MOST_INSTRUCTIONS
    change = {"evaluate.generated_instructions": needed} if free else {}
    return Need("clear_of_floor", needed, items, change)


def _cells(line: Line, column: str) -> list[tuple[float, float, int]]:
    """Return mean loss, mean rate and number of runs at each size that has both."""
    if not has_values(line.runs, column):
        return []
    out = []
    for _, runs in line.runs.groupby("samples"):
        rates = pd.to_numeric(runs[column], errors="coerce")
        known = rates.notna()
        if known.any():
            out.append(
                (float(runs.loc[known, "loss"].mean()), float(rates.mean()), int(known.sum()))
            )
    return out


def rank_correlation(x: Any, y: Any) -> Estimate:
    """Return Spearman's ρ with a 90 % interval.

    Fisher's z with the variance (1 + ρ²/2) / (n − 3) of Bonett and Wright 2000, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations", which stays near its
    level where 1/(n − 3) is too narrow.

    Args:
        x: n values, n ≥ 4, not all equal.
        y: n values, not all equal.
    """
    rho = float(stats.spearmanr(x, y).statistic)
    count = len(x)
    inside = min(max(rho, -1 + 1e-9), 1 - 1e-9)
    error = math.sqrt((1 + inside**2 / 2) / (count - 3))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    z = math.atanh(inside)
    return Estimate(rho, error * (1 - inside**2), math.tanh(z - half), math.tanh(z + half))
