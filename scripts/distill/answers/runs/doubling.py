"""By how much each doubling of the samples lowers a line's loss.

Error bars come from runs that differ only by draw (other training samples) or seed (other optimiser
noise); their variance is pooled over all cells of the table with at least two runs, a cell being
one student, method and number of samples. The held-out text is the same for all runs, so its
sampling error moves all of them together; it is reported beside the gains and is not part of their
error bars.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from distill.answers.answer import Answer, about_line
from distill.answers.contrast import contrast
from distill.answers.measured import Measured
from distill.answers.needs import need_precision, need_sizes
from distill.stats.intervals import Spread
from distill.table.lines import Line, has_values, mean_of, pooled_over

KEY = "doubling"


def answer(study: Measured) -> list[Answer]:
    """The gain of each doubling, line by line."""
    gap_spread = pooled_over(study.lines, "kl_teacher")
    return [_doubling(line, study.spread, gap_spread) for line in study.lines]


def _doubling(line: Line, spread: Spread | None, gap_spread: Spread | None) -> Answer:
    loss = line.cells("loss")
    gap = line.cells("kl_teacher") if has_values(line.runs, "kl_teacher") else None
    steps, per_doubling = [], []
    for small, large in pairwise(line.sizes):
        doublings = math.log2(large / small)
        weights = {small: 1 / doublings, large: -1 / doublings}
        gain = contrast(loss, weights, spread)
        per_doubling.append((gain, weights))
        step: dict[str, Any] = {"from": small, "to": large, "doublings": doublings}
        step |= gain.numbers("loss_gain")
        step |= {"perplexity_ratio": math.exp(-gain.value)}
        step["perplexity_ratio_low"] = None if gain.high is None else math.exp(-gain.high)
        step["perplexity_ratio_high"] = None if gain.low is None else math.exp(-gain.low)
        if gap is not None and small in gap.index and large in gap.index:
            step |= contrast(gap, weights, gap_spread).numbers("gap_gain")
        steps.append(step)
    largest = line.sizes[-1]
    numbers: dict[str, Any] = {
        "gains_per_doubling": steps,
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
        "heldout_stderr": mean_of(line.runs, "loss_stderr"),
        "loss_before_training": mean_of(line.before, "loss"),
        "loss_at_largest": float(loss.loc[largest, "mean"]),
        "gap_at_largest": float(gap.loc[largest, "mean"]) if gap is not None else None,
        "largest_samples": largest,
    }
    if not steps:
        needs = (need_sizes(2, line.sizes),)
        return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)
    (_, first_weights), (last, last_weights) = per_doubling[0], per_doubling[-1]
    trend = contrast(loss, _slope_weights(line.sizes), spread)
    numbers |= trend.numbers("trend_per_doubling")
    if len(per_doubling) > 1:
        change = {n: first_weights.get(n, 0.0) for n in line.sizes}
        for n, weight in last_weights.items():
            change[n] -= weight
        shrink = contrast(loss, {n: w for n, w in change.items() if w}, spread)
        numbers |= shrink.numbers("first_minus_last_gain")
    if last.sign:
        return Answer(KEY, about_line(line), "answered", numbers)
    needs = (need_precision(last, int(loss.loc[largest, "count"])),)
    return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)


def _slope_weights(sizes: list[int]) -> dict[int, float]:
    """Return least-squares weights of the fall in a mean per doubling of the samples."""
    x = np.log2(sizes)
    centred = x - x.mean()
    return dict(zip(sizes, (-centred / (centred**2).sum()).tolist(), strict=True))
