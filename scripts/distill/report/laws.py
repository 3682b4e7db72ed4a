"""What the report shows of laws: coefficients, errors on held-out runs, refusals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from distill.answers import own_table
from distill.answers.laws import advice, claims, predicted, reach
from distill.answers.runs.questions import OF_SAMPLES
from distill.laws.curves import label_of

FIRST = [advice.KEY, reach.KEY, predicted.KEY]
"""Questions whose answers open the section, in this order."""
ELSEWHERE = {question.KEY for question in OF_SAMPLES}
"""Questions that the report answers in sections of their own."""
Record = Mapping[str, Any]
Labels = Callable[[Record], dict[str, str]]


def _labels(laws: Sequence[Record]) -> Labels:
    """A namer of laws, by as few keys as distinguish those of one page.

    Its names are `label` and `size`, the measure of size, if there are several.
    """
    selections = [law["selected"] for law in laws]
    keys = ["student", "method"]
    for key in ("cache", "init", "curation", "group", "teacher"):
        values: dict[tuple[Any, ...], set[Any]] = {}
        for selected in selections:
            place = tuple(selected.get(name) for name in keys)
            values.setdefault(place, set()).add(selected.get(key))
        if any(len(several) > 1 for several in values.values()):
            keys.append(key)

    def name(law: Record) -> dict[str, str]:
        selected = law["selected"]
        label = label_of({key: selected.get(key) for key in keys})
        return {"label": label, "size": selected.get("size") or ""}

    return name


def by_question(answers: Record) -> dict[str, list[dict[str, Any]]]:
    """The records of answers.json by their question's key, in their order."""
    out: dict[str, list[dict[str, Any]]] = {}
    for answer in answers.get("answers", []):
        out.setdefault(answer["key"], []).append(answer)
    return out


def law_parts(laws: Record | None, answers: Record) -> dict[str, Any]:
    """What the page shows of laws and of the questions that have no section of their own.

    Args:
        laws: laws.json; None if none were fitted.
        answers: answers.json.

    Returns:
        laws (see `law_section`); advice, the records on what to do next; reading, those on how a
        user's own table was read; open_questions, records with an answer, and unanswered, those
        without, both by question; inapplicable, the questions that a user's own table cannot be
        asked, by the reason; claims, records on what others claimed.
    """
    by_key = by_question(answers)
    listed = {key: by_key[key] for key in FIRST if key in by_key}
    listed |= {key: records for key, records in by_key.items() if key not in ELSEWHERE}
    reading = listed.pop(own_table.READING, [])
    inapplicable: dict[str, dict[str, None]] = {}
    for key, records in listed.items():
        unasked = [record for record in records if _is_unasked(record)]
        for record in unasked:
            inapplicable.setdefault(record["answer"], {})[record["question"]] = None
        listed[key] = [record for record in records if not _is_unasked(record)]
    verdicts = listed.pop(claims.KEY, [])
    # One key has several sentences where a question names what it is about.
    answered: dict[str, list[Record]] = {}
    unanswered: dict[str, list[Record]] = {}
    for record in (record for records in listed.values() for record in records):
        side = unanswered if record["status"] == "cannot_tell" else answered
        side.setdefault(record["question"], []).append(record)
    return {
        "laws": law_section(laws or {"laws": [], "refused": []}),
        "advice": by_key.get(advice.KEY, []),
        "reading": reading,
        "inapplicable": {reason: list(questions) for reason, questions in inapplicable.items()},
        "open_questions": answered,
        "unanswered": {heading: _once(same) for heading, same in unanswered.items()},
        "claims": verdicts,
    }


def _is_unasked(record: Record) -> bool:
    """Whether a record is of a question that a user's own table cannot be asked."""
    reason = record["numbers"].get("reason")
    return record["status"] == "not_applicable" and reason in own_table.REASONS


def _once(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each answer once, with the labels of all records that give it."""
    about: dict[str, list[str]] = {}
    for record in records:
        labels = about.setdefault(record["answer"], [])
        labels += [record["label"]] if record["label"] else []
    return [{"answer": answer, "labels": labels} for answer, labels in about.items()]


def law_section(document: Record) -> dict[str, Any]:
    """Everything that the report shows of laws.json.

    Returns:
        best: the laws chosen for their group and target, those over students first, with their
        labels; held_out: those that were evaluated, with their errors and the ends of the axis of
        the held-out runs; warnings, refused: each sentence or refusal once, with the laws that it
        is about; settings: how the laws were fitted, as far as all share it; any: whether there are
        laws; over_size: whether one of the best is over model size.
    """
    label = _labels(document["laws"] or document["refused"])
    best = [{**law, **label(law)} for law in document["laws"] if law["best"]]
    best.sort(key=lambda law: law["selected"].get("student") is not None)
    held_out = []
    for law in best:
        if held := law["holdout"]:
            values = sorted(entry[held["axis"]] for entry in held["predicted"])
            held_out.append({**law, **held, "low": values[0], "high": values[-1]})
    return {
        "best": best,
        "held_out": held_out,
        "warnings": _grouped(((word, law) for law in best for word in law["warnings"]), label),
        "refused": _grouped(
            (((law["name"], law["target"], law["reason"]), law) for law in document["refused"]),
            label,
        ),
        "settings": _settings(best),
        "any": bool(document["laws"]),
        "over_size": any(law["size"] for law in best),
    }


def _grouped(pairs: Iterable[tuple[Any, Record]], label: Labels) -> list[dict[str, Any]]:
    """Each content once, with the names of the laws that it is about."""
    out: dict[Any, list[dict[str, str]]] = {}
    for content, law in pairs:
        names = out.setdefault(content, [])
        if (name := label(law)) not in names:
            names.append(name)
    return [{"content": content, "about": names} for content, names in out.items()]


def _settings(laws: Sequence[Record]) -> list[tuple[str, Any]]:
    """How the laws were fitted, as pairs of a name and a value that all share."""
    if not laws:
        return []
    return [
        (name.replace("_", " "), value)
        for name, value in laws[0]["settings"].items()
        if isinstance(value, (str, int, float))
        and all(law["settings"].get(name) == value for law in laws)
    ]
