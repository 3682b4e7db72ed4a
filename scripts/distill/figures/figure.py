"""What a figure is: the numbers that it draws, and how its layers and axes show them.

The module `distill.figures.<name>` of each entry of `distill.contracts.figures.FIGURES` defines a
`FIGURE`. `distill.figures.draw` draws it. Nothing here needs matplotlib.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from distill.core.errors import UserError
from distill.laws.fitted import FittedLaw
from distill.laws.runs import laws_in, trained_rows
from distill.table.lines import Line, lines_of, prepare_runs

COLUMNS = [
    "row", "column", "kind", "label", "line", "law", "x", "y", "low", "high", "run_low",
    "run_high", "runs", "mark",
]  # fmt: skip
"""Columns of a figure's CSV: where a mark stands (row and column of panels), what it is (kind),
whose it is (label), and its numbers."""
GREY = "#595959"
Rows = list[dict[str, Any]]
Section = Literal["measured", "laws", "other", "flops", "caches", "searches", "costs"]
"""Where the report shows a figure."""


@dataclass(frozen=True)
class Inputs:
    """What figures are made from.

    Attributes:
        runs: The runs table.
        references: Content of references.json; empty for a user's own table.
        laws: Content of laws.json; None for none.
    """

    runs: pd.DataFrame
    references: Mapping[str, Any] = field(default_factory=dict)
    laws: Mapping[str, Any] | None = None

    @cached_property
    def table(self) -> pd.DataFrame:
        """The checked runs table.

        Raises:
            UserError: A needed column is missing or holds an impossible value.
        """
        return prepare_runs(self.runs)

    @cached_property
    def lines(self) -> list[Line]:
        """The runs as lines over samples."""
        return lines_of(self.table)

    @cached_property
    def trained(self) -> pd.DataFrame:
        """The trained runs with the columns that laws read."""
        return trained_rows(self.runs, self.references)

    @cached_property
    def fitted(self) -> list[FittedLaw]:
        """The fitted laws."""
        return laws_in(self.laws)

    @cached_property
    def students(self) -> list[str]:
        """Students in the table's order, which gives each its colour in every figure."""
        return list(dict.fromkeys(self.runs["student"].astype(str)))


@dataclass(frozen=True)
class Axis:
    """One axis of the panels.

    Attributes:
        label: Its text; or one per row or column of panels (the name itself for others); or a
            function of the inputs.
        scale: `samples` is logarithmic with a place for 0; `names` has one place per label;
            `count` has whole numbers; `bounded` is linear within ± bound, logarithmic beyond.
        share: Which panels have the same limits.
        reach: How far intervals may extend the limits of marks, as a share of their span.
        guide: A line at 0, or where both axes are equal.
        bound: Half the width of a grey band around 0, per row of panels.
    """

    label: str | Mapping[str, str] | Callable[[Inputs], str] = ""
    scale: Literal["log", "linear", "samples", "names", "count", "bounded"] = "log"
    share: Literal["all", "row", "col", "none"] = "all"
    reach: float = 2.0
    guide: Literal["", "zero", "equal"] = ""
    bound: Mapping[str, float] = field(default_factory=dict)

    def text(self, row: str, column: str, inputs: Inputs) -> str:
        """Return the label of a panel's axis."""
        if callable(self.label):
            return self.label(inputs)
        if isinstance(self.label, str):
            return self.label
        return self.label.get(row, self.label.get(column, column))


@dataclass(frozen=True)
class Layer:
    """Rows of one kind and the mark that draws them.

    Attributes:
        kind: The table's `kind`; empty for all.
        draw: `across` is a line over the whole panel, `steps` a line in steps to the panel's end,
            `interval` reaches from one end to the other, `bar` is a part of a stacked bar, `start`
            a hollow mark at 0 or, off the scale, an arrow and a note of its value.
        only: The table's `mark`; empty for all.
        pick: Chooses among these rows.
        key: Text of a grey entry in the legend; empty for none.
        style: Properties of matplotlib that override the label's look.
        ends: Columns of the lower and upper end of a band or interval.
        unbounded: Whether an end that is null has no bound; else the interval is not known.
    """

    kind: str
    draw: Literal["line", "points", "band", "interval", "across", "steps", "bar", "start"]
    only: str = ""
    pick: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    key: str = ""
    style: Mapping[str, Any] = field(default_factory=dict)
    ends: tuple[str, str] = ("low", "high")
    unbounded: bool = False

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows that this layer draws."""
        keep = table["kind"] == self.kind if self.kind else table["kind"].notna()
        rows = table[keep & (table["mark"] == self.only)] if self.only else table[keep]
        return self.pick(rows) if self.pick and len(rows) else rows


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        title: Its title in the report.
        section: Where the report shows it.
        empty: Why it may hold nothing.
        numbers: Computes the rows of its table from the inputs.
        layers: What is drawn, lowest first.
        x: The horizontal axis.
        y: The vertical axis, or one per row of panels.
        facets: Columns of the table that give rows and columns of panels; None for one.
        colour: Column of the table that gives a mark its colour.
        shape: Column of the table that gives a mark its marker and dash.
        dodge: Columns whose values stand a little apart, so that none hides another.
        height: Height of a row of panels, inches.
        wrap: Most panels in a row where panels differ in their column alone; 0 for all.
        row_titles: Whether each row of panels bears its name.
        sequential: Unit of the numbers by which colours go from light to dark; empty for names.
        texts: What the legend and titles write for names that are not texts themselves.
        columns: Columns of the CSV.
        hidden: Further columns of the table, for `colour` and `shape`.
        vacant: Text of a panel without rows.
    """

    title: str
    section: Section
    empty: str
    numbers: Callable[[Inputs], Rows]
    layers: tuple[Layer, ...]
    x: Axis
    y: Axis | Mapping[str, Axis]
    facets: tuple[str | None, str | None] = ("row", "column")
    colour: str = "label"
    shape: str = "label"
    dodge: tuple[str, ...] = ()
    height: float = 1.5
    wrap: int = 0
    row_titles: bool = False
    sequential: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = tuple(COLUMNS)
    hidden: tuple[str, ...] = ()
    vacant: str = ""

    def axis(self, row: str) -> Axis:
        """Return the vertical axis of a row of panels."""
        return self.y if isinstance(self.y, Axis) else self.y[row]

    def table(self, inputs: Inputs) -> pd.DataFrame:
        """Return exactly the numbers drawn, one row per mark, with the hidden columns.

        Raises:
            UserError: The runs table lacks a column that the figure needs.
        """
        table = pd.DataFrame(self.numbers(inputs), columns=[*self.columns, *self.hidden])
        integers = [name for name in ("samples", "runs") if name in table]
        return table.astype(dict.fromkeys(integers, "Int64"))


def find_figure(name: str) -> Figure:
    """Return the figure of a name, from the module `distill.figures.<name>`.

    The name comes from `distill.contracts.figures.FIGURES`. Rules that use figures take the code
    digest of each of these modules, as digests do not follow this import.
    """
    figure: Figure = import_module(f"distill.figures.{name}").FIGURE
    return figure


def read_caption(captions: str | Path, name: str) -> str:
    """Read a figure's caption, plain text in `<captions>/<name>.rst`, as one line.

    Raises:
        UserError: The file is missing.
    """
    path = Path(captions) / f"{name}.rst"
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; every figure has a caption there") from None
