"""What several questions lack, with the smallest change of the config that would supply it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from distill.answers.answer import Need
from distill.stats.intervals import Estimate
from distill.table.lines import Settings

MOST_DRAWS = 32
"""More draws than this are not a practical remedy for noise."""


def smallest(needs: Iterable[Need]) -> tuple[Need, ...]:
    """One need of each kind, the one that takes least: any of them would do."""
    kinds: dict[Any, Need] = {}
    for need in needs:
        counted = isinstance(need.wanted, int) or need.wanted is None
        kind = (need.what, None if counted else str(need.wanted))
        best = kinds.get(kind)
        if best is None or (need.wanted or math.inf) < (best.wanted or math.inf):
            kinds[kind] = need
    return tuple(kinds.values())


def need_sizes(needed: int, sizes: Sequence[int]) -> Need:
    """More sizes of the training set: halves of the smallest, which need no further text.

    Args:
        needed: How many sizes the answer takes, more than there are.
        sizes: Samples that were measured, smallest first.
    """
    below = list(sizes)
    while len(below) < needed:
        below = [below[0] // 2, *below] if below[0] > 1 else [*below, 2 * below[-1]]
    return Need("sizes", needed, len(sizes), {"runs[].samples": below})


def need_repeats() -> Need:
    """A second run of one size, without which there is no error bar."""
    return Need("repeats", 2, 1, {"runs[].draws": [0, 1]})


def need_reference() -> Need:
    """A text that no teacher of the study wrote, on which all models are evaluated."""
    return Need("reference_loss", change={"evaluate.reference": None})


def need_precision(value: Estimate, runs: int) -> Need:
    """More runs of a size for a value whose interval contains 0; more repeats without an interval.

    An interval shrinks with the square root of the runs, so 0 leaves it with about
    runs · (half width / value)² runs of each size, if the value stays.

    Args:
        value: The value with its interval.
        runs: Runs that each size has now, at least 1.
    """
    if value.low is None or value.high is None:
        return need_repeats()
    half = max(value.high - value.value, value.value - value.low)
    times = (half / value.value) ** 2 if value.value else math.inf
    needed = max(math.ceil(runs * times), runs + 1) if math.isfinite(times) else None
    few = needed is not None and needed <= MOST_DRAWS
    return Need("precision", needed, runs, {"runs[].draws": list(range(needed))} if few else {})  # type: ignore[arg-type]


def change_method(method: str, settings: Settings, **train: Any) -> dict[str, Any]:
    """A config with a second method that differs from one in settings of `train` alone.

    Args:
        method: Name of the method to vary.
        settings: `methods` holds its settings; no change is proposed without them.
        train: The settings that differ.
    """
    known = (settings.get("methods") or {}).get(method)
    if known is None:
        return {}
    name = "-".join([method, *train])
    varied = {**known, "train": {**(known.get("train") or {}), **train}}
    return {f"methods.{name}": varied, "runs[].methods": [method, name]}
