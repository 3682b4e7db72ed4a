"""Lines over samples or FLOPs: runs, means with bars, references, students before training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from distill.figures.axes import label_ends, sample_ticks, shortened, value_ticks
from distill.figures.catalogue import Figure
from distill.figures.styles import GREY, Look
from distill.stats.intervals import number

MOST_ARROWS = 3
"""Students off the scale before training that get an arrow each; more share one."""


def draw_lines(
    axes: Axes, rows: pd.DataFrame, looks: dict[str, Look], figure: Figure, crowded: bool
) -> None:
    """Draw lines, over samples with the students before training on a broken 0 at the left."""
    means = rows[rows["kind"] == "mean"]
    before = rows[rows["kind"] == "before"].drop_duplicates(["label", "y"])
    axes.set_xscale("log")
    sizes = sorted({int(n) for n in means["samples"]})
    zero = 0.0
    if figure.x == "samples":
        step = max(1.35, (sizes[-1] / sizes[0]) ** 0.13)
        zero = sizes[0] / step**1.4
        axes.set_xlim(
            zero / step**0.5 if len(before) else sizes[0] / step**0.4, sizes[-1] * step**0.4
        )
    else:
        low, high = means["x"].min(), means["x"].max()
        pad = max(1.15, (high / low) ** 0.05)
        axes.set_xlim(low / pad, high * pad)
    if figure.log:
        axes.set_yscale("log")
    inside = rows[rows["kind"] != "before"]
    _set_range(axes, inside, before, figure)
    ends: list[tuple[float, str, str]] = []
    for label in means["label"].unique():
        look = looks[label]
        mine = means[means["label"] == label]
        singles = inside[(inside["label"] == label) & (inside["kind"] == "run")]
        axes.plot(
            singles["x"], singles["y"], look.marker, color=look.colour, alpha=0.35, ms=3, mew=0
        )
        axes.plot(mine["x"], mine["y"], color=look.colour, ls=look.dash, marker=look.marker)
        bars = mine.dropna(subset=["low"])
        axes.errorbar(
            bars["x"],
            bars["y"],
            yerr=(bars["high"] - bars["y"]).to_numpy(float),
            fmt="none",
            ecolor=look.colour,
            elinewidth=1,
            capsize=2.5,
        )
        if not crowded:
            ends.append((float(mine["y"].iloc[-1]), label, look.colour))
    for kind, dash in (("teacher", (0, (6, 3))), ("floor", (0, (1, 2)))):
        for row in inside[inside["kind"] == kind].itertuples():
            axes.axhline(row.y, color=GREY, lw=1.1, ls=dash)
            ends.append((float(row.y), row.label, GREY))
    guide = inside[inside["kind"] == "guide"]
    if len(guide):
        axes.plot(guide["x"], guide["y"], color=GREY, lw=1.1, ls=(0, (1, 2)))
        ends.append((float(guide["y"].iloc[-1]), guide["label"].iloc[-1], GREY))
    _mark_before(axes, before, looks, zero)
    if figure.x == "samples":
        sample_ticks(axes, sizes, zero if len(before) else None)
    else:
        value_ticks(axes, log=True, axis="x")
    value_ticks(axes, figure.log)
    label_ends(axes, ends)


def _set_range(axes: Axes, inside: pd.DataFrame, before: pd.DataFrame, figure: Figure) -> None:
    """Fit the vertical axis to the trained runs; room on top for marks that are off the scale."""
    values = inside[["y", "low", "high"]].to_numpy(float).ravel()
    if not figure.log:
        values = np.append(values, before["y"].to_numpy(float))
    values = values[np.isfinite(values)]
    if not figure.log:
        low, high = values.min(), values.max()
        pad = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
        axes.set_ylim(0.0 if low >= 0 and low < 0.5 * high else low - pad, high + pad)
        return
    values = values[values > 0]
    low, high = values.min(), values.max()
    # A start near the trained runs is drawn in place; one far off would flatten all else.
    near = before.loc[(before["y"] > 0) & (before["y"] < high * (high / low) ** 0.6), "y"]
    if len(near):
        low, high = min(low, near.min()), max(high, near.max())
    if low == high:
        low, high = low / 1.2, high * 1.2
    span = high / low
    off = int((before["y"] > high).sum())
    off = off if off <= MOST_ARROWS else 1
    axes.set_ylim(low / span**0.06, high * span ** (0.06 + 0.11 * off))


def _mark_before(axes: Axes, before: pd.DataFrame, looks: dict[str, Look], zero: float) -> None:
    """Mark the untrained students at 0; those off the scale by an arrow and their value."""
    high = axes.get_ylim()[1]
    off = before[before["y"] > high].sort_values("y", ascending=False)
    for row in before[before["y"] <= high].itertuples():
        colour = looks[str(row.label)].colour
        axes.plot([zero], [row.y], "o", mfc="white", mec=colour, mew=1.3, clip_on=False, zorder=4)
    names = [
        (f"{shortened(str(r.label))}: {number(r.y)}", looks[str(r.label)].colour)
        for r in off.itertuples()
    ]
    if len(names) > MOST_ARROWS:
        values = dict.fromkeys(number(value) for value in (off["y"].min(), off["y"].max()))
        names = [(f"{len(names)} students: {' to '.join(values)}", GREY)]
    for index, (name, colour) in enumerate(names):
        height = 1 - 0.085 * (index + 0.5)
        blend = axes.get_xaxis_transform()
        axes.plot(
            [zero], [height], "^", mfc="white", mec=colour, mew=1.3, transform=blend, zorder=4
        )
        axes.annotate(
            name,
            (zero, height),
            xycoords=blend,
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
            bbox={"fc": "white", "ec": "none", "pad": 0.5},
        )
