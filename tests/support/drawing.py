"""Shared makers of figures: tables, canvases, and what is read back from them."""

from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure as Canvas

from distill.contracts.figures import FIGURES
from distill.core.errors import UserError
from distill.figures.draw import draw_figure, make_canvas
from distill.figures.figure import Inputs, find_figure
from distill.figures.styles import STYLE


def table_of(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    laws: Any = None,
) -> pd.DataFrame:
    """Return exactly the numbers that a figure draws."""
    return find_figure(name).table(Inputs(runs, references or {}, laws))


def canvas_of(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    laws: Any = None,
) -> Canvas:
    """Lay a figure out without writing it."""
    figure, inputs = find_figure(name), Inputs(runs, references or {}, laws)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE))
        return make_canvas(figure, figure.table(inputs), inputs)


def drawable(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    laws: Any = None,
) -> bool:
    """Tell whether a runs table holds the columns and numbers of a figure."""
    try:
        return not table_of(name, runs, references, laws).empty
    except UserError:
        return False


def draw_all(
    folder: Path, runs: pd.DataFrame, references: dict[str, Any] | None = None, laws: Any = None
) -> list[Path]:
    """Draw every figure that a table has numbers for; return their SVGs."""
    inputs, out = Inputs(runs, references or {}, laws), []
    for name in FIGURES:
        if drawable(name, runs, references, laws):
            paths = [folder / f"{name}.{end}" for end in ("svg", "png", "csv")]
            draw_figure(name, inputs, *paths)
            out.append(paths[0])
    return out


def texts_of(canvas: Canvas) -> list[str]:
    """Return the texts of a canvas, ticks apart."""
    texts = [text.get_text() for text in canvas.texts]
    texts += [text.get_text() for axes in canvas.axes for text in axes.texts]
    texts += [text.get_text() for legend in canvas.legends for text in legend.get_texts()]
    return texts


def outside(canvas: Canvas) -> list[str]:
    """Return the texts of a canvas that leave it."""
    canvas.draw_without_rendering()
    renderer: Any = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = canvas.get_size_inches() * canvas.dpi
    texts = list(canvas.texts) + [t for legend in canvas.legends for t in legend.get_texts()]
    for axes in canvas.axes:
        texts += [axes.yaxis.label, axes.xaxis.label, axes.title, *axes.texts]
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(ends)  # ticks beyond the ends are not drawn
            ticks = axis.get_major_ticks()
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    out = []
    for text in texts:
        box = text.get_window_extent(renderer)
        if box.width and (box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1):
            out.append(text.get_text())
    return out
