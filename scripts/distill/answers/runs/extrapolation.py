"""How well a straight line through the two smaller sizes of a line predicts the largest."""

import math
from typing import Any

import pandas as pd

from distill.answers.answer import Answer, about_line
from distill.answers.measured import Measured
from distill.answers.needs import need_sizes
from distill.stats.intervals import Spread, estimate
from distill.table.lines import Line, has_values

KEY = "extrapolation"


def answer(study: Measured) -> list[Answer]:
    """Predicted and measured loss of the largest size, line by line."""
    return [_extrapolated(line, study.spread) for line in study.lines]


def _extrapolated(line: Line, spread: Spread | None) -> Answer:
    if len(line.sizes) < 3:
        numbers: dict[str, Any] = {"predicted": None, "measured": None, "sizes": line.sizes}
        needs = (need_sizes(3, line.sizes),)
        return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)
    first, second, target = line.sizes[-3:]
    loss = line.cells("loss")
    predicted = _log_log(loss["mean"], first, second, target)
    measured = float(loss.loc[target, "mean"])
    numbers = {
        "from": [first, second],
        "to": target,
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
    numbers |= estimate(predicted - measured, share, spread).numbers("miss_nats")
    if has_values(line.runs, "kl_teacher"):
        gap = line.cells("kl_teacher")["mean"]
        if {first, second, target} <= set(gap.index) and (gap > 0).all():
            numbers["predicted_gap"] = _log_log(gap, first, second, target)
            numbers["measured_gap"] = float(gap[target])
            numbers["relative_error_gap"] = numbers["predicted_gap"] / numbers["measured_gap"] - 1
    return Answer(KEY, about_line(line), "answered", numbers)


def _log_log(means: pd.Series, first: int, second: int, target: int) -> float:
    """Extrapolate a log-log straight line through two sizes to a third."""
    reach = math.log(target / second) / math.log(second / first)
    low, high = float(means[first]), float(means[second])
    return high * (high / low) ** reach
