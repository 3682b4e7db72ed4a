"""More prompts or more epochs: runs that spent the same FLOPs on training in different ways."""

from itertools import combinations
from typing import Any

from distill.answers.record import record
from distill.answers.runs.at_equal_flops import compare_total
from distill.stats.intervals import Spread, estimate, number, read_estimate
from distill.table.lines import (
    Line,
    Settings,
    alike,
    has_values,
    same_method,
    steady,
    train_setting,
)

PROMPTS_OR_EPOCHS = "More prompts or more epochs?"
MORE_RESPONSES = "More responses per prompt?"
TOTALS = {
    "train_flops": "at equal FLOPs of training",
    "total_flops": "with all of the teacher's work counted",
}
FEWEST = 1.5
"""Least ratio of two lines' epochs, or of two sizes' tokens, that is worth a comparison."""


def prompts_or_epochs(
    lines: list[Line], spread: Spread | None, settings: Settings
) -> list[dict[str, Any]]:
    """Answer whether FLOPs are better spent on more prompts or on more epochs.

    Compared are lines that differ in epochs alone, and the sizes of a line with equal updates.

    Args:
        lines: lines of the runs table.
        spread: standard deviation of a run's loss, pooled over all cells of the table.
        settings: `methods` tells whether two methods differ in `train.epochs` alone.
    """
    answers = []
    for one, other in combinations(lines, 2):
        epochs = [steady(line, "epochs") for line in (one, other)]
        if not alike(one, other) or not same_method(one, other, settings, "epochs"):
            continue
        if None in epochs or max(epochs) < FEWEST * min(epochs):  # type: ignore[operator,type-var]
            continue
        few, many = (one, other) if epochs[0] < epochs[1] else (other, one)  # type: ignore[operator]
        answers.append(_lines(few, many, spread))
    answers += [
        found
        for line in lines
        if not train_setting(line, settings, "early_stopping")
        and (found := _at_equal_updates(line, spread)) is not None
    ]
    if not answers:
        answers.append(
            record(
                PROMPTS_OR_EPOCHS,
                None,
                "Cannot tell, because no two runs differ in epochs alone; needs two methods that "
                "differ in train.epochs only (or runs with equal train.max_updates), over sizes "
                "whose FLOPs of training overlap.",
                f"Epochs are tokens_seen / tokens_unique; {len(lines)} lines looked at.",
                {"compared": []},
            )
        )
    return [*answers, _responses()]


def _responses() -> dict[str, Any]:
    return record(
        MORE_RESPONSES,
        None,
        "Cannot tell, because the table does not say how many responses a prompt has; needs a "
        "study that varies the responses per prompt.",
        "In the workflow's own studies every prompt has one response.",
        {"compared": []},
    )


def _lines(few: Line, many: Line, spread: Spread | None) -> dict[str, Any]:
    """Compare a line of few epochs with one of many at equal FLOPs."""
    epochs = [steady(line, "epochs") for line in (few, many)]
    names = (f"{number(epochs[0])} epochs", f"{number(epochs[1])} epochs")
    totals = {name: compare_total(few, many, names, name, spread) for name in TOTALS}
    verdicts, told = [], []
    for name, words in TOTALS.items():
        total = totals[name]
        winner = {names[0]: "more prompts", names[1]: "more epochs"}.get(total["better"])
        verdict = f"{winner} ({total['verdict']})" if winner else total["verdict"]
        verdicts.append(f"{words}: {verdict}")
        if total["points"]:
            told.append(
                f"{words[0].upper()}{words[1:]}, the loss after {names[0]} minus that after "
                f"{names[1]} is "
                + ", ".join(
                    f"{read_estimate(p, 'loss_difference').text('nats')} at {number(p['flops'])}"
                    for p in total["points"]
                )
                + " FLOPs."
            )
    evidence = " ".join(told) + (
        " Fewer epochs at equal FLOPs mean more of the teacher's text; losses are read off between "
        "measured sizes."
    )
    numbers = {
        "compared": [few.label, many.label],
        "epochs": epochs,
        "totals": totals,
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    answer = "; ".join(verdicts) + "."
    found = record(
        PROMPTS_OR_EPOCHS, few, answer[0].upper() + answer[1:], evidence.strip(), numbers
    )
    method = few.method if few.method == many.method else f"{few.method} vs {many.method}"
    return found | {"method": method, "label": f"{few.label} or {many.label}"}


def _at_equal_updates(line: Line, spread: Spread | None) -> dict[str, Any] | None:
    """Compare the ends of a line whose sizes cost equal training: more text, fewer epochs."""
    if len(line.sizes) < 2 or not has_values(line.runs, "tokens_unique"):
        return None
    if steady(line, "train_flops") is None or steady(line, "epochs") is not None:
        return None
    small, large = line.sizes[0], line.sizes[-1]
    tokens = line.cells("tokens_unique")["mean"]
    if tokens[large] < FEWEST * tokens[small]:
        return None
    cells = line.cells("loss")
    gain = estimate(
        float(cells.loc[small, "mean"] - cells.loc[large, "mean"]),
        float(1 / cells.loc[small, "count"] + 1 / cells.loc[large, "count"]),
        spread,
    )
    epochs = line.cells("epochs")["mean"] if has_values(line.runs, "epochs") else tokens * 0
    answer = {
        1: "At equal FLOPs of training: more prompts.",
        -1: "At equal FLOPs of training: more epochs.",
        0: "Cannot tell at equal FLOPs of training: "
        + ("no error bar." if not gain.tested else "the difference is within the noise."),
    }[gain.sign]
    evidence = (
        f"Equal updates: {number(float(epochs[small]))} epochs of n = {small:,} minus "
        f"{number(float(epochs[large]))} epochs of n = {large:,} is {gain.text('nats')}; "
        "the teacher's text is not counted."
    )
    numbers = {
        "compared": [line.label],
        "samples": [small, large],
        "epochs": [float(epochs[small]), float(epochs[large])],
    } | gain.numbers("loss_gain")
    return record(PROMPTS_OR_EPOCHS, line, answer, evidence, numbers)
