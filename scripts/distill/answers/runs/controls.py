"""Controls: how much of the gain of more data stays at equal updates or with early stopping.

At fixed epochs more samples also mean more updates. A control holds the updates (train.max_updates)
or stops by the validation loss, and shows what the data alone bought.
"""

import math
from typing import Any

from distill.answers.record import record
from distill.answers.runs.at_equal_samples import loss_differences
from distill.stats.intervals import Estimate, Spread, estimate, number, pooled_spread
from distill.table.lines import Line, Settings, alike, same_method, steady, train_setting

CONTROLS = "How much of the gain of data stays in a control?"
KINDS = {"updates": "equal updates", "stopping": "early stopping"}
FREE = ("epochs", "max_updates", "early_stopping")


def controls(lines: list[Line], spread: Spread | None, settings: Settings) -> list[dict[str, Any]]:
    """Compare the gain of data at equal epochs with that in each control, over the common sizes.

    A line has equal updates if its updates do not change over its sizes, equal epochs if its epochs
    do not; early stopping is read from `methods`.

    Args:
        lines: lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
        settings: `methods`, to tell which methods differ in these settings alone.
    """
    answers = []
    usual = [line for line in lines if _kind(line, settings) == "epochs"]
    for line in lines:
        kind = _kind(line, settings)
        if kind not in KINDS:
            continue
        for other in usual:
            if alike(line, other) and same_method(line, other, settings, *FREE):
                answers.append(_compare(other, line, kind, spread))
    if answers:
        return answers
    return [
        record(
            CONTROLS,
            None,
            "Cannot tell, because no line with equal updates or with early stopping has a partner "
            "with equal epochs; needs two methods that differ in train.max_updates or "
            "train.early_stopping alone, over at least two sizes.",
            f"{len(lines)} lines looked at, {len(usual)} of them with equal epochs. At fixed "
            "epochs, more samples are also more updates.",
            {"compared": []},
        )
    ]


def _kind(line: Line, settings: Settings) -> str | None:
    """Return what a line holds: its epochs, its updates, or neither."""
    if train_setting(line, settings, "early_stopping"):
        return "stopping"
    if len(line.sizes) < 2:
        return None
    # Over two sizes or more, epochs and updates cannot both stay the same.
    if steady(line, "updates") is not None:
        return "updates"
    return "epochs" if steady(line, "epochs") is not None else None


def _compare(usual: Line, control: Line, kind: str, spread: Spread | None) -> dict[str, Any]:
    common = sorted(set(usual.sizes) & set(control.sizes))
    numbers: dict[str, Any] = {
        "compared": [usual.label, control.label],
        "control": kind,
        "samples": common,
    }
    words = KINDS[kind]
    label = f"{control.label} or {usual.label}"
    if len(common) < 2:
        found = record(
            CONTROLS,
            control,
            f"Cannot tell ({words}), because it shares {len(common)} sizes with the runs at equal "
            "epochs; needs two.",
            f"Compared with {usual.label}.",
            numbers,
        )
        return found | {"label": label}
    small, large = common[0], common[-1]
    gains = [_gain(line, small, large, spread) for line in (usual, control)]
    lost = _lost(usual, control, small, large, spread)
    numbers |= {
        "from": small,
        "to": large,
        **gains[0].numbers("gain_at_equal_epochs"),
        **gains[1].numbers("gain_in_control"),
        **lost.numbers("gain_lost"),
    }
    share = gains[1].value / gains[0].value if gains[0].sign > 0 else None
    numbers["share_that_stays"] = share
    step = f"n = {small:,} to {large:,}"
    if not gains[1].tested:
        answer = f"Cannot tell ({words}): no size has two runs, so there is no error bar."
    elif gains[1].sign > 0:
        answer = f"With {words} the data from {step} still lower the loss by "
        answer += f"{gains[1].text('nats')}"
        answer += f", {number(100 * share, 2)} % of the gain at equal epochs" if share else ""
        answer += {
            1: "; the rest came with more updates." if kind == "updates" else "; it gains less.",
            0: "; the two gains do not differ by more than the noise.",
            -1: "; that is more than at equal epochs.",
        }[lost.sign]
    elif gains[1].sign < 0:
        answer = f"With {words} the data from {step} raise the loss: gain {gains[1].text('nats')}."
    else:
        answer = f"Cannot tell ({words}): the gain from {step} is {gains[1].text('nats')}"
        answer += (
            f", while at equal epochs it is {number(gains[0].value)}." if gains[0].sign else "."
        )
    evidence = (
        f"Gain from {step}: {gains[0].text('nats')} at equal epochs, {gains[1].text('nats')} with "
        f"{words}; their difference, runs with the same draw and seed subtracted first, is "
        f"{lost.text('nats')}."
    )
    return record(CONTROLS, control, answer, evidence, numbers) | {"label": label}


def _gain(line: Line, small: int, large: int, spread: Spread | None) -> Estimate:
    cells = line.cells("loss")
    value = float(cells.loc[small, "mean"] - cells.loc[large, "mean"])
    share = float(1 / cells.loc[small, "count"] + 1 / cells.loc[large, "count"])
    return estimate(value, share, spread)


def _lost(usual: Line, control: Line, small: int, large: int, spread: Spread | None) -> Estimate:
    """Return the gain at equal epochs minus that in the control, from paired runs where there are.

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
