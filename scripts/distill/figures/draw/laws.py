"""Draw the figures of fitted laws: curves with both bands, residuals, exponents, judged runs."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from distill.figures.axes import label_inches, on_one_row
from distill.figures.panels import (
    entry,
    label_looks,
    log_limits,
    make_grid,
    plain_limits,
    set_ticks,
    short_text,
)
from distill.figures.styles import GREY, MARKERS, OKABE_ITO, Look
from distill.laws.runs import SIZES, TARGETS, labels_in

_BANDS = ((0.11, "run_low", "run_high"), (0.28, "low", "high"))


def _panel(table: pd.DataFrame, row: str, column: str) -> pd.DataFrame:
    return table[(table["row"] == row) & (table["column"] == column)]


def _ends(curve: pd.DataFrame, low: str, high: str, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """A band's ends; those beyond any number reach the edge of the panel."""
    least, most = axes.get_ylim()
    lows = curve[low].fillna(least / 2).clip(lower=least / 2).to_numpy(float)
    return lows, curve[high].fillna(most * 2).clip(upper=most * 2).to_numpy(float)


def draw_law_curves(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """Rows of methods, columns of targets: runs, curves and their two bands."""
    looks = label_looks(students)
    lines = labels_in(table["row"])
    targets = [t for t in TARGETS if (table["column"] == t).any()]
    shown = [s for s in students if (table["label"] == s).any()]
    key: list[Any] = [entry(name, looks[name]) for name in shown]
    if (table["mark"] == "judged").any():
        key.append(entry("judged run", color=GREY, marker="o", mfc="white", ls="none", ms=4.4))
    if (table["mark"] == "apart").any():
        key.append(entry("other epochs", color=GREY, marker="x", ls="none"))
    key += [Patch(color=GREY, alpha=0.45, label="mean curve"),
            Patch(color=GREY, alpha=0.16, label="new run")]  # fmt: skip
    grid = make_grid(
        [1.35 if len(lines) < 3 else 1.15] * len(lines), len(targets), key,
        titles=lines,
        headings=[f"{TARGETS[t]}, nats" for t in targets],
    )  # fmt: skip
    limits = {
        target: log_limits(_within(table[table["column"] == target])[["y", "low", "high"]])
        for target in targets
    }
    for (row, column), axes in grid.panels.items():
        mine = _panel(table, lines[row], targets[column])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(log_limits(table["x"], 0.02))
        axes.set_ylim(limits[targets[column]])
        for student in labels_in(mine["label"]):
            own = mine[mine["label"] == student]
            _draw_curve(axes, own[own["kind"] == "curve"], looks[student])
            _draw_runs(axes, own[own["kind"] == "run"], looks[student])
        if mine.empty:
            axes.text(0.5, 0.5, "no law is determined", transform=axes.transAxes, ha="center")
        set_ticks(axes, "x", log=True)
        set_ticks(axes, "y", log=True)
        if row == len(lines) - 1:
            axes.set_xlabel("unique training tokens")
    return grid.canvas


def _within(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose bands are cut where they are far wider than what was measured."""
    low, high = table["y"].min(), table["y"].max()
    room = max(high / low, 1.3) ** 0.15
    out = table.copy()
    for name in ("low", "high"):
        out[name] = out[name].clip(low / room, high * room)
    return out


def _draw_curve(axes: Axes, curve: pd.DataFrame, look: Look) -> None:
    if curve.empty:
        return
    for alpha, low, high in _BANDS:
        lows, highs = _ends(curve, low, high, axes)
        axes.fill_between(curve["x"], lows, highs, color=look.colour, alpha=alpha, lw=0)
    axes.plot(curve["x"], curve["y"], color=look.colour, ls=look.dash)


def _draw_runs(axes: Axes, runs: pd.DataFrame, look: Look) -> None:
    styles: dict[str, dict[str, Any]] = {
        "fitted": {"marker": look.marker, "ms": 3.2, "mew": 0},
        "judged": {"marker": look.marker, "ms": 4.4, "mfc": "white", "mew": 0.9},
        "apart": {"marker": "x", "ms": 3, "mew": 0.7, "alpha": 0.7},
    }
    for mark, style in styles.items():
        these = runs[runs["mark"] == mark]
        axes.plot(these["x"], these["y"], ls="none", color=look.colour, zorder=3, **style)


def draw_size_curves(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """Rows of methods, columns of measures of size, a colour from light to dark for tokens."""
    tokens = sorted(labels_in(table["label"]), key=float)
    shades = mpl.colormaps["cividis"](np.linspace(0.86, 0.0, len(tokens)))
    looks = {
        label: Look(to_hex(shades[k]), MARKERS[k % len(MARKERS)], "-")
        for k, label in enumerate(tokens)
    }
    lines = labels_in(table["row"])
    sizes = [size for size in SIZES if (table["column"] == size).any()]
    key: list[Any] = [
        entry(f"{short_text(_rounded(float(name)))} tokens", looks[name]) for name in tokens
    ]
    curves = bool((table["kind"] == "curve").any())
    if curves:
        key += [Patch(color=GREY, alpha=0.45, label="mean curve"),
                Patch(color=GREY, alpha=0.16, label="new run")]  # fmt: skip
    headings = [f"{SIZES[size]} parameters" for size in sizes]
    grid = make_grid([1.35 if len(lines) < 3 else 1.15] * len(lines), len(sizes), key,
                     titles=lines, headings=headings, gap=0.32)  # fmt: skip
    cut = _within(table)
    for (row, column), axes in grid.panels.items():
        mine = _panel(table, lines[row], sizes[column])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(log_limits(table.loc[table["column"] == sizes[column], "x"], 0.03))
        axes.set_ylim(log_limits(cut[["y", "low", "high"]]))
        for label in tokens:
            own, look = mine[mine["label"] == label], looks[label]
            curve, means = own[own["kind"] == "curve"], own[own["kind"] == "mean"].sort_values("x")
            _draw_curve(axes, curve, look)
            dash: Any = "none" if len(curve) else (0, (1, 2))
            axes.plot(means["x"], means["y"], look.marker, color=look.colour, ls=dash, mew=0.3,
                      mec="black", lw=0.8, zorder=3)  # fmt: skip
            axes.vlines(means["x"], means["low"], means["high"], color=look.colour, lw=0.8)
        set_ticks(axes, "x", log=True, most=3)
        set_ticks(axes, "y", log=True)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("held-out loss (nats)")
        if row == len(lines) - 1:
            axes.set_xlabel("parameters")
    return grid.canvas


def _rounded(value: float) -> float:
    """Two significant digits, enough to name a level."""
    return float(f"{value:.2g}")


def draw_residuals(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """Rows of targets and kinds of law, columns of inputs; zero is a hit."""
    rows = labels_in(table["row"])
    columns = {"tokens": "unique training tokens", "size": "parameters"}
    shown = [name for name in columns if (table["column"] == name).any()]
    lines = labels_in(table["label"])
    looks = label_looks(lines)
    key = [entry(name, looks[name], ls="none") for name in lines]
    grid = make_grid([0.85] * len(rows), len(shown), key if len(lines) > 1 else [],
                     titles=rows, gap=0.16)  # fmt: skip
    for (row, column), axes in grid.panels.items():
        mine = _panel(table, rows[row], shown[column])
        axes.set_xscale("log")
        axes.set_xlim(log_limits(table.loc[table["column"] == shown[column], "x"]))
        both = table.loc[table["row"] == rows[row], "y"]
        reach = 1.1 * max(float(both.abs().max()), 0.1)
        axes.set_ylim(-reach, reach)
        axes.axhline(0, color=GREY, lw=0.8)
        apart = np.linspace(-1, 1, len(lines)) if len(lines) > 1 else [0.0]
        low, high = np.log(axes.get_xlim())
        for label, side in zip(lines, apart, strict=True):
            own, look = mine[mine["label"] == label], looks[label]
            # A little apart, so that methods measured at equal tokens do not hide each other.
            xs = own["x"].to_numpy(float) * np.exp(0.012 * side * (high - low))
            axes.plot(xs, own["y"], look.marker, color=look.colour, mew=0, alpha=0.75)
        set_ticks(axes, "x", log=True)
        set_ticks(axes, "y", log=False)
        axes.tick_params(labelleft=column == 0)
        if column == 0:
            axes.set_ylabel("miss (%)")
        if row == len(rows) - 1:
            axes.set_xlabel(columns[shown[column]])
    return grid.canvas


_GREEK = {"alpha": "α, of size", "beta": "β, of tokens", "gamma": "γ, of the ratio",
          "delta": "δ, of the break"}  # fmt: skip


def draw_exponents(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """A panel per exponent, a line per law's runs, both targets beside each other."""
    laws, rows = labels_in(table["law"]), labels_in(table["row"])
    markers = dict(zip(laws, (MARKERS * 3)[: len(laws)], strict=True))
    colours = dict(zip(TARGETS, OKABE_ITO, strict=False))
    places = {row: labels_in(table.loc[table["row"] == row, "label"]) for row in rows}
    key = [entry(TARGETS[t], color=colours[t], ls="-" if t == "loss" else (0, (3, 1.2)))
           for t in labels_in(table["column"])]  # fmt: skip
    key += [
        entry(law.replace("_", " "), color=GREY, marker=markers[law], ls="none") for law in laws
    ]
    if (table["kind"] == "unidentifiable").any():
        key.append(entry("not identifiable", color=GREY, marker="o", mfc="white", ls="none"))
    names = {label: on_one_row(label, 34) for label in table["label"]}
    empty = make_grid([1.0], 1)
    left = min(1.9, label_inches(names.values(), empty.canvas) * 6.5 / 7 + 0.12)
    grid = make_grid([0.17 * len(places[row]) + 0.12 for row in rows], 1, key, left=left,
                     row_gap=0.2, titles=[_GREEK[row] for row in rows])  # fmt: skip
    for (row, _), axes in grid.panels.items():
        mine = table[table["row"] == rows[row]]
        known = mine[mine["kind"] == "known"]
        low, high = plain_limits((known if len(known) else mine)[["x", "low", "high"]], 0.1)
        # Exponents are positive unless signed: the axis then starts at 0.
        axes.set_xlim(low if low < -0.2 * high else 0.0, high)
        axes.set_ylim(len(places[rows[row]]) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        for found in mine.itertuples():
            y = float(places[rows[row]].index(found.label))
            if (mine["column"].nunique()) > 1:
                y += -0.17 if found.column == "loss" else 0.17
            hollow = found.kind == "unidentifiable"
            _draw_bar(axes, found, y, colours[found.column], markers[found.law], hollow)
        axes.set_yticks(range(len(places[rows[row]])), [names[n] for n in places[rows[row]]])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelbottom=True)
        set_ticks(axes, "x", log=False, most=6)
    grid.panels[len(rows) - 1, 0].set_xlabel("exponent, with 90 % interval")
    return grid.canvas


def _draw_bar(axes: Axes, found: Any, y: float, colour: str, marker: str, hollow: bool) -> None:
    """Draw an exponent with its interval; arrows where it leaves the panel or is unbounded."""
    left, right = axes.get_xlim()
    dash: Any = "-" if found.column == "loss" else (0, (3, 1.2))
    low = left if pd.isna(found.low) else max(found.low, left)
    high = right if pd.isna(found.high) else min(found.high, right)
    faint = 0.55 if hollow else 1.0
    if low < high:
        axes.plot([low, high], [y, y], color=colour, lw=1.1, ls=dash, alpha=faint)
    for open_end, x, arrow in (
        (pd.isna(found.low) or found.low < left, left, "<"),
        (pd.isna(found.high) or found.high > right, right, ">"),
    ):
        if open_end:
            axes.plot([x], [y], arrow, color=colour, ms=3, mew=0, clip_on=False, alpha=faint)
    if left <= found.x <= right:
        axes.plot([found.x], [y], marker, color=colour, mfc="white" if hollow else colour, ms=4,
                  mew=0.9, zorder=3)  # fmt: skip


def draw_judged(table: pd.DataFrame, students: Sequence[str]) -> Canvas:
    """Predicted against measured above, the miss in per cent below, a column per target."""
    targets = [t for t in TARGETS if (table["column"] == t).any()]
    lines, scopes = labels_in(table["label"]), labels_in(table["mark"])
    looks = label_looks(lines)
    shapes = dict(zip(scopes, ("o", "s", "D"), strict=False))
    key = [entry(name, color=looks[name].colour, lw=2.2) for name in lines]
    key += [entry(s, color=GREY, marker=shapes[s], ls="none") for s in scopes]
    grid = make_grid([1.35, 1.0], len(targets), key,
                     headings=[f"{TARGETS[t]}, nats" for t in targets])  # fmt: skip
    for (row, column), axes in grid.panels.items():
        kind = ("value", "miss")[row]
        mine = _panel(table, kind, targets[column])
        edges = log_limits(_panel(table, "value", targets[column])[["x", "y"]])
        axes.set_xscale("log")
        axes.set_xlim(edges)
        if kind == "value":
            axes.set_yscale("log")
            axes.set_ylim(edges)
            axes.plot(edges, edges, color=GREY, lw=0.8)
        else:
            axes.axhline(0, color=GREY, lw=0.8)
            centre = plain_limits(mine[["y"]])
            wide = plain_limits(mine[["low", "high", "y"]])
            reach = 2.5 * max(map(abs, centre))
            axes.set_ylim(max(wide[0], -reach), min(wide[1], reach))
        least, most = axes.get_ylim()
        turns = {label: k for k, label in enumerate(lines)}
        for found in mine.itertuples():
            # Runs of one measured value by several laws stand a little apart.
            place = scopes.index(found.mark) - (len(scopes) - 1) / 2
            place += 0.3 * (turns[found.label] - (len(lines) - 1) / 2) / max(1, len(lines))
            x = found.x * (edges[1] / edges[0]) ** (0.012 * place)
            colour = looks[found.label].colour
            low = least if pd.isna(found.low) else found.low
            high = most if pd.isna(found.high) else found.high
            axes.plot([x, x], [low, high], color=colour, lw=0.8, alpha=0.8)
            axes.plot([x], [found.y], shapes[found.mark], color=colour, ms=3, mew=0.4, mec="white")
        set_ticks(axes, "x", log=True)
        set_ticks(axes, "y", log=kind == "value")
        if column == 0:
            axes.set_ylabel("predicted" if kind == "value" else "miss (%)")
        if row == 1:
            axes.set_xlabel("measured")
    return grid.canvas
