"""What a smaller cache of soft targets costs in loss, KL and calibration, run by run.

Intervals are 90 %, each for itself, and of the mean over all runs that two caches share; runs of
one draw at several sizes count as independent.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.answers.answer import Answer, Need, about_line
from distill.answers.measured import Measured
from distill.answers.paired import paired
from distill.stats.intervals import Estimate, mean_estimate
from distill.table.lines import Line, has_values, mean_of, sort_out

KEY = "cache_costs"
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
    def equivalent(self) -> tuple[str, str]:
        """Whether the cache is as good within the bounds: yes, no or cannot_tell, and why.

        Yes if the 90 % intervals of loss and KL both lie inside ± their bounds (two one-sided
        tests at 5 % each); no if one of them lies outside; else it is not known. The reason is
        inside; loss_worse, loss_better, kl_worse or kl_better; few_pairs, no_kl or wide.
        """
        if self.pairs < LEAST_PAIRS:
            return "cannot_tell", "few_pairs"
        bounds = (("loss", self.loss_percent, LOSS_BOUND), ("kl", self.kl_percent, KL_BOUND))
        inside = True
        for name, share, bound in bounds:
            if share is None or share.low is None or share.high is None:
                inside = False
            elif share.low > bound:
                return "no", f"{name}_worse"
            elif share.high < -bound:
                return "no", f"{name}_better"
            elif share.low < -bound or share.high > bound:
                inside = False
        if inside:
            return "yes", "inside"
        return "cannot_tell", "no_kl" if self.kl_percent is None else "wide"

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
            "equivalent": self.equivalent[0],
            "equivalent_because": self.equivalent[1],
        }
        for name in ("loss", "loss_percent", "kl_percent", "ece"):
            share = getattr(self, name)
            key = name if name.endswith("percent") else f"{name}_difference"
            out |= share.numbers(key) if share else {key: None}
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
    for group in sort_out(lines, "teacher", "curation", "student", "method"):
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
        shares = (f(*pair) for pair in paired(line, reference, column).values())
        values = [value for value in shares if value is not None]
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


def answer(study: Measured) -> list[Answer]:
    """What a smaller cache costs each student and method that has several."""
    return [_smaller_cache(group) for group in cache_groups(study.lines, study.references)]


def _smaller_cache(group: CacheGroup) -> Answer:
    """Recommend a cache, and give each one's differences from the reference."""
    name = group.reference.cache
    good = [c for c in group.others if c.equivalent[0] == "yes" and c.same_targets]
    sizes = {c.line.cache: c.size for c in good} | {name: group.size}
    unsized = None in sizes.values()
    numbers = {
        "reference": name,
        "reference_bytes_per_token": group.size,
        "reference_kept_mass": mean_of(group.reference.runs, "cache_kept_mass"),
        "loss_bound_percent": LOSS_BOUND,
        "kl_bound_percent": KL_BOUND,
        "least_pairs": LEAST_PAIRS,
        "cheapest_equivalent": None
        if unsized
        else min(sizes, key=lambda cache: (sizes[cache], cache != name)),
        "lowest_loss": _lowest(group, "loss_percent"),
        "lowest_kl": _lowest(group, "kl_percent"),
        "caches": [cost.numbers() for cost in group.others],
    }
    about = {**about_line(group.reference), "label": group.label}
    if unsized:
        needs = (Need("column", ["cache_bytes_per_token"]),)
        return Answer(KEY, about, "cannot_tell", numbers, needs)
    return Answer(KEY, about, "answered", numbers)


def _lowest(group: CacheGroup, attribute: str) -> str | None:
    """Return the cache with the lowest mean of a share; None where the share is not known."""
    shares = [
        (share.value, cost.line.cache)
        for cost in group.others
        if (share := getattr(cost, attribute)) is not None
    ]
    if not shares:
        return None
    value, cache = min(shares, key=lambda pair: pair[0])
    return group.reference.cache if value >= 0 else cache
