"""Draw the figures of trade-offs: Pareto fronts, compression, FLOPs, curation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from distill.figures.axes import label_inches, on_one_row
from distill.figures.numbers.trades import PROPERTIES, SHARES, TOTALS
from distill.figures.panels import (
    entry,
    label_looks,
    log_limits,
    make_grid,
    plain_limits,
    set_ticks,
)
from distill.figures.styles import GREY, MARKERS, OKABE_ITO
from distill.laws.runs import SIZES, labels_in

_MEASURES = {"loss": "held-out loss", "reference_loss": "reference loss"}


def draw_pareto(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """A panel per cost: the runs of each student, and the front through the best of them."""
    names = labels_in(table["column"])
    means = table[table["kind"] == "mean"]
    lines = labels_in(means["line"])
    looks = label_looks(students)
    marks = dict(zip(lines, (MARKERS * 8)[: len(lines)], strict=True))
    key: list[Any] = [
        entry(name, color=looks[name].colour, lw=2.4)
        for name in students
        if (means["label"] == name).any()
    ]
    key += [entry(name, color=GREY, marker=marks[name], ls="none") for name in lines]
    key.append(entry("front", color="black", lw=0.9))
    if (table["kind"] == "teacher").any():
        key.append(entry("teacher", color=GREY, marker="*", ls="none", ms=6))
    columns = min(2, len(names))
    deep = -(-len(names) // columns)
    grid = make_grid([1.15] * deep, columns, key, row_gap=0.42, gap=0.2)
    for place, axes in grid.panels.items():
        index = place[0] * columns + place[1]
        if index >= len(names):
            axes.set_visible(False)
            continue
        mine = table[table["column"] == names[index]]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(log_limits(mine["x"], 0.1))
        axes.set_ylim(log_limits(table["y"]))
        cells = mine[mine["kind"] == "mean"]
        best = cells.loc[cells.groupby("label")["y"].idxmin()]
        for cell, big in [(c, False) for c in cells.itertuples()] + [
            (c, True) for c in best.itertuples()
        ]:
            style: dict[str, Any] = (
                {"ms": 4.8, "mec": "black", "mew": 0.6, "zorder": 4}
                if big
                else {"ms": 2.8, "mew": 0, "alpha": 0.45}
            )
            axes.plot(cell.x, cell.y, marks[cell.line], color=looks[cell.label].colour, **style)
        front = mine[mine["kind"] == "front"]
        xs = [*front["x"], axes.get_xlim()[1]]
        axes.plot(xs, [*front["y"], front["y"].iloc[-1]], color="black", lw=0.9,
                  drawstyle="steps-post", zorder=2)  # fmt: skip
        for teacher in mine[mine["kind"] == "teacher"].itertuples():
            axes.plot(teacher.x, teacher.y, "*", color=GREY, ms=6)
        set_ticks(axes, "x", log=True, most=3)
        set_ticks(axes, "y", log=True)
        axes.tick_params(labelbottom=True, labelleft=place[1] == 0)
        axes.set_xlabel(PROPERTIES.get(names[index], names[index]))
        if place[1] == 0:
            axes.set_ylabel(f"{_MEASURES[table['row'].iloc[0]]} (nats)")
    return grid.canvas


def draw_distillation_gap(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """A column per measure of size, a line per method and tokens, paler for fewer tokens."""
    lines, sizes = labels_in(table["label"]), [s for s in SIZES if (table["column"] == s).any()]
    looks = label_looks(lines)
    levels = sorted(labels_in(table["mark"]), key=float)
    faint = dict(zip(levels, np.linspace(0.3, 1.0, len(levels)) if len(levels) > 1 else [1.0],
                     strict=True))  # fmt: skip
    key = [entry(name, looks[name]) for name in lines]
    if len(levels) > 1:
        key += [entry("fewest tokens", color=GREY, alpha=0.3), entry("most tokens", color=GREY)]
    grid = make_grid([1.6], len(sizes), key,
                     headings=[f"{SIZES[s]} parameters" for s in sizes], gap=0.2)  # fmt: skip
    for (_, column), axes in grid.panels.items():
        mine = table[table["column"] == sizes[column]]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(log_limits(mine["x"]))
        axes.set_ylim(log_limits(table[["y", "low", "high"]]))
        for (label, level), own in mine.groupby(["label", "mark"], sort=False):
            own, look = own.sort_values("x"), looks[label]
            style: dict[str, Any] = {"color": look.colour, "alpha": faint[level]}
            axes.plot(own["x"], own["y"], marker=look.marker, ls=look.dash, mew=0, **style)
            axes.vlines(own["x"], own["low"], own["high"], lw=0.8, **style)
        set_ticks(axes, "x", log=True)
        set_ticks(axes, "y", log=True)
        axes.tick_params(labelleft=column == 0)
        axes.set_xlabel("teacher / student")
        if column == 0:
            axes.set_ylabel("gap to the teacher (nats)")
    return grid.canvas


_HATCHES = ("", "////", "....")


def draw_flops_split(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """A bar per student and method, its parts in per cent, in a column per way to count."""
    labels, columns = labels_in(table["label"]), list(TOTALS.values())
    parts = [part for part in SHARES.values() if (table.loc[table["kind"] == part, "y"] > 0).any()]
    colours = dict(zip(SHARES.values(), OKABE_ITO, strict=False))
    hatches = dict(zip(SHARES.values(), _HATCHES, strict=True))
    key = [Patch(facecolor=colours[p], hatch=hatches[p], edgecolor="white", label=p)
           for p in parts]  # fmt: skip
    names = {label: on_one_row(label, 26) for label in labels}
    left = min(1.5, label_inches(names.values(), make_grid([1.0], 1).canvas) * 6.5 / 7 + 0.12)
    grid = make_grid([0.15 * len(labels) + 0.1], 2, key, left=left, gap=0.26, headings=columns)
    for (_, column), axes in grid.panels.items():
        mine = table[table["column"] == columns[column]]
        axes.set_xlim(0, 100)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        for part in parts:
            own = mine[mine["kind"] == part]
            ys = [labels.index(label) for label in own["label"]]
            axes.barh(ys, own["high"] - own["low"], left=own["low"], height=0.72,
                      facecolor=colours[part], hatch=hatches[part],
                      edgecolor="white", lw=0.3)  # fmt: skip
        axes.set_yticks(range(len(labels)), [names[label] for label in labels])
        axes.tick_params(axis="y", length=0, labelleft=column == 0)
        set_ticks(axes, "x", log=False, most=3)
        axes.set_xlabel("share of FLOPs (%)")
    return grid.canvas


def draw_curation_effect(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """Rows of methods, columns of losses: curated minus raw, with intervals; zero is no effect."""
    rows, columns = (
        labels_in(table["row"]),
        [m for m in _MEASURES if (table["column"] == m).any()],
    )
    curations = labels_in(table["label"])
    looks = label_looks(curations)
    key = [entry(name, looks[name]) for name in curations]
    if (table["kind"] == "student").any():
        key.append(entry("one student", color=GREY, marker="o", ls="none", ms=2.2, alpha=0.5))
    grid = make_grid([1.2] * len(rows), len(columns), key, titles=rows,
                     headings=[f"{_MEASURES[m]}, nats" for m in columns])  # fmt: skip
    for (row, column), axes in grid.panels.items():
        mine = table[(table["row"] == rows[row]) & (table["column"] == columns[column])]
        axes.set_xscale("log")
        axes.set_xlim(log_limits(table["x"], 0.1))
        axes.set_ylim(plain_limits(table.loc[table["column"] == columns[column],
                                             ["y", "low", "high"]]))  # fmt: skip
        axes.axhline(0, color=GREY, lw=0.8)
        low, high = np.log(axes.get_xlim())
        for index, curation in enumerate(curations):
            own, look = mine[mine["label"] == curation].sort_values("x"), looks[curation]
            side = index - (len(curations) - 1) / 2
            shift = np.exp(0.016 * side * (high - low))
            ones, means = own[own["kind"] == "student"], own[own["kind"] == "difference"]
            axes.plot(ones["x"] * shift, ones["y"], look.marker, color=look.colour, ms=2, mew=0,
                      alpha=0.4)  # fmt: skip
            axes.plot(means["x"] * shift, means["y"], marker=look.marker, color=look.colour,
                      ls=look.dash, mew=0, zorder=3)  # fmt: skip
            axes.errorbar(
                means["x"] * shift, means["y"], fmt="none", ecolor=look.colour, elinewidth=0.9,
                yerr=(means["high"] - means["y"]).to_numpy(float), capsize=1.8,
            )  # fmt: skip
        set_ticks(axes, "x", log=True)
        set_ticks(axes, "y", log=False)
        if column == 0:
            axes.set_ylabel("curated − raw")
        if row == len(rows) - 1:
            axes.set_xlabel("unique training tokens")
    return grid.canvas
