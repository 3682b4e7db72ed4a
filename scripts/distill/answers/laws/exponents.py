"""Exponents per method with intervals, and how much methods, starts and curations differ in them.

Each group of runs (teacher, method, cache, curation, initialisation) has a law of its own; groups
are compared by the interval of the difference, never by looking whether two intervals overlap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from distill.answers.record import cannot_tell, law_record
from distill.laws.curves import (
    GROUP_KEYS,
    SIZE_NAMES,
    SIZE_RANGE,
    coefficient_difference,
    curve_of,
    grid_laws,
    label_of,
    selected_of,
)
from distill.laws.fitted import FittedLaw
from distill.stats.intervals import Interval, number

EXPONENTS = "How fast does the loss fall with size and with data?"
DIFFERENCE = "Do methods differ in their exponents?"
SYMBOLS = {"alpha": "α (size)", "beta": "β (data)"}
TARGETS = ("loss", "gap")
_TARGET_NAMES = {"loss": "the loss", "gap": "the gap to the teacher"}


@dataclass(frozen=True)
class Exponent:
    """An exponent of one group, in one measure of size, and why it may not be claimed."""

    interval: Interval
    size: str | None
    doubt: str | None
    needs: str | None

    def numbers(self) -> dict[str, Any]:
        """Plain numbers."""
        return self.interval.numbers() | {"claimed": self.doubt is None, "doubt": self.doubt}


def exponent(law: FittedLaw, name: str) -> Exponent | None:
    """An exponent of a law with its interval; None where the law has none of that name."""
    value = law.record["coefficients"].get(name)
    if value is None:
        return None
    interval = Interval(value["value"], value["low"], value["high"])
    doubt = needs = None
    low, high = law.range["params" if name == "alpha" else "tokens"]
    axis = "sizes" if name == "alpha" else "amounts of data"
    if name == "alpha" and high / low < SIZE_RANGE:
        doubt = f"sizes span a factor of {number(high / low)}, below {SIZE_RANGE:.0f}"
        needs = f"students over a factor of {SIZE_RANGE:.0f} in size"
    elif not value["identifiable"]:
        doubt, needs = "its interval is unbounded", f"more {axis}, farther apart, or more draws"
    return Exponent(interval, law.selected.get("size"), doubt, needs)


def exponent_answers(laws: Sequence[FittedLaw]) -> list[dict[str, Any]]:
    """One answer per group and target: α in both measures of size, β."""
    answers = []
    for target in TARGETS:
        found = {size: grid_laws(laws, target, size) for size in SIZE_NAMES}
        for key in dict.fromkeys(k for groups in found.values() for k in groups):
            answers.append(_exponents(found, key, target, laws))
        with_size = {key for groups in found.values() for key in groups}
        for law in laws:
            if (
                law.name == "data_power"
                and law.target == target
                and tuple(str(law.selected.get(k) or "") for k in GROUP_KEYS) not in with_size
            ):
                answers.append(_data_alone(law, target))
    if not answers:
        answers.append(
            cannot_tell(EXPONENTS, None, "no law could be fitted", "at least 4 amounts of data, "
                        "or 3 sizes of student at several amounts of data each")
        )  # fmt: skip
    return answers


def _data_alone(law: FittedLaw, target: str) -> dict[str, Any]:
    beta = exponent(law, "beta")
    assert beta is not None
    evidence = f"{law.record['formula']}, {law.record['points']} runs of one student."
    numbers = {"target": target, "law": law.name, "beta": beta.numbers(), "alpha": {}}
    needs = f"at least 3 sizes of student over a factor of {SIZE_RANGE:.0f}"
    if beta.doubt:
        return cannot_tell(EXPONENTS, law.selected, f"of β {beta.doubt} and α needs several sizes",
                           needs, evidence, numbers)  # fmt: skip
    text = f"β (data) of {_TARGET_NAMES[target]} is {beta.interval.text()}; α (size): cannot tell, "
    numbers |= {"needs": needs}
    return law_record(EXPONENTS, law.selected, f"{text}needs {needs}.", evidence, numbers)


def _exponents(
    found: Mapping[str, Mapping[tuple[str, ...], FittedLaw]],
    key: tuple[str, ...],
    target: str,
    laws: Sequence[FittedLaw],
) -> dict[str, Any]:
    mine = {size: groups[key] for size, groups in found.items() if key in groups}
    alphas = {size: value for size, law in mine.items() if (value := exponent(law, "alpha"))}
    betas = [value for law in mine.values() if (value := exponent(law, "beta"))]
    first = next(iter(mine.values()))
    parts, doubts, needs = [], [], []
    for size, alpha in alphas.items():
        if alpha.doubt:
            doubts.append(f"α in {SIZE_NAMES[size]}: {alpha.doubt}")
            needs.append(alpha.needs or "")
        else:
            parts.append(f"α (size) is {alpha.interval.text()} in {SIZE_NAMES[size]}")
    if betas and betas[0].doubt is None:
        parts.append(f"β (data) is {betas[0].interval.text()}")
    elif betas:
        doubts.append(f"β: {betas[0].doubt}")
        needs.append(betas[0].needs or "")
    evidence = (
        f"{first.record['formula']}, fitted to {_TARGET_NAMES[target]} of "
        f"{first.record['points']} runs."
    )
    evidence += "".join(
        f" {SIZE_NAMES[size]}, not claimed: α = {alpha.interval.text()}.".capitalize()
        for size, alpha in alphas.items()
        if alpha.doubt
    )
    broken = [law for law in laws if law.best and law.name.startswith("broken")
              and law.target == target and tuple(str(law.selected.get(k) or "") for k in GROUP_KEYS)
              == key]  # fmt: skip
    if broken:
        evidence += (
            " A law with a break in size predicted the second dearest rung better; these are the "
            "exponents of the smooth law."
        )
    numbers = {
        "target": target,
        "law": first.name,
        "alpha": {size: alpha.numbers() for size, alpha in alphas.items()},
        "beta": betas[0].numbers() if betas else {},
        "points": first.record["points"],
    }
    if not parts:
        return cannot_tell(EXPONENTS, selected_of(key), "; ".join(doubts),
                           " and ".join(dict.fromkeys(needs)), evidence, numbers)  # fmt: skip
    text = f"Of {_TARGET_NAMES[target]}: " + "; ".join(parts) + "."
    if doubts:
        text += f" Cannot tell {'; '.join(doubts)}."
        numbers["needs"] = " and ".join(dict.fromkeys(needs))
    return law_record(EXPONENTS, selected_of(key), text, evidence, numbers)


def method_differences(
    laws: Sequence[FittedLaw], corpus_methods: Sequence[str]
) -> list[dict[str, Any]]:
    """Differences of exponents between methods that share teacher, start and curation."""
    answers = []
    for target in TARGETS:
        found = {size: grid_laws(laws, target, size) for size in SIZE_NAMES}
        keys = list(dict.fromkeys(k for groups in found.values() for k in groups))
        for first, second in combinations(keys, 2):
            names = [k for k, a, b in zip(GROUP_KEYS, first, second, strict=True) if a != b]
            if not set(names) <= {"method", "cache"}:
                continue
            # Against a corpus there is a question of its own, judged on the reference text.
            if any(selected_of(key)["method"] in corpus_methods for key in (first, second)):
                continue
            answers.append(_difference(found, first, second, target))
    return answers


def _difference(
    found: Mapping[str, Mapping[tuple[str, ...], FittedLaw]],
    first: tuple[str, ...],
    second: tuple[str, ...],
    target: str,
) -> dict[str, Any]:
    pairs = [
        (size, groups[first], groups[second])
        for size, groups in found.items()
        if first in groups and second in groups and groups[first].name == groups[second].name
    ]
    names = [_short(selected_of(key)) for key in (first, second)]
    if not pairs:
        return cannot_tell(DIFFERENCE, selected_of(first),
                           f"{names[0]} and {names[1]} have no law of one form in one measure of "
                           "size", "the same sizes and amounts of data for both")  # fmt: skip
    values, doubts, needs = {}, [], []
    for size, one, other in pairs:
        for name in ("alpha", "beta"):
            if (name == "beta" and "beta" in values) or name not in one.law.names:
                continue
            ends = [e for law in (one, other) if (e := exponent(law, name))]
            label = f"alpha_{size}" if name == "alpha" else name
            values[label] = coefficient_difference(curve_of(one), curve_of(other), name)
            for end in ends:
                if end.doubt:
                    doubts.append(f"{label.split('_')[0]}: {end.doubt}")
                    needs.append(end.needs or "")
    return told_differences(DIFFERENCE, first, names, values, doubts, needs,
                 f"Laws of one form ({pairs[0][1].record['formula']}) fitted to "
                 f"{_TARGET_NAMES[target]}, {pairs[0][1].record['points']} and "
                 f"{pairs[0][2].record['points']} runs, taken as independent.",
                 {"target": target})  # fmt: skip


def told_differences(
    question: str,
    key: tuple[str, ...],
    names: Sequence[str],
    values: Mapping[str, Interval],
    doubts: Sequence[str],
    needs: Sequence[str],
    evidence: str,
    numbers: dict[str, Any],
) -> dict[str, Any]:
    """Say in words how the first group's exponents differ from the second's."""
    numbers |= {"groups": list(names), **{name: value.numbers() for name, value in values.items()}}
    unsure = {doubt.split(":")[0] for doubt in doubts}
    sure = {name: value for name, value in values.items() if name.split("_")[0] not in unsure}
    told = []
    for name, value in values.items():
        symbol = SYMBOLS[name.split("_")[0]]
        size = SIZE_NAMES.get(name.partition("_")[2])
        shown = f"{symbol}{f' in {size}' if size else ''} by {value.text()}"
        if name not in sure:
            evidence += f" Not claimed: {shown}."
        elif value.sign:
            told.append(f"{'larger' if value.sign > 0 else 'smaller'} {shown}")
        else:
            told.append(f"no clear difference in {shown.replace(' by ', ': ', 1)}")
    if not sure:
        return cannot_tell(question, selected_of(key), "; ".join(dict.fromkeys(doubts)),
                           " and ".join(dict.fromkeys(needs)), evidence, numbers)  # fmt: skip
    answer = f"{names[0]} against {names[1]}: {'; '.join(told)}."
    if doubts:
        answer += f" Cannot tell {'; '.join(dict.fromkeys(doubts))}."
        numbers["needs"] = " and ".join(dict.fromkeys(needs))
    return law_record(question, selected_of(key), answer, evidence, numbers)


def _short(selected: Mapping[str, Any]) -> str:
    return label_of({key: selected.get(key) for key in ("method", "cache")})
