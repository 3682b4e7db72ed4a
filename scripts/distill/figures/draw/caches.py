"""Caches against their size: every cache's difference with its interval, named above the panels."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from distill.figures.axes import (
    AXES_INCHES,
    label_inches,
    shortened,
    spread_out,
    symmetric_ticks,
    value_ticks,
)
from distill.figures.catalogue import Panel
from distill.figures.styles import GREY, Look

TILT = 40
"""Degrees by which the names of caches rise."""


def cache_limits(xs: pd.Series) -> tuple[float, float]:
    """Return the ends of the axis of bytes per token."""
    pad = max(1.3, (xs.max() / xs.min()) ** 0.07)
    return float(xs.min() / pad), float(xs.max() * pad)


def draw_caches(
    axes: Axes,
    rows: pd.DataFrame,
    looks: dict[str, Look],
    panel: Panel,
    limits: tuple[float, float],
) -> None:
    """Draw every cache's difference with its interval, groups side by side."""
    axes.set_xscale("log")
    axes.set_xlim(limits)
    values = rows[["y", "low", "high"]].to_numpy(float).ravel()
    values = np.append(values[np.isfinite(values)], [-panel.bound, panel.bound])
    if np.abs(values).max() > 12 * panel.bound:
        axes.set_yscale("symlog", linthresh=panel.bound, linscale=0.5)
        edge = {
            side: 1.35 * end if abs(end) > panel.bound else 1.6 * end
            for side, end in (("low", values.min()), ("high", values.max()))
        }
        axes.set_ylim(edge["low"], edge["high"])
        symmetric_ticks(axes, panel.bound)
    else:
        pad = 0.08 * (values.max() - values.min())
        axes.set_ylim(values.min() - pad, values.max() + pad)
        value_ticks(axes, log=False)
    axes.axhspan(-panel.bound, panel.bound, color="#e8e8e8", lw=0, zorder=0.5)
    axes.axhline(0, color=GREY, lw=0.8)
    means = rows.groupby("mark")["x"].mean().sort_values()
    for x in means:
        axes.axvline(x, color="#dddddd", lw=0.6, zorder=0.6)
    labels = list(rows["label"].unique())
    inches = AXES_INCHES[0] / math.log(limits[1] / limits[0])
    nearest = np.diff(np.log(means)).min() * inches if len(means) > 1 else 1.0
    apart = max(0.035, min(0.09, nearest / len(labels))) / inches
    for place, label in enumerate(labels):
        look, mine = looks[label], rows[rows["label"] == label]
        x = mine["x"].to_numpy(float) * math.exp(apart * (place - (len(labels) - 1) / 2))
        bars = (mine[["low", "high"]].sub(mine["y"], axis=0).abs()).to_numpy(float).T
        known = np.isfinite(bars).all(axis=0)
        y = mine["y"].to_numpy(float)
        axes.errorbar(
            x[known], y[known], yerr=bars[:, known], fmt="none", ecolor=look.colour,
            elinewidth=1.1, capsize=2.5,
        )  # fmt: skip
        hollow = (mine["kind"] == "reference").to_numpy()
        style: dict[str, Any] = {"marker": look.marker, "ls": "none", "color": look.colour}
        axes.plot(x[~hollow], y[~hollow], **style)
        axes.plot(x[hollow], y[hollow], mfc="white", mew=1.2, **style)
    value_ticks(axes, log=True, axis="x")


def cache_places(table: pd.DataFrame, names: list[str]) -> tuple[list[float], list[float]]:
    """Return where on the axis caches lie and where their names stand, in inches."""
    low, high = np.log(cache_limits(table["x"]))
    means = table.groupby("mark")["x"].mean()
    places = [float((math.log(means[n]) - low) / (high - low)) * AXES_INCHES[0] for n in names]
    return places, spread_out(places, [0.23] * len(names), AXES_INCHES[0] + 0.4)


def name_room(table: pd.DataFrame, names: list[str], canvas: Canvas) -> tuple[float, float]:
    """Return the room above and right of the panels that the names of the caches need."""
    _, spots = cache_places(table, names)
    reach = [label_inches([shortened(name)], canvas) for name in names]
    across = math.cos(math.radians(TILT))
    ends = (spot + across * size for spot, size in zip(spots, reach, strict=True))
    return (
        0.35 + math.sin(math.radians(TILT)) * max(reach),
        max(0.25, max(ends) - AXES_INCHES[0] + 0.15),
    )


def name_caches(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """Write the names of the caches above the upper panel, each led to its place."""
    width = AXES_INCHES[0]
    height = axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    for name, place, spot in zip(names, *cache_places(table, names), strict=True):
        axes.plot(
            [place / width, spot / width], [1.0, 1 + 0.12 / height], color="#999999", lw=0.7,
            transform=axes.transAxes, clip_on=False,
        )  # fmt: skip
        axes.text(
            spot / width - 0.02, 1 + 0.14 / height, shortened(name), rotation=TILT, ha="left",
            va="bottom", rotation_mode="anchor", transform=axes.transAxes, fontsize=8.5,
        )  # fmt: skip
