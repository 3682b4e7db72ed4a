"""The next runs of a study or a table: which narrow an answer most for a budget, and why."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.ask.choices import MAX_FACTOR, MOST_RUNS, Unit
from distill.ask.costs import rates_between
from distill.ask.design import (
    Draws,
    Problem,
    best_runs,
    cheapest_runs,
    ends,
    law_weights,
    make_problem,
    without_each,
)
from distill.ask.study import Group, Refusal, Study
from distill.ask.subject import Subject, find_subject
from distill.core.errors import UserError
from distill.laws.fitted import FittedLaw
from distill.laws.points import levels
from distill.laws.runs import inputs_of, rows_of

_MOST_LEVELS = 7
"""Measured sizes, and numbers of tokens, that candidates take over; of more, evenly spaced ones."""
_NEW_DRAWS = 2
"""Draws that no run used, among the candidates."""


@dataclass(frozen=True)
class Target:
    """What is to be predicted.

    Attributes:
        tokens: Unique training tokens; None where samples are given.
        samples: Samples of a study.
        params: Parameters of any student; None where a student is named.
        student: A student of the study.
        epochs: Tokens seen over unique ones; None: those of most runs.
    """

    tokens: float | None = None
    samples: float | None = None
    params: float | None = None
    student: str | None = None
    epochs: float | None = None


@dataclass(frozen=True)
class Limits:
    """What the runs may cost, or must reach: either `budget` or `within`.

    Attributes:
        unit: What costs count, FLOPs or hours; None: hours where the runs state seconds.
        budget: How much.
        within: Half width of the 90 % interval to reach at least cost, as a share of the loss.
        scope: `all` counts the teacher's work on text beyond the largest measured; `training` none.
        most: Runs, at most.
    """

    unit: Unit | None = None
    budget: float | None = None
    within: float | None = None
    scope: str = "all"
    most: int = MOST_RUNS


@dataclass(frozen=True)
class Cell:
    """A run that could be made next.

    Attributes:
        student: Its name; None for a size of a table.
        params: Parameters, in the law's measure.
        samples: Samples; None for a table.
        tokens: Unique training tokens.
        draw: Which permutation; None where runs share none.
        seeds: Seeds that runs of this cell used.
        cost: Of one run.
    """

    student: str | None
    params: float
    samples: int | None
    tokens: float
    draw: int | None
    seeds: tuple[int, ...]
    cost: float


def spread_levels(values: np.ndarray, name: str, reach: float = MAX_FACTOR) -> list[float]:
    """Levels of an input for candidates: those measured, and by factors of 2 up to `reach` around.

    Args:
        values: Measured values.
        name: The input.
    """
    ranks = levels(values, name)
    known = [float(np.median(values[ranks == rank])) for rank in range(int(ranks.max()) + 1)]
    if len(known) > _MOST_LEVELS:
        even = np.linspace(0, len(known) - 1, _MOST_LEVELS).round().astype(int)
        known = [known[place] for place in even]
    steps = [2.0**k for k in range(1, int(math.log2(reach)) + 1)]
    below, above = [known[0] / step for step in steps], [known[-1] * step for step in steps]
    return sorted([*below, *known, *above])


def competing_laws(study: Study, subject: Subject) -> list[FittedLaw]:
    """The chosen law of the target, then the others that were fitted to the same runs."""
    chosen, inputs = subject.law, subject.inputs(1.0)
    return [
        chosen,
        *(
            law
            for law in study.laws
            if law is not chosen
            and law.target == chosen.target
            and law.selected == chosen.selected
            and law.law.over == chosen.law.over
            and set(law.inputs) <= set(inputs) | {"epochs"}
            and law.record["points"] == chosen.record["points"]
        ),
    ]


def plan_next(
    study: Study, rows: pd.DataFrame, group: Group, target: Target, limits: Limits
) -> dict[str, Any]:
    """The runs that narrow the target most for a budget, or the cheapest that narrow it enough.

    Args:
        study: The study.
        rows: Its runs as points of laws (`trained_rows`).
        group: Whose law answers.
        target: What is predicted.
        limits: What the runs may cost, or must reach.

    Returns:
        The record of the answer `next`.

    Raises:
        NoLaw: No law answers for the target.
        Refusal: Costs are unknown, or no runs reach the width.
    """
    subject = find_subject(study, group, target.student, target.params, None, target.epochs)
    tokens, unit = _target_tokens(group, target), limits.unit
    if unit is None:
        unit = "hours" if subject.rates and subject.rates.train_seconds else "flops"
    laws = competing_laws(study, subject)
    fitted_rows = [rows_of(law, rows) for law in laws]
    measured = fitted_rows[0]
    cells = _cells(subject, measured, unit, limits.scope)
    shared = group.tokens_per_sample is not None
    problem = make_problem(
        laws,
        [inputs_of(law, part) for law, part in zip(laws, fitted_rows, strict=True)],
        _places(subject, cells, tokens),
        np.array([cell.cost for cell in cells]),
        subject.predict(tokens),
        (_old_draws(measured), _new_draws(cells, measured)) if shared else None,
        limits.most,
    )
    runs = _chosen(problem, limits)
    return _record(subject, target, tokens, laws, problem, cells, runs, measured) | {
        "unit": unit,
        "scope": limits.scope,
        "budget": limits.budget,
        "within": limits.within,
        "spent": problem.spend(runs),
    }


def _chosen(problem: Problem, limits: Limits) -> list[int]:
    if limits.budget is not None:
        return best_runs(problem, limits.budget)
    assert limits.within is not None
    runs = cheapest_runs(problem, math.log1p(limits.within))
    if runs is None:
        raise Refusal(
            f"no {limits.most} runs up to {MAX_FACTOR:g} times what was measured bring the answer "
            f"to ± {100 * limits.within:g} %; now it is ± {_percent(problem)}; ask for a wider "
            "interval, for a nearer target or for more --runs"
        )
    return runs


def _percent(problem: Problem, runs: Sequence[int] = ()) -> str:
    half = ends(problem, runs)["half"]
    return "unbounded" if half is None else f"{100 * half:.2g} %"


def _target_tokens(group: Group, target: Target) -> float:
    if target.tokens is not None:
        return target.tokens
    if group.tokens_per_sample is None or target.samples is None:
        raise UserError("this table counts no samples; give tokens in --target")
    return target.samples * group.tokens_per_sample


def _cells(subject: Subject, measured: pd.DataFrame, unit: Unit, scope: str) -> list[Cell]:
    """Candidates: students or sizes, samples or tokens, and draws."""
    group, most = subject.group, float(measured["tokens"].max())
    sizes: list[tuple[str | None, float]]
    if group.tokens_per_sample is None:
        known = measured["size"].to_numpy(dtype=float)
        over = "params" in subject.law.inputs
        values = spread_levels(known, "params") if over else [float(np.median(known))]
        sizes = [(None, value) for value in values]
    else:
        names = list(dict.fromkeys(measured["student"].astype(str)))
        sizes = [(name, float(measured.loc[measured["student"] == name, "size"].mean()))
                 for name in names]  # fmt: skip
    draws = _draw_labels(measured)
    per_sample = group.tokens_per_sample
    tokens = spread_levels(measured["tokens"].to_numpy(dtype=float), "tokens")
    cells = []
    for student, size in sizes:
        each = _unit_costs(subject, student, size, unit, scope)
        for amount in tokens:
            samples = None if per_sample is None else max(round(amount / per_sample), 1)
            exact = amount if per_sample is None or samples is None else samples * per_sample
            for draw in draws:
                if draw and exact > draws[draw] * 1.01:
                    continue
                cost = each[0] * exact + each[1] * max(exact - most, 0.0)
                seeds = _seeds(measured, student, size, exact, draw)
                cells.append(Cell(student, size, samples, exact, draw, seeds, cost))
    return cells


def _draw_labels(measured: pd.DataFrame) -> dict[int | None, float]:
    """Draws of candidates, with the most tokens of each."""
    if not measured["samples"].notna().any():
        return {None: math.inf}
    others = measured[measured["draw"] != 0]
    limit = float((others if len(others) else measured)["tokens"].max())
    labels = sorted({int(draw) for draw in measured["draw"]} | {0})
    new = [max(labels) + 1 + place for place in range(_NEW_DRAWS)]
    return {0: math.inf, **{draw: limit for draw in [*labels, *new] if draw}}


def _seeds(
    measured: pd.DataFrame, student: str | None, size: float, tokens: float, draw: int | None
) -> tuple[int, ...]:
    """Seeds of the measured runs of a cell."""
    same = np.abs(np.log(measured["tokens"] / tokens)) < math.log(1.1)
    same &= measured["student"] == student if student else measured["size"] == size
    if draw is not None:
        same &= measured["draw"] == draw
    return tuple(int(seed) for seed in measured.loc[same, "seed"])


def _unit_costs(
    subject: Subject, student: str | None, size: float, unit: Unit, scope: str
) -> tuple[float, float]:
    """Costs per unique token: of training, and of the teacher where its text is new."""
    group = subject.group
    known = group.rates.get(student or "")
    rates = known or rates_between(group.sizes(subject.measure), size)
    cost = {} if rates is None else rates.cost(1.0, subject.epochs)
    kind = "flops" if unit == "flops" else "seconds"
    train = cost.get(f"train_{kind}")
    if train is None and unit == "flops":
        train = 6.0 * size * subject.epochs
    parts = [cost.get(f"{part}_{kind}") for part in ("teacher", "target")]
    if train is None:
        raise Refusal("its runs state no seconds; give a budget of FLOPs, such as --budget 1e18")
    teacher = sum(part or 0.0 for part in parts) if scope == "all" else 0.0
    return (train, teacher) if unit == "flops" else (train / 3600, teacher / 3600)


def _places(subject: Subject, cells: Sequence[Cell], tokens: float) -> dict[str, np.ndarray]:
    """Inputs of laws at the cells and the target."""
    at = subject.inputs(tokens)
    out = {name: np.full(len(cells) + 1, float(value)) for name, value in at.items()}
    if "params" in at:
        out["params"][:-1] = [cell.params for cell in cells]
    out["tokens"][:-1] = [cell.tokens for cell in cells]
    out["epochs"] = np.full(len(cells) + 1, subject.epochs)
    return out


def _old_draws(measured: pd.DataFrame) -> Draws:
    return Draws(
        measured["tokens"].to_numpy(dtype=float),
        measured["draw"].to_numpy(),
        measured["teacher"].astype(str).to_numpy(),
    )


def _new_draws(cells: Sequence[Cell], measured: pd.DataFrame) -> Draws:
    return Draws(
        np.array([cell.tokens for cell in cells]),
        np.array([cell.draw or 0 for cell in cells]),
        np.full(len(cells), str(measured["teacher"].iloc[0])),
    )


def _record(
    subject: Subject, target: Target, tokens: float, laws: Sequence[FittedLaw], problem: Problem,
    cells: Sequence[Cell], runs: Sequence[int], measured: pd.DataFrame,
) -> dict[str, Any]:  # fmt: skip
    """The answer: the interval now and after the runs, and each run with what it is for."""
    without = without_each(problem, runs)
    used: Counter[int] = Counter()
    listed = []
    low, high = float(measured["tokens"].min()), float(measured["tokens"].max())
    small, large = float(measured["size"].min()), float(measured["size"].max())
    for cell_number, half in zip(runs, without, strict=True):
        cell = cells[cell_number]
        seed = max([-1, *cell.seeds]) + 1 + used[cell_number]
        used[cell_number] += 1
        listed.append(
            {
                "student": cell.student,
                "params": cell.params,
                "samples": cell.samples,
                "tokens": cell.tokens,
                "draw": cell.draw,
                "seed": seed,
                "epochs": subject.epochs,
                "cost": cell.cost,
                "repeats": len(cell.seeds) + used[cell_number] - 1,
                "tokens_beyond": _beyond(cell.tokens, low, high),
                "params_beyond": _beyond(cell.params, small, large),
                "half_without": math.expm1(min(half, 700.0)),
            }
        )
    weights = law_weights(laws)
    reach = subject.law.extrapolation(subject.inputs(tokens))
    return {
        "label": subject.label,
        "line": subject.group.label,
        **dict(subject.group.keys),
        "target": {"params": subject.size, "student": target.student, "tokens": tokens,
                   "samples": target.samples, "epochs": subject.epochs},
        "laws": [{"name": law.name, "weight": float(weight)}
                 for law, weight in zip(laws, weights, strict=True)],
        "value": problem.stated.value,
        "now": ends(problem),
        "expected": ends(problem, runs),
        "runs": listed,
        "blocks": _blocks(subject.group, listed),
        "extrapolation": reach,
        "warnings": list(subject.law.record["warnings"]),
    }  # fmt: skip


def _beyond(value: float, low: float, high: float) -> float | None:
    """Factor outside what was measured, below 1 for smaller values; None inside."""
    if value > high * 1.01:
        return value / high
    return value / low if value < low / 1.01 else None


def _blocks(group: Group, runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The runs as blocks of `runs:` of the config; none for a table."""
    by_data: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for run in runs:
        if run["student"] is not None:
            by_data[run["student"], run["draw"], run["seed"]].append(run["samples"])
    by_student: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for (student, draw, seed), samples in by_data.items():
        by_student[tuple(sorted(samples)), draw, seed].append(student)
    keys = group.keys
    blocks: list[dict[str, Any]] = []
    for (samples, draw, seed), students in by_student.items():
        block: dict[str, Any] = {"students": students}
        block |= {f"{key}s": [keys[key]] for key in ("teacher", "method") if keys[key]}
        if keys["cache"] not in ("", "none"):
            block["caches"] = [keys["cache"]]
        if keys["curation"] not in ("", "raw"):
            block["curations"] = [keys["curation"]]
        block |= {"samples": list(samples), "draws": [draw], "seeds": [seed]}
        blocks.append(block)
    return blocks
