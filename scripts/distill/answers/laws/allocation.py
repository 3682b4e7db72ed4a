"""How the best size grows with compute: by minima at equal FLOPs, and by the law of size and data.

Hoffmann et al. 2022, Training compute-optimal large language models, approaches 2 and 3. A law
L = E + A/N^alpha + B/D^beta under C = k N D has its minimum at N = G (C/k)^a with
a = beta/(alpha + beta) and G = (alpha A/(beta B))^(1/(alpha + beta)) (their Eq. 4).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws.needs import need_amounts, need_students
from distill.contracts.points import GROUP_KEYS
from distill.laws.curves import Curve, curve_of, differences, grid_laws
from distill.laws.fitted import FittedLaw
from distill.laws.isoflops import FLOPS_PER_PRODUCT, LEAST_LEVELS
from distill.laws.law import Array
from distill.laws.points import SIZE_RANGE
from distill.laws.runs import group_rows
from distill.stats.intervals import Estimate

KEY = "allocation"
_STEP = 1e-5


def allocation_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], document: Mapping[str, Any]
) -> list[Answer]:
    """The exponent of the best size in compute and tokens per parameter, group by group.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        document: laws.json; `isoflops` is read.
    """
    records = document.get("isoflops") or {"fitted": [], "refused": []}
    chosen = grid_laws(laws, "loss", "params")
    answers = []
    for record in [*records["fitted"], *records["refused"]]:
        selected = record["selected"]
        law = chosen.get(tuple(selected[key] for key in GROUP_KEYS))
        answers.append(_answer(group_rows(rows, selected), record, law))
    if answers:
        return answers
    needs = (need_students(rows), need_amounts(rows))
    return [Answer(KEY, {}, "cannot_tell", {"reason": "one_size"}, needs)]


def _answer(rows: pd.DataFrame, record: Mapping[str, Any], law: FittedLaw | None) -> Answer:
    selected = record["selected"]
    about = about_group(selected)
    numbers: dict[str, Any] = {"isoflops": dict(record) if "reason" not in record else None}
    if "reason" in record:
        numbers["isoflops_refused"] = {name: record[name] for name in record if name != "selected"}
    product = record.get("flops_per_product", FLOPS_PER_PRODUCT)
    flops = _largest(record, rows, product)
    refusal = _refusal(law)
    sizes = rows["params"].to_numpy(dtype=float)
    numbers["sizes_measured"] = [float(np.nanmin(sizes)), float(np.nanmax(sizes))]
    numbers |= {"flops": flops, "law": None, "law_refused": refusal}
    if law is not None and refusal is None:
        numbers["law"] = _of_law(law, flops, product)
    if numbers["isoflops"] and numbers["law"]:
        best = (_logs(one["params"]) for one in (record["largest"], numbers["law"]))
        numbers["agree"] = _agree(record["exponent"], numbers["law"]["exponent"])
        numbers["agree"] &= _agree(*best)
    if numbers["isoflops"] or numbers["law"]:
        return Answer(KEY, about, "answered", numbers)
    need = Need("isoflops", LEAST_LEVELS, record["minima"])
    return Answer(KEY, about, "cannot_tell", numbers, (need,))


def _largest(record: Mapping[str, Any], rows: pd.DataFrame, product: float) -> float:
    """The largest budget with a minimum, else the largest of a run."""
    if "reason" not in record:
        return float(record["largest"]["flops"])
    counted = rows["flops"].to_numpy(dtype=float)
    work = product * (rows["params"] * rows["tokens"] * rows["epochs"]).to_numpy(dtype=float)
    return float(np.where(np.isfinite(counted) & (counted > 0), counted, work).max())


def _refusal(law: FittedLaw | None) -> str | None:
    """Why a group has no law that gives the exponent, or None."""
    if law is None or not {"alpha", "beta", "A", "B"} <= set(law.law.names) or law.law.repeats:
        return "no_law"
    low, high = law.range["params"]
    if high / low < SIZE_RANGE:
        return "size_span"
    known = law.record["coefficients"]
    if not (known["alpha"]["identifiable"] and known["beta"]["identifiable"]):
        return "not_identifiable"
    return None


def _of_law(law: FittedLaw, flops: float, product: float) -> dict[str, Any]:
    """The closed form of a law with both exponents, at a budget."""
    curve = curve_of(law)
    log_budget = float(np.log(flops / product))

    def closed(theta: Array) -> Array:
        values, _ = curve.law.natural(theta, curve.centre)
        log_a, alpha, log_b, beta = (
            float(values[curve.law.names.index(name)]) for name in ("A", "alpha", "B", "beta")
        )
        total = alpha + beta
        scale = (np.log(alpha / beta) + log_a - log_b) / total
        a = beta / total
        return np.array([a, a * log_budget + scale, (1 - 2 * a) * log_budget - 2 * scale])

    exponent, size, ratio = _with_intervals(curve, closed)
    return {
        "name": law.name,
        "formula": law.record["formula"],
        "points": law.record["points"],
        "exponent": exponent.ends(),
        "params": _exp(size).ends(),
        "tokens_per_parameter": _exp(ratio).ends(),
    }


def _with_intervals(curve: Curve, closed: Any) -> list[Estimate]:
    """Functions of a law's internal parameters, with 90 % intervals by the delta method."""
    values = closed(curve.theta)
    steps = _STEP * np.eye(len(curve.theta))
    rows = np.stack(
        [(closed(curve.theta + one) - closed(curve.theta - one)) / (2 * _STEP) for one in steps],
        axis=1,
    )
    halves = differences(curve, rows)
    return [Estimate.around(float(v), float(h)) for v, h in zip(values, halves, strict=True)]


def _exp(log: Estimate) -> Estimate:
    value, low, high = (
        None if end is None else float(np.exp(min(end, 700.0)))
        for end in (log.value, log.low, log.high)
    )
    return Estimate(value or 0.0, None, low, high)


def _logs(entry: Mapping[str, float]) -> dict[str, float]:
    """An entry of `value`, `low` and `high` in logs."""
    return {name: float(np.log(max(end, 1e-300))) for name, end in entry.items()}


def _agree(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    """Whether two estimates differ by less than their half widths allow; runs are shared."""
    one, other = ((entry["high"] - entry["low"]) / 2 for entry in (first, second))
    return bool(abs(first["value"] - second["value"]) <= np.hypot(one, other))
