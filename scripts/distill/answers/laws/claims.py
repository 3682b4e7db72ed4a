"""Published claims about distilled students, each with a verdict from this study's own numbers.

A claim is supported only where the measured interval lies inside the claimed range, contradicted
only where it lies outside; else it is not tested here, and the needs say what is missing. A claim
that names one figure gets a range of this project about it, which the answer states.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, Need, Status
from distill.answers.laws import (
    against_scratch,
    collapse,
    common_text,
    compute_optimal,
    exponents,
    teacher_ratio,
)
from distill.answers.laws.exponents import exponent
from distill.answers.laws.needs import (
    STUDENT_SIZES,
    need_corpus,
    need_draws,
    need_size_span,
    need_students,
)
from distill.contracts.points import MEASURES
from distill.laws.common_text import selected_of
from distill.laws.curves import grid_laws, label_of
from distill.laws.fitted import FittedLaw
from distill.laws.points import SIZE_RANGE
from distill.stats.intervals import Estimate

KEY = "claim"
SUPPORTED, CONTRADICTED, NOT_TESTED = "supported", "contradicted", "not tested here"


@dataclass(frozen=True)
class Claim:
    """A claimed range.

    Attributes:
        name: Key of the claim, which the template words.
        low: Lower end.
        high: Upper end.
        rests_on: Key of the question whose answer tests it.
        intervals: Names of the intervals in that answer's numbers, as they are reported; "" stands
            for `value`, `low` and `high`. All must support the claim, or all contradict it.
    """

    name: str
    low: float
    high: float
    rests_on: str
    intervals: tuple[str, ...] = ("",)


ALPHA_DISTILLED = Claim("alpha_distilled", 0.3, 0.5, exponents.KEY)
ALPHA_SCRATCH = Claim("alpha_scratch", 0.5, 0.7, exponents.KEY)
BEST_RATIO = Claim("best_ratio", 10.0, 20.0, teacher_ratio.KEY)
DATA_SHARE = Claim("data_share", 0.1, 0.2, against_scratch.DATA)
COLLAPSE = Claim("collapse", 0.025, 0.1, collapse.KEY, ("share_of_teacher",))
SPLIT = Claim("split", 0.25, 0.35, compute_optimal.TEACHER_SHARE)
CURATED = Claim(
    "curated", 0.1, 0.2, common_text.CURATION, tuple(f"alpha_{size}" for size in MEASURES)
)
EFFICIENT = Claim(
    "efficient", 5.0, 10.0, against_scratch.EFFICIENCY, ("teacher_inference", "best_case")
)


def verdict(low: float | None, high: float | None, claim: Claim) -> str:
    """Compare an interval with a claimed range; an end that is None is unbounded."""
    if low is not None and high is not None and claim.low <= low and high <= claim.high:
        return SUPPORTED
    if (low is not None and low > claim.high) or (high is not None and high < claim.low):
        return CONTRADICTED
    return NOT_TESTED


@dataclass(frozen=True)
class Measured:
    """One measurement that tests a claim.

    Attributes:
        about: Whom it is about.
        intervals: By name; they must agree.
        needs: What would narrow them.
    """

    about: Mapping[str, Any]
    intervals: Mapping[str, Estimate]
    needs: tuple[Need, ...] = ()


def claim_answers(
    rows: pd.DataFrame,
    laws: Sequence[FittedLaw],
    corpus_methods: Sequence[str],
    answers: Iterable[Answer],
) -> list[Answer]:
    """Verdicts on the claims.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        corpus_methods: Methods that learn from a corpus, without a teacher.
        answers: The answers that the claims rest on.
    """
    answers = list(answers)
    distilled, scratch = (
        _alphas(laws, corpus_methods, from_scratch) for from_scratch in (False, True)
    )
    sizes = _sizes(rows)
    return [
        *claim_answer(ALPHA_DISTILLED, distilled, sizes),
        *claim_answer(ALPHA_SCRATCH, scratch, (need_corpus(), *sizes)),
        *(
            answer
            for claim in (BEST_RATIO, DATA_SHARE, COLLAPSE, SPLIT, CURATED, EFFICIENT)
            for answer in _from_answers(claim, answers, rows)
        ),
    ]


def _sizes(rows: pd.DataFrame) -> tuple[Need, ...]:
    """What an exponent in size takes: students, far enough apart, else more draws."""
    needs = []
    sizes = rows["params"].to_numpy(dtype=float)
    if rows["params"].nunique() < STUDENT_SIZES:
        needs.append(need_students(rows))
    if len(sizes) and sizes.max() < SIZE_RANGE * sizes.min():
        needs.append(need_size_span(float(sizes.min()), float(sizes.max())))
    return tuple(needs) or (need_draws(rows),)


def claim_answer(
    claim: Claim, measured: Sequence[Measured], needs: tuple[Need, ...]
) -> list[Answer]:
    """A verdict per measurement; without one, an answer that says what is missing.

    Args:
        claim: The claim.
        measured: Measurements.
        needs: What a measurement takes.
    """
    numbers: dict[str, Any] = {
        "claim": claim.name,
        "claimed": [claim.low, claim.high],
        "rests_on": claim.rests_on,
    }
    if not measured:
        numbers |= {"verdict": NOT_TESTED, "measured": False}
        return [Answer(KEY, {}, "cannot_tell", numbers, needs)]
    answers = []
    for one in measured:
        verdicts = {verdict(i.low, i.high, claim) for i in one.intervals.values()}
        agreed = verdicts.pop() if len(verdicts) == 1 else NOT_TESTED
        intervals = {name or "value": value.ends() for name, value in one.intervals.items()}
        status: Status = "cannot_tell" if agreed == NOT_TESTED else "answered"
        all_numbers = numbers | {"verdict": agreed, "measured": True, "intervals": intervals}
        missing = one.needs if agreed == NOT_TESTED else ()
        answers.append(Answer(KEY, one.about, status, all_numbers, missing))
    return answers


def _alphas(
    laws: Sequence[FittedLaw], corpus_methods: Sequence[str], scratch: bool
) -> list[Measured]:
    """Groups with an exponent in size that may be claimed in every measure of size they have."""
    grids = {size: grid_laws(laws, "loss", size) for size in MEASURES}
    measured = []
    for key in dict.fromkeys(key for groups in grids.values() for key in groups):
        selected = selected_of(key)
        if (selected["method"] in corpus_methods) != scratch:
            continue
        alphas = {
            size: value
            for size, groups in grids.items()
            if key in groups and (value := exponent(groups[key], "alpha"))
        }
        if alphas and all(alpha.doubt is None for alpha in alphas.values()):
            intervals = {size: alpha.interval for size, alpha in alphas.items()}
            about = {name: selected[name] or None for name in ("teacher", "method")}
            measured.append(Measured({**about, "label": label_of(selected)}, intervals))
    return measured


def _from_answers(claim: Claim, answers: Sequence[Answer], rows: pd.DataFrame) -> list[Answer]:
    """Verdicts from the numbers of the answers that the claim rests on."""
    sources = [answer for answer in answers if answer.question == claim.rests_on]
    measured = []
    for answer in sources:
        intervals = {
            name: value
            for name in claim.intervals
            if answer.status == "answered"
            and (value := _interval(answer.numbers, name)) is not None
        }
        if claim is CURATED:
            intervals = {name: _size_of_shift(value) for name, value in intervals.items()}
        if intervals:
            about = {key: answer.about.get(key) for key in ("teacher", "student", "method")}
            label = label_of(about) if any(about.values()) else None
            measured.append(Measured({**about, "label": label}, intervals, (need_draws(rows),)))
    needs = {need.what: need for answer in sources for need in answer.needs}
    if claim is COLLAPSE and any(answer.status == "answered" for answer in sources):
        needs = {"teacher_size": Need("teacher_size")}
    return claim_answer(claim, measured, tuple(needs.values()))


def _interval(numbers: Mapping[str, Any], name: str) -> Estimate | None:
    """An interval of an answer, whether it stands under its name or beside it."""
    if name in numbers:
        return Estimate.of_ends(numbers[name])
    prefix = f"{name}_" if name else ""
    if f"{prefix}value" not in numbers:
        return None
    return Estimate.of_ends({end: numbers[prefix + end] for end in ("value", "low", "high")})


def _size_of_shift(shift: Estimate) -> Estimate:
    """The size of a shift, whichever way: an interval across 0 holds shifts down to none."""
    ends = (shift.low or 0.0, shift.high or 0.0)  # a difference has both
    low, high = sorted(map(abs, ends))
    return Estimate(abs(shift.value), None, 0.0 if not shift.sign else low, high)
