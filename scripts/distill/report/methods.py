"""The report's tables on methods, soft targets and searches: what they are and how they compare."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from distill.answers.runs import at_equal_flops, at_equal_samples, cache_costs
from distill.contracts.divergences import DIVERGENCES, PARAMETERS
from distill.contracts.energy import energy_of, sum_energy
from distill.stats.intervals import Estimate, number, read_estimate
from distill.table.lines import Line, has_values, mean_of

OTHER_TERMS = {"ce": "CE(text)", "uld": "ULD(q, s)", "spans": "KL(q ‖ s; aligned spans)"}
TERMS = ("ce", *DIVERGENCES, "uld", "spans")
"""Losses of a method on the distribution, in the order of the formula."""
NUMBERS = ("temperature", *(parameter.key for parameter in PARAMETERS))
"""Settings that the formula shows."""
SCHEMES = {
    "final_hidden": "last hidden states, exact",
    "top_k": "likeliest words, renormalised",
    "top_k_tail": "likeliest words and the rest as one",
    "sampled": "draws with replacement",
    "dense": "every word",
    "live": "nothing: the teacher itself was asked",
}
WORDED = {"minimises", "other settings", "keeps", "settings", "teacher", "compared", "counted",
          "better", "cache", "equivalent", "setting", "searched"}  # fmt: skip
"""Columns that hold words rather than numbers."""
NOT_COMPARED = {
    "column_missing": "cannot tell: column {} is missing",
    "not_growing": "cannot tell: {} does not grow with the samples",
    "no_overlap": "cannot tell: the ranges of {} do not overlap",
}
"""Why two methods were not compared at equal FLOPs of a column."""
EQUIVALENT = {
    "inside": "yes",
    "loss_worse": "no: the loss is higher",
    "loss_better": "no: the loss is lower",
    "kl_worse": "no: KL is higher",
    "kl_better": "no: KL is lower",
    "few_pairs": f"cannot tell: fewer than {cache_costs.LEAST_PAIRS} pairs of runs",
    "no_kl": "cannot tell: no kl_teacher",
    "wide": "cannot tell: an interval reaches beyond its bounds",
}
"""Whether a cache is equivalent to the reference, by the reason."""
MOST_ROWS = 20
"""Rows of a table from which on it shows the largest size of each comparison alone."""


def formula(settings: Mapping[str, Any]) -> str:
    """Write the loss that a method minimises as a formula.

    CE is cross-entropy on the text, q the teacher's distribution, s the student's. At a
    temperature T other than 1 both are taken at T, and every loss on them is multiplied by T².
    """
    given = {key: value for key, value in settings.items() if value is not None}
    temperature = float(given.get("temperature", 1.0))
    parts = []
    for name in TERMS:
        weight = float(given.get(name) or 0.0)
        if weight > 0:
            hot = name != "ce" and temperature != 1
            row = DIVERGENCES.get(name)
            text = OTHER_TERMS[name] if row is None else row.text(given)
            parts.append(_times(weight, f"T² {text}" if hot else text))
    for name, what in (("hidden", "hidden states"), ("embedding", "final hidden states")):
        if entry := given.get(name):
            distance = "MSE" if entry.get("loss", "mse") == "mse" else "cosine distance"
            pairs = [f"{own} ← {theirs}" for own, theirs in (entry.get("layers") or {}).items()]
            where = f"; layers {', '.join(pairs)}" if pairs else ""
            parts.append(_times(float(entry.get("weight", 1.0)), f"{distance}({what}{where})"))
    text = " + ".join(parts) or "–"
    hot = any(float(given.get(name) or 0) > 0 for name in TERMS if name != "ce")
    return f"{text}, T = {temperature:g}" if hot and temperature != 1 else text


def _times(weight: float, text: str) -> str:
    return text if weight == 1 else f"{weight:.4g} {text}"


def methods_table(references: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per method: its name, formula and other settings."""
    rows = []
    searches = references.get("searches") or {}
    for name, settings in (references.get("methods") or {}).items():
        words = []
        found = dict(settings)
        if search := found.pop("search", None):
            words.append(f"set by search {search}")
            record = searches.get(search) or {}
            found = dict((record.get("spec") or {}).get("method") or {}) | found
            best = record.get("settings") or {}
            found |= {k.removeprefix("method."): v for k, v in best.items() if "method." in k}
            words += [f"{k} = {number(v)}" for k, v in best.items() if "method." not in k]
        if found.get("tokens") == "all":
            words.append("soft losses on the prompt's tokens too")
        if (found.get("embedding") or {}).get("head") == "teacher":
            words.append("the teacher's output head")
        if (own := found.get("on_policy")) is not None:
            words.append(_on_policy(own))
        words += [f"{key} = {_plain(value)}" for key, value in (found.get("train") or {}).items()]
        known = {*TERMS, *NUMBERS, "hidden", "embedding", "tokens", "on_policy", "train"}
        others = {k: v for k, v in found.items() if k not in known and v is not None}
        words += [f"{key} = {_plain(value)}" for key, value in others.items()]
        rows.append([name, formula(found), ", ".join(words) or "–"])
    return rows


def _on_policy(settings: Mapping[str, Any]) -> str:
    """Say whose answers a method with a live teacher learns."""
    given = {"share": 0.5, "temperature": 1.0, "max_tokens": 128} | dict(settings)
    text = f"live teacher, {100 * given['share']:g} % of updates on the student's own answers"
    hot = "" if given["temperature"] == 1 else f" at T = {given['temperature']:g}"
    return f"{text} of up to {given['max_tokens']} tokens{hot}"


def _plain(value: Any) -> str:
    """Write a setting as it stands in the config."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:g}"


def caches_table(lines: list[Line], references: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per cache: what it holds, how large it is and whose distribution it is."""
    known = references.get("caches") or {}
    used = dict.fromkeys(line.cache for line in lines if line.reads_cache)
    rows = []
    for name in used:
        facts = known.get(name) or {}
        manifest = facts.get("manifest") or {}
        runs = pd.concat([line.runs for line in lines if line.cache == name])
        measured = {
            key: mean_of(runs, f"cache_{key}") if has_values(runs, f"cache_{key}") else None
            for key in ("bytes_per_token", "kept_mass", "entropy")
        }
        kept = (
            measured["kept_mass"] if measured["kept_mass"] is not None else facts.get("kept_mass")
        )
        size = measured["bytes_per_token"]
        entropy = measured["entropy"]
        rows.append(
            [
                name,
                SCHEMES.get(str(manifest.get("scheme")), str(manifest.get("scheme") or "–")),
                _cache_settings(manifest),
                number(size if size is not None else facts.get("bytes_per_token"), 4),
                number(facts.get("layer_bytes_per_token"), 4),
                _mass(kept),
                number(entropy if entropy is not None else facts.get("entropy")),
                number(facts.get("distinct_ids")),
                " + ".join(map(_teacher, manifest.get("teachers") or [])) or "–",
            ]
        )
    return rows


def _cache_settings(manifest: Mapping[str, Any]) -> str:
    words = []
    if manifest.get("k"):
        words.append(f"k = {manifest['k']}")
    if manifest.get("draws"):
        words.append(f"{manifest['draws']} draws")
    if manifest.get("bits") and manifest.get("scheme") not in ("final_hidden", "dense"):
        words.append(f"{manifest['bits']} bits")
    if manifest.get("temperatures"):
        words.append(f"also at T = {', '.join(f'{t:g}' for t in manifest['temperatures'])}")
    if manifest.get("tokens") == "all":
        words.append("prompts too")
    return ", ".join(words) or "–"


def _teacher(entry: Mapping[str, Any]) -> str:
    """Name a teacher of a cache with its share and the distribution that it stands for."""
    weight = float(entry.get("weight") or 1.0)
    text = _times(weight, str(entry.get("teacher")))
    q = entry.get("distribution") or {}
    parts = [f"T = {q['temperature']:g}"] if q.get("temperature") is not None else []
    parts += [f"top-k {q['top_k']}"] if q.get("top_k") else []
    parts += [f"top-p {q['top_p']:g}"] if (q.get("top_p") or 1) != 1 else []
    if entry.get("quantisation") not in (None, "none"):
        parts.append(str(entry["quantisation"]))
    return f"{text} ({', '.join(parts)})" if parts else text


def searches_tables(references: Mapping[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """Return how the searches went, a row each, and the best settings, a row per setting."""
    went, best = [], []
    for name, search in (references.get("searches") or {}).items():
        trials = search.get("trials") or []
        losses = sorted(
            float(trial["loss"])
            for trial in trials
            if not trial["pruned"] and trial["loss"] is not None and math.isfinite(trial["loss"])
        )
        middle = losses[len(losses) // 2] if losses else None
        went.append(
            [
                name,
                number(len(trials)),
                number(sum(bool(trial["pruned"]) for trial in trials)),
                number(search.get("loss"), 4),
                number(middle, 4),
                number(sum(float(trial.get("seconds") or 0) for trial in trials)),
                number(sum_energy(energy_of(trial, "energy_") for trial in trials).kwh),
            ]
        )
        space = (search.get("spec") or {}).get("space") or {}
        for key, value in (search.get("settings") or {}).items():
            bounds = space.get(key) or {}
            looked = (
                f"{number(bounds['low'])} to {number(bounds['high'])}"
                + (", logarithmic" if bounds.get("log") else "")
                if bounds
                else "–"
            )
            best.append([name, key, number(value), looked])
    return went, best


def _interval(found: Estimate) -> str:
    """Write an interval, a dash where there is none."""
    if found.low is None or found.high is None:
        return "–"
    return f"{number(found.low)} to {number(found.high)}"


def soft_section(
    lines: list[Line], references: dict[str, Any], asked: dict[str, list[dict[str, Any]]]
) -> dict[str, Any] | None:
    """Return what methods and caches are, how they compare, and how searches went."""
    went, best = searches_tables(references)
    at_samples = asked.get(at_equal_samples.KEY, [])
    at_flops = asked.get(at_equal_flops.KEY, [])
    costs = asked.get(cache_costs.KEY, [])
    by_size = [_sample_rows(answer) for answer in at_samples]
    long = sum(map(len, by_size)) > MOST_ROWS
    tables: dict[str, dict[str, Any] | None] = {
        "methods": _table(["method", "minimises", "other settings"], methods_table(references)),
        "caches": _table(
            ["cache", "keeps", "settings", "bytes per token", "of layers", "mass kept",
             "entropy, nats", "words per token", "teacher"],
            caches_table(lines, references),
        ),
        "at_samples": _table(
            ["student", "compared", "samples", "pairs", "loss, nats", "90 % interval", "better"],
            [row for rows in by_size for row in (rows[-1:] if long else rows)],
        ),
        "at_flops": _table(
            ["student", "compared", "counted", "FLOPs", "loss, nats", "90 % interval", "better",
             "cost at equal samples"],
            [row for answer in at_flops for row in _flops_rows(answer)],
        ),
        "costs": _table(
            ["student · method", "cache", "bytes per token", "pairs", "loss, %",
             "90 % interval", "loss, nats", "KL, %", "90 % interval", "ECE", "equivalent"],
            [row for answer in costs for row in _cost_rows(answer)],
        ),
        "searches": _table(
            ["search", "trials", "pruned", "lowest loss", "median loss", "seconds", "energy, kWh"],
            went,
        ),
        "settings": _table(["search", "setting", "best", "searched"], best),
    }  # fmt: skip
    if tables["methods"] is None and not (at_samples or at_flops or costs or went):
        return None
    return {
        **tables,
        "bounds": (cache_costs.LOSS_BOUND, cache_costs.KL_BOUND),
        "largest_alone": long,
        "hidden": sum(not _shown(answer) for answer in at_flops),
    }


def _table(names: list[str], rows: list[list[str]]) -> dict[str, Any] | None:
    """Return a table without the columns that are empty in every row; None without rows."""
    if not rows:
        return None
    kept = [k for k in range(len(names)) if k == 0 or any(row[k] != "–" for row in rows)]
    columns = [
        {"name": names[k], "measured": False, "text": names[k] in WORDED, "wide": False}
        for k in kept
    ]
    return {"columns": columns, "rows": [[row[k] for k in kept] for row in rows]}


def _sample_rows(answer: dict[str, Any]) -> list[list[str]]:
    """Return the comparison of two methods, a row per size."""
    one, other = answer["numbers"]["compared"]
    rows = []
    for step in answer["numbers"]["differences"]:
        found = read_estimate(step, "loss_difference")
        name = step["better"] or ("cannot tell" if found.tested else "untested")
        rows.append(
            [
                answer["student"],
                f"{one} − {other}",
                f"{step['samples']:,}",
                f"{step['runs']:,}",
                number(found.value),
                _interval(found),
                name,
            ]
        )
    return rows


def _shown(answer: dict[str, Any]) -> bool:
    """Tell whether a comparison at equal FLOPs is shown: all but those of two caches."""
    one, other = (name.partition(" · ")[0] for name in answer["numbers"]["compared"])
    return bool(one != other)


def _flops_rows(answer: dict[str, Any]) -> list[list[str]]:
    """Return the comparison of two methods at the largest FLOPs that both cover."""
    if not _shown(answer):
        return []
    one, other = answer["numbers"]["compared"]
    ratios = answer["numbers"]["flops_ratio"] or {}
    rows = []
    for column, total in answer["numbers"]["totals"].items():
        counted = "in full" if column == "total_flops" else "shared"
        row = [answer["student"], f"{one} − {other}", counted]
        ratio = f"× {number(ratios[column])}" if column in ratios else "–"
        if not total["points"]:
            rows.append([*row, "–", "–", "–", NOT_COMPARED[total["verdict"]].format(column), ratio])
            continue
        top = total["points"][0]
        found = read_estimate(top, "loss_difference")
        name = top["better"] or ("cannot tell" if found.tested else "untested")
        rows.append(
            [*row, number(top["flops"]), number(found.value), _interval(found), name, ratio]
        )
    return rows


def _cost_rows(answer: dict[str, Any]) -> list[list[str]]:
    """Return the caches of one student and method, the reference first."""
    numbers = answer["numbers"]
    size = number(numbers["reference_bytes_per_token"], 4)
    rows = [[answer["label"], numbers["reference"], size, *["–"] * 7, "reference"]]
    for cost in numbers["caches"]:
        values, bars = {}, {}
        for name in ("loss_percent", "loss_difference", "kl_percent", "ece_difference"):
            found = None if cost[name] is None else read_estimate(cost, name)
            values[name] = "–" if found is None else number(found.value)
            bars[name] = "–" if found is None else _interval(found)
        rows.append(
            [
                answer["label"],
                cost["cache"] + ("" if cost["same_targets"] else " (other teachers)"),
                number(cost["bytes_per_token"], 4),
                f"{cost['pairs']:,}",
                values["loss_percent"],
                bars["loss_percent"],
                values["loss_difference"],
                values["kl_percent"],
                bars["kl_percent"],
                values["ece_difference"],
                EQUIVALENT[cost["equivalent_because"]],
            ]
        )
    return rows


def _mass(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"
