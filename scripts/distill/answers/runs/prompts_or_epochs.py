"""More prompts or more epochs: runs that spent the same FLOPs on training in different ways."""

from itertools import combinations

from distill.answers.answer import Answer, Need, about_line
from distill.answers.interpolated import compare_total, needs_of
from distill.answers.measured import Measured
from distill.answers.needs import change_method, need_precision
from distill.answers.paired import about_pair
from distill.core.quantities import number
from distill.stats.intervals import Spread, estimate
from distill.table.lines import (
    Line,
    has_values,
    same_method,
    sort_out,
    steady,
    train_setting,
)

KEY = "prompts_or_epochs"
TOTALS = ("train_flops", "total_flops")
FEWEST = 1.5
"""Least ratio of two lines' epochs, or of two sizes' tokens, that is worth a comparison."""


def answer(study: Measured) -> list[Answer]:
    """Compare lines that differ in epochs alone, and the sizes of a line with equal updates."""
    lines, spread, settings = study.parts, study.part_spread, study.settings
    answers = []
    alike = sort_out(lines, "teacher", "student", "curation", "cache", "init", "group")
    for one, other in (pair for group in alike for pair in combinations(group, 2)):
        if not same_method(one, other, settings, "epochs"):
            continue
        epochs = (steady(one, "epochs"), steady(other, "epochs"))
        if epochs[0] is None or epochs[1] is None or max(epochs) < FEWEST * min(epochs):  # type: ignore[type-var,operator]
            continue
        few, many = (one, other) if epochs[0] < epochs[1] else (other, one)
        answers.append(_lines(few, many, spread))
    answers += [
        comparison
        for line in lines
        if not train_setting(line, settings, "early_stopping")
        and (comparison := _at_equal_updates(line, spread)) is not None
    ]
    if answers:
        return answers
    epochs_now = steady(lines[0], "epochs")
    change = (
        change_method(lines[0].method, settings, epochs=round(2 * epochs_now)) if epochs_now else {}
    )
    need = Need("methods_differing_in_epochs", 2, 1, change)
    return [Answer(KEY, {}, "cannot_tell", {"compared": [], "lines": len(lines)}, (need,))]


def _lines(few: Line, many: Line, spread: Spread | None) -> Answer:
    """Compare a line of few epochs with one of many at equal FLOPs."""
    epochs = [steady(line, "epochs") for line in (few, many)]
    names = (f"{number(epochs[0])} epochs", f"{number(epochs[1])} epochs")
    totals = {name: compare_total(few, many, names, name, spread) for name in TOTALS}
    numbers = {
        "compared": [few.label, many.label],
        "epochs": epochs,
        "totals": totals,
        "pooled_sd": spread.sd if spread else None,
        "pooled_df": spread.df if spread else 0,
    }
    method = few.method if few.method == many.method else f"{few.method} vs {many.method}"
    about = about_pair(few, many, method=method)
    if any(total["better"] for total in totals.values()):
        return Answer(KEY, about, "answered", numbers)
    return Answer(KEY, about, "cannot_tell", numbers, needs_of(totals.values(), few, many))


def _at_equal_updates(line: Line, spread: Spread | None) -> Answer | None:
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
    numbers = {
        "compared": [line.label],
        "samples": [small, large],
        "epochs": [float(epochs[small]), float(epochs[large])],
    } | gain.numbers("loss_gain")
    if gain.sign:
        return Answer(KEY, about_line(line), "answered", numbers)
    runs = int(min(cells.loc[small, "count"], cells.loc[large, "count"]))
    needs = (need_precision(gain, runs),)
    return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)
