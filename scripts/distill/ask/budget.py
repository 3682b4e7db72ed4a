"""The best student and data for a budget of FLOPs, hours or money.

Each measured student spends the budget on data, as far as its law reaches; where a joint law over
size and data exists, sizes in between compete too. Lowest expected loss wins. Where the joint law
puts the optimum beyond what was measured, its place is stated.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.ask.choices import MAX_FACTOR, Unit
from distill.ask.costs import Prices
from distill.ask.study import Group, NoLaw, Refusal, Study, joined
from distill.ask.subject import SAME_LEVEL, Subject, find_subject, point_answer
from distill.contracts.points import MEASURES
from distill.core.errors import UserError

_SIZES_BETWEEN = 201
_SEARCH = 1e4
"""The optimum is sought this many times outside the sizes measured."""


def unit_cost(
    subject: Subject, unit: Unit, scope: str = "all", prices: Prices | None = None
) -> float | None:
    """Cost of one unique token (trained on `subject.epochs` times); None where it is unknown.

    A table that counts no samples says nothing of a teacher's work: FLOPs are those of training.

    Args:
        subject: Who learns.
        unit: FLOPs, hours or money.
        scope: `all`: training, the teacher's text and soft targets; `training`: that alone.
        prices: For money.
    """
    if subject.rates is None:
        return None
    cost = subject.rates.cost(1.0, subject.epochs, prices)
    if unit == "money":
        return cost["money"]
    trains_alone = scope != "all" or subject.group.tokens_per_sample is None
    part = "train" if trains_alone else "total"
    value = cost[f"{part}_{'flops' if unit == 'flops' else 'seconds'}"]
    return value if value is None or unit == "flops" else value / 3600


def ask_best(
    study: Study,
    groups: list[Group],
    unit: Unit,
    budget: float,
    scope: str = "all",
    max_factor: float = MAX_FACTOR,
    prices: Prices | None = None,
    epochs: float | None = None,
) -> dict[str, Any]:
    """Students ranked by the loss that a budget buys.

    No student is credited with more data than `max_factor` times the most of its law; one that
    could not buy the least that was measured, divided by `max_factor`, does not compete.

    Args:
        study: The study.
        groups: Which groups compete.
        unit: What the budget counts.
        budget: How much.
        scope: `all` or `training`, for FLOPs and hours.
        max_factor: How far a law is followed.
        prices: For money.
        epochs: None: those of most runs of each group.

    Returns:
        unit, budget, scope (`training` for a table that counts no samples), ranked (answers as of
        `point_answer`, best first, each with `spent`, `capped` and `apart`: its interval lies clear
        of the best's), beyond (optima outside what was measured, `_beyond`) and left_out:
        sentences.

    Raises:
        UserError: The budget is not positive, or money has no price.
        Refusal: No student can be answered for.
    """
    if not (np.isfinite(budget) and budget > 0):
        raise UserError("give a positive budget")
    if unit == "money" and (prices is None or prices == Prices()):
        raise UserError("a budget of money needs --price-hour or --price-million-tokens")
    ranked: list[dict[str, Any]] = []
    beyond: list[dict[str, Any]] = []
    left_out: list[NoLaw] = []
    for group in groups:
        for student in group.students:
            try:
                subject = find_subject(study, group, student, epochs=epochs)
                ranked.append(_spend(subject, unit, budget, scope, max_factor, prices))
            except NoLaw as reason:
                left_out.append(reason)
        between = _between(study, group, unit, budget, scope, max_factor, prices, epochs)
        if between is not None:
            ranked.append(between)
        optimum = _beyond(study, group, unit, budget, scope, prices, epochs)
        if optimum is not None:
            beyond.append(optimum)
    if not ranked:
        raise Refusal("; ".join(joined(left_out)))
    ranked.sort(key=lambda answer: answer["loss"]["value"])
    best = ranked[0]["loss"]
    for answer in ranked:
        ends = answer["loss"]["low"], best["high"]
        answer["apart"] = None not in ends and ends[0] > ends[1]
    counts = any(group.tokens_per_sample is not None for group in groups)
    return {"unit": unit, "budget": budget, "scope": scope if counts else "training",
            "ranked": ranked, "beyond": beyond, "left_out": joined(left_out)}  # fmt: skip


def _beyond(
    study: Study, group: Group, unit: Unit, budget: float, scope: str, prices: Prices | None,
    epochs: float | None,
) -> dict[str, Any] | None:  # fmt: skip
    """Where the joint law puts the optimum, if that is outside the sizes or data measured.

    All of the budget is spent on each size, without a limit to data.

    Returns:
        line, measure, params, tokens, loss; params_factor and tokens_factor: how far outside the
        measured range, below 1 for smaller, 1 inside; open: whether the loss still falls at the
        end of the search; reason: why the law is no evidence there, or None. None where the
        optimum lies inside, or no joint law or cost is known.
    """
    for measure in MEASURES:
        known = sorted(group.sizes(measure))
        if len(known) < 2:
            continue
        found = []
        sizes = np.geomspace(known[0] / _SEARCH, known[-1] * _SEARCH, 2 * _SIZES_BETWEEN)
        for size in sizes:
            try:
                subject = find_subject(
                    study, group, size=float(size), measure=measure, epochs=epochs
                )
            except NoLaw:
                break
            each = unit_cost(subject, unit, scope, prices)
            if "params" in subject.law.inputs and each:
                tokens = budget / each
                found.append((float(subject.predict(tokens).value[0]), tokens, subject))
        if not found:
            continue
        loss, tokens, subject = min(found, key=lambda entry: entry[0])
        params_factor, tokens_factor = (
            _factor(value, subject.law.range[name])
            for value, name in ((subject.size or 0.0, "params"), (tokens, "tokens"))
        )
        if params_factor == tokens_factor == 1:
            return None
        reason = None
        try:
            subject.require_exponents(tokens)
        except NoLaw as error:
            reason = error.why
        return {
            "line": group.label,
            "measure": measure,
            "params": subject.size,
            "tokens": tokens,
            "loss": loss,
            "params_factor": params_factor,
            "tokens_factor": tokens_factor,
            "open": subject is found[0][2] or subject is found[-1][2],
            "reason": reason,
        }
    return None


def _factor(value: float, ends: Sequence[float]) -> float:
    """How far outside a range: above 1 beyond its upper end, below 1 beyond its lower one."""
    low, high = ends
    factor = value / high if value > high else min(value / low, 1.0)
    return 1.0 if 1 / SAME_LEVEL <= factor <= SAME_LEVEL else factor


def _affordable(
    subject: Subject,
    unit: Unit,
    budget: float,
    scope: str,
    max_factor: float,
    prices: Prices | None,
) -> tuple[float, float]:
    """Unique tokens that the budget buys, and how many of them the law can be asked about.

    Raises:
        NoLaw: Costs are unknown, or the budget buys less than the law reaches down to.
    """
    each = unit_cost(subject, unit, scope, prices)
    where = f"{subject.label}, {subject.group.label}"
    if not each:
        counts = subject.group.tokens_per_sample is not None
        hint = "; ask with --count training" if scope == "all" and unit != "money" else ""
        hint = hint if counts else "; ask with --budget-flops"
        missing = {"flops": "FLOPs", "hours": "seconds", "money": "seconds that a price needs"}
        raise NoLaw(where, f"its runs do not state all {missing[unit]}{hint}")
    low, high = subject.law.range["tokens"]
    bought = budget / each
    if bought < low / max_factor:
        raise NoLaw(
            where,
            f"the budget buys {bought:,.0f} tokens, the law was fitted from {low:,.0f}; give more",
        )
    return bought, min(bought, high * max_factor)


def _spend(
    subject: Subject,
    unit: Unit,
    budget: float,
    scope: str,
    max_factor: float,
    prices: Prices | None,
) -> dict[str, Any]:
    """The answer for one student with the data that the budget buys."""
    bought, tokens = _affordable(subject, unit, budget, scope, max_factor, prices)
    subject.require_exponents(tokens)
    answer = point_answer(subject, tokens, max_factor, prices)
    answer["spent"] = budget * tokens / bought
    answer["capped"] = tokens < bought
    answer["bought_tokens"] = bought
    if answer["capped"]:
        answer["warnings"].append(
            f"the budget would buy {bought / tokens:,.3g} times as much data; no more is counted "
            f"than {max_factor:g} times the most that the law was fitted to"
        )
    return answer


def _between(
    study: Study, group: Group, unit: Unit, budget: float, scope: str, max_factor: float,
    prices: Prices | None, epochs: float | None,
) -> dict[str, Any] | None:  # fmt: skip
    """The best size between the measured ones by the joint law; None where there is none inside."""
    for measure in MEASURES:
        known = sorted(group.sizes(measure))
        if len(known) < 3:
            continue
        found = []
        for size in np.geomspace(known[0], known[-1], _SIZES_BETWEEN):
            try:
                subject = find_subject(
                    study, group, size=float(size), measure=measure, epochs=epochs
                )
                if "params" in subject.law.inputs:
                    _, tokens = _affordable(subject, unit, budget, scope, max_factor, prices)
                    found.append((float(subject.predict(tokens).value[0]), subject))
            except NoLaw:
                continue
        if not found:
            continue
        least = min(found, key=lambda entry: entry[0])
        # At an end of what competes there is no optimum in between: the ends are students.
        if least is found[0] or least is found[-1]:
            return None
        try:
            return _spend(least[1], unit, budget, scope, max_factor, prices)
        except NoLaw:
            return None
    return None
