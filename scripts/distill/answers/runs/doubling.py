"""What more teacher text bought: gains per doubling, the sweet spot, a forecast, comparisons.

Everything here is a function of the runs table (one row per trained student). Error bars come
from runs that differ only by draw (other training samples) or seed (other optimiser noise); their
variance is pooled over all cells of the table with at least two runs, a cell being one student,
method and number of samples. Intervals are 90 %, with Student's t quantiles for the pooled
degrees of freedom. The held-out text is the same for all runs, so its sampling error moves all of
them together; it is reported beside the gains and is not part of their error bars.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import record
from distill.answers.runs.at_equal_flops import compare_at_equal_flops
from distill.answers.runs.at_equal_samples import (
    compare_methods,
    compare_students,
    soft_against_plain,
)
from distill.answers.runs.cache_costs import compare_caches
from distill.core.errors import UserError
from distill.stats.intervals import Estimate, Spread, estimate, number, percent, sizes_text, span
from distill.table.lines import (
    Line,
    has_values,
    lines_of,
    mean_of,
    noise_sources,
    pooled_over,
    prepare_runs,
)
from distill.table.words import words_of

SUMMARY = "What did more teacher text buy?"
LARGEST = "What is the largest size measured?"
DOUBLING = "What does a doubling of the samples buy?"
ERROR_BARS = "Where do the error bars come from?"
SWEET_SPOT = "Is there a sweet spot?"
FORECAST = "Was the largest size predicted from the smaller ones?"
FALLING = "Does perplexity fall with every larger size?"


def diminishing_returns(
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    cost: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Answer what more teacher text bought each student, as the content of answers.json.

    Args:
        runs: the runs table; see `prepare_runs` for what it must hold.
        references: references.json, for the teacher's own loss; None when there is none.
        cost: nats of loss that one unit of a column is worth, for instance
            `{"samples": 1e-4, "train_seconds": 1e-5}`; without it no sweet spot is claimed.

    Returns:
        `{"schema": 1, "answers": [...]}`; each answer has question, student, method, answer,
        evidence and numbers, and its teacher. Losses are nats per token.

    Raises:
        UserError: the table or the cost names a column that is missing.
    """
    table = prepare_runs(runs)
    lines = lines_of(table)
    spread = pooled_over(lines, "loss")
    gap_spread = pooled_over(lines, "kl_teacher")
    gains = [_doubling(line, spread, gap_spread) for line in lines]
    sweet = _sweet_spots(lines, cost)
    # A chunk of a corpus is no response, nor plain text of the teacher: such lines are compared at
    # equal FLOPs alone.
    methods = (references or {}).get("methods", {})
    taught = [line for line in lines if not methods.get(line.method, {}).get("corpus")]
    at_samples, at_flops = compare_methods(taught), compare_at_equal_flops(lines, spread)
    soft = soft_against_plain(
        at_samples, compare_at_equal_flops(taught, spread), noise_sources(table)
    )
    answers = [
        _summary(lines, gains, sweet, references, soft),
        _largest(table),
        *gains,
        _error_bars(table, spread),
        *sweet,
        *(_forecast(line, spread) for line in lines),
        *(_falling(line, spread) for line in lines),
        *compare_students(lines),
        *at_samples,
        *at_flops,
        *compare_caches(lines, references),
    ]
    return {"schema": 1, "answers": answers}


def _error_bars(table: pd.DataFrame, spread: Spread | None) -> dict[str, Any]:
    """Say where the error bars of the gains come from, and what they leave out."""
    trained = table[table["samples"] > 0]
    heldout = mean_of(trained, "loss_stderr")
    if spread is None:
        answer = "There are none: no cell of the table has two runs."
    else:
        answer = (
            f"From {noise_sources(trained)}: pooled over the {spread.cells} cells "
            f"with at least two runs ({spread.df} degrees of freedom, standard deviation "
            f"{number(spread.sd)} nats) and taken to be the same in all cells, those with a "
            "single run included."
        )
    evidence = "The sampling error of the held-out text is not in them"
    if heldout is not None:
        evidence += f": a standard error of {number(heldout)} nats"
    evidence += ", shared by all runs, which moves them together and mostly cancels in differences."
    numbers = {
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
        "pooled_cells": spread.cells if spread else 0,
        "heldout_stderr": heldout,
    }
    return record(ERROR_BARS, None, answer, evidence, numbers)


def _contrast(cells: pd.DataFrame, weights: Mapping[int, float], spread: Spread | None) -> Estimate:
    """Estimate Σ weight·mean over cells whose runs are independent.

    Smaller sizes are prefixes of larger ones, which can only make the error of a difference
    between sizes smaller than this.
    """
    value = sum(weight * float(cells.loc[n, "mean"]) for n, weight in weights.items())
    share = sum(weight**2 / float(cells.loc[n, "count"]) for n, weight in weights.items())
    return estimate(value, share, spread)


def _doubling(line: Line, spread: Spread | None, gap_spread: Spread | None) -> dict[str, Any]:
    """Answer what each doubling of the samples bought one line."""
    loss = line.cells("loss")
    gap = line.cells("kl_teacher") if has_values(line.runs, "kl_teacher") else None
    steps, per_doubling = [], []
    for small, large in pairwise(line.sizes):
        doublings = math.log2(large / small)
        weights = {small: 1 / doublings, large: -1 / doublings}
        gain = _contrast(loss, weights, spread)
        per_doubling.append((gain, weights))
        step: dict[str, Any] = {"from": small, "to": large, "doublings": doublings}
        step |= gain.numbers("loss_gain")
        step |= {"perplexity_ratio": math.exp(-gain.value)}
        step["perplexity_ratio_low"] = None if gain.high is None else math.exp(-gain.high)
        step["perplexity_ratio_high"] = None if gain.low is None else math.exp(-gain.low)
        if gap is not None and small in gap.index and large in gap.index:
            step |= _contrast(gap, weights, gap_spread).numbers("gap_gain")
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
        return record(
            DOUBLING,
            line,
            f"Cannot tell: only {largest:,} samples were measured.",
            "A gain per doubling needs two sizes; add one.",
            numbers,
        )
    (first, first_weights), (last, last_weights) = per_doubling[0], per_doubling[-1]
    trend = _contrast(loss, _slope_weights(line.sizes), spread)
    numbers |= trend.numbers("trend_per_doubling")
    small = line.sizes[-2]
    evidence = (
        f"Per doubling, the step {small:,} → {largest:,} samples lowered the loss by "
        f"{last.text('nats')}, perplexity × {number(math.exp(-last.value))}."
    )
    answer = _last_step(last, largest)
    if len(per_doubling) > 1:
        change = {n: first_weights.get(n, 0.0) for n in line.sizes}
        for n, weight in last_weights.items():
            change[n] -= weight
        shrink = _contrast(loss, {n: w for n, w in change.items() if w}, spread)
        numbers |= shrink.numbers("first_minus_last_gain")
        answer = answer[:-1] + _shrinking(shrink)
        evidence += (
            f" The first step, {line.sizes[0]:,} → {line.sizes[1]:,}, lowered it by "
            f"{first.text('nats')}. A straight line through all sizes against the logarithm of "
            f"samples falls by {number(trend.value)} nats per doubling."
        )
    return record(DOUBLING, line, answer, evidence, numbers)


def _last_step(gain: Estimate, largest: int) -> str:
    amount = f"{number(abs(gain.value))} nats per doubling"
    if gain.stderr is None:
        word = "lowered" if gain.value > 0 else "raised"
        return f"The last step up to {largest:,} samples {word} the loss by {amount}, untested."
    if gain.sign > 0:
        return f"More text still helps at {largest:,} samples ({amount})."
    if gain.sign < 0:
        return f"More text made it worse at {largest:,} samples ({amount} lost)."
    return f"Cannot tell whether more text still helps at {largest:,} samples."


def _shrinking(shrink: Estimate) -> str:
    if shrink.stderr is None:
        word = "smaller" if shrink.value > 0 else "no smaller"
        return f"; the gain is {word} than in the first step, without an error bar."
    if shrink.sign > 0:
        return "; returns diminish: the last step bought less than the first."
    if shrink.sign < 0:
        return "; returns grew: the last step bought more than the first."
    return "; first and last step do not differ by more than the noise."


def _slope_weights(sizes: list[int]) -> dict[int, float]:
    """Return least-squares weights of the fall in a mean per doubling of the samples."""
    x = np.log2(sizes)
    centred = x - x.mean()
    return dict(zip(sizes, (-centred / (centred**2).sum()).tolist(), strict=True))


def _sweet_spots(lines: list[Line], cost: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """Answer where loss plus a stated cost is lowest; claimed only in the interior."""
    if not cost:
        return [
            record(
                SWEET_SPOT,
                line,
                f"Not reached by n = {line.sizes[-1]:,}: no cost was stated.",
                "Loss alone has no sweet spot short of the size where it stops falling; "
                "state what a sample or a second is worth in nats to ask for one.",
                {"cost": None, "samples": None, "largest_samples": line.sizes[-1]},
            )
            for line in lines
        ]
    totals = []
    for line in lines:
        total = line.runs["loss"].copy()
        for column, price in cost.items():
            if not has_values(line.runs, column):
                raise UserError(
                    f"the cost names column {column}, which the runs table does not hold for "
                    f"{line.label}; use another column"
                )
            total += price * pd.to_numeric(line.runs[column], errors="coerce")
        totals.append(Line(**{**vars(line), "runs": line.runs.assign(total=total)}))
    spread = pooled_over(totals, "total")
    return [_sweet_spot(line, spread, cost) for line in totals]


def _sweet_spot(line: Line, spread: Spread | None, cost: Mapping[str, float]) -> dict[str, Any]:
    cells = line.cells("total")
    smallest, largest = line.sizes[0], line.sizes[-1]
    best = int(cells["mean"].idxmin())
    stated = ", ".join(f"one unit of {name} = {number(price)} nats" for name, price in cost.items())
    evidence = f"Stated cost: {stated}. Loss plus cost is lowest at n = {best:,} "
    evidence += f"({number(float(cells.loc[best, 'mean']), 4)} nats)"
    numbers: dict[str, Any] = {
        "cost": dict(cost),
        "samples": None,
        "lowest_measured_at": best,
        "largest_samples": largest,
        "totals": [{"samples": n, "total": float(cells.loc[n, "mean"])} for n in line.sizes],
    }
    if best == largest:
        answer = f"Not reached by n = {largest:,}: loss plus the stated cost is still falling."
        return record(SWEET_SPOT, line, answer, evidence + ", the largest size.", numbers)
    if best == smallest:
        answer = f"Not within the sizes measured: the smallest, n = {smallest:,}, is the cheapest."
        return record(SWEET_SPOT, line, answer, evidence + ", the smallest size.", numbers)
    below = _contrast(cells, {smallest: 1, best: -1}, spread)
    above = _contrast(cells, {largest: 1, best: -1}, spread)
    numbers |= below.numbers("smallest_minus_best") | above.numbers("largest_minus_best")
    evidence += (
        f"; n = {smallest:,} is worse by {below.text('nats')} and n = {largest:,} by "
        f"{above.text('nats')}."
    )
    if below.sign > 0 and above.sign > 0:
        numbers["samples"] = best
        answer = f"At the stated cost, about n = {best:,} among the sizes measured."
    else:
        answer = (
            f"Cannot tell: the lowest point, n = {best:,}, is not clear of the smallest and "
            "largest size by more than the noise."
        )
    return record(SWEET_SPOT, line, answer, evidence, numbers)


def _forecast(line: Line, spread: Spread | None) -> dict[str, Any]:
    """Answer how well a log-log line through the last two smaller sizes meets the largest."""
    if len(line.sizes) < 3:
        return record(
            FORECAST,
            line,
            "Cannot tell: a forecast of the largest size needs two smaller ones.",
            f"Sizes measured: {', '.join(f'{n:,}' for n in line.sizes)}.",
            {"predicted": None, "measured": None},
        )
    first, second, target = line.sizes[-3:]
    numbers: dict[str, Any] = {"from": [first, second], "to": target}
    loss = line.cells("loss")
    predicted = _log_log(loss["mean"], first, second, target)
    measured = float(loss.loc[target, "mean"])
    numbers |= {
        "predicted_loss": predicted,
        "measured_loss": measured,
        "relative_error_loss": predicted / measured - 1,
        "relative_error_loss_no_change": float(loss.loc[second, "mean"]) / measured - 1,
        "predicted_perplexity": math.exp(predicted),
        "measured_perplexity": math.exp(measured),
        "relative_error_perplexity": math.exp(predicted - measured) - 1,
    }
    # Delta method in nats: d predicted/d mean = predicted·weight/mean of each of the two sizes.
    reach = math.log(target / second) / math.log(second / first)
    slopes = {
        second: predicted * (1 + reach) / float(loss.loc[second, "mean"]),
        first: -predicted * reach / float(loss.loc[first, "mean"]),
        target: -1.0,
    }
    share = sum(slope**2 / float(loss.loc[n, "count"]) for n, slope in slopes.items())
    miss = estimate(predicted - measured, share, spread)
    numbers |= miss.numbers("miss_nats")
    gap_text = ""
    if has_values(line.runs, "kl_teacher"):
        gap = line.cells("kl_teacher")["mean"]
        if {first, second, target} <= set(gap.index) and (gap > 0).all():
            numbers["predicted_gap"] = _log_log(gap, first, second, target)
            numbers["measured_gap"] = float(gap[target])
            numbers["relative_error_gap"] = numbers["predicted_gap"] / numbers["measured_gap"] - 1
            gap_text = (
                f" The gap to the teacher, by a line of its own: {number(numbers['predicted_gap'])}"
                f" predicted, {number(numbers['measured_gap'])} measured "
                f"({percent(numbers['relative_error_gap'])})."
            )
    answer = (
        f"Loss at n = {target:,}: {number(predicted, 4)} nats predicted, {number(measured, 4)} "
        f"measured ({percent(numbers['relative_error_loss'])})."
    )
    verdict = {0: "The miss is within the noise", 1: "It was too high", -1: "It was too low"}
    judged = "" if miss.stderr is None else f" {verdict[miss.sign]}: {miss.text('nats')}."
    evidence = (
        f"A straight line in log loss against log samples through n = {first:,} and {second:,}, "
        f"read off at {target:,}.{judged} Perplexity: {number(math.exp(predicted))} predicted, "
        f"{number(math.exp(measured))} measured "
        f"({percent(numbers['relative_error_perplexity'])}). Guessing no change from "
        f"n = {second:,} would have missed the loss by "
        f"{percent(numbers['relative_error_loss_no_change'])}.{gap_text}"
    )
    return record(FORECAST, line, answer, evidence, numbers)


def _log_log(means: pd.Series, first: int, second: int, target: int) -> float:
    """Read a log-log straight line through two sizes off at a third."""
    reach = math.log(target / second) / math.log(second / first)
    low, high = float(means[first]), float(means[second])
    return high * (high / low) ** reach


def _falling(line: Line, spread: Spread | None) -> dict[str, Any]:
    """Answer whether perplexity falls at every step, the one from n = 0 included."""
    cells = line.cells("loss")
    if not line.before.empty:
        start = pd.DataFrame(
            {"mean": [line.before["loss"].mean()], "count": [len(line.before)]}, index=[0]
        )
        cells = pd.concat([start, cells[["mean", "count"]]])
    rises = []
    for small, large in pairwise(sorted(int(n) for n in cells.index)):
        rise = _contrast(cells, {large: 1.0, small: -1.0}, spread)
        if rise.value > 0:
            clear = {1: "beyond the noise", 0: "within the noise"}[rise.sign]
            clear = "without an error bar" if rise.stderr is None else clear
            rises.append({"from": small, "to": large, "clear": clear, **rise.numbers("loss_rise")})
    if not rises:
        return record(FALLING, line, "Yes.", "Every step lowered it.", {"rises": []})
    told = "; ".join(
        f"{r['from']:,} → {r['to']:,} samples raised the loss by {number(r['loss_rise'])} nats "
        f"({r['clear']})"
        for r in rises
    )
    return record(
        FALLING,
        line,
        "Warning: no.",
        f"{told}. Look at updates, learning rate and the spread between draws of those runs.",
        {"rises": rises},
    )


def _largest(table: pd.DataFrame) -> dict[str, Any]:
    largest = int(table["samples"].max())
    return record(
        LARGEST,
        None,
        f"{largest:,} samples.",
        "Trends measured up to there are no evidence far beyond it.",
        {"largest_samples": largest},
    )


def _summary(
    lines: list[Line],
    gains: list[dict[str, Any]],
    sweet: list[dict[str, Any]],
    references: dict[str, Any] | None,
    soft: tuple[str, dict[str, Any] | None],
) -> dict[str, Any]:
    """Say the whole answer in one paragraph of plain words."""
    words = words_of(lines[0].runs)
    largest = max(line.sizes[-1] for line in lines)
    steps = [gain["numbers"]["gains_per_doubling"] for gain in gains]
    firsts = [s[0]["loss_gain"] for s in steps if len(s) > 1]
    lasts = [s[-1] for s in steps if s]
    helped = sum((s["loss_gain_low"] or 0.0) > 0 for s in lasts)
    tested = any(s["loss_gain_stderr"] is not None for s in lasts)
    text = ""
    if lasts:
        values = [s["loss_gain"] for s in lasts]
        if len(lines) == 1:
            whom = "for the one student measured"
        else:
            kinds = "student, method and cache" if _several_caches(lines) else "student and method"
            whom = f"across {len(lines)} combinations of {kinds}"
        text += (
            f"Going up to {largest:,} {words.samples}, a doubling of {words.text} lowered the loss "
            f"by {span(values)} nats per token in the last step {whom}"
        )
        text += " (below zero: raised it)" if min(values) < 0 else ""
        text += f", against {span(firsts)} in the first step. " if firsts else ". "
        text += (
            f"In {helped} of {len(lasts)} the last gain is clear of the noise between runs. "
            if tested
            else "No size was run twice, so none of this is tested against noise. "
        )
    else:
        text += f"Only one size, {largest:,} {words.samples}, was measured. "
    numbers: dict[str, Any] = {"largest_samples": largest, "best": [], "soft_targets": soft[1]}
    for teacher in dict.fromkeys(line.teacher for line in lines):
        mine = [line for line in lines if line.teacher == teacher and largest in line.sizes]
        if not mine:
            continue
        best = min(mine, key=lambda line: float(line.cells("loss").loc[largest, "mean"]))
        loss = float(best.cells("loss").loc[largest, "mean"])
        floor = ((references or {}).get("teachers", {}).get(teacher) or {}).get("perplexity")
        numbers["best"].append({"teacher": teacher, "label": best.label, "loss": loss})
        text += (
            f"The lowest {words.perplexity} at that size is {number(math.exp(loss))} ({best.label}"
        )
        text += f"; the teacher {teacher}'s own is {number(floor)}). " if floor else "). "
    text += soft[0]
    spots = sorted({s["numbers"]["samples"] for s in sweet if s["numbers"]["samples"]})
    if not spots:
        text += f"A sweet spot was not reached by n = {largest:,}"
        no_cost = sweet[0]["numbers"]["cost"] is None
        text += ", and none can be claimed without a stated cost." if no_cost else "."
    else:
        claimed = sum(bool(s["numbers"]["samples"]) for s in sweet)
        text += (
            f"At the stated cost there is a sweet spot at {sizes_text(spots)} "
            f"({claimed} of {len(sweet)} lines)."
        )
    return record(SUMMARY, None, text, "Details and error bars are below.", numbers)


def _several_caches(lines: list[Line]) -> bool:
    """Tell whether a method of a student reads one cache here and another there."""
    names = [(x.teacher, x.student, x.method, x.curation) for x in lines]
    return len(set(names)) < len(names)
