"""The figures of a study: what each shows, and the table of exactly the numbers drawn.

Figures are functions of the runs table (and of what references.json holds beside it), so a table
made elsewhere can be drawn too. `distill.figures.canvas` turns a table of numbers into a picture.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from distill.answers.runs.cache_costs import KL_BOUND, LOSS_BOUND, cache_groups
from distill.core.errors import UserError
from distill.figures.numbers import laws as law_figures
from distill.figures.numbers import trades
from distill.laws.runs import laws_in, trained_rows
from distill.table.lines import Line, has_values, lines_of, prepare_runs

CSV_COLUMNS = ["panel", "kind", "label", "samples", "x", "y", "low", "high", "runs", "mark"]


@dataclass(frozen=True)
class Panel:
    """One set of axes: the column drawn and its name on the axis.

    `teacher` and `floor` name the entries of references.json drawn as lines across; `bound` is half
    the width of a band around 0.
    """

    column: str
    label: str
    teacher: str | None = None
    floor: str | None = None
    bound: float = 0.0


@dataclass(frozen=True)
class Figure:
    """What a figure shows: its panels from top to bottom against `x`.

    `lines` joins the sizes of each student and method over the column `x`; `marks` puts one mark
    per size where `x` is a property of the student; `caches` compares the caches of a student and
    method; `trials` shows searches, from references.json alone; `grid` is a table of small panels
    with numbers of its own (`GRIDS`). `log` makes the vertical axes
    logarithmic, `start` shows the students before training, `guide` adds a line proportional to
    the samples. `empty` says what the study lacks if there is nothing to draw.
    """

    title: str
    panels: tuple[Panel, ...]
    x: str = "samples"
    x_label: str = "training samples"
    log: bool = True
    start: bool = True
    guide: bool = False
    kind: Literal["lines", "marks", "caches", "trials", "grid"] = "lines"
    empty: str = ""

    @property
    def is_trade_off(self) -> bool:
        """Whether the horizontal axis is a property of the student instead of samples."""
        return self.kind == "marks"


_PERPLEXITY = Panel("perplexity", "perplexity", teacher="perplexity")
FIGURES: dict[str, Figure] = {
    "perplexity": Figure("Perplexity against training samples", (_PERPLEXITY,)),
    "kl_gap": Figure(
        "Gap to the teacher against training samples",
        (Panel("kl_teacher", "KL from teacher (nats/token)"),),
    ),
    "flops": Figure(
        "Loss against FLOPs, the teacher's share counted",
        (Panel("loss", "held-out loss (nats/token)", teacher="loss"),),
        x="total_flops",
        x_label="FLOPs of training, teacher text and soft targets",
        start=False,
    ),
    "cache_cost": Figure(
        "What a smaller cache costs",
        (
            Panel("loss_percent", "loss, % off the\nreference cache", bound=LOSS_BOUND),
            Panel("kl_percent", "KL, % off the\nreference cache", bound=KL_BOUND),
        ),
        x="cache_bytes_per_token",
        x_label="bytes per token",
        log=False,
        kind="caches",
        empty="No student and method\nhas several caches.",
    ),
    "search": Figure(
        "Trials of the searches",
        (Panel("loss", "validation loss (nats/token)"),),
        x="trial",
        x_label="trial",
        kind="trials",
        empty="This study has no search.",
    ),
    "calibration": Figure(
        "Calibration against training samples",
        (Panel("ece", "expected calibration error", teacher="ece"),),
        log=False,
        start=False,
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
        x_label="tokens per second",
        kind="marks",
    ),
    "quality_size": Figure(
        "Quality against size",
        (_PERPLEXITY,),
        x="size_mb",
        x_label="size of the weights (MB)",
        kind="marks",
    ),
    "law_curves": Figure(
        "Loss against tokens, with fitted laws",
        (),
        kind="grid",
        empty="No law of tokens could be fitted\nfor any student.",
    ),
    "size_curves": Figure(
        "Loss against size, with fitted laws",
        (),
        kind="grid",
        empty="No method has students\nof several known sizes.",
    ),
    "residuals": Figure(
        "Residuals of the laws",
        (),
        kind="grid",
        empty="No law could be fitted,\nso there are no residuals.",
    ),
    "exponents": Figure(
        "Exponents of the laws",
        (),
        kind="grid",
        empty="No law could be fitted,\nso there are no exponents.",
    ),
    "judged": Figure(
        "Predicted before seen",
        (),
        kind="grid",
        empty="No law could be judged: that takes\nmore sizes than a law has coefficients.",
    ),
    "pareto": Figure(
        "Loss against what a student costs to use",
        (),
        kind="grid",
        empty="No run has its size,\nFLOPs, speed or memory.",
    ),
    "pareto_energy": Figure(
        "Loss against the energy that a student took",
        (),
        kind="grid",
        empty="No run has its energy.",
    ),
    "distillation_gap": Figure(
        "Gap to the teacher against compression",
        (),
        kind="grid",
        empty="No run has both a gap to its teacher\nand a teacher of known size.",
    ),
    "flops_split": Figure(
        "Where the FLOPs go",
        (),
        kind="grid",
        empty="No run has FLOPs\nof a teacher's work.",
    ),
    "curation_effect": Figure(
        "What a curation changes",
        (),
        kind="grid",
        empty="No curated run has a twin\nwith curation raw.",
    ),
}
"""The figures of a study, in the order of the report."""
GRIDS: dict[str, Callable[..., law_figures.Rows]] = {
    "law_curves": law_figures.law_curves,
    "size_curves": law_figures.size_curves,
    "residuals": law_figures.residuals,
    "exponents": law_figures.exponents,
    "judged": law_figures.judged,
    "pareto": trades.pareto,
    "pareto_energy": trades.pareto_energy,
    "distillation_gap": trades.distillation_gap,
    "flops_split": trades.flops_split,
    "curation_effect": trades.curation_effect,
}
"""What computes the numbers of each figure of small panels."""
OF_LAWS = ("law_curves", "size_curves", "residuals", "exponents", "judged")
"""Figures that read laws.json; the other grids read references.json."""


def drawable(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    laws: Mapping[str, Any] | None = None,
) -> bool:
    """Tell whether a runs table, with what is known beside it, holds numbers for a figure."""
    figure = FIGURES[name]
    if figure.kind == "grid":
        return bool(_grid_rows(name, runs, references, laws))
    if not runs["samples"].notna().any():  # a table of one's own knows tokens alone
        return False
    if figure.kind in ("lines", "marks"):
        table = prepare_runs(runs)
        return has_values(table, figure.x) and any(
            has_values(table, panel.column) for panel in figure.panels
        )
    rows = _cache_rows if figure.kind == "caches" else _trial_rows
    return bool(rows(figure, lines_of(prepare_runs(runs)), references or {}))


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


def figure_table(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None = None,
    laws: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return the numbers that a figure draws, one row per mark or line, as in its CSV.

    `kind` is mean (over the runs of a cell; low and high are one standard deviation off it, null
    for a single run), run, before (training; drawn at samples 0), teacher, floor or guide; for
    caches reference or difference (with its 90 % interval, over so many pairs of runs), `mark`
    being the cache; for searches trial, pruned, best, or best so far. Figures of small panels have
    columns of their own (`law_figures.GRID_COLUMNS`), and read `laws`, the content of laws.json.

    Raises:
        UserError: the table lacks a column that the figure needs.
    """
    if name not in FIGURES:
        raise UserError(f"there is no figure {name}; choose one of {', '.join(FIGURES)}")
    figure = FIGURES[name]
    if figure.kind == "grid":
        found = _grid_rows(name, runs, references, laws)
        grid = pd.DataFrame(found, columns=law_figures.GRID_COLUMNS)
        return grid.astype({"runs": "Int64"})
    table = prepare_runs(runs)
    lines = lines_of(table)
    rows: list[dict[str, Any]] = []
    if figure.kind == "trials":
        rows = _trial_rows(figure, lines, references or {})
    elif figure.kind == "caches":
        if "cache" not in runs:
            raise UserError(f"figure {name} needs column cache, which the runs table does not hold")
        rows = _cache_rows(figure, lines, references or {})
    else:
        rows = _column_rows(name, figure, table, lines, references or {})
    out = pd.DataFrame(rows, columns=CSV_COLUMNS)
    return out.astype({"samples": "Int64", "runs": "Int64"})


def _grid_rows(
    name: str,
    runs: pd.DataFrame,
    references: dict[str, Any] | None,
    laws: Mapping[str, Any] | None,
) -> law_figures.Rows:
    """Return the rows of a figure of small panels."""
    rows = trained_rows(runs, references)
    if name in OF_LAWS:
        return GRIDS[name](rows, laws_in(laws))
    return GRIDS[name](rows, references or {})


def _row(panel: Panel, kind: str, label: str, **values: Any) -> dict[str, Any]:
    return {"panel": panel.column, "kind": kind, "label": label, **values}


def _column_rows(
    name: str, figure: Figure, table: pd.DataFrame, lines: list[Line], references: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of a figure that draws columns of the runs table."""
    wanted = [panel for panel in figure.panels if panel.column in table]
    if not wanted:
        names = " or ".join(panel.column for panel in figure.panels)
        raise UserError(f"figure {name} needs column {names}, which the runs table does not hold")
    if figure.x not in table:
        raise UserError(
            f"figure {name} needs column {figure.x}, which the runs table does not hold"
        )
    rows: list[dict[str, Any]] = []
    for panel in wanted:
        if not has_values(table, panel.column) or not has_values(table, figure.x):
            continue
        for line in lines:
            rows += _line_rows(line, figure, panel)
        if figure.guide:
            rows += _guide_rows(rows, panel)
        rows += _reference_rows(lines, figure, panel, references)
    return rows


def _line_rows(line: Line, figure: Figure, panel: Panel) -> list[dict[str, Any]]:
    """Return the marks of one line: single runs, means of cells, the student before training."""
    runs = line.runs.assign(
        x=pd.to_numeric(line.runs[figure.x], errors="coerce"),
        y=pd.to_numeric(line.runs[panel.column], errors="coerce"),
    ).dropna(subset=["x", "y"])
    if figure.log:
        runs = runs[runs["y"] > 0]
    if figure.x != "samples":
        runs = runs[runs["x"] > 0]
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
            for x, y in zip(cell["x"], cell["y"], strict=True):
                at["x"] = float(x)
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


def _cache_rows(
    figure: Figure, lines: list[Line], references: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return every cache's difference from its reference cache, per student and method."""
    rows = []
    for panel in figure.panels:
        for group in cache_groups(lines, references):
            costs = [
                (cost, found)
                for cost in group.others
                if cost.size and (found := getattr(cost, panel.column)) is not None
            ]
            if not costs or not group.size:
                continue
            values: dict[str, Any] = {"mark": group.reference.cache, "x": group.size, "y": 0.0}
            rows.append(_row(panel, "reference", group.label, **values))
            for cost, found in costs:
                values = {"mark": cost.line.cache, "x": cost.size, "y": found.value}
                values |= {"low": found.low, "high": found.high, "runs": cost.pairs}
                rows.append(_row(panel, "difference", group.label, **values))
    return rows


def _trial_rows(
    figure: Figure, lines: list[Line], references: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return every search's trials, and the lowest loss of the unpruned ones so far."""
    rows, (panel,) = [], figure.panels
    for name, search in (references.get("searches") or {}).items():
        lowest = math.inf
        for trial in search.get("trials") or []:
            loss, x = trial["loss"], float(trial["trial"] + 1)
            if loss is None or not math.isfinite(loss) or loss <= 0:
                continue
            kind = "pruned" if trial["pruned"] else "best" if trial["best"] else "trial"
            rows.append(_row(panel, kind, name, x=x, y=float(loss)))
            if not trial["pruned"]:
                lowest = min(lowest, float(loss))
            if math.isfinite(lowest):
                rows.append(_row(panel, "best so far", name, x=x, y=lowest))
    return rows
