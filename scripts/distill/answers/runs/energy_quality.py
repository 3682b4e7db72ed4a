"""What quality a kWh buys: the loss on fixed anchors, over the energy of training and the teacher.

Quality is 0 at the unigram entropy of the held-out tokens and 1 at the teacher's loss, as in the
normalised score, so that adding a run changes no other run's. A ratio is largest where runs are
small; what quality can be had at all for an energy is for the front over loss and energy to say.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import record
from distill.contracts.energy import WATTS_PER_CPU
from distill.stats.intervals import Estimate, Spread, estimate, number, pooled_spread
from distill.table.lines import Line, sort_out

QUALITY_PER_KWH = "How much quality does a kWh buy?"
KWH = "total_kwh_amortised"
"""Energy of training and of the run's share of the teacher's work."""
_SHOWN = 6


@dataclass(frozen=True)
class Cell:
    """The runs of one line at one size, each with a quality per kWh."""

    line: Line
    samples: int
    kwh: float
    quality: float
    logs: np.ndarray

    @property
    def name(self) -> str:
        """Line and size, for a reader."""
        return f"{self.line.label} at n = {self.samples:,}"

    def ratio(self, spread: Spread | None) -> Estimate:
        """Quality per kWh: the geometric mean over runs, with its interval."""
        found = estimate(float(self.logs.mean()), 1 / len(self.logs), spread)
        ends = (None if end is None else math.exp(end) for end in (found.low, found.high))
        return Estimate(math.exp(found.value), None, *ends)


def estimated_share(rows: pd.DataFrame) -> float:
    """Greatest share of estimates in the energy of some runs, 0 where all was measured."""
    if "kwh_estimated" not in rows:
        return 0.0
    share = pd.to_numeric(rows["kwh_estimated"], errors="coerce").max()
    return 0.0 if pd.isna(share) else float(share)


def how_read(rows: pd.DataFrame) -> str:
    """Say whether the energy of some runs was measured."""
    share = estimated_share(rows)
    if share <= 0:
        return "Energy was measured by counters of the machine."
    whole = "Energy" if share > 0.995 else f"Of a run's energy up to {100 * share:.0f} %"
    return (
        f"{whole} is an estimate from assumed watts ({number(WATTS_PER_CPU, 2)} W for a busy "
        "processor thread): ratios between runs of one machine are better known than its size."
    )


def quality_per_kwh(
    lines: list[Line], references: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Answer for each teacher which runs buy the most quality per kWh.

    Args:
        lines: lines of the runs table.
        references: references.json, for the unigram entropies by teacher.
    """
    entropies = (references or {}).get("unigram_entropy") or {}
    return [_answer(group, entropies) for group in sort_out(lines, "teacher", "group")]


def _answer(group: list[Line], entropies: Mapping[str, float]) -> dict[str, Any]:
    teacher = group[0].teacher
    rows = pd.concat([line.runs for line in group])

    def answer(text: str, evidence: str, numbers: dict[str, Any]) -> dict[str, Any]:
        found = record(QUALITY_PER_KWH, None, text, evidence, numbers)
        return found | {"teacher": teacher or None, "label": teacher or None}

    lacking = [name for name in (KWH, "loss_teacher") if not _numbers(rows, name).notna().any()]
    if lacking or teacher not in entropies:
        what = f"column {lacking[0]} is empty" if lacking else "the unigram entropy is not known"
        return answer(
            f"Cannot tell, because {what}; needs the energy of runs, the teacher's loss and the "
            "unigram entropy of its text.",
            "Quality lies between the loss of knowing only how frequent tokens are and the "
            "teacher's own.",
            {"cells": []},
        )
    cells = [cell for line in group for cell in _cells(line, entropies[teacher])]
    if not cells:
        return answer(
            "Cannot tell, because no run is better than knowing only how frequent tokens are; "
            "needs one that is.",
            f"That costs {number(entropies[teacher])} nats per token.",
            {"cells": []},
        )
    spread = pooled_spread(cell.logs for cell in cells)
    cells.sort(key=lambda cell: -float(cell.logs.mean()))
    best, ratios = cells[0], [cell.ratio(spread) for cell in cells]
    close = [cell for cell in cells[1:] if not _clearly_more(best, cell, spread)]
    text = f"Most for {best.name}: {ratios[0].text('per kWh')}, where 1 is the teacher's quality"
    if spread is None:
        text += "; nothing tells it from the others, as no line has two runs of one size."
    elif close:
        named = ", ".join(cell.name for cell in close[:_SHOWN])
        more = f" and {len(close) - _SHOWN} more" if len(close) > _SHOWN else ""
        text += f". Not clearly less: {named}{more}."
    else:
        text += ", clearly more than for every other."
    most = max(cells, key=lambda cell: cell.quality)
    evidence = (
        f"Quality is 0 at {number(entropies[teacher])} nats, the unigram entropy, and 1 at the "
        f"teacher's loss; the highest, {number(most.quality)}, took {number(most.kwh)} kWh "
        f"({most.name}). {how_read(rows)} What a model was trained on before the study is not "
        "counted. A ratio falls as runs grow, so it is no reason to stop early."
    )
    numbers = {
        "unigram_entropy": entropies[teacher],
        "kwh_estimated": estimated_share(rows),
        "log_sd": spread.sd if spread else None,
        "cells": [
            {
                "label": cell.line.label,
                "samples": cell.samples,
                "runs": len(cell.logs),
                "kwh": cell.kwh,
                "quality": cell.quality,
                "not_clearly_less": cell is best or cell in close,
                **{name: value for name, value in ratio.numbers("per_kwh").items()
                   if not name.endswith("stderr")},
            }
            for cell, ratio in zip(cells, ratios, strict=True)
        ],
    }  # fmt: skip
    return answer(text, evidence, numbers)


def _numbers(rows: pd.DataFrame, column: str) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, index=rows.index, dtype=float)
    return pd.to_numeric(rows[column], errors="coerce").astype(float)


def _cells(line: Line, entropy: float) -> list[Cell]:
    """Return the cells of a line whose runs all have an energy and some quality."""
    teacher = _numbers(line.runs, "loss_teacher")
    above = (entropy - _numbers(line.runs, "loss")) / (entropy - teacher).where(teacher < entropy)
    table = line.runs.assign(quality=above.clip(upper=1.0), kwh=_numbers(line.runs, KWH))
    found = []
    for samples, cell in table.groupby("samples"):
        if not ((cell["quality"] > 0) & (cell["kwh"] > 0)).all():
            continue
        logs = np.log((cell["quality"] / cell["kwh"]).to_numpy(float))
        kwh, quality = float(cell["kwh"].mean()), float(cell["quality"].mean())
        found.append(Cell(line, int(str(samples)), kwh, quality, logs))
    return found


def _clearly_more(one: Cell, other: Cell, spread: Spread | None) -> bool:
    gain = float(one.logs.mean() - other.logs.mean())
    return estimate(gain, 1 / len(one.logs) + 1 / len(other.logs), spread).sign > 0
