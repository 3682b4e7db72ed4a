"""What the report says about laws: coefficients, how they were judged, what was refused."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distill.answers.laws import advice, claims, predicted, reach
from distill.answers.runs.questions import OF_SAMPLES
from distill.laws.curves import label_of
from distill.stats.intervals import number, percent

FIRST = [advice.KEY, reach.KEY, predicted.KEY]
"""Questions whose answers open the section, in this order."""
ELSEWHERE = {question.KEY for question in OF_SAMPLES}
"""Questions that the report answers in sections of their own."""
_JUDGED = [
    "law", "target", "rung", "runs", "compute", "mean error", "largest", "skill", "covered",
]  # fmt: skip
SIZES = {"params": "total size", "params_non_embedding": "non-embedding size"}
Labels = Callable[[Mapping[str, Any]], str]


def _labels(laws: Sequence[Mapping[str, Any]]) -> Labels:
    """A namer of laws, by no more keys than it takes to tell those of one page apart."""
    found = [law["selected"] for law in laws]
    shown = ["student", "method"]
    for key in ("cache", "init", "curation", "group", "teacher"):
        values: dict[tuple[Any, ...], set[Any]] = {}
        for selected in found:
            values.setdefault(tuple(selected.get(name) for name in shown), set()).add(
                selected.get(key)
            )
        if any(len(several) > 1 for several in values.values()):
            shown.append(key)

    def name(selected: Mapping[str, Any]) -> str:
        size = SIZES.get(selected.get("size") or "")
        chosen = label_of({key: selected.get(key) for key in shown})
        return chosen + (f" · by {size}" if size else "")

    return name


def by_question(answers: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The records of answers.json by their question's key, in their order."""
    out: dict[str, list[dict[str, Any]]] = {}
    for answer in answers.get("answers", []):
        out.setdefault(answer["key"], []).append(answer)
    return out


def law_parts(laws: Mapping[str, Any] | None, answers: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of laws and of the questions that have no section of their own.

    Args:
        laws: laws.json; None where none were fitted.
        answers: answers.json.

    Returns:
        laws (see `law_section`); advice, the first answer to what to do next;
        open_questions, answers that tell something, and untold, those that cannot, both by
        question; claims, verdicts on what others claimed.
    """
    by_key = by_question(answers)
    shown = {key: by_key[key] for key in FIRST if key in by_key}
    shown |= {key: records for key, records in by_key.items() if key not in ELSEWHERE}
    verdicts = shown.pop(claims.KEY, [])
    # One key has several sentences where a question names what it is about.
    records = [record for found in shown.values() for record in found]
    headings = dict.fromkeys(record["question"] for record in records)

    def under(heading: str, untold: bool) -> list[dict[str, Any]]:
        return [r for r in records if r["question"] == heading and _untold(r) == untold]

    told = {heading: under(heading, False) for heading in headings}
    untold = {heading: under(heading, True) for heading in headings}
    return {
        "laws": law_section(laws or {"laws": [], "refused": []}),
        "advice": by_key.get(advice.KEY, []),
        "open_questions": {heading: found for heading, found in told.items() if found},
        "untold": {heading: _once(found) for heading, found in untold.items() if found},
        "claims": [
            {
                "claim": record["question"],
                "verdict": record["numbers"]["verdict"],
                "answer": record["answer"],
                "evidence": record["evidence"],
            }
            for record in verdicts
        ],
    }


def _untold(record: Mapping[str, Any]) -> bool:
    """Whether an answer is that the study cannot tell."""
    return bool(record["status"] == "cannot_tell")


def _once(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Answers of the same words become one, about all that they are given for."""
    about: dict[str, list[str]] = {}
    for record in records:
        names = about.setdefault(record["answer"], [])
        names += [record["label"]] if record["label"] else []
    few = 4
    return [
        {
            "question": records[0]["question"],
            "answer": answer,
            "label": "; ".join(names[:few]) + (f"; {len(names) - few} more" if names[few:] else ""),
        }
        for answer, names in about.items()
    ]


def law_section(document: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the report shows about laws.json.

    Returns:
        coefficients and judged: tables (columns and rows of texts) of the laws chosen for their
        group and target; warnings and refused: sentences, each with the groups that it is about;
        settings: how the laws were fitted; losers: how many laws were fitted and not chosen.
    """
    best = [law for law in document["laws"] if law["best"]]
    label = _labels(document["laws"] or document["refused"])
    best.sort(key=lambda law: law["selected"].get("student") is not None)  # over students first
    return {
        "coefficients": _table(
            ["law", "target", "formula", "coefficients (90 % interval)", "points", "residual"],
            [
                [
                    label(law["selected"]),
                    law["target"],
                    law["formula"],
                    "; ".join(_coefficient(*item) for item in law["coefficients"].items()),
                    number(law["points"]),
                    percent(law["residual_rmse_log"]).lstrip("+"),
                ]
                for law in best
            ],
        ),
        "judged": _table(
            _JUDGED,
            [_judged(law, label) for law in best if law["holdout"]],
        ),
        "warnings": _grouped(((word, law) for law in best for word in law["warnings"]), label),
        "refused": _grouped(
            (
                (f"{law['name']} ({law['target']}): {law['reason']}", law)
                for law in document["refused"]
            ),
            label,
        ),
        "dropped": [
            f"{label(law['selected'])}, {law['target']}: {len(law['dropped'])} points left out, "
            f"the first because {law['dropped'][0]['reason']}"
            for law in best
            if law["dropped"]
        ],
        "settings": _settings(best),
        "losers": len(document["laws"]) - len(best),
        "any": bool(document["laws"]),
        "over_size": any(law["selected"].get("size") for law in best),
    }  # fmt: skip


def _coefficient(name: str, entry: Mapping[str, Any]) -> str:
    if not entry["identifiable"] or entry["low"] is None or entry["high"] is None:
        return f"{name} not identifiable"
    low, high = number(entry["low"]), number(entry["high"])
    return f"{name} = {number(entry['value'])} ({low} to {high})"


def _judged(law: Mapping[str, Any], label: Labels) -> list[str]:
    held = law["holdout"]
    covered = held["interval_coverage"]
    skill = held["skill_vs_loglinear"]
    return [
        label(law["selected"]),
        law["target"],
        _rung(held),
        number(held["runs"]),
        f"× {number(held['compute_factor'], 2)}",
        percent(held["mean_relative_error"]).lstrip("+"),
        percent(held["max_relative_error"]).lstrip("+"),
        number(skill, 2),
        "–" if covered is None else percent(covered).lstrip("+"),
    ]


def _rung(held: Mapping[str, Any]) -> str:
    """The judged runs by the axis on which they are the dearest."""
    values = sorted({entry[held["axis"]] for entry in held["predicted"]})
    ends = [number(value) for value in (values[0], values[-1])]
    return f"{held['axis']} {ends[0] if ends[0] == ends[1] else ' to '.join(ends)}"


def _table(names: Sequence[str], rows: list[list[str]]) -> dict[str, Any]:
    texts = {"law", "target", "formula", "coefficients (90 % interval)", "rung"}
    columns = [
        {"name": name, "measured": False, "text": name in texts, "wide": "interval" in name}
        for name in names
    ]
    return {"columns": columns, "rows": rows}


def _grouped(found: Any, label: Labels) -> list[dict[str, Any]]:
    """Sentences, each once, with the laws that they are about."""
    out: dict[str, list[str]] = {}
    for sentence, law in found:
        names = out.setdefault(sentence, [])
        if (name := label(law["selected"])) not in names:
            names.append(name)
    return [{"sentence": sentence, "about": names} for sentence, names in out.items()]


def _settings(laws: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """How the laws were fitted, as pairs of a name and a value, those that all share."""
    if not laws:
        return []
    shared = {
        name: value
        for name, value in laws[0]["settings"].items()
        if all(law["settings"].get(name) == value for law in laws)
    }
    return [
        (name.replace("_", " "), value if isinstance(value, str) else number(value))
        for name, value in shared.items()
        if isinstance(value, (str, int, float))
    ]
