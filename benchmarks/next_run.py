"""Runs that `distill next` proposes against uniform grids of equal cost, in simulated studies.

A study of 4 x 4 runs is simulated and fitted; further runs are chosen in each way for the same
FLOPs, simulated too, and the law is fitted to both. What counts is the interval at a target far
beyond the runs, and the error there. Two truths: the fitted law, and one whose sum of terms is
raised to a power (Busbridge et al. 2025, Eq. 1), which no fitted law describes.
docs/explanation/next_run.md shows docs/img/next_run.png; the numbers are docs/img/next_run.csv.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from distill.api import fit_table
from distill.ask.next_runs import Limits, Target, plan_next, spread_levels
from distill.laws.choice import Settings, fit_points
from distill.laws.forms import LAWS, SUPERVISED
from distill.laws.intervals import half_widths
from distill.laws.points import Points, points_of
from distill.laws.runs import trained_rows
from rows import Row

DOCS = Path(__file__).parents[1] / "docs"
SIZES, TOKENS = [1e5 * 3.0**k for k in range(4)], [1.25e5 * 2.0**k for k in range(4)]
NOISE, REPLICATES = 0.005, 12
BUDGETS = (0.5, 2.0, 8.0)
"""Times the cost of the first study."""
TARGETS = (10.0, 100.0)
"""Parameters and tokens, in 10^6."""
TRUTH = {"E": 1.6, "A": 60.0, "alpha": 0.33, "B": 500.0, "beta": 0.40}
TRUTHS = {"the fitted law": 1.0, "another law": 0.85}
"""The power of the sum of terms."""
LEAST_GAIN = 0.25
CAPPED, OURS = "grid extended up to a cap", "distill next"
QUICK = Settings(starts=8, replicates=19, shared=False)
Cells = Sequence[tuple[float, float]]


def loss(params: np.ndarray, tokens: np.ndarray, power: float) -> np.ndarray:
    """The truth, nats per token."""
    inputs = {"params": params, "tokens": tokens}
    return np.asarray(SUPERVISED.predict(TRUTH | {"gamma": power}, inputs))


def simulated(cells: Cells, power: float, rng: np.random.Generator) -> pd.DataFrame:
    """Runs with noise."""
    params, tokens = np.array(cells).reshape(-1, 2).T
    values = loss(params, tokens, power) * np.exp(NOISE * rng.normal(size=len(params)))
    return pd.DataFrame({"params": params, "tokens": tokens, "loss": values})


def flops(cells: Cells) -> float:
    """Cost: 6 N D."""
    return sum(6 * params * tokens for params, tokens in cells)


def uniform(side: int, budget: float) -> Cells:
    """A grid from the least measured size and tokens up, as far as the budget goes."""

    def grid(reach: float) -> Cells:
        sizes = np.geomspace(SIZES[0], SIZES[-1] * reach, side)
        return [(n, d) for n in sizes for d in np.geomspace(TOKENS[0], TOKENS[-1] * reach, side)]

    low, high = 0.2, 100.0
    for _ in range(50):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if flops(grid(middle)) <= budget else (low, middle)
    return grid(low)


def capped(sizes: Sequence[float], tokens: Sequence[float], budget: float) -> Cells:
    """One run of each cell, from the cheapest up, as far as the budget goes."""
    cells = sorted(((n, d) for n in sizes for d in tokens), key=lambda cell: cell[0] * cell[1])
    costs = np.cumsum([flops([cell]) for cell in cells])
    return cells[: int(np.searchsorted(costs, budget, side="right"))]


def proposed(runs: pd.DataFrame, target: float, budget: float) -> Cells:
    """What `distill next` proposes."""
    fit = fit_table(runs, settings=QUICK)
    points = trained_rows(fit.runs, fit.references)
    asked = Target(params=1e6 * target, tokens=1e6 * target)
    found = plan_next(fit.study, points, fit.study.groups[0], asked, Limits("flops", budget))
    return [(run["params"], run["tokens"]) for run in found["runs"]]


def _points(runs: pd.DataFrame) -> Points:
    unknown = ("params_non_embedding", "flops", "gap", "loss_stderr", "teacher_loss",
               "teacher_params")  # fmt: skip
    table = runs.assign(
        epochs=1.0, teacher="", student="", draw=0, **dict.fromkeys(unknown, np.nan)
    )
    return points_of(table.reset_index(drop=True), "loss", "params", False)


def outcome(runs: pd.DataFrame, target: float, power: float) -> tuple[float, float]:
    """Half width of the 90 % interval at the target and error there, log units."""
    fitted = fit_points(LAWS["loss"]["chinchilla"], _points(runs), QUICK)
    at = np.array([1e6 * target])
    log, gradient = fitted.law.curve(
        fitted.fit.theta, fitted.law.centred({"params": at, "tokens": at}, fitted.fit.centre)
    )
    half, _ = half_widths(gradient, fitted.uncertainty)
    return float(half[0]), float(abs(log[0] - np.log(loss(at, at, power)[0])))


def designs(runs: pd.DataFrame, target: float, budget: float) -> dict[str, Callable[[], Cells]]:
    """Ways to choose runs, by name."""
    over = [level for level in spread_levels(runs["params"].to_numpy(), "params") if level >= 1e5]
    data = [level for level in spread_levels(runs["tokens"].to_numpy(), "tokens")
            if level >= 1.25e5]  # fmt: skip
    return {
        "none": lambda: [],
        "uniform 3 x 3": lambda: uniform(3, budget),
        "uniform 4 x 4": lambda: uniform(4, budget),
        CAPPED: lambda: capped(over, data, budget),
        OURS: lambda: proposed(runs, target, budget),
    }


def simulate(replicates: int = REPLICATES) -> pd.DataFrame:
    """Every truth, target, budget and way: medians over replicates.

    Returns:
        truth, target, budget, way, runs, half, error (root mean square).
    """
    rows = []
    first = [(n, d) for n in SIZES for d in TOKENS]
    for truth, power in TRUTHS.items():
        for target in TARGETS:
            for budget in BUDGETS:
                for seed in range(replicates):
                    rng = np.random.default_rng(1000 + seed)  # not those that settled DEPARTURE
                    runs = simulated(first, power, rng)
                    for way, cells in designs(runs, target, budget * flops(first)).items():
                        new = cells()
                        both = pd.concat([runs, simulated(new, power, rng)], ignore_index=True)
                        half, error = outcome(both, target, power)
                        rows.append((truth, target, budget, way, len(new), half, error**2))
    names = ["truth", "target", "budget", "way", "runs", "half", "error"]
    groups = pd.DataFrame(rows, columns=names).groupby(names[:4], sort=False)
    table = groups.agg(runs=("runs", "median"), half=("half", "median"), error=("error", "mean"))
    return table.assign(error=np.sqrt(table["error"])).reset_index()


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Per truth, target and budget: the best uniform grid against ours.

    Returns:
        truth, target, budget, and half_uniform, half_ours, error_uniform, error_ours, capped.
    """
    rows = []
    for key, part in table.groupby(["truth", "target", "budget"], sort=False):
        ways = part.set_index("way")
        grids = ways[ways.index.str.startswith("uniform")]
        rows.append(
            {
                **dict(zip(("truth", "target", "budget"), key, strict=True)),
                "half_uniform": grids["half"].min(),
                "half_capped": ways.loc[CAPPED, "half"],
                "half_ours": ways.loc[OURS, "half"],
                "error_uniform": grids["error"].min(),
                "error_capped": ways.loc[CAPPED, "error"],
                "error_ours": ways.loc[OURS, "error"],
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, file: Path) -> None:
    """Half width against budget, a panel for each truth and target."""
    canvas = Figure(figsize=(7.0, 5.0), dpi=160, layout="constrained")
    panels = canvas.subplots(len(TRUTHS), len(TARGETS), sharex=True)
    styles = dict(zip(table["way"].unique()[1:], ("C7:", "C7--", "C1-.", "C0-"), strict=True))
    for row, truth in enumerate(TRUTHS):
        for column, target in enumerate(TARGETS):
            panel = panels[row, column]
            part = table[(table["truth"] == truth) & (table["target"] == target)]
            for way, style in styles.items():
                line = part[part["way"] == way]
                panel.plot(line["budget"], 100 * line["half"], style, marker="o", label=way)
            panel.set(
                xscale="log", yscale="log", title=f"{truth}, target {target:g}M x {target:g}M"
            )
            panel.set_xticks(BUDGETS, [f"{budget:g}" for budget in BUDGETS])
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("{x:g}")
            panel.tick_params(which="both", labelsize=8)
            panel.title.set_fontsize(9)
    panels[0, 0].legend(fontsize=7)
    canvas.supxlabel("FLOPs of the next runs, times those of the first study", fontsize=9)
    canvas.supylabel("half width of the 90 % interval at the target, %", fontsize=9)
    canvas.savefig(file)


def page_table(compared: pd.DataFrame) -> str:
    """The lines of the page's table."""
    lines = [
        "| truth | target | budget | uniform grid | grid extended | `distill next` "
        "| error: uniform | extended | `distill next` |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in compared.itertuples():
        cells = [
            str(row.truth),
            f"{row.target:g}M × {row.target:g}M",
            f"{row.budget:g}",
            *(f"± {100 * x:.1f} %" for x in (row.half_uniform, row.half_capped, row.half_ours)),
            *(f"{100 * x:.1f} %" for x in (row.error_uniform, row.error_capped, row.error_ours)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gain_over(compared: pd.DataFrame, what: str, grid: str) -> tuple[pd.Series, float]:
    """Ours over a grid's `half` or `error`, by setting, and by how much less it is on average."""
    shares = compared[f"{what}_ours"] / compared[f"{what}_{grid}"]
    return shares, 1 - float(np.exp(np.log(shares).mean()))


def write_page(compared: pd.DataFrame) -> None:
    """Put the table, and what it amounts to, into the page."""
    page = DOCS / "explanation/next_run.md"
    less = [f"{100 * gain_over(compared, what, grid)[1]:.0f} %"
            for grid in ("uniform", "capped") for what in ("half", "error")]  # fmt: skip
    text = (
        f"{page_table(compared)}\n\n"
        f"In the geometric mean of these settings the interval is {less[0]} narrower than with a "
        f"uniform grid, and the error {less[1]} less; against the\nextended grid it is {less[2]} "
        f"and {less[3]}.\n\n"
    )
    old = page.read_text(encoding="utf-8")
    new = re.sub(r"\| truth \|.*?(?=## Limits)", lambda _: text, old, flags=re.S)
    page.write_text(new, encoding="utf-8")


def measure() -> list[Row]:
    """Simulate, and write the figure, its numbers and the table of the page."""
    table = simulate()
    compared = compare(table)
    table.to_csv(DOCS / "img/next_run.csv", index=False, float_format="%.5g")
    draw(table, DOCS / "img/next_run.png")
    write_page(compared)
    rows = []
    for grid in ("uniform", "capped"):
        for what in ("half", "error"):
            shares, gain = gain_over(compared, what, grid)
            name = "interval" if what == "half" else "error"
            rows.append(
                Row(
                    what=f"{name} at a target, runs of distill next",
                    against=f"the best {grid} grid of equal cost",
                    value=f"{100 * gain:.0f} % less, geometric mean of {len(compared)} settings",
                    target=f"{100 * LEAST_GAIN:.0f} % less",
                    met=gain >= LEAST_GAIN,
                    numbers={f"{r.truth}, {r.target:g}, {r.budget:g}": float(share)
                             for r, share in zip(compared.itertuples(), shares, strict=True)},
                )
            )  # fmt: skip
    return rows
