"""Answers about a user's own table: what it cannot be asked, how it was read, many groups."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment

from distill.answers.answer import Answer
from distill.answers.laws import (
    against_scratch,
    claims,
    common_text,
    compute_optimal,
    teacher_ratio,
)
from distill.answers.runs import (
    at_equal_money,
    at_equal_seconds,
    controls,
    curation_effect,
    curation_exponent,
    energy_quality,
    flops_split,
    flops_split_scales,
    forgetting,
    initialisation,
    more_responses,
    pareto,
    prompts_or_epochs,
    task_metric,
)
from distill.answers.wording import text_of

READING = "reading"
REASONS = NO_TEACHER, NOT_IN_TABLE = "no_teacher", "not_in_table"
"""Reasons why a question does not apply."""
_OF_TEACHERS = {
    claims.KEY,
    teacher_ratio.KEY,
    against_scratch.DATA,
    against_scratch.BREAK_EVEN,
    against_scratch.EFFICIENCY,
    common_text.AGAINST_SCRATCH,
    compute_optimal.TEACHER_SHARE,
}
"""Questions about distillation, which a table without teachers or kinds of runs cannot be asked."""
_MEASURED = {
    at_equal_money.KEY,
    at_equal_seconds.KEY,
    common_text.CURATION,
    controls.KEY,
    curation_effect.KEY,
    curation_exponent.KEY,
    energy_quality.KEY,
    flops_split.KEY,
    flops_split_scales.KEY,
    forgetting.KEY,
    more_responses.KEY,
    task_metric.KEY,
}
"""Questions about measurements that no column of a user's own table holds."""
_OF_CONFIGS = {initialisation.KEY, prompts_or_epochs.KEY}
"""Questions that a user's own table answers only if its runs happen to vary what they take."""
_ASKED = ("claim", "scenario", "costs")
"""Numbers that the words of a question need."""
_MOST = 3
"""More groups than this that cannot be told are one answer."""


def applicable(answers: Iterable[Answer], references: Mapping[str, Any] | None) -> list[Answer]:
    """Answers, with those of questions that a user's own table cannot be asked as such.

    Args:
        answers: Answers of any study.
        references: references.json; of a user's own table `own_table` and `distils`.

    Returns:
        The answers in order; each question that does not apply once.
    """
    if not (references or {}).get("own_table"):
        return list(answers)
    out: dict[Any, Answer] = {}
    for place, answer in enumerate(answers):
        reason = _inapplicable(answer, bool((references or {}).get("distils")))
        if reason is None:
            out[place] = answer
            continue
        numbers = {name: answer.numbers[name] for name in _ASKED if name in answer.numbers}
        numbers["reason"] = reason
        key = (answer.question, repr(numbers))
        out.setdefault(key, Answer(answer.question, {}, "not_applicable", numbers))
    return list(out.values())


def _inapplicable(answer: Answer, distils: bool) -> str | None:
    scenario = answer.numbers.get("scenario", "best_case")
    if not distils and (answer.question in _OF_TEACHERS or scenario != "best_case"):
        return NO_TEACHER
    if answer.numbers.get("reason") == "no_pretraining_tokens":
        return NOT_IN_TABLE
    if answer.question == claims.KEY and answer.numbers["claim"] == claims.CURATED.name:
        return NOT_IN_TABLE
    if answer.question in _OF_CONFIGS and answer.status == "cannot_tell":
        return NOT_IN_TABLE
    unmeasured = answer.question == pareto.KEY and not answer.numbers["models"]
    return NOT_IN_TABLE if answer.question in _MEASURED or unmeasured else None


def reading_answers(references: Mapping[str, Any]) -> list[Answer]:
    """What a reader must know of how a user's own table was read, one answer per note."""
    return [Answer(READING, {}, "answered", note) for note in references.get("notes") or []]


def merge_groups(records: Sequence[dict[str, Any]], wording: Environment) -> list[dict[str, Any]]:
    """Records of answers.json, with one record per question where many groups cannot be told.

    Args:
        records: From `distill.answers.wording.worded`.
        wording: Templates.

    Returns:
        The records in order. A merged one has `numbers.groups` (how many), `numbers.reasons` (each
        answer with its count, the commonest first), `numbers.labels` and every need once.
    """
    words = wording.get_template("_groups.j2").module
    alike: dict[Any, list[dict[str, Any]]] = {}
    for place, record in enumerate(records):
        can_merge = record["status"] == "cannot_tell" and record["label"]
        alike.setdefault((record["key"], record["question"]) if can_merge else place, []).append(
            record
        )
    out = []
    for several in alike.values():
        if len(several) <= _MOST:
            out += several
            continue
        merged = _merged(several)
        texts = {part: text_of(getattr(words, part)(merged)) for part in ("answer", "evidence")}
        out.append({**merged, **texts})
    return out


def _merged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    reasons: dict[str, int] = {}
    for record in records:
        reasons[record["answer"]] = reasons.get(record["answer"], 0) + 1
    needs = {repr(need): need for record in records for need in record["needs"]}
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return {
        **records[0],
        "label": None,
        "teacher": None,
        "student": None,
        "method": None,
        "numbers": {
            "groups": len(records),
            "labels": list(dict.fromkeys(record["label"] for record in records)),
            "reasons": [{"answer": text, "groups": count} for text, count in ordered],
        },
        "needs": list(needs.values()),
    }
