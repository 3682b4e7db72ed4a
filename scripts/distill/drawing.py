"""Draw the figures of a study as SVG, PNG and the CSV of exactly the numbers drawn.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers; a student
keeps its colour, and a method (with its cache) its marker and dash, in every figure. The same table
gives the same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from distill.axes import (
    AXES_INCHES,
    label_ends,
    label_height,
    label_inches,
    label_marks,
    on_one_row,
    sample_ticks,
    shortened,
    spread_out,
    symmetric_ticks,
    value_ticks,
    wrapped,
)
from distill.estimates import number
from distill.figures import FIGURES, Figure, Panel, figure_table
from distill.files import replacing
from distill.lines import Line, lines_of, prepare_runs

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

MOST_ARROWS = 3
"""Students off the scale before training that get an arrow each; more share one."""

KEY_WIDEST = 52
"""Most characters of a name in a key below the panels."""

TILT = 40
"""Degrees by which the names of caches rise."""


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


def draw_figure(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None,
    out_svg: str | Path,
    out_png: str | Path,
    out_csv: str | Path,
) -> None:
    """Draw one of FIGURES and write its SVG, PNG (200 dots per inch) and CSV.

    Where there is nothing to draw (a metric that does not apply, a study without a search) the
    figure says so.

    Raises:
        UserError: the table lacks a column that the figure needs; the sentence names it.
    """
    table = figure_table(name, runs, references)
    figure = FIGURES[name]
    lines = lines_of(prepare_runs(runs))
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE))
        canvas = _draw(figure, table, lines)
        with replacing(out_svg) as path:
            canvas.savefig(path, format="svg", metadata={"Date": None})
        with replacing(out_png) as path:
            canvas.savefig(path, format="png", dpi=200, metadata={"Software": None})
    with replacing(out_csv) as path:
        table.to_csv(path, index=False)


def _draw(figure: Figure, table: pd.DataFrame, lines: list[Line]) -> Canvas:
    """Lay out and draw a figure: panels above each other, labels beside them or a key below."""
    panels = [p for p in figure.panels if (table["panel"] == p.column).any()]
    canvas = Canvas()
    FigureCanvasAgg(canvas)
    if not panels:
        canvas.set_size_inches(AXES_INCHES[0], 1.0)
        missing = " or ".join(p.column for p in figure.panels)
        told = figure.empty or f"No run has a value\nof {missing}."
        canvas.text(0.5, 0.5, told, ha="center", va="center")
        return canvas
    looks = _table_looks(figure, table, lines)
    # Labels at the lines' ends while they fit beside a panel, else a key below the lowest one.
    height = AXES_INCHES[1] if len(panels) == 1 else 1.7
    crowded = sum(label_height(line.label) for line in lines) > height - 0.45
    beside = pd.Series(dtype=str)
    if figure.kind == "lines":
        kinds = ["teacher", "floor", "guide"] if crowded else ["mean", "teacher", "floor", "guide"]
        beside = table.loc[table["kind"].isin(kinds), "label"]
    names: list[str] = []
    top, right = 0.1, 0.25
    if figure.kind == "caches":
        names = list(table.sort_values("x")["mark"].unique())
        top, right = _name_room(table, names, canvas)
    elif len(beside):
        right += label_inches(map(wrapped, beside), canvas)
    key = _key(figure, table, lines, looks, crowded)
    left, bottom, gap, width = 0.72, 0.52, 0.22, AXES_INCHES[0]
    left += 0.2 if figure.kind == "caches" else 0.0  # names in two rows
    columns = 1
    if key:
        entry = label_inches((str(handle.get_label()) for handle in key), canvas) + 0.55
        right = max(right, entry + 0.1 - left - width)
        columns = max(1, min(len(key), int((left + width + right) / entry)))
        deep = math.ceil(len(key) / columns)
        columns = math.ceil(len(key) / deep)
        bottom += 0.155 * deep + 0.12
    total = (left + width + right, bottom + top + len(panels) * height + (len(panels) - 1) * gap)
    canvas.set_size_inches(*total)
    for index, panel in enumerate(panels):
        above = len(panels) - 1 - index
        low = bottom + above * (height + gap)
        box = (left / total[0], low / total[1], width / total[0], height / total[1])
        axes = canvas.add_axes(box)
        rows = table[table["panel"] == panel.column]
        axes.set_ylabel(panel.label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        if figure.kind == "marks":
            _draw_marks(axes, rows, lines, looks)
        elif figure.kind == "caches":
            _draw_caches(axes, rows, looks, panel, _limits(table["x"]))
            if index == 0:
                _name_caches(axes, table, names)
        elif figure.kind == "trials":
            _draw_trials(axes, rows, looks)
        else:
            _draw_lines(axes, rows, looks, figure, crowded)
        axes.tick_params(labelbottom=above == 0)
        if above == 0:
            axes.set_xlabel(figure.x_label)
    if key:
        canvas.legend(
            handles=key,
            loc="lower left",
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            labelspacing=0.25,
            borderaxespad=0.2,
            handlelength=2.2,
            columnspacing=1.0,
        )
    return canvas


def _table_looks(figure: Figure, table: pd.DataFrame, lines: list[Line]) -> dict[str, Look]:
    """Return the looks of the labels of a figure's table."""
    if figure.kind == "caches":
        # A mark there is a cache's, so a method has one look whatever it reads.
        plain = [
            replace(line, cache="", label=line.label.removesuffix(f" · {line.cache}"))
            for line in lines
        ]
        return looks_of(plain)
    if figure.kind == "trials":
        return {
            label: Look(OKABE_ITO[k % len(OKABE_ITO)], "o", DASHES[k // len(OKABE_ITO) % 4])
            for k, label in enumerate(table["label"].unique())
        }
    return looks_of(lines)


def _key(
    figure: Figure,
    table: pd.DataFrame,
    lines: list[Line],
    looks: dict[str, Look],
    crowded: bool,
) -> list[Line2D]:
    """Return the entries of the key below the panels; none where labels say it all."""

    def entry(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=on_one_row(label, KEY_WIDEST), **style)

    if figure.kind == "trials":
        searches = list(table["label"].unique())
        colour = GREY if len(searches) > 1 else looks[searches[0]].colour
        named = [
            entry(name, color=looks[name].colour, ls=looks[name].dash)
            for name in (searches if len(searches) > 1 else [])
        ]
        marks = [
            entry("trial", color=colour, marker="o", ls="none", ms=4, mew=0),
            entry("pruned", color=colour, marker="x", ls="none", ms=4.5),
            entry("best so far", color=colour),
            entry("best", color=colour, marker="*", ls="none", ms=9, mec="white", mew=0.6),
        ]
        return [*named, *marks]
    if figure.kind == "caches":
        labels = list(table["label"].unique())
        return [
            entry(name, color=looks[name].colour, marker=looks[name].marker, ls="none")
            for name in (labels if len(labels) > 1 else [])
        ]
    if figure.kind == "marks":
        kinds: dict[str, Look] = {}
        for line in lines:
            kinds.setdefault(
                line.label.removeprefix(line.student).removeprefix(" · "), looks[line.label]
            )
        return [
            entry(name, color=GREY, marker=look.marker, ls="none", ms=6)
            for name, look in (kinds.items() if len(kinds) > 1 else ())
        ]
    return [
        entry(line.label, color=look.colour, marker=look.marker, ls=look.dash)
        for line in (lines if crowded else [])
        if (look := looks[line.label])
    ]


# --- lines over samples or FLOPs -------------------------------------------------------------


def _draw_lines(
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


# --- marks over a property of the student ----------------------------------------------------


def _draw_marks(axes: Axes, rows: pd.DataFrame, lines: list[Line], looks: dict[str, Look]) -> None:
    """Draw runs against a property of their student, a large mark for the largest size."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    x, y = rows["x"].to_numpy(float), rows["y"].to_numpy(float)
    wide, tall = max(x.max() / x.min(), 1.5), max(y.max() / y.min(), 1.1)
    axes.set_xlim(x.min() / wide**0.2, x.max() * wide**0.2)
    axes.set_ylim(y.min() / tall**0.15, y.max() * tall**0.12)
    value_ticks(axes, log=True)
    value_ticks(axes, log=True, axis="x")
    labels: list[tuple[float, float, str, str]] = []
    means = rows[rows["kind"] == "mean"]
    for line in lines:
        mine = means[means["label"] == line.label].sort_values("samples")
        if mine.empty:
            continue
        look = looks[line.label]
        axes.plot(mine["x"], mine["y"], color=look.colour, lw=0.6, alpha=0.5)
        small: dict[str, Any] = {"color": look.colour, "ms": 3.5, "mew": 0, "alpha": 0.6}
        axes.plot(mine["x"][:-1], mine["y"][:-1], look.marker, **small)
        last = mine.iloc[-1]
        axes.plot(last["x"], last["y"], look.marker, color=look.colour, ms=7, mec="white", mew=0.7)
    for student in dict.fromkeys(line.student for line in lines):
        mine = means[means["label"].isin([x.label for x in lines if x.student == student])]
        for x, stack in mine.groupby("x"):
            labels.append(
                (float(x), float(stack["y"].max()), shortened(student), looks[student].colour)
            )
    for row in rows[rows["kind"] == "teacher"].itertuples():
        axes.plot(row.x, row.y, "*", color=GREY, ms=10)
        labels.append((float(row.x), float(row.y), shortened(row.label), GREY))
    label_marks(axes, labels)


# --- caches ----------------------------------------------------------------------------------


def _limits(xs: pd.Series) -> tuple[float, float]:
    """Return the ends of the axis of bytes per token."""
    pad = max(1.3, (xs.max() / xs.min()) ** 0.07)
    return float(xs.min() / pad), float(xs.max() * pad)


def _draw_caches(
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


def _cache_places(table: pd.DataFrame, names: list[str]) -> tuple[list[float], list[float]]:
    """Return where on the axis caches lie and where their names stand, in inches."""
    low, high = np.log(_limits(table["x"]))
    means = table.groupby("mark")["x"].mean()
    places = [float((math.log(means[n]) - low) / (high - low)) * AXES_INCHES[0] for n in names]
    return places, spread_out(places, [0.23] * len(names), AXES_INCHES[0] + 0.4)


def _name_room(table: pd.DataFrame, names: list[str], canvas: Canvas) -> tuple[float, float]:
    """Return the room above and right of the panels that the names of the caches need."""
    _, spots = _cache_places(table, names)
    reach = [label_inches([shortened(name)], canvas) for name in names]
    across = math.cos(math.radians(TILT))
    ends = (spot + across * size for spot, size in zip(spots, reach, strict=True))
    return (
        0.35 + math.sin(math.radians(TILT)) * max(reach),
        max(0.25, max(ends) - AXES_INCHES[0] + 0.15),
    )


def _name_caches(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """Write the names of the caches above the upper panel, each led to its place."""
    width = AXES_INCHES[0]
    height = axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    for name, place, spot in zip(names, *_cache_places(table, names), strict=True):
        axes.plot(
            [place / width, spot / width], [1.0, 1 + 0.12 / height], color="#999999", lw=0.7,
            transform=axes.transAxes, clip_on=False,
        )  # fmt: skip
        axes.text(
            spot / width - 0.02, 1 + 0.14 / height, shortened(name), rotation=TILT, ha="left",
            va="bottom", rotation_mode="anchor", transform=axes.transAxes, fontsize=8.5,
        )  # fmt: skip


# --- searches --------------------------------------------------------------------------------


def _draw_trials(axes: Axes, rows: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw every trial's validation loss, and the lowest so far as a line."""
    axes.set_yscale("log")
    low, high = rows["y"].min(), rows["y"].max()
    span = max(high / low, 1.02)
    axes.set_ylim(low / span**0.07, high * span**0.06)
    axes.set_xlim(rows["x"].min() - 0.6, rows["x"].max() + 0.6)
    for label in rows["label"].unique():
        look, mine = looks[label], rows[rows["label"] == label]
        for kind, style in (
            ("best so far", {"ls": look.dash, "drawstyle": "steps-post", "alpha": 0.8}),
            ("trial", {"marker": "o", "ls": "none", "ms": 4, "mew": 0}),
            ("pruned", {"marker": "x", "ls": "none", "ms": 4.5, "mew": 1}),
            ("best", {"marker": "*", "ls": "none", "ms": 10, "mec": "white", "mew": 0.6}),
        ):
            these = mine[mine["kind"] == kind].sort_values("x")
            axes.plot(these["x"], these["y"], color=look.colour, **cast(Any, style))
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, min_n_ticks=1))
    value_ticks(axes, log=True)
