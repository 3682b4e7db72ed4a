"""Whether perplexity falls with every larger size, the step from n = 0 included."""

from itertools import pairwise

import pandas as pd

from distill.answers.answer import Answer, about_line
from distill.answers.contrast import contrast
from distill.answers.measured import Measured
from distill.answers.needs import need_sizes
from distill.stats.intervals import Spread
from distill.table.lines import Line

KEY = "falling"


def answer(study: Measured) -> list[Answer]:
    """The steps that raised the loss, line by line."""
    return [_falling(line, study.spread) for line in study.lines]


def _falling(line: Line, spread: Spread | None) -> Answer:
    cells = line.cells("loss")
    if not line.before.empty:
        start = pd.DataFrame(
            {"mean": [line.before["loss"].mean()], "count": [len(line.before)]}, index=[0]
        )
        cells = pd.concat([start, cells[["mean", "count"]]])
    steps = list(pairwise(sorted(int(n) for n in cells.index)))
    rises = []
    for small, large in steps:
        rise = contrast(cells, {large: 1.0, small: -1.0}, spread)
        if rise.value > 0:
            clear = rise.sign > 0 if rise.tested else None
            rises.append({"from": small, "to": large, "clear": clear, **rise.numbers("loss_rise")})
    numbers = {"rises": rises, "steps": len(steps)}
    if not steps:
        needs = (need_sizes(2, line.sizes),)
        return Answer(KEY, about_line(line), "cannot_tell", numbers, needs)
    return Answer(KEY, about_line(line), "answered", numbers)
