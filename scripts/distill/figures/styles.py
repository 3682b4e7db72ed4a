"""How marks differ: colours, markers, dashes, and the legend that names them.

Colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from distill.figures.figure import GREY, Figure, Layer
from distill.figures.ticks import tick_text

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<"]
DASHES: list[Any] = ["-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2))]
HATCHES = ["", "////", "....", "xxxx"]
STYLE: dict[str, Any] = {
    "svg.hashsalt": "distill",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.titlesize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.xmargin": 0.06,
    "axes.ymargin": 0.06,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.4,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 6.8,
    "legend.frameon": False,
    "legend.labelspacing": 0.25,
    "legend.columnspacing": 0.9,
    "legend.handletextpad": 0.5,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.constrained_layout.wspace": 0.06,
}
"""Type of 7 points, readable at half a printed column."""


@dataclass(frozen=True)
class Look:
    """What distinguishes a mark from others."""

    colour: str
    marker: str
    dash: Any
    hatch: str


class Looks:
    """The looks of a figure's marks, and the entries of its legend.

    Args:
        figure: The figure.
        table: Its table.
        students: All students; each has its colour in every figure.
    """

    def __init__(self, figure: Figure, table: pd.DataFrame, students: Sequence[str]) -> None:
        self.figure, self.table = figure, table
        layers = [x for x in figure.layers if "color" not in x.style and len(x.rows(table))]
        rows = pd.concat([layer.rows(table) for layer in layers])
        kinds = {layer.kind for layer in figure.layers if "color" not in layer.style}
        self.colours = distinct(table.loc[table["kind"].isin(kinds), figure.colour])
        if set(self.colours) <= set(students):
            self.colours = list(students)
        if figure.sequential:
            self.colours.sort(key=float)
        self.shapes = [shape for shape in distinct(rows[figure.shape]) if shape]
        # Looks that differ only by colour also get separate markers and dashes.
        self.one_name = len(self.shapes) <= 1 or figure.shape == figure.colour
        coloured = set(rows[figure.colour])
        self.drawn = [colour for colour in self.colours if colour in coloured]
        self._places = {
            is_colour: {name: place for place, name in reversed(list(enumerate(names)))}
            for is_colour, names in ((True, self.colours), (False, self.shapes))
        }
        self.draws = {layer.draw for layer in layers}
        self.dashes = [x.style["ls"] for x in layers if x.draw == "line" and "ls" in x.style]

    def look(self, colour: Any, shape: Any) -> Look:
        """Return the look of a mark by its values of the figure's colour and shape."""
        turn = self._places[self.one_name].get(colour if self.one_name else shape, 0)
        looks = (MARKERS, DASHES, HATCHES)
        return Look(self._colour(colour), *(values[turn % len(values)] for values in looks))

    def _colour(self, name: Any) -> str:
        place, count = self._places[True].get(name), len(self.colours)
        if place is None:
            return GREY
        if self.figure.sequential:
            return to_hex(mpl.colormaps["cividis"](0.86 * (1 - place / max(1, count - 1))))
        colour = np.array(to_rgb(OKABE_ITO[place % len(OKABE_ITO)]))
        return to_hex(cast(Any, colour if place < len(OKABE_ITO) else 0.5 * colour + 0.5))

    def groups(self, rows: pd.DataFrame, apart: bool = True) -> Iterator[tuple[Look, pd.DataFrame]]:
        """Split rows by their names or, if these need not stay apart, by their look."""
        keys = list(dict.fromkeys([self.figure.colour, self.figure.shape]))
        if apart:
            for values, group in rows.groupby(keys, sort=False, dropna=False):
                yield self.look(values[0], values[-1]), group
            return
        names = zip(rows[keys[0]], rows[keys[-1]], strict=True)
        looks = [self.look(*each) for each in names]
        numbers = {look: number for number, look in enumerate(dict.fromkeys(looks))}
        of_row = np.array([numbers[look] for look in looks])
        for look, number in numbers.items():
            yield look, rows[of_row == number]

    def entries(self) -> list[Any]:
        """Return the handles of the legend: colours, shapes, then the layers that have a key."""
        names = {name: self._text(name) for name in self.drawn}
        if self.one_name and self.shapes != self.drawn and len(names) == len(self.shapes) == 1:
            names = {name: f"{text} · {self._text(self.shapes[0])}" for name, text in names.items()}
        out = [
            self._entry(text, self.look(name, None), self.one_name) for name, text in names.items()
        ]
        if not self.one_name:
            out += [self._entry(self._text(x), self.look(None, x), True) for x in self.shapes]
        for layer in self.figure.layers:
            rows = layer.rows(self.table)
            if layer.draw == "across":
                labels = enumerate(distinct(rows["label"]))
                out += [Line2D([], [], label=x, **across_style(layer, turn)) for turn, x in labels]
            elif layer.key and len(rows):
                out.append(_key(layer))
        return out

    def _text(self, name: str) -> str:
        if self.figure.sequential and name in self.colours:
            return f"{tick_text(float(f'{float(name):.2g}'))} {self.figure.sequential}"
        return self.figure.texts.get(name, name)

    def _entry(self, text: str, look: Look, shaped: bool) -> Any:
        if "bar" in self.draws:
            return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", label=text)
        if not shaped:
            return Line2D([], [], color=look.colour, lw=2.4, label=text)
        dash = [*self.dashes, look.dash][0] if self.draws & {"line", "steps"} else "none"
        return Line2D([], [], color=look.colour, marker=look.marker, ls=dash, label=text)


def _key(layer: Layer) -> Any:
    """Return the grey entry of a layer."""
    style = {"color": GREY, "label": layer.key, **layer.style}
    if layer.draw == "band":
        return Patch(**{**style, "alpha": 1.5 * style["alpha"]})
    points = {} if layer.draw in ("line", "steps") else {"marker": "o", "ls": "none"}
    return Line2D([], [], **{**points, **style})


def across_style(layer: Layer, turn: int) -> dict[str, Any]:
    """Return the style of a line across a panel, with another dash for each further label."""
    dash = {"ls": DASHES[turn % len(DASHES)]} if turn else {}
    return {"lw": 1.0, **layer.style, **dash}


def distinct(values: Any) -> list[Any]:
    """Return the different values in order, nulls left out."""
    return [value for value in dict.fromkeys(values) if isinstance(value, tuple) or pd.notna(value)]


def shorten(name: str, most: int) -> str:
    """Replace the middle of the longest parts between middle dots until a name fits."""
    parts = name.split(" · ")
    limit = max(map(len, parts))
    while len(" · ".join(parts)) > most and limit > 8:
        limit -= 1
        head = (limit - 1) // 2
        parts = [
            part if len(part) <= limit else f"{part[:head]}…{part[len(part) - limit + head + 1 :]}"
            for part in name.split(" · ")
        ]
    return " · ".join(parts)
