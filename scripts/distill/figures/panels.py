"""Small panels side by side, at the width of half a printed column: their places, ticks and key."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from distill.figures.axes import label_inches, on_one_row, round_ticks, tick_text
from distill.figures.styles import DASHES, MARKERS, OKABE_ITO, STYLE, Look

WIDTH = 3.35
"""Width of a figure, inches: 85 mm."""
SMALL: dict[str, Any] = STYLE | {
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.size": 2.2,
    "ytick.major.size": 2.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "axes.labelpad": 2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.4,
    "hatch.linewidth": 0.5,
}
"""Type of 7 points, readable at that width."""
MOST_ENTRIES = 14
"""Most entries of a key; what is left out stays in the CSV."""
_KEY_ROW, _KEY_WIDEST = 0.125, 40


@dataclass(frozen=True)
class Grid:
    """A canvas with its panels by (row, column), from the top left."""

    canvas: Canvas
    panels: dict[tuple[int, int], Axes]


def label_looks(labels: Sequence[str]) -> dict[str, Look]:
    """Give each label a look: colour, marker and dash change together."""
    return {
        label: Look(
            OKABE_ITO[k % len(OKABE_ITO)], MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)]
        )
        for k, label in enumerate(labels)
    }


def blank(text: str) -> Canvas:
    """A canvas that says why there is nothing on it."""
    canvas = Canvas()
    FigureCanvasAgg(canvas)
    canvas.set_size_inches(WIDTH, 0.8)
    canvas.text(0.5, 0.5, text, ha="center", va="center")
    return canvas


def make_grid(
    heights: Sequence[float],
    columns: int,
    key: Sequence[Any] = (),
    *,
    left: float = 0.46,
    gap: float = 0.44,
    row_gap: float = 0.1,
    bottom: float = 0.34,
    titles: Sequence[str] = (),
    headings: Sequence[str] = (),
) -> Grid:
    """Lay out rows of panels, `heights` inches tall, with a key below.

    Args:
        heights: One per row.
        columns: Panels in a row.
        key: Handles with labels.
        left: Room for the first column's ticks and label, inches.
        gap: Room between columns.
        row_gap: Room between rows, their titles apart.
        bottom: Room for ticks and label below the last row.
        titles: Written above each row; none to leave them out.
        headings: Written above each column.
    """
    canvas = Canvas()
    FigureCanvasAgg(canvas)
    handles = list(key)
    if len(handles) > MOST_ENTRIES:
        more = Line2D([], [], ls="none", label=f"and {len(handles) - MOST_ENTRIES} more")
        handles = [*handles[:MOST_ENTRIES], more]
    for handle in handles:
        handle.set_label(on_one_row(str(handle.get_label()), _KEY_WIDEST))
    per_row, deep = 1, 0
    if handles:
        entry = label_inches((str(handle.get_label()) for handle in handles), canvas) + 0.36
        per_row = max(1, min(len(handles), int((WIDTH - 0.05) / entry)))
        deep = math.ceil(len(handles) / per_row)
        per_row = math.ceil(len(handles) / deep)
    title = 0.15 if any(titles) else 0.0
    top = 0.05 + (0.15 if any(headings) else 0.0)
    foot = bottom + (deep * _KEY_ROW + 0.08 if deep else 0.0)
    total = top + sum(heights) + len(heights) * title + (len(heights) - 1) * row_gap + foot
    canvas.set_size_inches(WIDTH, total)
    width = (WIDTH - left - 0.13 - (columns - 1) * gap) / columns
    panels = {}
    edge = total - top
    for row, height in enumerate(heights):
        if title:
            canvas.text(
                0.04 / WIDTH, (edge - 0.02) / total, on_one_row(titles[row], 60), va="top",
                fontweight="bold", fontsize=6.8,
            )  # fmt: skip
            edge -= title
        for column in range(columns):
            start = left + column * (width + gap)
            box = (start / WIDTH, (edge - height) / total, width / WIDTH, height / total)
            axes = canvas.add_axes(box)
            axes.grid(color="#e2e2e2", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(labelbottom=row == len(heights) - 1)
            panels[row, column] = axes
            if row == 0 and any(headings):
                centre = (start + width / 2) / WIDTH
                canvas.text(centre, 1 - 0.04 / total, headings[column], ha="center", va="top")
        edge -= height + row_gap
    if handles:
        canvas.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.0), ncols=per_row,
            frameon=False, fontsize=6.8, labelspacing=0.25, borderaxespad=0.25, handlelength=1.9,
            handletextpad=0.5, columnspacing=0.9, borderpad=0.1,
        )  # fmt: skip
    return Grid(canvas, panels)


def entry(label: str, look: Look | None = None, **style: Any) -> Line2D:
    """An entry of the key."""
    own = {} if look is None else {"color": look.colour, "marker": look.marker, "ls": look.dash}
    return Line2D([], [], label=label, **{**own, **style})


def short_text(value: float) -> str:
    """Write a tick in few characters: 12 k, 3.5 M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if unit <= abs(value) < 1e9:
            return f"{value / unit:g} {name}"
    return tick_text(value)


def few_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose round ticks on a logarithmic axis: three if there are, at most `most`."""
    found: list[float] = []
    for found in round_ticks(low, high):
        if len(found) >= 3:
            break
    step = math.ceil(len(found) / most)
    return found[::step] or [low, high]


def set_ticks(axes: Axes, axis: Literal["x", "y"], log: bool, most: int = 4) -> None:
    """Put a few short ticks on an axis."""
    which = axes.xaxis if axis == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if axis == "x" else axes.get_ylim())
    if log:
        which.set_major_locator(FixedLocator(few_ticks(low, high, most)))
    else:
        which.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
    which.set_minor_locator(NullLocator())
    which.set_major_formatter(FuncFormatter(lambda value, _: short_text(value)))


def log_limits(values: Any, pad: float = 0.07) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds some values, those that are not positive left out."""
    array = np.asarray(values, dtype=float).ravel()
    array = array[np.isfinite(array) & (array > 0)]
    low, high = float(array.min()), float(array.max())
    span = max(high / low, 1.05)
    return low / span**pad, high * span**pad


def plain_limits(values: Any, pad: float = 0.08) -> tuple[float, float]:
    """Ends of a plain axis that holds some values and zero."""
    array = np.asarray(values, dtype=float).ravel()
    array = np.append(array[np.isfinite(array)], 0.0)
    low, high = float(array.min()), float(array.max())
    room = pad * ((high - low) or 1.0)
    return low - room, high + room
