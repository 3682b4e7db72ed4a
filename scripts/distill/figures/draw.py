"""Draw any figure from its table: panels, layers and a legend, laid out by matplotlib.

The same table gives the same bytes.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.transforms import Transform, offset_copy

from distill.core.files import replacing
from distill.core.quantities import number
from distill.figures.figure import GREY, Axis, Figure, Inputs, Layer, find_figure
from distill.figures.styles import STYLE, Look, Looks, across_style, distinct, shorten
from distill.figures.ticks import set_ticks

WIDTH = 3.35
"""Width of a figure, inches: 85 mm, half a printed column."""
MOST_ENTRIES, MOST_NAME = 14, 34
"""Most entries of a legend, and characters of a name on an axis; the CSV has the rest."""
LABEL_WIDTH = 20
"""Characters of a line of a label below one of several panels side by side."""
MOST_MARKS = 2000
"""Marks that one panel of an SVG draws one by one; more become an image."""
MOST_STARTS = 3
"""Students off the scale before training that a note names one by one."""
DODGE = 3.0
"""Most distance between neighbours that stand apart, points."""


def draw_figure(
    name: str, inputs: Inputs, out_svg: str | Path, out_png: str | Path, out_csv: str | Path
) -> None:
    """Draw a figure and write its SVG, PNG (200 dots per inch) and CSV.

    A figure whose table is empty, such as one of laws that could not be fitted, says so.

    Raises:
        UserError: The runs table lacks a column that the figure needs; the sentence names it.
    """
    figure = find_figure(name)
    table = figure.table(inputs)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE))
        canvas = make_canvas(figure, table, inputs)
        with replacing(out_png) as path:
            FigureCanvasAgg(canvas).print_png(path, metadata={"Software": None})
        with replacing(out_svg) as path:
            FigureCanvasSVG(canvas).print_svg(path, metadata={"Date": None})
    with replacing(out_csv) as path:
        table[list(figure.columns)].to_csv(path, index=False)


def make_canvas(figure: Figure, table: pd.DataFrame, inputs: Inputs) -> Canvas:
    """Lay out and draw a figure's table."""
    canvas = Canvas(figsize=(WIDTH, 0.8), dpi=200, layout="constrained")
    FigureCanvasAgg(canvas)
    if table.empty:
        canvas.text(0.5, 0.5, figure.empty, ha="center", va="center", wrap=True)
        return canvas
    looks = Looks(figure, table, inputs.students)
    panels, height = _make_panels(figure, table, canvas, inputs)
    for panel in panels:
        panel.draw(figure, looks)
    edges = [panel.edges(figure) for panel in panels]  # marks set the limits, intervals follow
    for panel, ends in zip(panels, edges, strict=True):
        panel.draw(figure, looks, ends)
    for panel in panels:
        panel.finish(figure)
    canvas.set_size_inches(WIDTH, height + _add_legend(canvas, looks.entries()))
    cast(Any, canvas.get_layout_engine()).execute(canvas)
    canvas.set_layout_engine("none")  # laid out once, for all files
    return canvas


def _make_panels(
    figure: Figure, table: pd.DataFrame, canvas: Canvas, inputs: Inputs
) -> tuple[list["_Panel"], float]:
    """Return a figure's panels from the top left, and the height that they need in inches."""
    rows, columns = (distinct(table[name]) if name else [""] for name in figure.facets)
    places = [(row, column) for row in rows for column in columns]
    across = min(len(columns), figure.wrap or len(columns))
    deep = math.ceil(len(places) / across)
    heights, with_names = [figure.height] * deep, figure.axis(rows[0]).scale == "names"
    if with_names:
        label_counts = [_within(table, figure, row, "")["label"].nunique() for row in rows]
        heights = [0.15 * count + 0.1 for count in label_counts]
    grid = canvas.subplots(
        deep,
        across,
        squeeze=False,
        height_ratios=heights,
        sharex=figure.x.share,
        sharey=figure.axis(rows[0]).share,
    )
    panels = []
    for place, axes in enumerate(grid.ravel()):
        if place >= len(places):
            axes.remove()
            continue
        row, column = places[place]
        labels = distinct(_within(table, figure, row, "")["label"]) if with_names else []
        names = {label: shorten(label, MOST_NAME if across == 1 else 24) for label in labels}
        mine = _within(table, figure, row, column)
        panel = _Panel(axes, row, mine, figure.axis(row), names)
        panel.set_scales(figure, table)
        if figure.row_titles and place % across == 0:
            axes.set_title(shorten(figure.texts.get(row, row), 60))
        if figure.wrap or place + across >= len(places):
            text = figure.x.text(row, column, inputs)
            axes.set_xlabel(textwrap.fill(text, LABEL_WIDTH) if across > 1 else text)
        if place % across == 0 or (isinstance(panel.y.label, Mapping) and column in panel.y.label):
            axes.set_ylabel(panel.y.text(row, column, inputs))
        panels.append(panel)
    lines = 1 + max(panel.axes.get_xlabel().count("\n") for panel in panels)
    labelled = deep if figure.wrap else 1
    ticked = deep if figure.x.share in ("row", "none") else 1
    title = 0.16 if figure.row_titles else 0.0
    return panels, (
        sum(heights) + deep * (title + 0.06) + 0.14 * ticked + (0.02 + 0.12 * lines) * labelled
    )


def _within(table: pd.DataFrame, figure: Figure, row: str, column: str) -> pd.DataFrame:
    """Return the rows of a row and column of panels; an empty name stands for all."""
    for name, value in zip(figure.facets, (row, column), strict=True):
        if name and value:
            table = table[table[name] == value]
    return table


@dataclass(frozen=True)
class _Panel:
    """A set of axes with the rows of the table that it shows."""

    axes: Axes
    row: str
    table: pd.DataFrame
    y: Axis
    names: Mapping[str, str]
    """What a vertical axis of names writes for each label; empty for one of numbers."""

    def set_scales(self, figure: Figure, table: pd.DataFrame) -> None:
        """Set scales and what marks are compared with: 0, equality, a band around 0."""
        axes, bound = self.axes, self.y.bound.get(self.row, 0.0)
        for which, axis in (("x", figure.x), ("y", self.y)):
            scale, options = "log" if axis.scale in ("log", "samples") else "linear", {}
            if axis.scale == "bounded":
                scale, options = "symlog", {"linthresh": bound, "linscale": 0.5}
            elif axis.scale == "samples" and (table["x"] == 0).any():
                sizes = table.loc[table["x"] > 0, "x"]
                decades = max(0.3, math.log10(sizes.max() / sizes.min()))
                scale, options = "symlog", {"linthresh": sizes.min(), "linscale": 0.16 * decades}
            getattr(axes, f"set_{which}scale")(scale, **options)
        if self.names:
            axes.set_yticks(range(len(self.names)), list(self.names.values()))
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        if bound:
            axes.axhspan(-bound, bound, color="#e8e8e8", lw=0, zorder=0.5)
        for axis, line in ((figure.x, axes.axvline), (self.y, axes.axhline)):
            if axis.guide == "zero":
                line(0, color=GREY, lw=0.8, zorder=1)
        if self.y.guide == "equal":
            low, high = self.table["x"].min(), 1.001 * self.table["x"].max()
            axes.axline((low, low), (high, high), color=GREY, lw=0.8, zorder=1)
        if self.table.empty:
            axes.text(0.5, 0.5, figure.vacant, transform=axes.transAxes, ha="center")

    def draw(self, figure: Figure, looks: Looks, edges: tuple[float, float] | None = None) -> None:
        """Draw the marks; with `edges`, where intervals are cut, draw what the limits cut."""
        for layer in figure.layers:
            rows = layer.rows(self.table)
            if layer.draw == "interval" and not layer.unbounded:
                rows = rows.dropna(subset=list(layer.ends))
            follows = layer.draw in ("band", "interval", "steps", "start")
            if rows.empty or follows != (edges is not None):
                continue
            if layer.draw == "start":
                _draw_start(self.axes, rows, looks)
                continue
            for look, group in looks.groups(rows, apart=layer.draw != "points"):
                for transform, marks in self._dodged(figure, looks.table, group):
                    pen = _Pen(
                        self.axes,
                        marks,
                        look,
                        layer,
                        transform,
                        list(self.names),
                        edges or (0.0, 0.0),
                    )
                    getattr(pen, layer.draw)()
            if figure.dodge and not follows:  # what is shifted does not extend the limits by itself
                columns = ["x", "x" if self.names else "y"]
                self.axes.update_datalim(rows[columns], updatey=not self.names)

    def edges(self, figure: Figure) -> tuple[float, float]:
        """Return where intervals are cut: beyond the limits that marks set, by the axis's reach."""
        axis = self.axes.xaxis if self.names else self.axes.yaxis
        scale = axis.get_transform()
        low, high = sorted(scale.transform(np.array(axis.get_view_interval())))
        room = (figure.x if self.names else self.y).reach * (high - low)
        low, high = scale.inverted().transform(np.array([low - room, high + room]))
        return float(low), float(high)

    def _dodged(
        self, figure: Figure, table: pd.DataFrame, rows: pd.DataFrame
    ) -> Iterator[tuple[Transform, pd.DataFrame]]:
        """Split rows that stand apart, each with the transform that puts it in its place."""
        if not figure.dodge:
            yield self.axes.transData, rows
            return
        places = distinct(table[list(figure.dodge)].itertuples(index=False, name=None))
        step = -4.0 if self.names else min(DODGE, 8 / len(places))
        for values, group in rows.groupby(list(figure.dodge), sort=False):
            shift = step * (places.index(values) - (len(places) - 1) / 2)
            x, y = (0.0, shift) if self.names else (shift, 0.0)
            canvas = cast(Canvas, self.axes.figure)
            yield offset_copy(self.axes.transData, canvas, x, y, units="points"), group

    def finish(self, figure: Figure) -> None:
        """Set the ticks, now that the limits are known, and flatten thousands of marks."""
        axes = self.axes
        for which, axis in (("x", figure.x), ("y", self.y)):
            shared = getattr(axes, f"get_shared_{which}_axes")().get_siblings(axes)
            ends = np.array([getattr(x.dataLim, f"interval{which}") for x in shared])
            low, high = ends.min(), ends.max()
            if axis.scale == "log" and high < 1.001 * low:  # a single value
                getattr(axes, f"set_{which}lim")(low / 1.1, low * 1.1)
        if self.names:
            axes.set_ylim(len(self.names) - 0.4, -0.6)
        else:
            set_ticks(axes.yaxis, self.y.scale, bound=self.y.bound.get(self.row, 1.0))
        set_ticks(axes.xaxis, figure.x.scale, self.table["x"].dropna().unique().tolist())
        marks = {x: np.size(x.get_xdata()) for x in axes.lines if x.get_linestyle() == "None"}
        if sum(marks.values()) > MOST_MARKS:
            for line, points in marks.items():
                line.set_rasterized(points > MOST_MARKS / 100)


@dataclass(frozen=True)
class _Pen:
    """Draws rows of one layer and look on a panel; a method for each mark of a layer."""

    axes: Axes
    rows: pd.DataFrame
    look: Look
    layer: Layer
    transform: Transform
    names: list[str]
    edges: tuple[float, float]

    def _style(self, **defaults: Any) -> dict[str, Any]:
        return {
            "color": self.look.colour,
            "transform": self.transform,
            **defaults,
            **self.layer.style,
        }

    def _places(self) -> Any:
        """Return where intervals and bars stand: at their x, or at their label."""
        if not self.names:
            return self.rows["x"].to_numpy(float)
        return np.array([self.names.index(label) for label in self.rows["label"]])

    def line(self) -> None:
        rows = self.rows.sort_values("x", kind="stable")
        style = self._style(ls=self.look.dash, marker=self.look.marker)
        self.axes.plot(rows["x"], rows["y"], **style)

    def points(self) -> None:
        y = self._places() if self.names else self.rows["y"]
        style = self._style(marker=self.look.marker, zorder=3)
        self.axes.plot(self.rows["x"], y, ls="none", **style)

    def steps(self) -> None:
        rows = self.rows.sort_values("x", kind="stable")
        points = self.axes.dataLim.get_points().copy()
        x, y = [*rows["x"], self.axes.get_xlim()[1]], [*rows["y"], *rows["y"].tail(1)]
        self.axes.plot(x, y, drawstyle="steps-post", **self._style(ls=self.look.dash))
        self.axes.dataLim.set_points(points)  # the step to the panel's end does not extend it

    def across(self) -> None:
        labels = distinct(self.rows["label"])
        for label, y in zip(self.rows["label"], self.rows["y"], strict=True):
            self.axes.axhline(y, **across_style(self.layer, labels.index(label)))

    def bar(self) -> None:
        low, high = (self.rows[name] for name in self.layer.ends)
        self.axes.barh(
            self._places(),
            high - low,
            left=low,
            height=0.72,
            hatch=self.look.hatch,
            facecolor=self.look.colour,
            edgecolor="white",
            lw=0.3,
        )

    def _ends(self) -> list[Any]:
        """Return lower and upper ends, cut at the edges; those without a bound reach them."""
        return [
            np.nan_to_num(self.rows[name].to_numpy(float), nan=edge).clip(*self.edges)
            for name, edge in zip(self.layer.ends, self.edges, strict=True)
        ]

    def band(self) -> None:
        low, high = self._ends()
        self.axes.fill_between(self.rows["x"], low, high, lw=0, **self._style())

    def interval(self) -> None:
        draw: Any = self.axes.hlines if self.names else self.axes.vlines
        places, style = self._places(), self._style(lw=0.9)
        ends = self._ends()
        draw(places, ends[0], ends[1], **style)
        for end in ends:  # what is shifted does not extend the limits by itself
            self.axes.update_datalim(np.stack([end, end], axis=1), bool(self.names), not self.names)
        for end, edge, arrow in zip(ends, self.edges, "<>" if self.names else "v^", strict=True):
            at = places[end == edge]  # an end without a bound, or beyond the panel
            if len(at):
                pair = (end[end == edge], at) if self.names else (at, end[end == edge])
                self.axes.plot(*pair, arrow, ms=3, mew=0, **{**style, "lw": 0})


def _draw_start(axes: Axes, rows: pd.DataFrame, looks: Looks) -> None:
    """Mark the untrained students at 0; those off the scale by arrows, and a note of their values.

    One near the trained runs is drawn in place; one far off would flatten all else.
    """
    rows = rows.drop_duplicates(["label", "y"])
    low, high = axes.get_ylim()
    far = rows["y"] > high * (high / low) ** 0.6 if axes.get_yscale() == "log" else rows["y"].isna()
    style: dict[str, Any] = {"mfc": "white", "mew": 1.0, "clip_on": False, "zorder": 4}
    for look, group in looks.groups(rows[~far]):
        axes.plot(group["x"], group["y"], "o", mec=look.colour, ls="none", **style)
    for look, group in looks.groups(rows[far]):
        axes.plot(
            group["x"],
            group["x"] + 1,
            "^",
            mec=look.colour,
            ls="none",
            transform=axes.get_xaxis_transform(),
            **style,
        )
    values = rows.loc[far].sort_values("y")
    notes = [
        f"{shorten(x, 26)}: {number(float(y))}"
        for x, y in zip(values["label"], values["y"], strict=True)
    ]
    if len(notes) > MOST_STARTS:
        ends = dict.fromkeys(number(float(values["y"].iloc[place])) for place in (0, -1))
        notes = [f"{len(notes)} students: {' to '.join(ends)}"]
    if notes:
        axes.set_title(f"△ {'; '.join(notes)}", fontsize=6.5, fontweight="normal", color=GREY)


def _add_legend(canvas: Canvas, handles: list[Any]) -> float:
    """Put a legend below the panels, in as many columns as fit; return its height in inches."""
    if len(handles) > MOST_ENTRIES:
        more = Line2D([], [], ls="none", label=f"and {len(handles) - MOST_ENTRIES} more")
        handles = [*handles[:MOST_ENTRIES], more]
    for handle in handles:
        handle.set_label(shorten(str(handle.get_label()), 56))
    for columns in range(min(4, len(handles)), 0, -1):
        legend = canvas.legend(handles=handles, loc="outside lower left", ncols=columns)
        box = legend.get_window_extent()
        if columns == 1 or box.width <= canvas.bbox.width:
            return float(box.height / canvas.dpi)
        legend.remove()
    return 0.0
