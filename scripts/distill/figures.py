"""Draw the figures of a study as SVG, PNG and the CSV of exactly the numbers drawn.

Figures are functions of the runs table, so a table made elsewhere can be drawn too. Colours are
those of Okabe and Ito (2008), which stay apart for colour-blind readers; a student keeps its
colour and a method its marker and dash in every figure. The same table gives the same bytes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from distill.files import UserError, replacing
from distill.verdict import Line, has_values, lines_of, number, prepare_runs

OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P"]
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
AXES_INCHES = (3.3, 2.5)
"""Width and height of one panel, in inches; labels stand to its right."""

MOST_ARROWS = 3
"""Students off the scale before training that get an arrow each; more share one."""

CSV_COLUMNS = ["panel", "kind", "label", "samples", "x", "y", "low", "high", "runs"]


@dataclass(frozen=True)
class Panel:
    """One set of axes: the column drawn and its name on the axis."""

    column: str
    label: str
    teacher: str | None = None
    floor: str | None = None


@dataclass(frozen=True)
class Figure:
    """What a figure shows: its panels from top to bottom against `x`.

    `x` is a column; with `samples` a panel has lines over training-set sizes, else one mark per
    run group. `log` makes the vertical axes logarithmic, `start` shows the students before
    training, `guide` adds a line proportional to the samples.
    """

    title: str
    panels: tuple[Panel, ...]
    x: str = "samples"
    x_label: str = "training samples"
    log: bool = True
    start: bool = True
    guide: bool = False

    @property
    def is_trade_off(self) -> bool:
        """Whether the horizontal axis is a property of the student instead of samples."""
        return self.x != "samples"


_PERPLEXITY = Panel("perplexity", "perplexity", teacher="perplexity")

FIGURES: dict[str, Figure] = {
    "perplexity": Figure("Perplexity against training samples", (_PERPLEXITY,)),
    "kl_gap": Figure(
        "Gap to the teacher against training samples",
        (Panel("kl_teacher", "KL from teacher (nats/token)"),),
    ),
    "pass_rate": Figure(
        "Pass rate against training samples",
        (
            Panel("pass_rate", "pass rate, fixed set", "pass_rate", "fixed"),
            Panel("pass_rate_large", "pass rate, larger set", "pass_rate_large", "large"),
        ),
        log=False,
    ),
    "combined": Figure(
        "Combined score against training samples",
        (
            Panel("combined_normalised", "score, fixed anchors"),
            Panel("combined_mean", "score, mean of two"),
            Panel("combined", "score, as published"),
        ),
        log=False,
    ),
    "training_time": Figure(
        "Training time against training samples",
        (Panel("train_seconds", "training time (s)"),),
        start=False,
        guide=True,
    ),
    "quality_speed": Figure(
        "Quality against speed",
        (_PERPLEXITY,),
        x="tokens_per_second",
        x_label="generated tokens per second",
    ),
    "quality_size": Figure(
        "Quality against size", (_PERPLEXITY,), x="size_mb", x_label="size of the weights (MB)"
    ),
}
"""The figures of a study, in the order of the report."""


def drawable(name: str, runs: pd.DataFrame) -> bool:
    """Tell whether a runs table holds numbers for a figure."""
    figure = FIGURES[name]
    table = prepare_runs(runs)
    ready = not figure.is_trade_off or has_values(table, figure.x)
    return ready and any(has_values(table, panel.column) for panel in figure.panels)


def read_caption(captions: str | Path, name: str) -> str:
    """Read a figure's caption, plain text in `<captions>/<name>.rst`, as one line.

    Raises:
        UserError: the file is missing.
    """
    path = Path(captions) / f"{name}.rst"
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; every figure has a caption there") from None


# --- the numbers -----------------------------------------------------------------------------


def figure_table(
    name: str, runs: pd.DataFrame, references: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Return the numbers that a figure draws, one row per mark or line, as in its CSV.

    `kind` is mean (over the runs of a cell; low and high are one standard deviation off it, null
    for a single run), run, before (training; drawn at samples 0), teacher, floor or guide.

    Raises:
        UserError: the table lacks a column that the figure needs.
    """
    if name not in FIGURES:
        raise UserError(f"there is no figure {name}; choose one of {', '.join(FIGURES)}")
    figure = FIGURES[name]
    table = prepare_runs(runs)
    wanted = [panel for panel in figure.panels if panel.column in table]
    if not wanted:
        names = " or ".join(panel.column for panel in figure.panels)
        raise UserError(f"figure {name} needs column {names}, which the runs table does not hold")
    if figure.x not in table:
        raise UserError(
            f"figure {name} needs column {figure.x}, which the runs table does not hold"
        )
    rows: list[dict[str, Any]] = []
    lines = lines_of(table)
    for panel in wanted:
        if not has_values(table, panel.column) or not has_values(table, figure.x):
            continue
        for line in lines:
            rows += _line_rows(line, figure, panel)
        if figure.guide:
            rows += _guide_rows(rows, panel)
        rows += _reference_rows(lines, figure, panel, references or {})
    out = pd.DataFrame(rows, columns=CSV_COLUMNS)
    return out.astype({"samples": "Int64", "runs": "Int64"})


def _row(panel: Panel, kind: str, label: str, **values: Any) -> dict[str, Any]:
    return {"panel": panel.column, "kind": kind, "label": label, **values}


def _line_rows(line: Line, figure: Figure, panel: Panel) -> list[dict[str, Any]]:
    """Return the marks of one line: single runs, means of cells, the student before training."""
    runs = line.runs.assign(
        x=pd.to_numeric(line.runs[figure.x], errors="coerce"),
        y=pd.to_numeric(line.runs[panel.column], errors="coerce"),
    ).dropna(subset=["x", "y"])
    if figure.log:
        runs = runs[runs["y"] > 0]
    rows = []
    for size, cell in runs.groupby("samples"):
        samples = int(size)
        many = len(cell) > 1
        mean = float(cell["y"].mean())
        sd = float(cell["y"].std()) if many else math.nan
        at = {"samples": samples, "x": float(cell["x"].mean())}
        values = {"y": mean, "low": mean - sd, "high": mean + sd, "runs": len(cell)}
        rows.append(_row(panel, "mean", line.label, **at, **values))
        if many and not figure.is_trade_off:
            for y in cell["y"]:
                rows.append(_row(panel, "run", line.label, **at, y=float(y), runs=1))
    if rows and figure.start and not figure.is_trade_off and has_values(line.before, panel.column):
        start = float(pd.to_numeric(line.before[panel.column]).mean())
        values = {"samples": 0, "x": 0.0, "y": start, "runs": len(line.before)}
        rows.append(_row(panel, "before", line.student, **values))
    return rows


def _guide_rows(rows: list[dict[str, Any]], panel: Panel) -> list[dict[str, Any]]:
    """Return two ends of a line proportional to the samples, a little above the highest line."""
    means = [row for row in rows if row["kind"] == "mean" and row["panel"] == panel.column]
    if len({row["samples"] for row in means}) < 2:
        return []
    last = max(means, key=lambda row: (row["samples"], row["y"]))
    ends = [min(row["samples"] for row in means), last["samples"]]
    per_sample = 1.6 * last["y"] / last["samples"]
    return [
        _row(panel, "guide", "∝ samples", samples=n, x=float(n), y=n * per_sample) for n in ends
    ]


def _reference_rows(
    lines: list[Line], figure: Figure, panel: Panel, references: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the teacher's and the floor's values of a panel."""
    rows = []
    teachers = references.get("teachers", {})
    names = [t for t in dict.fromkeys(line.teacher for line in lines) if t in teachers]
    for name in names or list(teachers):
        facts = teachers[name]
        y = facts.get(panel.teacher) if panel.teacher else None
        x = facts.get(figure.x) if figure.is_trade_off else math.nan
        if y is not None and x is not None:
            label = "teacher" if len(teachers) == 1 else f"teacher {name}"
            rows.append(_row(panel, "teacher", label, x=float(x), y=float(y)))
    floor = (references.get("floor") or {}).get(panel.floor) if panel.floor else None
    if floor is not None:
        rows.append(_row(panel, "floor", "canned answer", y=float(floor)))
    return rows


# --- the drawing -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    colour: str
    marker: str
    dash: Any


def _looks(lines: list[Line]) -> dict[str, _Look]:
    """Give each line a look: colour by student, marker and dash by all else."""
    students = list(dict.fromkeys(line.student for line in lines))
    kinds = list(dict.fromkeys((x.teacher, x.method, x.curation, x.cache) for x in lines))
    looks = {}
    for line in lines:
        kind = kinds.index((line.teacher, line.method, line.curation, line.cache))
        looks[line.label] = _Look(
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

    A column that the table has but that holds no number (a metric that does not apply) gives a
    figure that says so.

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
    looks = _looks(lines)
    panels = [p for p in figure.panels if (table["panel"] == p.column).any()]
    canvas = Canvas()
    FigureCanvasAgg(canvas)
    if not panels:
        canvas.set_size_inches(AXES_INCHES[0], 1.0)
        names = " or ".join(p.column for p in figure.panels)
        canvas.text(0.5, 0.5, f"No run has a value\nof {names}.", ha="center", va="center")
        return canvas
    left, right, bottom, top, gap = 0.72, 0.25, 0.52, 0.1, 0.22
    width, height = AXES_INCHES
    height = height if len(panels) == 1 else 1.7
    # Labels at the lines' ends while they fit beside a panel, else a key below the lowest one.
    crowded = sum(_label_height(line.label) for line in lines) > height - 0.45
    columns = 1
    if figure.is_trade_off:
        bottom += 0.24 if len(lines) > len({line.student for line in lines}) else 0.0
    else:
        kinds = ["teacher", "floor", "guide"] if crowded else ["mean", "teacher", "floor", "guide"]
        beside = table.loc[table["kind"].isin(kinds), "label"]
        right = 0.25 + _label_inches(beside, canvas)
    if crowded and not figure.is_trade_off:
        widest = _label_inches(table.loc[table["kind"] == "mean", "label"], canvas, wrap=False)
        columns = max(1, int((left + width + right) / (widest + 0.55)))
        bottom += 0.155 * math.ceil(len(lines) / columns) + 0.12
    total = (left + width + right, bottom + top + len(panels) * height + (len(panels) - 1) * gap)
    canvas.set_size_inches(*total)
    for index, panel in enumerate(panels):
        above = len(panels) - 1 - index
        low = bottom + above * (height + gap)
        box = (left / total[0], low / total[1], width / total[0], height / total[1])
        axes = canvas.add_axes(box)
        rows = table[table["panel"] == panel.column]
        axes.set_ylabel(panel.label)
        if figure.is_trade_off:
            _draw_trade_off(axes, rows, lines, looks)
        else:
            _draw_panel(axes, rows, looks, figure, crowded)
            if crowded and above == 0:
                _line_key(canvas, lines, looks, columns)
        last = above == 0
        axes.tick_params(labelbottom=last)
        if last:
            axes.set_xlabel(figure.x_label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return canvas


def _label_inches(labels: pd.Series, canvas: Canvas, wrap: bool = True) -> float:
    """Measure the widest of some labels."""
    renderer = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    widest = 0.0
    for label in labels.unique():
        text = canvas.text(0, 0, _wrapped(label) if wrap else label)
        widest = max(widest, text.get_window_extent(renderer).width / canvas.dpi)
        text.remove()
    return widest


def _label_height(label: str) -> float:
    """Return the height of a label at a line's end, in inches."""
    return 0.145 * (1 + _wrapped(label).count("\n"))


def _wrapped(label: str) -> str:
    """Break a long label at its middle dots."""
    return label.replace(" · ", "\n", 1) if len(label) > 22 else label


def _draw_panel(
    axes: Axes, rows: pd.DataFrame, looks: dict[str, _Look], figure: Figure, crowded: bool
) -> None:
    """Draw lines over samples with the students before training on a broken 0 at the left."""
    sizes = sorted({int(n) for n in rows.loc[rows["kind"] == "mean", "samples"]})
    before = rows[rows["kind"] == "before"].drop_duplicates(["label", "y"])
    step = max(1.35, (sizes[-1] / sizes[0]) ** 0.13)
    zero = sizes[0] / step**1.4
    axes.set_xscale("log")
    axes.set_xlim(zero / step**0.5 if len(before) else sizes[0] / step**0.4, sizes[-1] * step**0.4)
    if figure.log:
        axes.set_yscale("log")
    inside = rows[rows["kind"] != "before"]
    _set_range(axes, inside, before, figure)
    ends: list[tuple[float, str, str]] = []
    for label in inside.loc[inside["kind"] == "mean", "label"].unique():
        look = looks[label]
        mine = inside[(inside["label"] == label) & (inside["kind"] == "mean")]
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
        last = mine.iloc[-1]
        if not crowded:
            ends.append((float(last["y"]), label, look.colour))
    for kind, dash in (("teacher", (0, (6, 3))), ("floor", (0, (1, 2)))):
        for row in inside[inside["kind"] == kind].itertuples():
            axes.axhline(row.y, color=GREY, lw=1.1, ls=dash)
            ends.append((float(row.y), row.label, GREY))
    guide = inside[inside["kind"] == "guide"]
    if len(guide):
        axes.plot(guide["x"], guide["y"], color=GREY, lw=1.1, ls=(0, (1, 2)))
        ends.append((float(guide["y"].iloc[-1]), guide["label"].iloc[-1], GREY))
    _mark_before(axes, before, looks, zero)
    _sample_ticks(axes, sizes, zero if len(before) else None)
    _value_ticks(axes, figure.log)
    _label_ends(axes, ends)


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


def _mark_before(axes: Axes, before: pd.DataFrame, looks: dict[str, _Look], zero: float) -> None:
    """Mark the untrained students at 0; those off the scale by an arrow and their value."""
    high = axes.get_ylim()[1]
    off = before[before["y"] > high].sort_values("y", ascending=False)
    for row in before[before["y"] <= high].itertuples():
        colour = looks[str(row.label)].colour
        axes.plot([zero], [row.y], "o", mfc="white", mec=colour, mew=1.3, clip_on=False, zorder=4)
    names = [(f"{r.label}: {number(r.y)}", looks[str(r.label)].colour) for r in off.itertuples()]
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


def _sample_ticks(axes: Axes, sizes: list[int], zero: float | None) -> None:
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


def _value_ticks(axes: Axes, log: bool, axis: Literal["x", "y"] = "y") -> None:
    """Write plain numbers on an axis, with enough ticks on a short logarithmic one."""
    which = axes.yaxis if axis == "y" else axes.xaxis
    if log:
        low, high = axes.get_ylim() if axis == "y" else axes.get_xlim()
        ticks = _log_ticks(low, high, most=7)
        which.set_major_locator(FixedLocator(ticks))
        which.set_minor_locator(NullLocator())
        which.set_minor_formatter(NullFormatter())
    which.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))


def _tick(value: float) -> str:
    """Write a tick without trailing zeros; large ones in short, as the margin is fixed."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= max(unit, 1e5):
            return f"{value / unit:,g} {name}"
    return f"{value:,.10f}".rstrip("0").rstrip(".") if value else "0"


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Choose at least three round ticks in a range if there are, and at most `most`."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    best: list[float] = []
    for digits in (
        (1.0,),
        (1.0, 3.0),
        (1.0, 2.0, 5.0),
        (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
        tuple(np.arange(10, 100, 5) / 10),
        tuple(np.arange(10, 100, 2) / 10),
        tuple(np.arange(100, 1000, 5) / 100),
    ):
        ticks = [
            round(d * 10.0**decade, 12 - decade)
            for decade in decades
            for d in digits
            if low <= d * 10.0**decade <= high
        ]
        if len(ticks) > most:
            break
        best = ticks
        if len(ticks) >= 4:
            break
    return best or [low, high]


def _spread(places: Iterable[float], heights: list[float], top: float) -> list[float]:
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


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write labels to the right of a panel at their lines' ends, moved apart to stay readable."""
    ends = sorted(ends)
    width, height = AXES_INCHES[0], axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    scale = axes.transData + axes.transAxes.inverted()
    x_end = axes.get_xlim()[1]
    places = [float(scale.transform((x_end, y))[1]) * height for y, _, _ in ends]
    heights = [_label_height(label) for _, label, _ in ends]
    moved = _spread(places, heights, height + 0.08)
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
            _wrapped(label),
            color=colour,
            va="center",
            linespacing=1.0,
            transform=axes.transAxes,
        )


def _draw_trade_off(
    axes: Axes, rows: pd.DataFrame, lines: list[Line], looks: dict[str, _Look]
) -> None:
    """Draw runs against a property of their student, a large mark for the largest size."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    x, y = rows["x"].to_numpy(float), rows["y"].to_numpy(float)
    wide, tall = max(x.max() / x.min(), 1.5), max(y.max() / y.min(), 1.1)
    axes.set_xlim(x.min() / wide**0.2, x.max() * wide**0.2)
    axes.set_ylim(y.min() / tall**0.15, y.max() * tall**0.12)
    _value_ticks(axes, log=True)
    _value_ticks(axes, log=True, axis="x")
    labels: list[tuple[float, float, str, str]] = []
    means = rows[rows["kind"] == "mean"]
    methods: dict[str, _Look] = {}
    for line in lines:
        mine = means[means["label"] == line.label].sort_values("samples")
        if mine.empty:
            continue
        look = looks[line.label]
        methods.setdefault(line.label.removeprefix(line.student).removeprefix(" · "), look)
        axes.plot(mine["x"], mine["y"], color=look.colour, lw=0.6, alpha=0.5)
        small: dict[str, Any] = {"color": look.colour, "ms": 3.5, "mew": 0, "alpha": 0.6}
        axes.plot(mine["x"][:-1], mine["y"][:-1], look.marker, **small)
        last = mine.iloc[-1]
        axes.plot(last["x"], last["y"], look.marker, color=look.colour, ms=7, mec="white", mew=0.7)
    for student in dict.fromkeys(line.student for line in lines):
        mine = means[means["label"].isin([x.label for x in lines if x.student == student])]
        for x, stack in mine.groupby("x"):
            labels.append((float(x), float(stack["y"].max()), student, looks[student].colour))
    for row in rows[rows["kind"] == "teacher"].itertuples():
        axes.plot(row.x, row.y, "*", color=GREY, ms=10)
        labels.append((float(row.x), float(row.y), row.label, GREY))
    _label_marks(axes, labels)
    if len(methods) > 1:
        _key(axes, methods)


def _line_key(canvas: Canvas, lines: list[Line], looks: dict[str, _Look], columns: int) -> None:
    """Explain the lines below the panels."""
    handles = []
    for line in lines:
        look = looks[line.label]
        style = {"color": look.colour, "marker": look.marker, "ls": look.dash}
        handles.append(Line2D([], [], label=line.label, **style))
    canvas.legend(
        handles=handles,
        loc="lower left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelspacing=0.25,
        borderaxespad=0.2,
        handlelength=2.2,
        columnspacing=1.0,
    )


def _key(axes: Axes, methods: dict[str, _Look]) -> None:
    """Explain the markers below the panel."""
    handles = [
        Line2D([], [], color=GREY, marker=look.marker, ls="none", ms=6, label=name)
        for name, look in methods.items()
    ]
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=min(len(handles), 4),
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _label_marks(axes: Axes, labels: list[tuple[float, float, str, str]]) -> None:
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
