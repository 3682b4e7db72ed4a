"""What the report shows of methods, soft targets and searches, and how they compare."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from distill.answers.runs import at_equal_flops, at_equal_samples, cache_costs
from distill.contracts.divergences import DIVERGENCES, PARAMETERS
from distill.contracts.energy import energy_of, sum_energy
from distill.table.lines import Line, has_values, mean_of

OTHER_TERMS = {"ce": "CE(text)", "uld": "ULD(q, s)", "spans": "KL(q ‖ s; aligned spans)"}
TERMS = ("ce", *DIVERGENCES, "uld", "spans")
"""Losses of a method on the distribution, in the order of the formula."""
NUMBERS = ("temperature", *(parameter.key for parameter in PARAMETERS))
"""Settings that the formula shows."""
MOST_ROWS = 20
"""Rows of a table from which on it shows the largest size of each comparison alone."""
ON_POLICY = {"share": 0.5, "temperature": 1.0, "max_tokens": 128}
"""Defaults of `distill.config.methods.OnPolicy`."""
Row = dict[str, Any]
Record = Mapping[str, Any]


def formula(settings: Mapping[str, Any]) -> str:
    """Write the loss that a method minimises as a formula.

    CE is cross-entropy on the text, q the teacher's distribution, s the student's. At a
    temperature T other than 1 both are taken at T, and every loss on them is multiplied by T².
    """
    terms = {key: value for key, value in settings.items() if value is not None}
    temperature = float(terms.get("temperature", 1.0))
    parts = []
    for name in TERMS:
        weight = float(terms.get(name) or 0.0)
        if weight > 0:
            hot = name != "ce" and temperature != 1
            row = DIVERGENCES.get(name)
            text = OTHER_TERMS[name] if row is None else row.text(terms)
            parts.append(_times(weight, f"T² {text}" if hot else text))
    for name, what in (("hidden", "hidden states"), ("embedding", "final hidden states")):
        if entry := terms.get(name):
            distance = "MSE" if entry.get("loss", "mse") == "mse" else "cosine distance"
            pairs = [
                f"{layer} ← {teacher}" for layer, teacher in (entry.get("layers") or {}).items()
            ]
            where = f"; layers {', '.join(pairs)}" if pairs else ""
            parts.append(_times(float(entry.get("weight", 1.0)), f"{distance}({what}{where})"))
    text = " + ".join(parts) or "–"
    hot = any(float(terms.get(name) or 0) > 0 for name in TERMS if name != "ce")
    return f"{text}, T = {temperature:g}" if hot and temperature != 1 else text


def _times(weight: float, text: str) -> str:
    return text if weight == 1 else f"{weight:.4g} {text}"


def methods_table(references: Record) -> list[Row]:
    """A row per method.

    Its values: method, formula, search (its name or None), found (settings outside the loss that
    the search chose), all_tokens, teacher_head, on_policy (settings or None), others (settings).
    """
    rows = []
    searches = references.get("searches") or {}
    for name, settings in (references.get("methods") or {}).items():
        method, chosen = dict(settings), {}
        if search := method.pop("search", None):
            record = searches.get(search) or {}
            method = dict((record.get("spec") or {}).get("method") or {}) | method
            best = record.get("settings") or {}
            method |= {k.removeprefix("method."): v for k, v in best.items() if "method." in k}
            chosen = {k: v for k, v in best.items() if "method." not in k}
        on_policy = method.get("on_policy")
        known = {*TERMS, *NUMBERS, "hidden", "embedding", "tokens", "on_policy", "train"}
        others = {k: v for k, v in method.items() if k not in known and v is not None}
        rows.append(
            {
                "method": name,
                "formula": formula(method),
                "search": search,
                "chosen": chosen,
                "all_tokens": method.get("tokens") == "all",
                "teacher_head": (method.get("embedding") or {}).get("head") == "teacher",
                "on_policy": None if on_policy is None else ON_POLICY | dict(on_policy),
                "others": [*(method.get("train") or {}).items(), *others.items()],
            }
        )
    return rows


def caches_table(lines: list[Line], references: Record) -> list[Row]:
    """A row per cache: its settings, size per token, and whose distributions it holds."""
    rows = []
    for name in dict.fromkeys(line.cache for line in lines if line.reads_cache):
        facts = (references.get("caches") or {}).get(name) or {}
        runs = pd.concat([line.runs for line in lines if line.cache == name])
        measured = {
            key: mean_of(runs, f"cache_{key}")
            for key in ("bytes_per_token", "kept_mass", "entropy")
            if has_values(runs, f"cache_{key}")
        }
        rows.append({**facts, **measured, "cache": name, "manifest": facts.get("manifest") or {}})
    return rows


def searches_tables(references: Record) -> tuple[list[Row], list[Row]]:
    """How the searches went, a row each, and the best settings, a row per setting."""
    searches, best = [], []
    for name, search in (references.get("searches") or {}).items():
        trials = search.get("trials") or []
        losses = sorted(
            float(trial["loss"])
            for trial in trials
            if not trial["pruned"] and trial["loss"] is not None and math.isfinite(trial["loss"])
        )
        searches.append(
            {
                "search": name,
                "trials": len(trials),
                "pruned": sum(bool(trial["pruned"]) for trial in trials),
                "loss": search.get("loss"),
                "median_loss": losses[len(losses) // 2] if losses else None,
                "seconds": sum(float(trial.get("seconds") or 0) for trial in trials),
                "kwh": sum_energy(energy_of(trial, "energy_") for trial in trials).kwh,
            }
        )
        space = (search.get("spec") or {}).get("space") or {}
        for key, value in (search.get("settings") or {}).items():
            best.append({"search": name, "setting": key, "best": value, **(space.get(key) or {})})
    return searches, best


def soft_section(
    lines: list[Line], references: Record, asked: Mapping[str, list[Row]]
) -> dict[str, Any] | None:
    """Rows on what methods and caches are, how they compare, and how searches went.

    Args:
        lines: of the runs table.
        references: references.json.
        asked: records of answers.json by question.

    Returns:
        None for a study of one method without soft targets.
    """
    searches, best = searches_tables(references)
    methods = methods_table(references)
    at_flops = asked.get(at_equal_flops.KEY, [])
    costs = asked.get(cache_costs.KEY, [])
    by_size = [_sample_rows(answer) for answer in asked.get(at_equal_samples.KEY, [])]
    if not (methods or by_size or at_flops or costs or searches):
        return None
    long = sum(map(len, by_size)) > MOST_ROWS
    compared = [answer for answer in at_flops if not _of_one_method(answer)]
    return {
        "methods": methods,
        "caches": caches_table(lines, references),
        "at_samples": [row for rows in by_size for row in (rows[-1:] if long else rows)],
        "at_flops": [row for answer in compared for row in _flops_rows(answer)],
        "costs": [row for answer in costs for row in _cost_rows(answer)],
        "searches": searches,
        "settings": best,
        "loss_bound": cache_costs.LOSS_BOUND,
        "kl_bound": cache_costs.KL_BOUND,
        "least_pairs": cache_costs.LEAST_PAIRS,
        "largest_alone": long,
        "hidden": len(at_flops) - len(compared),
    }


def _compared(answer: Row) -> Row:
    """Who is compared: the student, and the names of the two methods."""
    one, other = answer["numbers"]["compared"]
    return {"student": answer["student"], "one": one, "other": other}


def _sample_rows(answer: Row) -> list[Row]:
    """The comparison of two methods, a row per size."""
    return [{**_compared(answer), **step} for step in answer["numbers"]["differences"]]


def _of_one_method(answer: Row) -> bool:
    """Whether a comparison is of two caches of one method, which has a table of its own."""
    one, other = (name.partition(" · ")[0] for name in answer["numbers"]["compared"])
    return bool(one == other)


def _flops_rows(answer: Row) -> list[Row]:
    """The comparison of two methods at the largest FLOPs that both cover, a row per total."""
    numbers = answer["numbers"]
    ratios = numbers["flops_ratio"] or {}
    return [
        {
            **_compared(answer),
            "column": column,
            "verdict": total["verdict"],
            "ratio": ratios.get(column),
            **(total["points"][0] if total["points"] else {"flops": None}),
        }
        for column, total in numbers["totals"].items()
    ]


def _cost_rows(answer: Row) -> list[Row]:
    """The caches of one student and method, the reference first."""
    numbers = answer["numbers"]
    reference = {
        "cache": numbers["reference"],
        "same_targets": True,
        "bytes_per_token": numbers["reference_bytes_per_token"],
        "equivalent_because": "reference",
    }
    return [{"label": answer["label"], **row} for row in (reference, *numbers["caches"])]
