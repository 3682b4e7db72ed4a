"""What the report says about laws: which hold, their coefficients, how they were judged, refusals."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.estimates import number, percent

SIZES = {"params": "all parameters", "params_non_embedding": "parameters without embeddings"}


def label_of(selected: Mapping[str, Any]) -> str:
    """Whose law: the names that tell it from the others of the study."""
    plain = {"none", "raw", ""}
    names = [
        str(selected[key])
        for key in ("teacher", "student", "method", "cache", "curation", "init", "group")
        if selected.get(key) is not None and selected[key] not in plain
    ]
    size = SIZES.get(selected.get("size") or "")
    return " · ".join(names) + (f" · over {size}" if size else "")


def law_section(document: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the report shows about laws.json.

    Returns:
        coefficients and judged: tables (columns and rows of texts) of the laws chosen for their
        group and target; warnings and refused: sentences, each with the groups that it is about;
        settings: how the laws were fitted; losers: how many laws were fitted and not chosen.
    """
    best = [law for law in document["laws"] if law["best"]]
    return {
        "coefficients": _table(
            ["law", "target", "formula", "coefficients (90 % interval)", "points", "residual"],
            [
                [
                    label_of(law["selected"]),
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
            ["law", "target", "rung", "runs", "compute", "mean error", "largest", "skill", "covered"],
            [_judged(law) for law in best if law["holdout"]],
        ),
        "warnings": _grouped((word, law) for law in best for word in law["warnings"]),
        "refused": _grouped(
            (f"{law['name']} ({law['target']}): {law['reason']}", law) for law in document["refused"]
        ),
        "dropped": [
            f"{label_of(law['selected'])}, {law['target']}: {len(law['dropped'])} points left out, "
            f"the first because {law['dropped'][0]['reason']}"
            for law in best
            if law["dropped"]
        ],
        "settings": _settings(best),
        "losers": len(document["laws"]) - len(best),
        "any": bool(document["laws"]),
    }  # fmt: skip


def _coefficient(name: str, entry: Mapping[str, Any]) -> str:
    if not entry["identifiable"] or entry["low"] is None or entry["high"] is None:
        return f"{name} not identifiable"
    low, high = number(entry["low"]), number(entry["high"])
    return f"{name} = {number(entry['value'])} ({low} to {high})"


def _judged(law: Mapping[str, Any]) -> list[str]:
    held = law["holdout"]
    covered = held["interval_coverage"]
    skill = held["skill_vs_loglinear"]
    return [
        label_of(law["selected"]),
        law["target"],
        f"{held['axis']} = {number(held['rung'])}",
        number(held["runs"]),
        f"× {number(held['compute_factor'], 2)}",
        percent(held["mean_relative_error"]).lstrip("+"),
        percent(held["max_relative_error"]).lstrip("+"),
        number(skill, 2),
        "–" if covered is None else percent(covered).lstrip("+"),
    ]


def _table(names: Sequence[str], rows: list[list[str]]) -> dict[str, Any]:
    texts = {"law", "target", "formula", "coefficients (90 % interval)", "rung"}
    columns = [{"name": name, "measured": False, "text": name in texts} for name in names]
    return {"columns": columns, "rows": rows}


def _grouped(found: Any) -> list[dict[str, Any]]:
    """Sentences, each once, with the laws that they are about."""
    out: dict[str, list[str]] = {}
    for sentence, law in found:
        names = out.setdefault(sentence, [])
        if (name := label_of(law["selected"])) not in names:
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
