"""Draw the figures of a study as SVG, PNG and the CSV of exactly the numbers drawn.

Colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers; a student
keeps its colour, and a method (with its cache) its marker and dash, in every figure. The same table
gives the same bytes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
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

from distill.core.files import replacing
from distill.figures.axes import (
    AXES_INCHES,
    label_height,
    label_inches,
    label_marks,
    on_one_row,
    shortened,
    value_ticks,
    wrapped,
)
from distill.figures.catalogue import FIGURES, Figure, figure_table
from distill.figures.draw import laws, trades
from distill.figures.draw.caches import cache_limits, draw_caches, name_caches, name_room
from distill.figures.draw.lines import draw_lines
from distill.figures.panels import SMALL, blank
from distill.figures.styles import DASHES, GREY, OKABE_ITO, STYLE, Look, looks_of
from distill.table.lines import Line, lines_of, prepare_runs
from distill.table.words import words_of

MOST_MARKS = 2000
"""Marks of single runs that one set of axes draws one by one."""
KEY_WIDEST = 52
"""Most characters of a name in a key below the panels."""


def draw_figure(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None,
    out_svg: str | Path,
    out_png: str | Path,
    out_csv: str | Path,
    *,
    laws: Mapping[str, Any] | None = None,
) -> None:
    """Draw one of FIGURES and write its SVG, PNG (200 dots per inch) and CSV.

    Where there is nothing to draw (a metric that does not apply, a study without a search) the
    figure says so. `laws` is the content of laws.json.

    Raises:
        UserError: the table lacks a column that the figure needs; the sentence names it.
    """
    table = figure_table(name, runs, references, laws)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE))
        canvas = _canvas(name, table, runs)
        for axes in canvas.axes:
            _flatten(axes)
        with replacing(out_svg) as path:
            canvas.savefig(path, format="svg", dpi=200, metadata={"Date": None})
        with replacing(out_png) as path:
            canvas.savefig(path, format="png", dpi=200, metadata={"Software": None})
    with replacing(out_csv) as path:
        table.to_csv(path, index=False)


def _flatten(axes: Axes) -> None:
    """Make the marks of single runs an image within the SVG, where they are thousands."""
    dotted = [line for line in axes.lines if line.get_linestyle() == "None"]
    marks = {line: np.size(line.get_xdata()) for line in dotted}
    if sum(marks.values()) > MOST_MARKS:
        for line, points in marks.items():
            line.set_rasterized(points > MOST_MARKS / 100)


GRID_DRAWERS: dict[str, Callable[[pd.DataFrame, list[str]], Canvas]] = {
    "law_curves": laws.draw_law_curves,
    "size_curves": laws.draw_size_curves,
    "residuals": laws.draw_residuals,
    "exponents": laws.draw_exponents,
    "judged": laws.draw_judged,
    "pareto": trades.draw_pareto,
    "pareto_energy": trades.draw_pareto,
    "distillation_gap": trades.draw_distillation_gap,
    "flops_split": trades.draw_flops_split,
    "curation_effect": trades.draw_curation_effect,
}
"""What draws each figure of small panels."""


def _canvas(name: str, table: pd.DataFrame, runs: pd.DataFrame) -> Canvas:
    """Draw a figure's table."""
    figure = FIGURES[name]
    if figure.kind != "grid":
        return _draw(figure, table, lines_of(prepare_runs(runs)))
    mpl.rcParams.update(cast(Any, SMALL))
    if table.empty:
        return blank(figure.empty)
    return GRID_DRAWERS[name](table, list(dict.fromkeys(runs["student"].astype(str))))


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
        top, right = name_room(table, names, canvas)
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
        named = panel.label == "perplexity" and len(lines) > 0  # a masked model's is another
        axes.set_ylabel(words_of(lines[0].runs).perplexity if named else panel.label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        if figure.kind == "marks":
            _draw_marks(axes, rows, lines, looks)
        elif figure.kind == "caches":
            draw_caches(axes, rows, looks, panel, cache_limits(table["x"]))
            if index == 0:
                name_caches(axes, table, names)
        elif figure.kind == "trials":
            _draw_trials(axes, rows, looks)
        else:
            draw_lines(axes, rows, looks, figure, crowded)
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
