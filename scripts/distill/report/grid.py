"""Predictions of a study's laws on grids of size and data, for a page that only interpolates.

Between nodes a reader interpolates linearly in logs: of tokens, of size, of each curve. Nodes are
added until that misses the law by less than `TOLERANCE` anywhere half-way between them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.ask.choices import MAX_FACTOR
from distill.ask.costs import TEACHER_RATES, rates_between
from distill.ask.study import Group, NoLaw, Study, joined
from distill.ask.subject import SAME_LEVEL, Subject, find_subject, judged_error
from distill.contracts.points import MEASURES

Array = NDArray[np.float64]
CURVES = ("value", "low", "high", "run_low", "run_high")
TOLERANCE = 1e-3
"""Largest relative error of interpolation, half-way between nodes."""
BEYOND = 4 * MAX_FACTOR
"""The grid goes this far beyond the most data that was fitted, so that warnings can be seen."""
_BELOW = 4.0
_SIZES_BEYOND = 2.0
_FIRST, _MOST = 9, 257
_MOST_STUDENTS = 24
_RATES = ("train_seconds", "train_flops", "teacher_tokens", *TEACHER_RATES, "cache_bytes")


def law_grid(study: Study, learner: str = "student") -> dict[str, Any]:
    """Grids of every group of a study that has a law of the loss over data.

    Args:
        study: The study.
        learner: What a reader calls its models: `student`, or `model` where none has a teacher.

    Returns:
        schema, learner, same_level and max_factor (how extrapolation is judged), `groups` and
        `refused` (sentences). A group: label, teacher, epochs, tokens_per_sample (None without
        samples), `students` and `any_size` (None without a joint law). A student: label, params,
        law, law_over, law_error, range, tokens (nodes), the `CURVES` (null where infinite), rates
        (per unique token), model_bytes, notes. `any_size` has `sizes` too: its curves are lists of
        sizes by tokens, its rates lists over sizes.
    """
    groups, refused = [], []
    for group in study.groups:
        students = []
        names = list(group.students)
        for name in names if len(names) <= _MOST_STUDENTS else []:
            try:
                students.append(_student(find_subject(study, group, name)))
            except NoLaw as reason:
                refused.append(reason)
        any_size = None
        try:
            any_size = _any_size(study, group)
        except NoLaw as reason:
            refused.append(reason)
        if students or any_size:
            groups.append(
                {
                    "label": group.label,
                    "teacher": group.keys["teacher"],
                    "epochs": group.epochs,
                    "tokens_per_sample": group.tokens_per_sample,
                    "students": students,
                    "any_size": any_size,
                }
            )
        elif len(names) > _MOST_STUDENTS:
            refused.append(NoLaw(group.label, f"its {learner}s share no law over size and data"))
    return {
        "schema": 1,
        "learner": learner,
        "same_level": SAME_LEVEL,
        "max_factor": MAX_FACTOR,
        "groups": groups,
        "refused": joined(refused),
    }


def _student(subject: Subject) -> dict[str, Any]:
    """The curves of one student."""
    tokens = _refined(subject, *_token_ends(subject), lambda at: _stack(subject, at))
    group, rates = subject.group, subject.rates
    cost = rates.cost(1.0, subject.epochs) if rates else {}
    return {
        **_about(subject),
        "label": subject.label,
        "params": group.size(subject.name or "", "params"),
        "tokens": _rounded(tokens),
        **dict(zip(CURVES, map(_rounded, _stack(subject, tokens)), strict=True)),
        "rates": {name: cost.get(name) for name in _RATES},
        "model_bytes": rates.model_bytes if rates else None,
    }


def _any_size(study: Study, group: Group) -> dict[str, Any] | None:
    """The surface of a group's joint law; of two measures of size the one judged better."""
    found = []
    for measure in MEASURES:
        known = sorted(group.sizes(measure))
        if len(known) < 2:
            continue
        try:
            subject = find_subject(study, group, size=known[0], measure=measure)
        except NoLaw:
            continue
        if "params" in subject.law.inputs:
            found.append((subject, known))
    if not found:
        return None
    # The first, all parameters, unless the other measure was judged better.
    subject, known = min(found, key=lambda entry: judged_error(entry[0].law))
    low, high = subject.law.range["params"]
    beyond = _SIZES_BEYOND if _identifiable(subject, "alpha") else 1.0

    def surface(sizes: Array, tokens: Array) -> Array:
        """Curves on a grid, shape (curves, sizes, tokens)."""
        resized = [replace(subject, size=float(size)) for size in sizes]
        return np.stack([_stack(each, tokens) for each in resized], axis=1)

    ends = _token_ends(subject)
    coarse = np.geomspace(*ends, _FIRST)
    sizes = _refined(
        subject,
        low / beyond,
        high * beyond,
        lambda at: surface(at, coarse).transpose(0, 2, 1).reshape(-1, len(at)),
    )
    tokens = _refined(subject, *ends, lambda at: surface(sizes, at).reshape(-1, len(at)))
    curves = surface(sizes, tokens)
    rates = [rates_between(group.sizes(subject.measure), float(size)) for size in sizes]
    costs = [rate.cost(1.0, subject.epochs) if rate else {} for rate in rates]
    return {
        **_about(subject),
        "label": "any size",
        "size": subject.measure,
        "start": float(known[len(known) // 2]),
        "sizes": _rounded(sizes),
        "tokens": _rounded(tokens),
        **dict(zip(CURVES, ([_rounded(row) for row in curve] for curve in curves), strict=True)),
        "rates": {
            name: None if any(cost.get(name) is None for cost in costs)
            else [cost[name] for cost in costs]
            for name in _RATES
        },
        "model_bytes": None
        if any(rate is None or rate.model_bytes is None for rate in rates)
        else [rate.model_bytes for rate in rates if rate],
    }  # fmt: skip


def _about(subject: Subject) -> dict[str, Any]:
    law, judged = subject.law, subject.law.record["holdout"]
    notes = []
    if not _identifiable(subject, "beta"):
        notes.append(
            "beta of this law is not identifiable from the runs: the law is evaluated only inside "
            "their range"
        )
    if judged is None:
        notes.append("the law was not evaluated on held-out runs")
    if subject.rates is not None and subject.rates.estimated:
        notes.append("FLOPs of training are estimated as 6 N D: the table has no counted FLOPs")
    return {
        "law": law.name,
        "law_over": "data" if law.law.over == "data" else "size and data",
        "law_error": judged and judged["mean_relative_error"],
        "range": {name: law.range[name] for name in ("params", "tokens") if name in law.range},
        "notes": notes,
    }


def _identifiable(subject: Subject, name: str) -> bool:
    found = subject.law.record["coefficients"].get(name)
    return found is None or bool(found["identifiable"])


def _token_ends(subject: Subject) -> tuple[float, float]:
    """Where the grid begins and ends: only where runs are if the exponent is not known."""
    low, high = subject.law.range["tokens"]
    return (low / _BELOW, high * BEYOND) if _identifiable(subject, "beta") else (low, high)


def _stack(subject: Subject, tokens: Array) -> Array:
    """The curves at tokens, shape (curves, tokens)."""
    at = subject.predict(tokens)
    return np.stack([getattr(at, name) for name in CURVES])


def _refined(subject: Subject, low: float, high: float, curves: Callable[[Array], Array]) -> Array:
    """Such nodes as `refined` finds.

    Raises:
        NoLaw: It finds none.
    """
    try:
        return refined(low, high, curves)
    except ValueError as error:
        raise NoLaw(subject.label, f"{error}; look for runs that do not belong together") from None


def refined(low: float, high: float, curves: Callable[[Array], Array]) -> Array:
    """Nodes, even in logs, between which interpolation in logs misses no curve by `TOLERANCE`.

    Args:
        low: First node.
        high: Last node.
        curves: Nodes, shape (m,), to positive curves, shape (k, m).

    Raises:
        ValueError: Not with 257 nodes: a curve is not smooth.
    """
    if not high > low:
        return np.array([low])
    count = _FIRST
    while count <= _MOST:
        nodes = np.geomspace(low, high, count)
        exact = curves(np.sqrt(nodes[:-1] * nodes[1:]))
        ends = curves(nodes)
        with np.errstate(all="ignore"):
            between = np.sqrt(ends[:, :-1]) * np.sqrt(ends[:, 1:])
            error = np.abs(between / exact - 1)
        # Infinite ends of intervals are shown as unbounded, not interpolated.
        if float(np.max(np.where(np.isfinite(error), error, 0.0))) < TOLERANCE:
            return nodes
        count = 2 * count - 1
    raise ValueError(f"{_MOST} nodes do not follow a curve between {low:g} and {high:g}")


def _rounded(values: Array) -> list[float | None]:
    """Six significant digits, null where infinite or zero."""
    return [float(f"{value:.6g}") if np.isfinite(value) and value > 0 else None for value in values]
