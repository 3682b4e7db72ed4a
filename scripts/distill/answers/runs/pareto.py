"""Which runs are on the Pareto front over loss and what a model costs to use, or took to make.

A model dominates another if its loss is lower beyond the noise between runs and its cost is not
higher. A lower cost at a loss within the noise does not show that a model is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.needs import need_repeats
from distill.answers.runs.energy_quality import KWH, estimated_share
from distill.contracts.energy import WATTS_PER_CPU
from distill.stats.intervals import LEVEL, Spread, pooled_spread
from distill.table.lines import Line, has_values, sort_out

KEY = "pareto"
COSTS = ("params", "size_mb", "flops_per_token", "tokens_per_second", "peak_memory_mb", KWH)
"""Columns of costs."""
MORE_IS_BETTER = ("tokens_per_second",)
MEASURED_COSTS = ("tokens_per_second", "peak_memory_mb")
TO_MAKE = (KWH,)
"""Costs of making a model; all others are those of using it, which its architecture decides."""
MOST_BEATEN_BY = 8
"""Most models that are listed as beating another."""


MOST_MODELS = 1_000
"""Models that are compared, each with all others."""


@dataclass(frozen=True)
class Model:
    """The runs of one line at one size: their mean loss, their number and their costs."""

    line: Line
    samples: int
    loss: float
    runs: int
    costs: tuple[float, ...]

    @property
    def name(self) -> str:
        """Line and size, for a reader."""
        return f"{self.line.label} at n = {self.samples:,}"


def answer(study: Measured) -> list[Answer]:
    """For each cost, and for all of them at once, which runs are on the front.

    Models of different teachers are evaluated on different texts and are not compared.
    """
    answers = []
    for group in sort_out(study.parts, "teacher", "group"):
        known = [c for c in COSTS if _known(group, c)]
        table = pd.concat([line.runs for line in group])
        used = [c for c in known if c not in TO_MAKE]
        flat = [c for c in used if pd.to_numeric(table[c]).nunique() == 1]
        varied = [c for c in used if c not in flat]
        choices = [(c,) for c in varied] + ([tuple(varied)] if len(varied) > 1 else [])
        # With equal costs of all models only the loss decides: one answer.
        choices += [tuple(flat)] if flat else []
        choices += [(c,) for c in known if c in TO_MAKE]
        answers += [_front(group, columns, study.part_spread) for columns in choices]
        answers += [_missing(group, column) for column in COSTS if column not in known]
    return answers


def _known(group: list[Line], column: str) -> bool:
    """Whether models can be compared by a cost; speeds whose timing was disturbed are left out."""
    some = [has_values(line.runs, column) for line in group]
    return any(some) if column == "tokens_per_second" else all(some)


def _missing(group: list[Line], column: str) -> Answer:
    numbers = {"costs": [column], "models": []}
    needs = (Need("column", [column]),)
    return Answer(KEY, {"teacher": group[0].teacher}, "cannot_tell", numbers, needs)


def _front(group: list[Line], columns: tuple[str, ...], spread: Spread | None) -> Answer:
    measured = [model for line in group for model in _models(line, columns)]
    models = _thinned(measured)
    blurs = [_blur(group, column) for column in columns]
    beaten_by, on_front = _compare(models, columns, blurs, spread)
    status = [
        "beaten" if beaten else "front" if front else "undecided"
        for beaten, front in zip(beaten_by, on_front, strict=True)
    ]
    order = sorted(range(len(models)), key=lambda k: (models[k].costs[0], models[k].loss))
    numbers: dict[str, Any] = {
        "costs": list(columns),
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
        "costs_equal": len({model.costs for model in models}) == 1,
        "costs_repeated": any(blurs),
        "left_out": len(measured) - len(models),
        "models": [
            {
                "label": models[k].line.label,
                "student": models[k].line.student,
                "method": models[k].line.method,
                "samples": models[k].samples,
                "runs": models[k].runs,
                "loss": models[k].loss,
                "status": status[k],
                "beaten_by": [models[j].name for j in beaten_by[k][:MOST_BEATEN_BY]],
            }
            | {
                column: _natural_cost(column, cost)
                for column, cost in zip(columns, models[k].costs, strict=True)
            }
            for k in order
        ],
    }
    if KWH in columns:
        estimated = estimated_share(pd.concat([line.runs for line in group]))
        numbers |= {"kwh_estimated": estimated, "watts_per_cpu": WATTS_PER_CPU}
    about = {"teacher": group[0].teacher}
    if spread is None:
        return Answer(KEY, about, "cannot_tell", numbers, (need_repeats(),))
    return Answer(KEY, about, "answered", numbers)


def _thinned(models: list[Model]) -> list[Model]:
    """At most `MOST_MODELS`: of more, the lowest loss of each of as many groups of equal number,
    by the first cost. A model that is left out has a higher loss at about the same cost."""
    if len(models) <= MOST_MODELS:
        return models
    order = np.argsort([model.costs[0] for model in models], kind="stable")
    loss = np.array([model.loss for model in models])
    parts = np.array_split(order, MOST_MODELS)
    return [models[place] for place in sorted(int(part[loss[part].argmin()]) for part in parts)]


def _models(line: Line, columns: Sequence[str]) -> list[Model]:
    samples = line.runs["samples"].to_numpy()
    loss, *costs = (
        pd.to_numeric(line.runs[name], errors="coerce").to_numpy(float)
        for name in ("loss", *columns)
    )
    models = []
    for size in np.unique(samples):
        here = samples == size
        means = [_mean(values[here]) for values in costs]
        if not all(mean > 0 for mean in means):  # not measured
            continue
        each = tuple(
            1 / mean if column in MORE_IS_BETTER else mean
            for column, mean in zip(columns, means, strict=True)
        )
        models.append(Model(line, int(size), _mean(loss[here]), int(here.sum()), each))
    return models


def _mean(values: np.ndarray) -> float:
    """The mean of what was measured, NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _blur(group: list[Line], column: str) -> Spread | None:
    """Return the spread of a measured log cost between runs of one student; None without one.

    Costs of making a model depend on its size too, so its runs are those of one cell.
    """
    if column in TO_MAKE:
        cells = (values for line in group for _, values in line.by_size(column))
        return pooled_spread(np.log(values[values > 0].to_numpy(float)) for values in cells)
    if column not in MEASURED_COSTS:
        return None
    parts = sort_out(group, "student", "init")
    tables = [pd.concat([line.runs for line in part]) for part in parts]
    blur = pooled_spread(np.log(pd.to_numeric(table[column]).to_numpy(float)) for table in tables)
    return blur if blur and blur.sd > 1e-9 else None


def _compare(
    models: list[Model],
    columns: Sequence[str],
    blurs: Sequence[Spread | None],
    spread: Spread | None,
) -> tuple[list[list[int]], list[bool]]:
    """Return which models dominate each one, lowest loss first, and who leads by the means.

    With k_i runs, j's loss is clearly lower than i's if L_i − L_j > t · sd · √(1/k_i + 1/k_j).
    """
    loss = np.array([model.loss for model in models])
    runs = np.array([model.runs for model in models])
    costs = np.log([model.costs for model in models])
    student = np.array([model.line.student for model in models])
    gain = loss[:, None] - loss[None, :]
    bare = np.ones(gain.shape, bool)
    strictly = gain > 0
    sure = np.ones(gain.shape, bool)
    each = 1 / runs[:, None] + 1 / runs[None, :]
    same = student[:, None] == student[None, :]
    for k, (column, blur) in enumerate(zip(columns, blurs, strict=True)):
        saved = costs[:, k][:, None] - costs[:, k][None, :]
        bare &= saved >= -1e-9
        strictly |= saved > 1e-9
        # Two measured costs of different students count as not higher only if clearly so; those
        # of using one student are the same, those of making it differ per run.
        per_run = column in TO_MAKE
        half = 0.0 if blur is None else _quantile(blur) * blur.sd
        margin = half * (np.sqrt(each) if per_run else math.sqrt(2))
        sure &= (saved >= margin - 1e-9) | (same & (not per_run))
    dominated = bare & strictly & (gain >= 0)
    on_front = [not bool(row.any()) for row in dominated]
    if spread is None:
        return [[] for _ in models], on_front
    noise = _quantile(spread) * spread.sd * np.sqrt(each)
    clear = (gain > noise) & sure
    ranks = np.argsort(loss, kind="stable")
    return [[int(j) for j in ranks if row[j]] for row in clear], on_front


def _quantile(spread: Spread) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, spread.df))


def _natural_cost(column: str, cost: float) -> float:
    return 1 / cost if column in MORE_IS_BETTER else cost
