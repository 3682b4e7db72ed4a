"""Quality per kWh: the loss on fixed anchors, over the energy of training and the teacher.

Quality is 0 at the unigram entropy of the held-out tokens and 1 at the teacher's loss, as in the
normalised score, so that adding a run changes no other run's. A ratio is largest where runs are
small; the front over loss and energy shows the best quality for each energy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.needs import need_repeats
from distill.contracts.energy import WATTS_PER_CPU
from distill.stats.intervals import Estimate, Spread, estimate, pooled_spread
from distill.table.lines import Line, sort_out

KEY = "energy_quality"
KWH = "total_kwh_amortised"
"""Energy of training and of the run's share of the teacher's work."""


@dataclass(frozen=True)
class Cell:
    """The runs of one line at one size, each with a quality per kWh."""

    line: Line
    samples: int
    kwh: float
    quality: float
    logs: np.ndarray

    def ratio(self, spread: Spread | None) -> Estimate:
        """Quality per kWh: the geometric mean over runs, with its interval."""
        log = estimate(float(self.logs.mean()), 1 / len(self.logs), spread)
        ends = (None if end is None else math.exp(end) for end in (log.low, log.high))
        return Estimate(math.exp(log.value), None, *ends)


def estimated_share(rows: pd.DataFrame) -> float:
    """Greatest share of estimates in the energy of some runs, 0 where all was measured."""
    if "kwh_estimated" not in rows:
        return 0.0
    share = pd.to_numeric(rows["kwh_estimated"], errors="coerce").max()
    return 0.0 if pd.isna(share) else float(share)


def answer(study: Measured) -> list[Answer]:
    """For each teacher, which runs have the highest quality per kWh."""
    entropies = study.references.get("unigram_entropy") or {}
    return [_quality(group, entropies) for group in sort_out(study.parts, "teacher", "group")]


def _quality(group: list[Line], entropies: Mapping[str, float]) -> Answer:
    teacher = group[0].teacher
    about = {"teacher": teacher, "label": teacher}
    rows = pd.concat([line.runs for line in group])
    needs = [
        Need("column", [name])
        for name in (KWH, "loss_teacher")
        if not _numbers(rows, name).notna().any()
    ]
    if not needs and teacher not in entropies:
        needs = [Need("unigram_entropy")]
    if needs:
        return Answer(KEY, about, "cannot_tell", {"cells": []}, tuple(needs))
    entropy = entropies[teacher]
    cells = [cell for line in group for cell in _cells(line, entropy)]
    if not cells:
        numbers: dict[str, Any] = {"cells": [], "unigram_entropy": entropy}
        return Answer(KEY, about, "cannot_tell", numbers, (Need("loss_below", entropy),))
    spread = pooled_spread(cell.logs for cell in cells)
    cells.sort(key=lambda cell: -float(cell.logs.mean()))
    best, ratios = cells[0], [cell.ratio(spread) for cell in cells]
    close = [cell for cell in cells[1:] if not _clearly_more(best, cell, spread)]
    most = max(cells, key=lambda cell: cell.quality)
    numbers = {
        "unigram_entropy": entropy,
        "kwh_estimated": estimated_share(rows),
        "watts_per_cpu": WATTS_PER_CPU,
        "log_sd": spread.sd if spread else None,
        "highest_quality": cells.index(most),
        "cells": [
            {
                "label": cell.line.label,
                "samples": cell.samples,
                "runs": len(cell.logs),
                "kwh": cell.kwh,
                "quality": cell.quality,
                "not_clearly_less": cell is best or cell in close,
                **{
                    name: value
                    for name, value in ratio.numbers("per_kwh").items()
                    if not name.endswith("stderr")
                },
            }
            for cell, ratio in zip(cells, ratios, strict=True)
        ],
    }
    if spread is None:
        return Answer(KEY, about, "cannot_tell", numbers, (need_repeats(),))
    return Answer(KEY, about, "answered", numbers)


def _numbers(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    return pd.to_numeric(rows[column], errors="coerce").astype(float)


def _cells(line: Line, entropy: float) -> list[Cell]:
    """Return the cells of a line whose runs all have an energy and some quality."""
    teacher = _numbers(line.runs, "loss_teacher")
    above = (entropy - _numbers(line.runs, "loss")) / (entropy - teacher).where(teacher < entropy)
    table = line.runs.assign(quality=above.clip(upper=1.0), kwh=_numbers(line.runs, KWH))
    cells = []
    for samples, cell in table.groupby("samples"):
        if not ((cell["quality"] > 0) & (cell["kwh"] > 0)).all():
            continue
        logs = np.log((cell["quality"] / cell["kwh"]).to_numpy(float))
        kwh, quality = float(cell["kwh"].mean()), float(cell["quality"].mean())
        cells.append(Cell(line, int(str(samples)), kwh, quality, logs))
    return cells


def _clearly_more(one: Cell, other: Cell, spread: Spread | None) -> bool:
    gain = float(one.logs.mean() - other.logs.mean())
    return estimate(gain, 1 / len(one.logs) + 1 / len(other.logs), spread).sign > 0
