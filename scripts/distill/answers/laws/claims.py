"""Published claims about distilled students, each with a verdict from this study's own numbers.

A claim is supported only where the measured interval lies inside the claimed range, contradicted
only where it lies outside; else it is not tested here, and the reason says what is missing. A claim
that names one figure gets a range of our own about it, which the answer states.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.answers.laws import collapse, compute_optimal, data_needed, teacher_ratio
from distill.answers.laws.exponents import exponent
from distill.answers.laws.pairs import CURATION, NO_CORPUS
from distill.answers.record import law_record
from distill.laws.curves import SIZE_NAMES, grid_laws, label_of, selected_of
from distill.laws.fitted import FittedLaw
from distill.stats.intervals import number

SUPPORTED, CONTRADICTED, NOT_TESTED = "supported", "contradicted", "not tested here"
CLAIM = "Claim: "


@dataclass(frozen=True)
class Claim:
    """A claimed range.

    Attributes:
        text: In words.
        low: Lower end.
        high: Upper end.
        ours: What of the range is ours, where the claim names one figure.
    """

    text: str
    low: float
    high: float
    ours: str = ""


ALPHA_DISTILLED = Claim("α is 0.3 to 0.5 for distilled students", 0.3, 0.5)
ALPHA_SCRATCH = Claim("α is 0.5 to 0.7 for students trained from scratch", 0.5, 0.7)
BEST_RATIO = Claim("the best teacher is 10 to 20 times the student's size", 10.0, 20.0)
DATA_SHARE = Claim("distillation needs 10 to 20 % of the data", 0.1, 0.2)
COLLAPSE = Claim(
    "students below 5 % of the teacher collapse", 0.025, 0.1,
    "a break at 2.5 to 10 % of the teacher counts as 5 %",
)  # fmt: skip
SPLIT = Claim(
    "30 % of the FLOPs go to the teacher, 70 % to the student", 0.25, 0.35,
    "25 to 35 % count as 30 %",
)  # fmt: skip
CURATED = Claim("curated data shifts α by 0.1 to 0.2", 0.1, 0.2, "a shift either way counts")
EFFICIENT = Claim("distillation is 5 to 10 times as compute-efficient", 5.0, 10.0)


def verdict(low: float | None, high: float | None, claim: Claim) -> str:
    """Compare an interval with a claimed range; an end that is None is unbounded."""
    if low is not None and high is not None and claim.low <= low and high <= claim.high:
        return SUPPORTED
    if (low is not None and low > claim.high) or (high is not None and high < claim.low):
        return CONTRADICTED
    return NOT_TESTED


@dataclass(frozen=True)
class Measured:
    """One measurement that speaks to a claim: intervals that must agree, and whose they are."""

    selected: Mapping[str, Any] | None
    intervals: Sequence[tuple[str, float, float | None, float | None]]


def claim_answer(
    claim: Claim, measured: Sequence[Measured], reason: str, needs: str, evidence: str = ""
) -> list[dict[str, Any]]:
    """A verdict per measurement; one that says why where there is none.

    Args:
        claim: The claim.
        measured: Measurements; each holds one or more intervals (name, value, low, high), which
            must all support or all contradict.
        reason: Why there is no measurement.
        needs: What would be one.
        evidence: Beside the intervals.
    """
    question = CLAIM + claim.text
    note = f" The range is ours: {claim.ours}." if claim.ours else ""
    numbers: dict[str, Any] = {"claimed": [claim.low, claim.high]}
    if not measured:
        return [
            law_record(question, None, f"Not tested here: {reason}; needs {needs}.",
                       (evidence + note).strip(),
                       numbers | {"verdict": NOT_TESTED, "measured": False, "needs": needs})
        ]  # fmt: skip
    answers = []
    for one in measured:
        found = [verdict(low, high, claim) for _, _, low, high in one.intervals]
        agreed = found[0] if len(set(found)) == 1 else NOT_TESTED
        shown = "; ".join(
            f"{name} {number(value)} (90 % interval {_end(low)} to {_end(high)})"
            for name, value, low, high in one.intervals
        )
        entries = {
            name: {"value": value, "low": low, "high": high}
            for name, value, low, high in one.intervals
        }
        whose = f" ({label_of(one.selected)})" if one.selected else ""
        told: dict[str, Any] = numbers | {"verdict": agreed, "measured": True, "intervals": entries}
        if agreed == SUPPORTED:
            answer = f"Supported here{whose}: {shown}."
        elif agreed == CONTRADICTED:
            answer = f"Contradicted here{whose}: {shown}."
        else:
            answer = (
                f"Not tested here{whose}: measured, but undecided: {shown}, which neither lies in "
                "the claimed range nor excludes it."
            )
            told["needs"] = "a narrower interval: more draws, or sizes and data farther apart"
        answers.append(law_record(question, one.selected, answer, (evidence + note).strip(), told))
    return answers


def _end(value: float | None) -> str:
    return "unbounded" if value is None else number(value)


def claim_answers(
    laws: Sequence[FittedLaw],
    corpus_methods: Sequence[str],
    answers: Iterable[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Verdicts on the claims of the study of size.

    Args:
        laws: Of laws.json.
        corpus_methods: Methods that learn from a corpus, without a teacher.
        answers: The answers that the claims rest on (ratio, collapse, data, split, efficiency,
            curation), as made by their modules.
    """
    answers = list(answers)
    sizes = (
        "students over a factor of 20 in size, in both measures of size, at several amounts of data"
    )
    distilled = _alphas(laws, corpus_methods, scratch=False)
    scratch = _alphas(laws, corpus_methods, scratch=True)
    return [
        *claim_answer(ALPHA_DISTILLED, distilled, "no exponent in size can be claimed", sizes,
                      _ALPHA_EVIDENCE),
        *claim_answer(ALPHA_SCRATCH, scratch,
                      "no exponent in size of students trained on a corpus can be claimed",
                      f"{NO_CORPUS}; {sizes}", _ALPHA_EVIDENCE),
        *_from(BEST_RATIO, answers, teacher_ratio.RATIO, {"ratio": ""}, teacher_ratio.NEEDS),
        *_from(DATA_SHARE, answers, data_needed.AGAINST_SCRATCH, {"share of the data": ""},
               NO_CORPUS),
        *_collapse(answers),
        *_from(SPLIT, answers, compute_optimal.TEACHER_SHARE, {"teacher's share": ""},
               "unique tokens and epochs both varied, and the teacher's size"),
        *_curated(answers),
        *_from(EFFICIENT, answers, data_needed.EFFICIENCY,
               {"teacher's writing counted:": "teacher_inference", "not counted:": "best_case"},
               NO_CORPUS),
    ]  # fmt: skip


_ALPHA_EVIDENCE = "Exponents of the law of the loss; both measures of size must agree."


def _alphas(
    laws: Sequence[FittedLaw], corpus_methods: Sequence[str], scratch: bool
) -> list[Measured]:
    """Groups with an exponent in size that may be claimed in every measure of size they have."""
    found = {size: grid_laws(laws, "loss", size) for size in SIZE_NAMES}
    measured = []
    for key in dict.fromkeys(k for groups in found.values() for k in groups):
        selected = selected_of(key)
        if (selected["method"] in corpus_methods) != scratch:
            continue
        alphas = {
            size: value
            for size, groups in found.items()
            if key in groups and (value := exponent(groups[key], "alpha"))
        }
        if alphas and all(alpha.doubt is None for alpha in alphas.values()):
            measured.append(
                Measured(
                    selected,
                    [
                        (
                            f"in {SIZE_NAMES[size]}",
                            a.interval.value,
                            a.interval.low,
                            a.interval.high,
                        )
                        for size, a in alphas.items()
                    ],
                )
            )
    return measured


def _sure(answers: Iterable[Mapping[str, Any]], question: str) -> list[Mapping[str, Any]]:
    """Answers to a question that could be told."""
    return [
        answer
        for answer in answers
        if answer["question"] == question and not answer["numbers"].get("cannot_tell")
    ]


def _why(answers: Iterable[Mapping[str, Any]], question: str) -> str:
    """Why a question could not be told, in its own words."""
    for answer in answers:
        if answer["question"] == question and answer["numbers"].get("cannot_tell"):
            text = str(answer["answer"])
            return text.removeprefix("Cannot tell, because ").rpartition("; needs")[0]
    return "the question was not asked"


def _whose(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whom an answer is about."""
    selected = {key: answer[key] for key in ("teacher", "student", "method") if answer[key]}
    return selected or None


def _from(
    claim: Claim,
    answers: Sequence[Mapping[str, Any]],
    question: str,
    names: Mapping[str, str],
    needs: str,
) -> list[dict[str, Any]]:
    """A verdict from the numbers of another answer."""
    measured = []
    for answer in _sure(answers, question):
        numbers = answer["numbers"]
        intervals = []
        for shown, name in names.items():
            value, low, high = (
                numbers[f"{name}_{key}" if name else key] for key in ("value", "low", "high")
            )
            intervals.append((shown, value, low, high))
        measured.append(Measured(_whose(answer), intervals))
    return claim_answer(claim, measured, _why(answers, question), needs)


def _collapse(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The break's place as a share of the teacher."""
    measured = [
        Measured(
            _whose(answer),
            [("break at a share of", *(answer["numbers"][f"share_of_teacher_{key}"]
                                       for key in ("value", "low", "high")))],
        )
        for answer in _sure(answers, collapse.COLLAPSE)
        if "share_of_teacher_value" in answer["numbers"]
    ]  # fmt: skip
    established = bool(_sure(answers, collapse.COLLAPSE))
    reason = "the teacher's size is not known" if established else _why(answers, collapse.COLLAPSE)
    return claim_answer(COLLAPSE, measured, reason, f"the teacher's size, and {collapse.NEEDS}")


def _curated(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The size of α's shift, whichever way, in every measure of size."""
    measured = []
    for answer in _sure(answers, CURATION):
        shifts = [
            (size, answer["numbers"][f"alpha_{size}"])
            for size in SIZE_NAMES
            if f"alpha_{size}" in answer["numbers"]
        ]
        intervals = []
        for size, shift in shifts:
            low, high = sorted((abs(shift["low"]), abs(shift["high"])))
            # An interval across 0 holds shifts of any size down to none.
            low = 0.0 if shift["low"] <= 0 <= shift["high"] else low
            intervals.append((f"shift of α in {SIZE_NAMES[size]}", abs(shift["value"]), low, high))
        if intervals:
            measured.append(Measured(_whose(answer), intervals))
    needs = "a curated and a raw group at equal tokens, with at least 5 sizes and 3 draws each"
    return claim_answer(CURATED, measured, _why(answers, CURATION), needs)
