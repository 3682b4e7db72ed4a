"""Laws of four public tables beside what their authors published.

    python benchmarks/public_tables.py FOLDER

writes the tables of docs/explanation/public_tables.md. The files of FOLDER are other people's and
not part of this repository; the page names their sources.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

from distill.core.quantities import number
from distill.laws.choice import Fitted, Settings, choose, fit_points, lacks, too_rich
from distill.laws.fitting import fit_law
from distill.laws.forms import LAWS, laws_over
from distill.laws.intervals import coefficients, half_widths
from distill.laws.judging import extrapolation_of
from distill.laws.law import Array, Law
from distill.laws.points import Points, points_of
from distill.table.own_points import own_points
from rows import replace_table

PAGE = Path(__file__).parents[1] / "docs/explanation/public_tables.md"
SETTINGS = Settings(shared=False)
LOSS = LAWS["loss"]
MUENNIGHOFF = {"E": 1.869, "A": 520.8, "B": 1487.6, "alpha": 0.3527, "beta": 0.3527,
               "R*": 15.39, "R_N*": 5.31}  # fmt: skip
"""Muennighoff et al. 2023; their law ties alpha and beta."""
FALLING = 60.0
"""Epochs up to which the losses of Muennighoff's runs fall with more of them."""
CORPORA = {"c4_original": "C4", "rpj": "RedPajama", "rw_original": "RefinedWeb"}
GADRE_FIVE = ((1e7, 1), (7.9e7, 1), (1.54e8, 1), (4.1e8, 1), (1e7, 16))
"""Parameters and over-training of the runs of Gadre et al. 2024, Table 2."""
GADRE_CORPUS = "rpj"
"""Of the paper's predictions."""
GADRE_LARGE = {
    "1.4B on 921B tokens": (1.44e9, 32, 0.0071),
    "6.9B on 138B tokens": (6.9e9, 1, 0.0073),
}
"""The paper's targets: parameters, over-training, and its relative error."""


@dataclass(frozen=True)
class Split:
    """Runs that are fitted, and runs that are predicted.

    Attributes:
        name: For the page.
        below: The runs fitted.
        there: The runs predicted.
    """

    name: str
    below: Points
    there: Points


def points(table: pd.DataFrame, loss: str = "loss") -> Points:
    """A table's runs, each with a seed of its own."""
    runs = table[table[loss].notna()].reset_index(drop=True)
    columns = {"params": "params", "tokens": "tokens", "loss": loss, "seed": "run"}
    if "unique_tokens" in runs:
        columns["unique_tokens"] = "unique_tokens"
    frame = runs.assign(run=range(len(runs)))[[*columns.values()]]
    return points_of(own_points(frame, columns).points, "loss", "params", False)


def coefficient_rows(
    name: str, runs: Points, law: Law, published: Mapping[str, float], only: tuple[str, ...] = ()
) -> list[str]:
    """Rows of the page: each coefficient with its interval beside the published one."""
    fitted = fit_points(law, runs, SETTINGS)
    rows = []
    for key, one in coefficients(law, fitted.fit, fitted.uncertainty).items():
        if only and key not in only:
            continue
        ends = "not identifiable"
        if one["identifiable"]:
            ends = f"{number(one['low'])} to {number(one['high'])}"
        other = published.get(key)
        inside = "–"
        if other is not None and one["identifiable"]:
            inside = "yes" if one["low"] <= other <= one["high"] else "no"
        rows.append(f"| {name} | {len(runs)} | `{law.name}` | {key} | {number(one['value'])} | "
                    f"{ends} | {'–' if other is None else number(other)} | {inside} |")  # fmt: skip
    return rows


def all_coefficients(folder: Path) -> list[str]:
    """Rows of the page's table of coefficients."""
    table = pd.read_csv(folder / "datablations_c4_runs.csv")
    one, falling = table[table["epochs"] == 1], table[table["epochs"] <= FALLING]
    tied = {name: MUENNIGHOFF[name] for name in ("E", "A", "B", "alpha")}
    rows = coefficient_rows("Muennighoff, one epoch", points(one), LOSS["tied"], tied)
    for name, part in (("all", table), (f"at most {FALLING:g} epochs", falling)):
        rows += coefficient_rows(f"Muennighoff, {name}", points(part), LOSS["excess_parameters"],
                                 MUENNIGHOFF)  # fmt: skip
        rows += coefficient_rows(f"Muennighoff, {name}", points(part),
                                 LOSS["chinchilla_constrained"], MUENNIGHOFF, ("R*",))  # fmt: skip
    gadre = pd.read_csv(folder / "gadre_open_lm.csv")
    for key, name in CORPORA.items():
        runs = points(gadre[gadre["dataset"] == key], "paloma_c4_en")
        rows += coefficient_rows(f"Gadre, {name}", runs, LOSS["tied"], {})
    for file, name in (("gemstones_hot", "Gemstones"), ("steplaw_dense_best", "Step Law")):
        runs = points(pd.read_csv(folder / f"{file}.csv"))
        rows += coefficient_rows(name, runs, LOSS["chinchilla"], {})
    return rows


def cut(name: str, runs: Points, share: float, largest: bool = False) -> Split:
    """Runs below a share of the largest compute; the rest, or the largest alone, is predicted."""
    below = runs.compute < share * runs.compute.max()
    there = runs.compute == runs.compute.max() if largest else ~below
    return Split(name, runs.where(below), runs.where(there))


def plain_error(split: Split) -> float:
    """Mean relative error of Chinchilla's law, fitted by least squares of log residuals alone."""
    law, x = LOSS["chinchilla"], split.below.values
    y = np.log(split.below.target)
    best = None
    for seed in range(20):
        rng = np.random.default_rng(seed)
        floor = rng.uniform(0.3, 0.95) * split.below.target.min()
        exponents = rng.uniform(0.2, 0.6, 2)
        middle = [np.log(x[name]).mean() for name in ("params", "tokens")]
        amplitudes = 0.3 * np.exp(y).mean() * np.exp(middle * exponents)
        start = np.log([floor, amplitudes[0], exponents[0], amplitudes[1], exponents[1]])

        def miss(logs: Array) -> Array:
            return np.asarray(np.log(law.predict(_named(logs), x)) - y)

        fit = least_squares(miss, start, x_scale="jac", max_nfev=2000)
        best = fit if best is None or fit.cost < best.cost else best
    assert best is not None
    predicted = law.predict(_named(best.x), split.there.values)
    return float(np.abs(predicted / split.there.target - 1).mean())


def _named(logs: Array) -> dict[str, float]:
    return dict(zip(("E", "A", "alpha", "B", "beta"), np.exp(logs), strict=True))


def split_row(split: Split) -> str:
    """A row of the page: our chosen law, its error and its intervals on the runs held out."""
    candidates = [law for law in laws_over("loss", "joint") if law.plain and not law.first_stage]
    laws = [law for law in candidates if not lacks(law, split.below)
            and too_rich(law, split.below) is None]  # fmt: skip
    place, _, fits = choose(laws, split.below, SETTINGS)
    best: Fitted = fits[place]
    log, gradient = best.log_prediction(split.there)
    beyond = extrapolation_of(best.law, laws, split.below, SETTINGS)
    ratio = beyond.noise_ratio(split.there.values)
    curve, half = half_widths(gradient, best.uncertainty, ratio=ratio)
    half = np.sqrt(half**2 + beyond.variance(log, split.there.values, curve))
    miss = np.abs(np.log(split.there.target) - log)
    error = float(np.abs(np.exp(log) / split.there.target - 1).mean())
    factor = split.there.compute.max() / split.below.compute.max()
    return (
        f"| {split.name} | {len(split.below)} | {len(split.there)} | {factor:.3g} | "
        f"`{best.law.name}` | {100 * error:.2f} % | {int((miss <= half).sum())} of {len(miss)} | "
        f"{100 * plain_error(split):.2f} % | – |"
    )


def five_run_rows(folder: Path) -> list[str]:
    """Gadre's five runs of each corpus, and the two large ones 300 times beyond them."""
    table = pd.read_csv(folder / "gadre_open_lm.csv")
    law, rows = LOSS["tied"], []
    for corpus, name in CORPORA.items():
        part = table[table["dataset"] == corpus]
        few = pd.concat([_near(part, *cell) for cell in GADRE_FIVE])
        runs = points(few, "paloma_c4_en")
        fit = fit_law(law, {key: runs.values[key] for key in law.inputs}, runs.target)
        for target, (params, multiple, stated) in GADRE_LARGE.items():
            large = _near(part, params, multiple)
            if large.empty:
                continue
            there = points(large, "paloma_c4_en")
            log, _ = law.curve(fit.theta, law.centred(there.values, fit.centre))
            error = float(np.abs(np.exp(log) / there.target - 1).mean())
            factor = there.compute.max() / runs.compute.max()
            theirs = f"{100 * stated:.2f} %" if corpus == GADRE_CORPUS else "–"
            rows.append(
                f"| Gadre, {name}, five runs to {target} | {len(runs)} | {len(there)} | "
                f"{factor:.3g} | `tied` | {100 * error:.2f} % | – | – | {theirs} |"
            )
    return rows


def _near(table: pd.DataFrame, params: float, multiple: float) -> pd.DataFrame:
    same = np.abs(np.log(table["params"] / params)) < 0.1
    return table[same & (table["multiplier"] == multiple)]


def all_splits(folder: Path) -> list[str]:
    """Rows of the page's table of predictions."""
    gadre = pd.read_csv(folder / "gadre_open_lm.csv")
    splits = [
        cut(f"Gadre, {name}, below 1/30 of the largest compute",
            points(gadre[gadre["dataset"] == key], "paloma_c4_en"), 1 / 30, largest=True)
        for key, name in CORPORA.items()
    ]  # fmt: skip
    table = pd.read_csv(folder / "datablations_c4_runs.csv")
    one = points(table[table["epochs"] == 1])
    predicted = LOSS["excess_parameters"].predict(MUENNIGHOFF, one.values)
    theirs = float(np.abs(predicted / one.target - 1).mean())
    splits += [
        cut("Muennighoff, one epoch, below 1/10", one, 0.1),
        cut("Gemstones, below 1/10", points(pd.read_csv(folder / "gemstones_hot.csv")), 0.1),
        cut("Step Law, below 1/5", points(pd.read_csv(folder / "steplaw_dense_best.csv")), 0.2),
    ]
    return [
        *five_run_rows(folder),
        *(split_row(split) for split in splits),
        f"| Muennighoff, none: the published law on one epoch | 0 | {len(one)} | – | "
        f"`excess_parameters` | {100 * theirs:.2f} % | – | – | – |",
    ]


def main(arguments: list[str]) -> None:
    """Write both tables of the page."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.exit("name the folder of the public tables: python benchmarks/public_tables.py FOLDER")
    folder = Path(arguments[0])
    with threadpool_limits(1, "blas"):
        replace_table(PAGE, "coefficients", all_coefficients(folder))
        replace_table(PAGE, "predictions", all_splits(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
