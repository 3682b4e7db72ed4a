"""What a smaller cache of soft targets costs in loss, KL and calibration, run by run.

Intervals are 90 %, each for itself, and of the mean over all runs that two caches share; runs of
one draw at several sizes count as independent.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.answers.record import record
from distill.answers.runs.at_equal_samples import grouped, paired
from distill.stats.intervals import Estimate, mean_estimate, number
from distill.table.lines import Line, has_values, mean_of

CACHES = "What does a smaller cache cost?"
LOSS_BOUND, KL_BOUND = 0.5, 2.0
"""A cache is equivalent within these per cent of loss and of KL."""
LEAST_PAIRS = 3
"""Pairs of runs without which no equivalence is claimed."""


@dataclass(frozen=True)
class CacheCost:
    """What a cache costs or gains against the reference cache, over all runs that both have.

    Differences are the cache's value minus the reference's; shares are in per cent of the
    reference's value, run by run; `by_size` is the mean share of the loss per size. None where the
    column is missing.
    """

    line: Line
    pairs: int
    by_size: dict[int, float]
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
        if self.kl_percent is None:
            return "cannot tell: the table has no kl_teacher for it"
        return "cannot tell: an interval reaches beyond its bounds"

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        out: dict[str, Any] = {
            "cache": self.line.cache,
            "pairs": self.pairs,
            "by_samples": [
                {"samples": n, "loss_percent": value} for n, value in self.by_size.items()
            ],
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
    for group in grouped(lines, ("teacher", "curation", "student", "method")):
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
    losses = paired(line, reference, "loss")
    by_size: dict[int, list[float]] = {}
    for run, (one, other) in losses.items():
        if other > 0:
            by_size.setdefault(run[0], []).append((one / other - 1) * 100)
    targets = [_targets_of(x, caches) for x in (line, reference)]

    def over_pairs(column: str, f: Callable[[float, float], float | None]) -> Estimate | None:
        if not all(has_values(x.runs, column) for x in (line, reference)):
            return None
        found = (f(*pair) for pair in paired(line, reference, column).values())
        values = [value for value in found if value is not None]
        return mean_estimate(values) if values else None

    def percent(one: float, other: float) -> float | None:
        return (one / other - 1) * 100 if other > 0 else None

    def difference(one: float, other: float) -> float:
        return one - other

    return CacheCost(
        line=line,
        pairs=len(losses),
        by_size={size: math.fsum(x) / len(x) for size, x in by_size.items()},
        size=cache_size(line, caches),
        kept_mass=mean_of(line.runs, "cache_kept_mass"),
        same_targets=None in targets or targets[0] == targets[1],
        loss=over_pairs("loss", difference),
        loss_percent=over_pairs("loss", percent),
        kl_percent=over_pairs("kl_teacher", percent),
        ece=over_pairs("ece", difference),
    )


def compare_caches(lines: list[Line], references: Mapping[str, Any] | None) -> list[dict[str, Any]]:
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
                f"({number(group.size, 4)} bytes per token)."
            )
        else:
            answer = (
                f"The cheapest cache equivalent to {name} is {cheapest}: "
                f"{number(sizes[cheapest], 4)} bytes per token against {number(group.size, 4)}."
            )
    lowest: dict[str, str | None] = {}
    for attribute, words in (("loss_percent", "loss"), ("kl_percent", "KL")):
        lowest[attribute], told = _lowest(group, attribute)
        answer += f" Lowest {words}: {told}" if told else ""
    evidence = (
        f"Equivalent means within {LOSS_BOUND} % in loss and {KL_BOUND:g} % in KL, both 90 % "
        "intervals inside; runs with the same draw, seed and samples are compared with each other, "
        "and the differences averaged over all of them."
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
        parts.append(f"{number(cost.size, 4)} bytes per token")
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
