"""How lines are told apart: colours, markers and dashes, the same in every figure.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill.table.lines import Line

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<"]
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2))]
GREY = "#595959"
STYLE: dict[str, Any] = {
    "svg.hashsalt": "distill",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Look:
    """How one line is told from the others."""

    colour: str
    marker: str
    dash: Any


def looks_of(lines: Sequence[Line]) -> dict[str, Look]:
    """Give each line a look: colour by student, marker and dash by all else."""
    students = list(dict.fromkeys(line.student for line in lines))
    kinds = list(dict.fromkeys((x.teacher, x.method, x.curation, x.cache) for x in lines))
    looks = {}
    for line in lines:
        kind = kinds.index((line.teacher, line.method, line.curation, line.cache))
        looks[line.label] = Look(
            OKABE_ITO[students.index(line.student) % len(OKABE_ITO)],
            MARKERS[kind % len(MARKERS)],
            DASHES[kind % len(DASHES)],
        )
        looks.setdefault(line.student, looks[line.label])
    return looks
