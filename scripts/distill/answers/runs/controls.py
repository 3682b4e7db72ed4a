"""Controls: how much of the gain of more data stays at equal updates or with early stopping.

At fixed epochs more samples also mean more updates. A control holds the updates (train.max_updates)
or stops by the validation loss, and shows what the data alone contribute. A line has equal updates
if its updates do not change over its sizes, equal epochs if its epochs do not; early stopping is
read from the settings of its method.
"""

import math
from typing import Any

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.needs import change_method, need_precision
from distill.answers.paired import about_pair, loss_differences
from distill.stats.intervals import Estimate, Spread, estimate, pooled_spread
from distill.table.lines import (
    Line,
    Settings,
    alike,
    mean_of,
    same_method,
    steady,
    train_setting,
)

KEY = "controls"
KINDS = ("updates", "stopping")
FREE = ("epochs", "max_updates", "early_stopping")


def answer(study: Measured) -> list[Answer]:
    """Compare the gain of data at equal epochs with that in each control, over the common sizes."""
    lines, settings = study.parts, study.settings
    kinds = [(line, _kind(line, settings)) for line in lines]
    usual = [line for line, kind in kinds if kind == "epochs"]
    answers = [
        _compare(other, line, kind, study.part_spread)
        for line, kind in kinds
        if kind in KINDS
        for other in usual
        if alike(line, other) and same_method(line, other, settings, *FREE)
    ]
    if answers:
        return answers
    numbers = {"compared": [], "lines": len(lines), "lines_at_equal_epochs": len(usual)}
    need = Need("control", "updates", change=_control(usual, settings))
    return [Answer(KEY, {}, "cannot_tell", numbers, (need,))]


def _control(usual: list[Line], settings: Settings) -> dict[str, Any]:
    """A method that stops each size of a line after as many updates as its smallest size."""
    for line in usual:
        smallest = mean_of(line.runs[line.runs["samples"] == line.sizes[0]], "updates")
        if smallest is not None:
            return change_method(line.method, settings, max_updates=round(smallest))
    return {}


def _kind(line: Line, settings: Settings) -> str | None:
    """Return what is constant over a line: epochs, updates, or neither."""
    if train_setting(line, settings, "early_stopping"):
        return "stopping"
    if len(line.sizes) < 2:
        return None
    # Over two sizes or more, epochs and updates cannot both stay the same.
    if steady(line, "updates") is not None:
        return "updates"
    return "epochs" if steady(line, "epochs") is not None else None


def _compare(usual: Line, control: Line, kind: str, spread: Spread | None) -> Answer:
    common = sorted(set(usual.sizes) & set(control.sizes))
    numbers: dict[str, Any] = {
        "compared": [usual.label, control.label],
        "control": kind,
        "samples": common,
    }
    about = about_pair(control, usual)
    if len(common) < 2:
        missing = sorted({*usual.sizes, *control.sizes})
        need = Need("common_sizes", 2, len(common), {"runs[].samples": missing})
        return Answer(KEY, about, "cannot_tell", numbers, (need,))
    small, large = common[0], common[-1]
    gains = [_gain(line, small, large, spread) for line in (usual, control)]
    numbers |= {
        "from": small,
        "to": large,
        **gains[0].numbers("gain_at_equal_epochs"),
        **gains[1].numbers("gain_in_control"),
        **_lost(usual, control, small, large, spread).numbers("gain_lost"),
        "share_that_stays": gains[1].value / gains[0].value if gains[0].sign > 0 else None,
    }
    if gains[1].sign:
        return Answer(KEY, about, "answered", numbers)
    runs = int(control.cells("loss")["count"].loc[[small, large]].min())
    return Answer(KEY, about, "cannot_tell", numbers, (need_precision(gains[1], runs),))


def _gain(line: Line, small: int, large: int, spread: Spread | None) -> Estimate:
    cells = line.cells("loss")
    value = float(cells.loc[small, "mean"] - cells.loc[large, "mean"])
    share = float(1 / cells.loc[small, "count"] + 1 / cells.loc[large, "count"])
    return estimate(value, share, spread)


def _lost(usual: Line, control: Line, small: int, large: int, spread: Spread | None) -> Estimate:
    """Return the gain at equal epochs minus that in the control, from paired runs if present.

    Gain − gain = d(small) − d(large) with d = loss at equal epochs − loss in the control.
    """
    differences = loss_differences(usual, control)
    pairs = pooled_spread(differences.values())
    if small in differences and large in differences and pairs is not None:
        ends = [differences[n] for n in (small, large)]
        first, last = (math.fsum(values) / len(values) for values in ends)
        return estimate(first - last, sum(1 / len(values) for values in ends), pairs)
    gains = [_gain(line, small, large, spread) for line in (usual, control)]
    cells = [line.cells("loss")["count"] for line in (usual, control)]
    share = sum(float(1 / count[n]) for count in cells for n in (small, large))
    return estimate(gains[0].value - gains[1].value, share, spread)
