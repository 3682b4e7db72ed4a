"""Whether a lower loss moves the task metric: rank correlation of pass rates and losses."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats

from distill.answers.record import record
from distill.stats.intervals import LEVEL, Estimate, number
from distill.table.lines import Line, Settings, has_values, sort_out

TASK_METRIC = "Does lower loss move the task metric?"
RATES = {"pass_rate": ("fixed", 50), "pass_rate_large": ("large", 200)}
"""Columns of pass rates, their name among the floors of references.json, least number of items."""
FEWEST = 6
"""Least number of cells for a correlation: below it the interval covers nearly everything."""


def task_metric(
    lines: list[Line], references: Mapping[str, Any] | None, settings: Settings
) -> list[dict[str, Any]]:
    """Answer for each pass rate and teacher whether runs of a lower loss have a higher rate.

    Args:
        lines: lines of the runs table.
        references: references.json, for the floors: the rate of a fixed dummy answer.
        settings: `generated_instructions`, the items of the larger set (default 200, the least
            there can be).
    """
    floors = (references or {}).get("floor") or {}
    answers = []
    for group in sort_out(lines, "teacher", "group"):
        for column, (name, items) in RATES.items():
            if name == "large":
                items = int(settings.get("generated_instructions") or items)
            answers.append(_metric(group, column, floors.get(name), items))
    return answers


def _metric(group: list[Line], column: str, floor: float | None, items: int) -> dict[str, Any]:
    cells = [cell for line in group for cell in _cells(line, column)]
    table = pd.DataFrame(cells, columns=["loss", "rate", "runs"])
    runs = int(table["runs"].sum())
    numbers: dict[str, Any] = {
        "metric": column,
        "items": items,
        "floor": floor,
        "cells": len(table),
        "runs": runs,
    }

    def answer(text: str, evidence: str) -> dict[str, Any]:
        found = record(TASK_METRIC, None, text, evidence, numbers)
        return found | {"teacher": group[0].teacher or None, "label": column}

    if len(table) < FEWEST:
        return answer(
            f"Cannot tell ({column}), because only {len(table)} trained cells (a line at one size) "
            f"have it; needs {FEWEST}.",
            "A rank correlation of so few points could be anything.",
        )
    best, worst = table.loc[table["loss"].idxmin()], table.loc[table["loss"].idxmax()]
    noise = math.sqrt(float((table["rate"] * (1 - table["rate"])).mean()) / items)
    evidence = (
        f"{len(table)} cells (a line at one size), {runs} runs; the rate is {number(best['rate'])} "
        f"at the lowest loss, {number(best['loss'])} nats, and {number(worst['rate'])} at the "
        f"highest, {number(worst['loss'])}. On {items} items its sampling error is "
        f"{number(noise, 2)}, its standard deviation between cells "
        f"{number(float(table['rate'].std()), 2)}."
    )
    numbers |= {
        "sampling_error": noise,
        "rate_sd": float(table["rate"].std()),
        "rate_at_lowest_loss": float(best["rate"]),
        "rate_at_highest_loss": float(worst["rate"]),
    }
    if floor is None:
        return answer(
            f"Cannot tell ({column}), because the floor, the rate of a fixed dummy answer, is not "
            "known; needs references.json of the study.",
            evidence,
        )
    # Each cell against the floor, all together at 90 % (Bonferroni). The items of runs of a cell
    # are the same, so more runs do not make the error smaller.
    quantile = float(stats.norm.ppf(1 - (1 - LEVEL) / 2 / len(table)))
    errors = ((table["rate"] * (1 - table["rate"]) + floor * (1 - floor)) / items) ** 0.5
    clear = int(((table["rate"] - floor).abs() > quantile * errors).sum())
    numbers["clear_of_floor"] = clear
    evidence += f" Clear of the floor, {number(floor)}: {clear} cells."
    if clear == 0:
        return answer(
            f"Cannot tell ({column}), because every run is within the sampling error of the "
            f"floor, {number(floor)}, that a fixed dummy answer reaches; needs better students, "
            "easier items or more of them.",
            evidence,
        )
    if table["rate"].nunique() == 1 or table["loss"].nunique() == 1:
        return answer(f"Cannot tell ({column}), because all cells are equal.", evidence)
    found = rank_correlation(table["loss"], table["rate"])
    numbers |= found.numbers("rank_correlation")
    told = f"rank correlation of loss and rate {found.text()}"
    evidence += (
        " Across runs, which also differ in size and method: that the two go together does not "
        "show that one causes the other. All runs answer the same items."
    )
    if found.sign < 0:
        return answer(f"Yes ({column}): runs of a lower loss pass more; {told}.", evidence)
    if found.sign > 0:
        return answer(f"No ({column}): runs of a lower loss pass fewer; {told}.", evidence)
    return answer(f"Cannot tell ({column}): {told}.", evidence)


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
