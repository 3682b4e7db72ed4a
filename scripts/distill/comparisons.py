"""Which student, method and cache is better: at equal samples, at equal FLOPs, per byte stored.

Lines are compared with each other where they share all else. At equal samples, and between caches,
runs with the same draw and seed are subtracted from each other first, which takes out the noise
that they share. At equal FLOPs no two runs match, so mean losses are read off between the sizes
measured and their errors propagated. Intervals are 90 %, each for itself: of many comparisons some
are clear by chance.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from distill.estimates import (
    Estimate,
    Spread,
    estimate,
    mean_estimate,
    number,
    pooled_spread,
    read_estimate,
    span,
)
from distill.lines import Line, has_values, mean_of, record

STUDENTS = "Which student is better?"
METHODS = "Which method is better at equal samples?"
METHODS_FLOPS = "Which method is better at equal FLOPs?"
CACHES = "What does a smaller cache cost?"

TOTALS = {
    "total_flops": "all of the teacher's work counted",
    "total_flops_amortised": "the teacher's work shared among the runs that use it",
}
"""Columns of FLOPs that methods are compared at, and what they count."""

LOSS_BOUND, KL_BOUND = 0.5, 2.0
"""A cache is equivalent within these per cent of loss and of KL."""

LEAST_PAIRS = 3
"""Pairs of runs without which no equivalence is claimed."""


# --- at equal samples ------------------------------------------------------------------------


def compare_students(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare each student with the next larger one, all else equal."""
    answers = []
    for group in _grouped(lines, ("teacher", "curation", "method", "cache")):
        ordered = sorted(group, key=lambda line: mean_of(line.runs, "params") or 0.0)
        for one, other in pairwise(ordered):
            found = _compare(STUDENTS, one, other, (one.student, other.student))
            if found is None:
                continue
            found["evidence"] += _explanation(one, other)
            found["student"] = f"{one.student} vs {other.student}"
            answers.append(found)
    return answers


def compare_methods(lines: list[Line]) -> list[dict[str, Any]]:
    """Compare each method and cache of a student with its first method without a cache.

    Where every method reads a cache, with the first of them.
    """
    answers = []
    for group, names in _by_student(lines):
        for other, name in zip(group[1:], names[1:], strict=True):
            found = _compare(METHODS, group[0], other, (names[0], name))
            if found is None:
                continue
            found["evidence"] += (
                "Equal samples are not equal work: compare FLOPs and seconds before choosing."
            )
            found["method"] = f"{names[0]} vs {name}"
            answers.append(found)
    return answers


def _grouped(lines: list[Line], shared: tuple[str, ...]) -> list[list[Line]]:
    """Return the groups of lines that agree in the attributes `shared`."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault(tuple(getattr(line, name) for name in shared), []).append(line)
    return list(groups.values())


def _by_student(lines: list[Line]) -> list[tuple[list[Line], list[str]]]:
    """Return the lines of each student and their names, the line to compare with first.

    A line is named by its method, and by its cache where the method has several.
    """
    out = []
    for group in _grouped(lines, ("teacher", "curation", "student")):
        first = next((line for line in group if not line.reads_cache), group[0])
        ordered = [first, *(line for line in group if line is not first)]
        methods = [line.method for line in ordered]
        names = [
            f"{line.method} · {line.cache}"
            if methods.count(line.method) > 1 and line.reads_cache
            else line.method
            for line in ordered
        ]
        out.append((ordered, names))
    return out


def paired(one: Line, other: Line, column: str) -> pd.DataFrame:
    """Return a column of two lines side by side, for the runs with equal samples, draw and seed."""
    both = {"one": one.by_run(column), "other": other.by_run(column)}
    return pd.concat(both, axis=1, join="inner")


def _compare(
    question: str, one: Line, other: Line, names: tuple[str, str]
) -> dict[str, Any] | None:
    """Compare the losses of two lines at each size, run by run where draw and seed agree.

    The difference d = loss(one) − loss(other) at a size has the interval mean(d) ± t · sd/√pairs,
    sd pooled over the sizes. A line leads from a size on if the interval says so there and at every
    larger size.
    """
    both = paired(one, other, "loss")
    differences = (both["one"] - both["other"]).groupby(level="samples")
    if differences.ngroups == 0:
        return None
    spread = pooled_spread(group for _, group in differences)
    steps: list[dict[str, Any]] = []
    for n, group in differences:
        difference = estimate(float(group.mean()), 1 / len(group), spread)
        steps.append(
            {"samples": int(n), "runs": len(group), "better": _better(difference, names)}
            | difference.numbers("loss_difference")
        )
    last = steps[-1]
    size = last["samples"]
    difference = read_estimate(last, "loss_difference")
    text = (
        f"At n = {size:,} the loss of {names[0]} minus that of {names[1]} is "
        f"{difference.text('nats')}; runs with the same draw and seed are compared with each other"
    )
    text += (
        f", their spread pooled over {spread.cells} sizes. "
        if spread
        else "; no size has two such pairs, so nothing here is tested against noise. "
    )
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "differences": steps,
        "better_from": _leads_from(steps),
        "params": [mean_of(one.runs, "params"), mean_of(other.runs, "params")],
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    found = record(question, one, _who_is_better(steps, names), text, numbers)
    found["label"] = f"{one.label} or {other.label}"
    return found


def _better(difference: Estimate, names: tuple[str, str]) -> str | None:
    """Return who has the clearly lower loss; None if that cannot be told."""
    return {-1: names[0], 1: names[1], 0: None}[difference.sign]


def _leads_from(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return who is clearly better up to the largest size, and the smallest size of that stretch."""
    name, since = steps[-1]["better"], None
    for step in reversed(steps):
        if name is None or step["better"] != name:
            break
        since = step["samples"]
    return None if since is None else {"name": name, "samples": since}


def _who_is_better(steps: list[dict[str, Any]], names: tuple[str, str]) -> str:
    """Say at which sizes which of two lines is better."""
    if all(step["loss_difference_stderr"] is None for step in steps):
        value = steps[-1]["loss_difference"]
        if value == 0:
            return "Cannot tell: no error bar, and the losses are equal."
        lower = names[1] if value > 0 else names[0]
        return f"Cannot tell: no error bar. {lower} is lower at n = {steps[-1]['samples']:,}."
    told = []
    for name in (*names, None):
        sizes = [step["samples"] for step in steps if step["better"] == name]
        if not sizes:
            continue
        at = "every size" if len(sizes) == len(steps) else _sizes(sizes)
        told.append(f"{name} at {at}" if name else f"cannot tell at {at}")
    answer = "; ".join(told)
    return f"C{answer[1:]}." if answer.startswith("cannot tell") else f"Better: {answer}."


def _sizes(sizes: list[int]) -> str:
    return "n = " + ", ".join(f"{n:,}" for n in sizes)


def _explanation(one: Line, other: Line) -> str:
    """Say what two students differ in, the explanations to check."""
    parts = []
    for column, name in (("params", "parameters"), ("params_non_embedding", "without embeddings")):
        sizes = [mean_of(line.runs, column) for line in (one, other)]
        if None not in sizes and sizes[0] != sizes[1]:
            counts = [f"{size:,.0f}" for size in sizes]
            parts.append(f"{name} ({' against '.join(counts)})")
    starts = [
        set(line.runs["init"].dropna().astype(str)) if "init" in line.runs else set[str]()
        for line in (one, other)
    ]
    if starts[0] != starts[1]:
        parts.append(
            "initialisation (" + " against ".join("/".join(sorted(s)) or "?" for s in starts) + ")"
        )
        if len(parts) > 1:
            return (
                f"They differ in {', '.join(parts)}: these runs cannot say which of these is the "
                "cause; a pair that differs in one of them would."
            )
    if not parts:
        return "The table does not say what they differ in."
    first = [mean_of(line.before, "loss") for line in (one, other)]
    text = f"The plain explanation to check: they differ in {', '.join(parts)}."
    if None not in first:
        text += f" Before training their losses were {number(first[0])} and {number(first[1])}."
    return text


# --- at equal FLOPs --------------------------------------------------------------------------


def compare_at_equal_flops(lines: list[Line], spread: Spread | None) -> list[dict[str, Any]]:
    """Compare every two methods (and caches) of a student at equal total FLOPs.

    Args:
        lines: the lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
    """
    answers = []
    for group, names in _by_student(lines):
        for (one, first), (other, second) in combinations(zip(group, names, strict=True), 2):
            answers.append(_at_equal_flops(one, other, (first, second), spread))
    return answers


def _at_equal_flops(
    one: Line, other: Line, names: tuple[str, str], spread: Spread | None
) -> dict[str, Any]:
    totals = {name: _compare_total(one, other, names, name, spread) for name in TOTALS}
    verdicts = [f"{words}: {totals[name]['verdict']}" for name, words in TOTALS.items()]
    told = [_told_points(totals[name], names, words) for name, words in TOTALS.items()]
    ratio = _flops_ratio(one, other, names)
    evidence = " ".join(text for text in (*told, ratio.pop("words", "")) if text)
    if any(total["points"] for total in totals.values()):
        evidence += (
            " Between two sizes the loss is read off a straight line in log loss against log "
            "FLOPs, a little above a curve that flattens. The errors of the two are taken as "
            "independent, which errs on the wide side where they share their draws."
        )
    answer = "; ".join(verdicts) + "."
    numbers = {
        "compared": list(names),
        "reads_cache": [one.reads_cache, other.reads_cache],
        "totals": totals,
        "flops_ratio": ratio or None,
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    found = record(
        METHODS_FLOPS, one, answer[0].upper() + answer[1:], evidence.strip(), numbers
    )
    found["method"] = f"{names[0]} vs {names[1]}"
    found["label"] = f"{one.label} or {other.label}"
    return found


def _compare_total(
    one: Line, other: Line, names: tuple[str, str], column: str, spread: Spread | None
) -> dict[str, Any]:
    """Compare two lines at up to three points of one total, where both were measured."""
    out: dict[str, Any] = {"verdict": "", "better": None, "overlap": None, "points": []}
    if missing := [line.label for line in (one, other) if not has_values(line.runs, column)]:
        out["verdict"] = f"cannot tell, column {column} is missing for {' and '.join(missing)}"
        return out
    curves = [flops_curve(line, column) for line in (one, other)]
    for curve, line in zip(curves, (one, other), strict=True):
        if curve is None:
            out["verdict"] = f"cannot tell, {column} of {line.label} does not grow with the samples"
            return out
    first, second = (curve for curve in curves if curve is not None)
    low = max(first["flops"].iloc[0], second["flops"].iloc[0])
    high = min(first["flops"].iloc[-1], second["flops"].iloc[-1])
    if low > high:
        out["verdict"] = "cannot tell, the ranges of FLOPs do not overlap"
        return out
    out["overlap"] = [float(low), float(high)]
    for flops in dict.fromkeys((float(high), math.sqrt(low * high), float(low))):
        if low == high and flops != float(high):
            continue  # the middle of one point differs from it by rounding alone
        difference = _difference_at(first, second, flops, spread)
        out["points"].append(
            {
                "flops": flops,
                "losses": [read_off(curve, flops)[0] for curve in (first, second)],
                "better": _better(difference, names),
            }
            | difference.numbers("loss_difference")
        )
    top = out["points"][0]
    out["better"] = top["better"]
    if top["better"]:
        out["verdict"] = f"{top['better']} is better"
    elif top["loss_difference_stderr"] is None:
        out["verdict"] = "cannot tell, no error bar"
    else:
        out["verdict"] = "cannot tell, the difference is within the noise"
    return out


def flops_curve(line: Line, column: str) -> pd.DataFrame | None:
    """Return geometric-mean FLOPs, mean loss and count of runs per size, smallest first.

    None where FLOPs do not grow with the samples, or a loss or FLOPs are not above 0.
    """
    runs = line.runs.assign(
        flops=pd.to_numeric(line.runs[column], errors="coerce").astype(float),
        loss=pd.to_numeric(line.runs["loss"], errors="coerce").astype(float),
    )[["samples", "flops", "loss"]].dropna()
    if (runs[["flops", "loss"]] <= 0).any(axis=None):
        return None
    cells = runs.assign(flops=np.log(runs["flops"])).groupby("samples").agg(
        flops=("flops", "mean"), mean=("loss", "mean"), count=("loss", "count")
    )  # fmt: skip
    cells["flops"] = np.exp(cells["flops"])
    grows = cells["flops"].is_monotonic_increasing and cells["flops"].is_unique
    return cells.reset_index() if grows else None


def read_off(curve: pd.DataFrame, flops: float) -> tuple[float, dict[int, float]]:
    """Read a loss off a straight line in log loss against log FLOPs between two sizes.

    log L(F) = (1 − u) log L_a + u log L_b, u = log(F/F_a) / log(F_b/F_a), for sizes a and b on
    either side of F. By the delta method ∂L/∂L_a = (1 − u) L/L_a and ∂L/∂L_b = u L/L_b.

    Args:
        curve: from `flops_curve`.
        flops: F, within the curve's range.

    Returns:
        L(F), and its slope with respect to the mean loss of each row of the curve that it uses.
    """
    places = np.log(curve["flops"].to_numpy(float))
    means = curve["mean"].to_numpy(float)
    at = math.log(flops)
    if len(places) == 1:
        return float(means[0]), {0: 1.0}
    b = min(max(int(np.searchsorted(places, at)), 1), len(places) - 1)
    a = b - 1
    u = min(max((at - places[a]) / (places[b] - places[a]), 0.0), 1.0)
    value = math.exp((1 - u) * math.log(means[a]) + u * math.log(means[b]))
    slopes = {a: (1 - u) * value / means[a], b: u * value / means[b]}
    return value, {row: float(slope) for row, slope in slopes.items() if slope > 0}


def _difference_at(
    first: pd.DataFrame, second: pd.DataFrame, flops: float, spread: Spread | None
) -> Estimate:
    """Estimate the loss of the first curve minus that of the second at equal FLOPs."""
    values, share = [], 0.0
    for curve in (first, second):
        value, slopes = read_off(curve, flops)
        values.append(value)
        share += sum(slope**2 / int(curve["count"].iloc[row]) for row, slope in slopes.items())
    return estimate(values[0] - values[1], share, spread)


def _told_points(total: dict[str, Any], names: tuple[str, str], words: str) -> str:
    """Say the differences at the points of one total."""
    if not total["points"]:
        return ""
    told = [
        f"{read_estimate(point, 'loss_difference').text('nats')} at {number(point['flops'])} FLOPs"
        for point in total["points"]
    ]
    return (
        f"{words[0].upper()}{words[1:]}, the loss of {names[0]} minus that of {names[1]} is "
        + ", ".join(told)
        + "."
    )


def _flops_ratio(one: Line, other: Line, names: tuple[str, str]) -> dict[str, Any]:
    """Return FLOPs of the second line over those of the first at the largest size of both."""
    common = sorted(set(one.sizes) & set(other.sizes))
    out: dict[str, Any] = {}
    told = []
    for column in TOTALS:
        if not common or not all(has_values(line.runs, column) for line in (one, other)):
            continue
        size = common[-1]
        costs = [line.cells(column)["mean"].get(size) for line in (one, other)]
        if not costs[0] or not costs[1]:
            continue
        out |= {"samples": size, column: float(costs[1] / costs[0])}
        told.append(f"{number(out[column])} ×")
    if told:
        out["words"] = (
            f"At n = {out['samples']:,} {names[1]} costs {' and '.join(told)} the FLOPs of "
            f"{names[0]}" + (", in that order." if len(told) > 1 else ".")
        )
    return out


# --- in short --------------------------------------------------------------------------------


def soft_against_plain(
    at_samples: list[dict[str, Any]], at_flops: list[dict[str, Any]], noise: str
) -> tuple[str, dict[str, Any] | None]:
    """Say in plain words whether soft targets beat plain text, and return the counts.

    Args:
        at_samples: answers of `compare_methods`.
        at_flops: answers of `compare_at_equal_flops`.
        noise: what runs of a cell differ in, from `noise_sources`.
    """
    mine = [a for a in at_samples if a["numbers"]["reads_cache"] == [False, True]]
    if not mine:
        return "", None
    lasts = [answer["numbers"]["differences"][-1] for answer in mine]
    leads = [
        answer["numbers"]["better_from"]["samples"]
        for answer in mine
        if (answer["numbers"]["better_from"] or {}).get("name") == answer["numbers"]["compared"][1]
    ]
    worse = sum(
        last["better"] == answer["numbers"]["compared"][0]
        for answer, last in zip(mine, lasts, strict=True)
    )
    untested = sum(last["loss_difference_stderr"] is None for last in lasts)
    numbers: dict[str, Any] = {
        "comparisons": len(mine),
        "better_at_largest": len(leads),
        "worse_at_largest": worse,
        "untested": untested,
        "gains": [last["loss_difference"] for last in lasts],
    }
    text = "Do soft targets beat plain text at equal samples? "
    if len(mine) <= 3:
        text += " ".join(map(_told_comparison, mine))
    else:
        text += (
            f"At the largest size, in {len(leads)} of {len(mine)} comparisons they do by more than "
            f"the noise, in {worse} they are worse"
        )
        text += f", and {untested} are untested" if untested else ""
        text += f"; in the others it cannot be told. They lower the loss by {_gained(lasts)} nats"
        starts = f"n = {min(leads):,}" if leads else ""
        starts += f" to {max(leads):,}" if leads and max(leads) > min(leads) else ""
        text += f", clear of the noise from {starts} on where they do." if leads else "."
    spreads = [sd for a in mine if (sd := a["numbers"]["pooled_sd"]) is not None]
    if spreads:
        text += (
            f" Between {noise} such a difference varies by a standard deviation of {span(spreads)} "
            "nats."
        )
    equal = [
        answer["numbers"]
        for answer in at_flops
        if answer["numbers"]["reads_cache"] == [False, True]
        and answer["numbers"]["totals"]["total_flops"]["points"]
    ]
    if equal:
        who = [one["totals"]["total_flops"]["better"] for one in equal]
        wins = sum(one["compared"][1] == name for one, name in zip(equal, who, strict=True))
        losses = sum(one["compared"][0] == name for one, name in zip(equal, who, strict=True))
        numbers["equal_flops"] = {"comparisons": len(equal), "better": wins, "worse": losses}
        text += (
            f" At equal FLOPs, all of the teacher's work counted, they are better in {wins} of "
            f"{len(equal)} and worse in {losses}"
            + (
                "; in the others it cannot be told."
                if wins + losses < len(equal)
                else "."
            )
        )
    return text + " ", numbers


def _gained(steps: list[dict[str, Any]]) -> str:
    values = [step["loss_difference"] for step in steps]
    return span(values) + (" (below zero: raise it)" if min(values) < 0 else "")


def _told_comparison(answer: dict[str, Any]) -> str:
    """Say one comparison of soft targets with plain text at the largest size."""
    numbers = answer["numbers"]
    plain, soft = numbers["compared"]
    last, lead = numbers["differences"][-1], numbers["better_from"]
    difference = read_estimate(last, "loss_difference")
    at, whom = f"at n = {last['samples']:,}", f"for {answer['student']}"
    if not difference.tested:
        side = "lower" if difference.value > 0 else "higher"
        return (
            f"Cannot tell {whom}: {at} the loss of {soft} is {number(abs(difference.value))} nats "
            f"{side} than that of {plain}, without an error bar."
        )
    if difference.sign > 0:
        since = lead["samples"]
        from_on = f"from n = {since:,} on" if since < last["samples"] else f"only {at}"
        return (
            f"Yes {whom}, {from_on}: {soft} lowers the loss of {plain} by "
            f"{difference.text('nats')} {at}."
        )
    if difference.sign < 0:
        flipped = Estimate(
            -difference.value, difference.stderr, _negative(difference.high),
            _negative(difference.low),
        )  # fmt: skip
        return f"No {whom}: {soft} raises the loss of {plain} by {flipped.text('nats')} {at}."
    return f"Cannot tell {whom}: {soft} lowers the loss of {plain} by {difference.text('nats')} {at}."


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


# --- caches ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheCost:
    """What a cache costs or gains against the reference cache, over all runs that both have.

    Differences are the cache's value minus the reference's; shares are in per cent of the
    reference's value, run by run. None where the column is missing.
    """

    line: Line
    pairs: int
    sizes: tuple[int, ...]
    size: float | None
    kept_mass: float | None
    same_targets: bool
    loss: Estimate | None
    loss_percent: Estimate | None
    kl_percent: Estimate | None
    ece: Estimate | None

    @property
    def equivalent(self) -> str:
        """Whether the cache is as good within the bounds: yes, no or cannot tell, and why.

        Yes if the 90 % intervals of loss and KL both lie inside ± their bounds (two one-sided
        tests at 5 % each); no if one of them lies outside; else it cannot be told.
        """
        if self.pairs < LEAST_PAIRS:
            return f"cannot tell: {self.pairs} pairs of runs, it needs {LEAST_PAIRS}"
        bounds = (("loss", self.loss_percent, LOSS_BOUND), ("KL", self.kl_percent, KL_BOUND))
        inside = True
        for name, found, bound in bounds:
            if found is None or found.low is None or found.high is None:
                inside = False
            elif found.low > bound:
                return f"no: {name} is worse"
            elif found.high < -bound:
                return f"no: {name} is better"
            elif found.low < -bound or found.high > bound:
                inside = False
        if inside:
            return "yes"
        if self.kl_percent is None or self.loss_percent is None:
            return "cannot tell: the table lacks what it needs"
        return "cannot tell: an interval reaches beyond its bounds"

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        out: dict[str, Any] = {
            "cache": self.line.cache,
            "pairs": self.pairs,
            "samples": list(self.sizes),
            "bytes_per_token": self.size,
            "kept_mass": self.kept_mass,
            "same_targets": self.same_targets,
            "equivalent": self.equivalent,
        }
        for name in ("loss", "loss_percent", "kl_percent", "ece"):
            found = getattr(self, name)
            key = name if name.endswith("percent") else f"{name}_difference"
            out |= found.numbers(key) if found else {key: None}
        return out


@dataclass(frozen=True)
class CacheGroup:
    """The caches of one student and method: the reference, and each of the others against it."""

    reference: Line
    label: str
    size: float | None
    others: tuple[CacheCost, ...]


def cache_groups(lines: list[Line], references: Mapping[str, Any] | None) -> list[CacheGroup]:
    """Return each student and method with several caches, compared with its reference cache.

    The reference is the cache whose scheme is final_hidden if references.json names one, else
    dense, else the one with most bytes per token, else the first.
    """
    known = (references or {}).get("caches") or {}
    out = []
    for group in _grouped(lines, ("teacher", "curation", "student", "method")):
        mine = [line for line in group if line.reads_cache]
        if len(mine) < 2:
            continue
        reference = _reference(mine, known)
        others = tuple(
            _cache_cost(line, reference, known) for line in mine if line is not reference
        )
        label = reference.label.removesuffix(f" · {reference.cache}")
        out.append(CacheGroup(reference, label, cache_size(reference, known), others))
    return out


def cache_size(line: Line, caches: Mapping[str, Any]) -> float | None:
    """Return the bytes per token that a line's runs read, stored layers included."""
    facts = caches.get(line.cache) or {}
    size = mean_of(line.runs, "cache_bytes_per_token")
    if size is None:
        size = facts.get("bytes_per_token")
    return None if size is None else float(size) + float(facts.get("layer_bytes_per_token") or 0.0)


def _reference(lines: list[Line], caches: Mapping[str, Any]) -> Line:
    schemes = [
        ((caches.get(line.cache) or {}).get("manifest") or {}).get("scheme") for line in lines
    ]
    for scheme in ("final_hidden", "dense"):
        if scheme in schemes:
            return lines[schemes.index(scheme)]
    return max(lines, key=lambda line: cache_size(line, caches) or 0.0)


def _targets_of(line: Line, caches: Mapping[str, Any]) -> Any:
    """Return whose distribution a cache holds; None where references.json does not say."""
    manifest = (caches.get(line.cache) or {}).get("manifest") or {}
    keys = ("model", "revision", "weight", "distribution", "quantisation")
    teachers = manifest.get("teachers")
    return [[teacher.get(key) for key in keys] for teacher in teachers] if teachers else None


def _cache_cost(line: Line, reference: Line, caches: Mapping[str, Any]) -> CacheCost:
    both = paired(line, reference, "loss")
    share = (both["one"] / both["other"] - 1) * 100
    targets = [_targets_of(x, caches) for x in (line, reference)]

    def over_pairs(column: str, f: Callable[[Any, Any], Any]) -> Estimate | None:
        if not all(has_values(x.runs, column) for x in (line, reference)):
            return None
        values = paired(line, reference, column)
        values = f(values["one"], values["other"]).replace([np.inf, -np.inf], np.nan).dropna()
        return mean_estimate(values) if len(values) else None

    def percent(one: Any, other: Any) -> Any:
        return (one / other.where(other > 0) - 1) * 100

    def difference(one: Any, other: Any) -> Any:
        return one - other

    return CacheCost(
        line=line,
        pairs=len(share),
        sizes=tuple(int(n) for n in sorted(both.index.unique("samples"))),
        size=cache_size(line, caches),
        kept_mass=mean_of(line.runs, "cache_kept_mass"),
        same_targets=None in targets or targets[0] == targets[1],
        loss=over_pairs("loss", difference),
        loss_percent=over_pairs("loss", percent),
        kl_percent=over_pairs("kl_teacher", percent),
        ece=over_pairs("ece", difference),
    )


def compare_caches(
    lines: list[Line], references: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Answer what a smaller cache costs each student and method that has several."""
    return [_smaller_cache(group) for group in cache_groups(lines, references)]


def _smaller_cache(group: CacheGroup) -> dict[str, Any]:
    """Recommend a cache, and give each one's differences from the reference."""
    name = group.reference.cache
    good = [c for c in group.others if c.equivalent == "yes" and c.same_targets]
    sizes = {c.line.cache: c.size for c in good} | {name: group.size}
    cheapest = None
    if None in sizes.values():
        answer = "Cannot tell which cache is the cheapest: their sizes are not known."
    else:
        cheapest = min(sizes, key=lambda cache: (sizes[cache], cache != name))
        if cheapest == name:
            answer = (
                f"No smaller cache is shown to be equivalent to {name} "
                f"({number(group.size)} bytes per token)."
            )
        else:
            answer = (
                f"The cheapest cache equivalent to {name} is {cheapest}: "
                f"{number(sizes[cheapest])} bytes per token against {number(group.size)}."
            )
    lowest: dict[str, str | None] = {}
    for attribute, words in (("loss_percent", "loss"), ("kl_percent", "KL")):
        lowest[attribute], told = _lowest(group, attribute)
        answer += f" Lowest {words}: {told}" if told else ""
    evidence = (
        f"Equivalent means within {LOSS_BOUND} % in loss and {KL_BOUND:g} % in KL, both 90 % "
        "intervals inside; per run with the same draw, seed and samples, averaged over the sizes."
    )
    for cost in group.others:
        evidence += f" {cost.line.cache}: {_told_cost(cost)}."
    numbers = {
        "reference": name,
        "reference_bytes_per_token": group.size,
        "reference_kept_mass": mean_of(group.reference.runs, "cache_kept_mass"),
        "loss_bound_percent": LOSS_BOUND,
        "kl_bound_percent": KL_BOUND,
        "cheapest_equivalent": cheapest,
        "lowest_loss": lowest["loss_percent"],
        "lowest_kl": lowest["kl_percent"],
        "caches": [cost.numbers() for cost in group.others],
    }
    found = record(CACHES, group.reference, answer, evidence, numbers)
    found["label"] = group.label
    return found


def _lowest(group: CacheGroup, attribute: str) -> tuple[str | None, str]:
    """Return the cache with the lowest mean of a share, and say it with its interval."""
    shares = [
        (found, cost.line.cache)
        for cost in group.others
        if (found := getattr(cost, attribute)) is not None
    ]
    if not shares:
        return None, ""
    found, cache = min(shares, key=lambda pair: pair[0].value)
    if found.value >= 0:
        return group.reference.cache, f"{group.reference.cache}, the reference."
    clear = "" if found.sign < 0 else ", not clear of the noise"
    return cache, f"{cache}, {found.text('%')} against the reference{clear}."


def _told_cost(cost: CacheCost) -> str:
    """Say what one cache costs."""
    parts = [f"{cost.pairs} pairs"]
    if cost.size is not None:
        parts.append(f"{number(cost.size)} bytes per token")
    if cost.kept_mass is not None:
        parts.append(f"keeps {number(100 * cost.kept_mass)} % of the teacher's mass word by word")
    for name, unit, found in (
        ("loss", "%", cost.loss_percent),
        ("loss", "nats", cost.loss),
        ("KL", "%", cost.kl_percent),
        ("ECE", "", cost.ece),
    ):
        if found is not None:
            parts.append(f"{name} {found.text(unit)}")
    if not cost.same_targets:
        parts.append("other teachers' targets, so not the cost of size alone")
    return ", ".join(parts) + f"; equivalent: {cost.equivalent}"
