"""Exponents per group of runs with intervals, and how much methods differ in them.

Each group of runs (teacher, method, cache, curation, initialisation) has a separate law; groups
are compared by the interval of the difference, never by whether two intervals overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, Need, Status, about_group
from distill.answers.laws.needs import (
    need_amounts,
    need_draws,
    need_larger_data,
    need_size_span,
    need_students,
)
from distill.contracts.points import GROUP_KEYS, MEASURES
from distill.laws.common_text import Key, selected_of
from distill.laws.curves import coefficient_difference, curve_of, grid_laws, group_of, label_of
from distill.laws.fitted import FittedLaw
from distill.laws.forms import simplest
from distill.laws.points import SIZE_RANGE
from distill.stats.intervals import Estimate

KEY = "exponents"
DIFFERENCE = "method_exponents"
TARGETS = ("loss", "gap")
INPUTS = {"alpha": "params", "beta": "tokens"}
"""Exponents and the input that each belongs to."""


@dataclass(frozen=True)
class Exponent:
    """An exponent of one group, in one measure of size.

    Attributes:
        name: alpha or beta.
        interval: Its value.
        doubt: Why it may not be claimed: `size_span` (sizes lie too close) or `unbounded` (its
            interval is); None where it may be.
        low: Smallest value of its input that was fitted.
        high: Largest.
    """

    name: str
    interval: Estimate
    doubt: str | None
    low: float
    high: float

    @property
    def span(self) -> float:
        """Factor between the largest and the smallest value of its input."""
        return self.high / self.low

    def numbers(self) -> dict[str, Any]:
        """Plain numbers."""
        claim = {"claimed": self.doubt is None, "doubt": self.doubt, "span": self.span}
        return self.interval.ends() | claim

    def needs(self, rows: pd.DataFrame) -> tuple[Need, ...]:
        """What would let it be claimed."""
        if self.doubt is None:
            return ()
        if self.doubt == "size_span":
            return (need_size_span(self.low, self.high),)
        return (need_draws(rows),) if self.name == "alpha" else (need_larger_data(rows),)


def exponent(law: FittedLaw, name: str) -> Exponent | None:
    """An exponent of a law with its interval; None where the law has none of that name."""
    value = law.record["coefficients"].get(name)
    if value is None:
        return None
    low, high = law.range[INPUTS[name]]
    doubt = None
    if name == "alpha" and high / low < SIZE_RANGE:
        doubt = "size_span"
    elif not value["identifiable"]:
        doubt = "unbounded"
    return Exponent(name, Estimate.of_ends(value), doubt, low, high)


def exponent_answers(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> list[Answer]:
    """One answer per group and target: α in both measures of size, β."""
    answers = []
    for target in TARGETS:
        grids = {size: grid_laws(laws, target, size) for size in MEASURES}
        with_size = dict.fromkeys(key for groups in grids.values() for key in groups)
        for key in with_size:
            mine = {size: groups[key] for size, groups in grids.items() if key in groups}
            answers.append(_exponents(rows, mine, key, target, laws))
        for law in laws:
            if (
                law.law is simplest(target, "data")
                and law.target == target
                and group_of(law) not in with_size
            ):
                answers.append(_data_alone(rows, law, target))
    if answers:
        return answers
    needs = (need_amounts(rows), need_students(rows))
    return [Answer(KEY, {}, "cannot_tell", {"reason": "no_law"}, needs)]


def _data_alone(rows: pd.DataFrame, law: FittedLaw, target: str) -> Answer:
    beta = exponent(law, "beta")
    assert beta is not None
    numbers = {
        "target": target,
        "law": law.name,
        "beta": beta.numbers(),
        "alpha": {},
        "formula": law.record["formula"],
        "points": law.record["points"],
        "broken_better": False,
    }
    needs = (*beta.needs(rows), need_students(rows))
    status: Status = "cannot_tell" if beta.doubt else "answered"
    return Answer(KEY, about_group(law.selected), status, numbers, needs)


def _exponents(
    rows: pd.DataFrame,
    mine: Mapping[str, FittedLaw],
    key: Key,
    target: str,
    laws: Sequence[FittedLaw],
) -> Answer:
    """The exponents of one group.

    Args:
        rows: Points of laws.
        mine: The group's law in each measure of size.
        key: The group.
        target: loss or gap.
        laws: All laws, among them a broken one that may be the best.
    """
    alphas = {size: value for size, law in mine.items() if (value := exponent(law, "alpha"))}
    betas = [value for law in mine.values() if (value := exponent(law, "beta"))][:1]
    first = next(iter(mine.values()))
    numbers = {
        "target": target,
        "law": first.name,
        "alpha": {size: alpha.numbers() for size, alpha in alphas.items()},
        "beta": betas[0].numbers() if betas else {},
        "points": first.record["points"],
        "formula": first.record["formula"],
        "broken_better": any(
            law.best and not law.law.smooth and law.target == target and group_of(law) == key
            for law in laws
        ),
    }
    values = [*alphas.values(), *betas]
    needs = {need.what: need for one in values for need in one.needs(rows)}
    status: Status = "answered" if any(one.doubt is None for one in values) else "cannot_tell"
    about = about_group(selected_of(key))
    return Answer(KEY, about, status, numbers, tuple(needs.values()))


def method_differences(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], corpus_methods: Sequence[str]
) -> list[Answer]:
    """Differences of exponents between methods that share teacher, start and curation."""
    answers = []
    for target in TARGETS:
        grids = {size: grid_laws(laws, target, size) for size in MEASURES}
        keys = list(dict.fromkeys(key for groups in grids.values() for key in groups))
        for first, second in combinations(keys, 2):
            names = [k for k, a, b in zip(GROUP_KEYS, first, second, strict=True) if a != b]
            if not set(names) <= {"method", "cache"}:
                continue
            # Comparison with a corpus is a separate question, evaluated on the reference text.
            if any(selected_of(key)["method"] in corpus_methods for key in (first, second)):
                continue
            pairs = {
                size: (groups[first], groups[second])
                for size, groups in grids.items()
                if first in groups
                and second in groups
                and groups[first].name == groups[second].name
            }
            answers.append(_difference(rows, pairs, first, second, target))
    return answers


def _difference(
    rows: pd.DataFrame,
    pairs: Mapping[str, tuple[FittedLaw, FittedLaw]],
    first: Key,
    second: Key,
    target: str,
) -> Answer:
    groups = [
        label_of({name: selected_of(key)[name] for name in ("method", "cache")})
        for key in (first, second)
    ]
    numbers: dict[str, Any] = {"target": target, "groups": groups}
    if not pairs:
        numbers |= {"reason": "no_common_law", "of": {}}
        needs = (need_amounts(rows), need_students(rows))
        about = about_group(selected_of(first))
        return Answer(DIFFERENCE, about, "cannot_tell", numbers, needs)
    one, other = next(iter(pairs.values()))
    numbers |= {
        "formula": one.record["formula"],
        "points": [one.record["points"], other.record["points"]],
    }
    return compare_exponents(DIFFERENCE, rows, first, pairs, numbers)


def compare_exponents(
    question: str,
    rows: pd.DataFrame,
    key: Key,
    pairs: Mapping[str, tuple[FittedLaw, FittedLaw]],
    numbers: dict[str, Any],
    bounded: bool = True,
) -> Answer:
    """How the first group's exponents differ from the second's.

    Args:
        question: The answer's key.
        rows: Points of laws.
        key: The first group.
        pairs: The two groups' laws, of one form, in each measure of size.
        numbers: What the answer holds beside the differences.
        bounded: Whether a difference is claimed only of exponents whose intervals are bounded.

    Returns:
        An answer whose numbers have, per difference (`alpha_<measure>`, `beta`), value, low and
        high; and `doubts`, per exponent that may not be claimed: why, and the spans of both.
    """
    differences: dict[str, Estimate] = {}
    doubts: dict[str, dict[str, Any]] = {}
    needs: dict[str, Need] = {}
    for size, (one, other) in pairs.items():
        for name in INPUTS:
            if (name == "beta" and "beta" in differences) or name not in one.law.names:
                continue
            label = f"alpha_{size}" if name == "alpha" else name
            differences[label] = coefficient_difference(curve_of(one), curve_of(other), name)
            for law in (one, other):
                value = exponent(law, name)
                if value and value.doubt and (bounded or value.doubt == "size_span"):
                    doubts.setdefault(name, {"doubt": value.doubt, "span": value.span})
                    needs |= {need.what: need for need in value.needs(rows)}
    numbers |= {label: value.ends() for label, value in differences.items()}
    numbers |= {"doubts": doubts}
    about = about_group(selected_of(key))
    claimed = [name for name in differences if name.split("_")[0] not in doubts]
    status: Status = "answered" if claimed else "cannot_tell"
    return Answer(question, about, status, numbers, tuple(needs.values()))
