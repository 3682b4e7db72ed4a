"""Do 90 % intervals hold what lies beyond the runs? Simulated worlds, and tables of other people.

    python benchmarks/coverage.py FOLDER

writes the tables of docs/explanation/coverage.md. Simulated: grids of sizes and amounts of data
with one run a cell, and new runs with up to 64 times the compute. Public: the largest size step of
each table, predicted from the others; the files are not part of this repository.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from distill.laws.choice import Settings, choose
from distill.laws.fit import fit_laws
from distill.laws.forms import LAWS, SUPERVISED
from distill.laws.intervals import half_widths
from distill.laws.judging import evaluate_holdout, extrapolation_of
from distill.laws.law import Array
from distill.laws.points import Points, points_of
from distill.table.own_points import own_points
from rows import replace_table

PAGE = Path(__file__).parents[1] / "docs/explanation/coverage.md"
STUDIES, NOISE = 40, 0.005
TRUTH = {"E": 1.6, "A": 60.0, "alpha": 0.33, "B": 500.0, "beta": 0.40}
SETTINGS = Settings(starts=16, shared=False)
NAMES = ("chinchilla", "tied", "joined", "data_by_size")
FACTORS = (1.0, 4.0, 16.0, 64.0)
"""Compute of new runs over the largest fitted, half of it in size and half in data, in logs."""


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        name: For the page.
        law: Log loss of sizes and tokens.
        noise: Noise of runs, from their compute over the least, in log units.
        sizes, tokens: Numbers of both in the grid.
        shared: Whether all runs share a deviation that varies slowly with data; new runs are of
            another draw.
        outliers: Share of runs whose noise is ten times as large.
    """

    name: str
    law: Callable[[Array, Array], Array]
    noise: Callable[[Array], Array] = lambda compute: np.full_like(compute, NOISE)
    sizes: int = 6
    tokens: int = 5
    shared: bool = False
    outliers: float = 0.0


def _additive(params: Array, tokens: Array) -> Array:
    return np.log(LAWS["loss"]["chinchilla"].predict(TRUTH, {"params": params, "tokens": tokens}))


def _joined(params: Array, tokens: Array) -> Array:
    truth = {"E": 1.2, "A": 3000.0, "alpha": 0.45, "B": 9000.0, "beta": 0.5, "gamma": 0.5}
    return np.log(SUPERVISED.predict(truth, {"params": params, "tokens": tokens}))


def _bent(params: Array, tokens: Array) -> Array:
    """A law of which no law that is fitted knows: the exponent of data falls with data."""
    data = np.log(tokens / 1e5)
    return np.log(1.6 + 60 * params**-0.33 + 6 * np.exp(-0.42 * data + 0.012 * data**2))


WORLDS = (
    World("a law that is fitted", _additive),
    World("another law that is fitted", _joined),
    World("no law that is fitted", _bent),
    World("all runs share one draw", _additive, shared=True),
    World("a tenth of the runs far off", _additive, outliers=0.1),
    World("noise falls with compute", _additive, lambda compute: NOISE * 4 * compute**-0.25),
    World("few sizes, much data", _additive, sizes=3, tokens=9),
)


def simulated(world: World, rng: np.random.Generator) -> tuple[Points, pd.DataFrame]:
    """A study's runs, and new runs beyond them: params, tokens, log loss."""
    sizes = 1e5 * 3.0 ** np.arange(world.sizes)
    tokens = 1.25e5 * 2.5 ** np.arange(world.tokens)
    grid = pd.DataFrame({"params": np.repeat(sizes, len(tokens)),
                         "tokens": np.tile(tokens, len(sizes))})  # fmt: skip
    steps = np.sqrt(FACTORS)
    new = pd.DataFrame({"params": sizes[-1] * steps, "tokens": tokens[-1] * steps})
    for table in (grid, new):
        walk = rng.normal(size=3) * NOISE
        compute = (table["params"] * table["tokens"]).to_numpy() / (sizes[0] * tokens[0])
        noise = world.noise(compute) * rng.normal(size=len(table))
        noise *= np.where(rng.random(len(table)) < world.outliers, 10.0, 1.0)
        if world.shared:
            place = np.log(table["tokens"].to_numpy() / tokens[0])
            noise += walk[0] + walk[1] * np.sin(place) + walk[2] * np.cos(place)
        table["log"] = world.law(*table[["params", "tokens"]].to_numpy().T) + noise
    runs = grid.assign(loss=np.exp(grid["log"]), seed=np.arange(len(grid)))
    columns = {name: name for name in ("params", "tokens", "loss", "seed")}
    return points_of(own_points(runs, columns).points, "loss", "params", False), new


def _score(miss: Array, half: Array) -> Array:
    return 2 * half + 20 * np.maximum(np.abs(miss) - half, 0.0)


def simulate() -> list[str]:
    """Rows of the page's table of simulated worlds."""
    laws = [LAWS["loss"][name] for name in NAMES]
    rows = []
    for world in WORLDS:
        hits, noise_alone, scores, plain_scores, held, skills = [], [], [], [], [], []
        for study in range(STUDIES):
            points, new = simulated(world, np.random.default_rng([11, study]))
            place, _, fits = choose(laws, points, SETTINGS)
            best = fits[place]
            where = {"params": new["params"].to_numpy(), "tokens": new["tokens"].to_numpy()}
            log, gradient = best.law.curve(best.fit.theta, best.law.centred(where, best.fit.centre))
            beyond = extrapolation_of(best.law, laws, points, SETTINGS)
            plain = half_widths(gradient, best.uncertainty)[1]
            curve, half = half_widths(gradient, best.uncertainty, ratio=beyond.noise_ratio(where))
            half = np.sqrt(half**2 + beyond.variance(log, where, curve))
            miss = new["log"].to_numpy() - log
            hits.append(np.abs(miss) <= half)
            noise_alone.append(np.abs(miss) <= plain)
            scores.append(_score(miss, half))
            plain_scores.append(_score(miss, plain))
            judged = evaluate_holdout(best.law, laws, points, SETTINGS)
            if judged:
                held.append(judged["interval_coverage"])
                skills.append(judged["skill"])
        cover = np.mean(hits, axis=0)
        rows.append(
            f"| {world.name} | {np.mean(held):.2f} | "
            + " | ".join(f"{share:.2f}" for share in cover)
            + f" | {np.mean(noise_alone):.2f} | {100 * np.mean(scores):.1f} | "
            f"{100 * np.mean(plain_scores):.1f} | {np.median(skills):.2f} |"
        )
        print(rows[-1], flush=True)
    return rows


PUBLIC = {
    "gadre_open_lm.csv": ("[Gadre 2024](https://arxiv.org/abs/2403.08540)", "dataset",
                          ("openlm", "paloma_c4_en", "paloma_falcon-refinedweb",
                           "paloma_redpajama", "paloma_ptb", "de-en")),
    "datablations_c4_runs.csv": ("[Muennighoff 2023](https://arxiv.org/abs/2305.16264), one epoch",
                                 None, ("loss",)),
    "gemstones_hot.csv": ("[Gemstones 2025](https://arxiv.org/abs/2502.06857)", None, ("loss",)),
    "steplaw_dense_best.csv": ("[Step Law 2025](https://arxiv.org/abs/2503.04715)", None,
                               ("loss",)),
}  # fmt: skip
"""File, source, column of groups and columns of losses."""


def public(folder: Path) -> list[str]:
    """Rows of the page's table of public tables."""
    rows, all_runs, all_held, all_scores = [], 0, 0.0, 0.0
    for file, (source, group, losses) in PUBLIC.items():
        table = pd.read_csv(folder / file)
        if "epochs" in table:
            table = table[table["epochs"] == 1]
        parts = [part for _, part in table.groupby(group)] if group else [table]
        judged = []
        for part in parts:
            for loss in losses:
                runs = part[["params", "tokens", loss]].dropna().assign(seed=range(len(part)))
                columns = {"params": "params", "tokens": "tokens", "loss": loss, "seed": "seed"}
                points = own_points(runs.reset_index(drop=True), columns).points
                document = fit_laws(points, Settings(shared=False))
                judged += [
                    law["holdout"]
                    for law in document["laws"]
                    if law["best"]
                    and law["target"] == "loss"
                    and "params" in law["range"]
                    and law["holdout"]
                ]
        runs_held = np.array([one["runs"] for one in judged])
        covered = float(runs_held @ [one["interval_coverage"] for one in judged])
        score = float(runs_held @ [one["interval_score"] for one in judged])
        error = float(runs_held @ [one["mean_relative_error"] for one in judged])
        simple = float(runs_held @ [one["simple"]["error"] for one in judged])
        factor = np.median([one["compute_factor"] for one in judged])
        total = int(runs_held.sum())
        rows.append(
            f"| {source} | {len(judged)} | {total} | {factor:.2g} | {covered / total:.2f} | "
            f"{100 * error / total:.1f} % | {100 * simple / total:.1f} % | "
            f"{100 * score / total:.1f} |"
        )
        print(rows[-1], flush=True)
        all_runs, all_held, all_scores = all_runs + total, all_held + covered, all_scores + score
    rows.append(f"| all runs | | {all_runs} | | {all_held / all_runs:.2f} | | | "
                f"{100 * all_scores / all_runs:.1f} |")  # fmt: skip
    return rows


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        replace_table(PAGE, "simulated", simulate())
        for tables in sys.argv[1:]:
            replace_table(PAGE, "public", public(Path(tables)))
