"""Ticks and labels of the figures: plain numbers, and names that cover nothing."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

AXES_INCHES = (3.3, 2.5)
"""Width and height of one panel, in inches; labels stand to its right."""
WIDEST = 26
"""Most characters of a label in one row; longer names lose their middle, which the CSV keeps."""


def shortened(name: str, most: int = WIDEST) -> str:
    """Replace the middle of a long name by an ellipsis."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def on_one_row(label: str, most: int) -> str:
    """Shorten the parts of a label between middle dots until it fits one row."""
    parts = label.split(" · ")
    limit = max(map(len, parts))
    while len(" · ".join(shortened(part, limit) for part in parts)) > most and limit > 8:
        limit -= 1
    return " · ".join(shortened(part, limit) for part in parts)


def wrapped(label: str) -> str:
    """Break a long label at its middle dots, and shorten the names that are still too long."""
    if len(label) <= WIDEST:
        return label
    rows: list[str] = []
    for part in label.split(" · "):
        if rows and len(rows[-1]) + 3 + len(part) <= WIDEST - 4:
            rows[-1] += f" · {part}"
        else:
            rows.append(shortened(part))
    return "\n".join(rows)


def label_height(label: str) -> float:
    """Return the height of a label at a line's end, in inches."""
    return 0.145 * (1 + wrapped(label).count("\n"))


def label_inches(labels: Iterable[str], canvas: Canvas) -> float:
    """Measure the widest of some labels, as they are."""
    renderer = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    widest = 0.0
    for label in dict.fromkeys(labels):
        text = canvas.text(0, 0, label)
        widest = max(widest, text.get_window_extent(renderer).width / canvas.dpi)
        text.remove()
    return widest


def sample_ticks(axes: Axes, sizes: list[int], zero: float | None) -> None:
    """Put ticks at the sizes measured, labelled where there is room, and a broken 0."""
    low, high = np.log(axes.get_xlim())
    shown: list[int] = []
    for size in sizes[::-1]:
        # The largest size is always labelled; others where 0.45 inch are free.
        place = (math.log(size) - low) / (high - low) * AXES_INCHES[0]
        taken = [(math.log(n) - low) / (high - low) * AXES_INCHES[0] for n in shown]
        if all(abs(place - other) > 0.45 for other in taken):
            shown.append(size)
    ticks = [float(n) for n in sizes]
    names = {float(n): f"{n:,}" for n in shown}
    if zero is not None:
        ticks.append(zero)
        names[zero] = "0"
        # Two strokes across the axis say that 0 is not on its scale.
        blend = axes.get_xaxis_transform()
        middle = math.sqrt(zero * sizes[0])
        for shift in (0.985, 1.03):
            axes.plot(
                [middle * shift / 1.015, middle * shift * 1.015],
                [-0.02, 0.02],
                color="black",
                lw=0.8,
                transform=blend,
                clip_on=False,
                zorder=5,
            )
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(x, "")))
    axes.xaxis.set_minor_locator(NullLocator())


def value_ticks(axes: Axes, log: bool, axis: Literal["x", "y"] = "y") -> None:
    """Write plain numbers on an axis, with enough ticks on a short logarithmic one."""
    which = axes.yaxis if axis == "y" else axes.xaxis
    if log:
        low, high = axes.get_ylim() if axis == "y" else axes.get_xlim()
        ticks = log_ticks(low, high, most=7 if axis == "y" else 6)
        which.set_major_locator(FixedLocator(ticks))
        which.set_minor_locator(NullLocator())
        which.set_minor_formatter(NullFormatter())
    which.set_major_formatter(FuncFormatter(lambda x, _: tick_text(x)))


def tick_text(value: float) -> str:
    """Write a tick without trailing zeros; large and tiny ones in short, for want of room."""
    if abs(value) >= 1e9 or 0 < abs(value) < 1e-3:
        mantissa, power = f"{value:.{2 if abs(value) >= 1 else 3}e}".split("e")
        raised = str(int(power)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"10{raised}" if mantissa == "1" else f"{mantissa}·10{raised}"
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e5):
            return f"{value / unit:,g} {name}"
    text = f"{value:,.10f}".rstrip("0").rstrip(".") if value else "0"
    return text.replace("-", "−")


def round_ticks(low: float, high: float) -> Iterator[list[float]]:
    """Round numbers in a range, again and again in finer steps, for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for digits in (
        (1.0,),
        (1.0, 3.0),
        (1.0, 2.0, 5.0),
        (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
        tuple(np.arange(10, 100, 5) / 10),
        tuple(np.arange(10, 100, 2) / 10),
        tuple(np.arange(100, 1000, 5) / 100),
        tuple(np.arange(1000, 10000, 5) / 1000),
    ):
        yield [
            round(digit * 10.0**decade, 12 - decade)
            for decade in decades
            for digit in digits
            if low <= digit * 10.0**decade <= high
        ]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at least three round ticks in a range if there are, and at most `most`."""
    best: list[float] = []
    for ticks in round_ticks(low, high):
        if len(ticks) > most:
            break
        best = ticks
        if len(ticks) >= 4:
            break
    return best or [low, high]


def symmetric_ticks(axes: Axes, bound: float) -> None:
    """Write ticks on an axis that is linear within ± bound and logarithmic beyond."""
    low, high = axes.get_ylim()
    ends = [bound * 10**k * step for k in range(5) for step in (1, 4)]
    ticks = [0.0, *ends, *(-end for end in ends)]
    axes.yaxis.set_major_locator(FixedLocator([t for t in sorted(ticks) if low <= t <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick_text(y)))


def spread_out(places: Iterable[float], heights: list[float], top: float) -> list[float]:
    """Move places (ascending) apart by the heights of their labels, within 0 … top."""
    out: list[float] = []
    for place, height in zip(places, heights, strict=True):
        floor = out[-1] + (heights[len(out) - 1] + height) / 2 if out else height / 2
        out.append(max(place, floor))
    ceiling = top
    for index in range(len(out) - 1, -1, -1):
        out[index] = min(out[index], ceiling - heights[index] / 2)
        ceiling = out[index] - heights[index] / 2
    return out


def label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write labels to the right of a panel at their lines' ends, moved apart to stay readable."""
    ends = sorted(ends)
    width, height = AXES_INCHES[0], axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    scale = axes.transData + axes.transAxes.inverted()
    x_end = axes.get_xlim()[1]
    places = [float(scale.transform((x_end, y))[1]) * height for y, _, _ in ends]
    heights = [label_height(label) for _, label, _ in ends]
    moved = spread_out(places, heights, height + 0.08)
    for (_, label, colour), place, spot in zip(ends, places, moved, strict=True):
        axes.plot(
            [1.005, 1 + 0.13 / width],
            [place / height, spot / height],
            color=colour,
            lw=0.7,
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.text(
            1 + 0.16 / width,
            spot / height,
            wrapped(label),
            color=colour,
            va="center",
            linespacing=1.0,
            transform=axes.transAxes,
        )


def label_marks(axes: Axes, labels: list[tuple[float, float, str, str]]) -> None:
    """Label marks above, below or beside them, where a label covers no mark, label or edge."""
    canvas = axes.figure.canvas
    renderer = canvas.get_renderer()  # type: ignore[attr-defined]
    frame = axes.get_window_extent(renderer)
    taken = []
    for line in axes.get_lines():
        points = axes.transData.transform(np.column_stack(line.get_data()))
        size = line.get_markersize() * axes.figure.dpi / 72 / 2 + 1
        taken += [(x - size, y - size, x + size, y + size) for x, y in points]
    offsets = [
        (dx, dy, side)
        for dy in (10, -10, 0, 20, -20, 30, -30)
        for dx, side in ((0, "center"), (7, "left"), (-7, "right"))
    ]
    for x, y, name, colour in labels:
        best: tuple[float, Text | None] = (math.inf, None)
        for dx, dy, side in offsets:
            text = axes.annotate(
                name,
                (x, y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=8.5,
                color=colour,
            )
            box = text.get_window_extent(renderer)
            over = sum(
                max(0.0, min(box.x1, x1) - max(box.x0, x0))
                * max(0.0, min(box.y1, y1) - max(box.y0, y0))
                for x0, y0, x1, y1 in taken
            )
            outside = max(0.0, frame.x0 - box.x0) + max(0.0, box.x1 - frame.x1)
            outside += max(0.0, frame.y0 - box.y0) + max(0.0, box.y1 - frame.y1)
            over += 30 * outside
            if over < best[0]:
                if best[1] is not None:
                    best[1].remove()
                best = (over, text)
            else:
                text.remove()
        if best[1] is not None:
            box = best[1].get_window_extent(renderer)
            taken.append((box.x0, box.y0, box.x1, box.y1))
