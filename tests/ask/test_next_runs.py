"""The next runs: the numbers of the design, the proposal for studies and tables, the command."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from distill.api import TableFit, fit_table
from distill.ask.design import (
    Between,
    Case,
    Draws,
    Problem,
    Stated,
    best_runs,
    cheapest_runs,
    make_problem,
)
from distill.ask.next_runs import Limits, Target, plan_next, spread_levels
from distill.ask.study import NoLaw, Refusal, make_study, pick_groups
from distill.cli.main import main
from distill.config.study import Block
from distill.core.files import write_json
from distill.laws.choice import Settings
from distill.laws.extrapolation import Extrapolation, Noise
from distill.laws.fit import fit_laws
from distill.laws.forms import LAWS
from distill.laws.runs import inputs_of, rows_of, trained_rows
from law_simulations import TRUTH, chinchilla_rows
from size_study import size_laws, size_runs

pytestmark = pytest.mark.slow  # fits many laws

SIZES, TOKENS = [1e5 * 3.0**k for k in range(4)], [1.25e5 * 2.0**k for k in range(4)]
QUICK = Settings(starts=8, replicates=19, shared=False)
TARGET = Target(params=1e7, tokens=1e7)


def table(seed: int = 0) -> pd.DataFrame:
    rows = chinchilla_rows(SIZES, TOKENS, 0.005, seed)
    frame = pd.DataFrame(rows)[["params", "tokens", "loss"]]
    return frame.assign(seed=range(len(frame)))


def proposal(fit: TableFit, **limits: Any) -> dict[str, Any]:
    rows = trained_rows(fit.runs, fit.references)
    return plan_next(fit.study, rows, fit.study.groups[0], TARGET, Limits(**limits))


@pytest.fixture(scope="module")
def fit() -> TableFit:
    return fit_table(table(), seed="seed", settings=QUICK)


def budget_of(frame: pd.DataFrame) -> float:
    return float((6 * frame["params"] * frame["tokens"]).sum())


Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Gradients at old runs, at cells and the target, and a covariance of runs and cells."""


def parts(seed: int, cells: int = 7) -> Parts:
    rng = np.random.default_rng(seed)
    old, rows, root = (rng.normal(size=size) for size in ((5, 3), (cells + 1, 3), (5 + cells, 2)))
    return old, rows, 0.05 * root @ root.T


def case_of(old: np.ndarray, rows: np.ndarray, shared: np.ndarray) -> Case:
    own = shared[:5, :5] + 0.5 * np.eye(5)
    return Case(1.0, rows[:-1], rows[-1], old.T @ old, old.T @ own @ old,
                old.T @ shared[:5, 5:], shared[5:, 5:], 0.5)  # fmt: skip


def stated(half: float = 1.0) -> Stated:
    return Stated(1.0, half, None, {})


def random_problem(seed: int, cells: int = 7) -> Problem:
    """One law of three coefficients, five old runs."""
    case, costs = case_of(*parts(seed)), np.random.default_rng(seed).uniform(1, 4, cells)
    nothing = Between(0.0, np.zeros(cells), np.eye(cells), 0.5)
    return Problem([case], [case], nothing, costs, 0.0, 20.0, stated(), most=4)


def test_the_variance_after_runs_is_that_of_a_refit() -> None:
    old, rows, shared = parts(0)
    case = case_of(old, rows, shared)

    def refitted(runs: list[int]) -> float:
        both = np.concatenate([old, rows[runs]])
        places = [*range(5), *(5 + run for run in runs)]
        noise = shared[np.ix_(places, places)] + 0.5 * np.eye(len(places))
        weights = rows[-1] @ np.linalg.pinv(both)
        return float(weights @ noise @ weights)

    for runs in ([], [3], [0, 1, 1], [6, 2, 2, 2, 0]):
        now, after = case.after(runs)
        assert now == pytest.approx(refitted(runs))
        assert after == pytest.approx([refitted([*runs, cell]) for cell in range(7)])


def test_the_interval_now_is_that_of_the_law(fit: TableFit) -> None:
    found = proposal(fit, budget=1e9)
    forecast = fit.predict(TARGET.params, TARGET.tokens)
    assert found["value"] == forecast.value[0]
    assert found["now"]["low"] == pytest.approx(forecast.low[0], rel=1e-12)
    assert found["now"]["high"] == pytest.approx(forecast.high[0], rel=1e-12)


def test_the_error_of_extrapolation_falls_with_the_distance_and_the_rest_with_the_refit() -> None:
    ranges = {"params": [1e5, 1e6], "tokens": [1e5, 1e6], "effort": [1e10, 1e12]}
    beyond = Extrapolation(0.01, 1e9, 3, Noise(0.0, 0.0, 0.0, 0.0), (), ranges)
    places = {"params": np.array([1e6, 1e7, 1e7]), "tokens": np.array([1e6, 1e6, 1e7])}
    error = 1.6448536 * 0.01 * np.log(100)
    interval = Stated(2.0, float(np.hypot(0.03, error)), beyond, places)
    assert interval.after([], 1.0) == interval.half
    assert interval.after([0], 0.5) == pytest.approx(np.hypot(0.015, error))
    assert interval.after([0, 1], 0.5) == pytest.approx(np.hypot(0.015, error / 2))


def test_next_and_ask_print_the_same_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size_runs().to_parquet(tmp_path / "runs.parquet")
    write_json(tmp_path / "laws.json", size_laws())
    target = ["--student", "d144", "--samples", "400000", "--method", "kd"]
    assert main(["ask", str(tmp_path), "loss", *target, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    loss = answer["loss"]
    asked = ["--target", "loss@student=d144,samples=400000", "--select", "method=kd"]
    assert main(["next", str(tmp_path), *asked, "--budget", "1e18", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["value"] == loss["value"]
    assert found["now"]["low"] == pytest.approx(loss["low"], rel=1e-12)
    assert found["now"]["high"] == pytest.approx(loss["high"], rel=1e-12)


def test_what_separates_laws_is_worth_a_run() -> None:
    nothing = np.zeros((2, 2))
    case = Case(1.0, np.eye(2), np.zeros(2), np.eye(2), nothing, nothing, nothing, 0.01)
    between = Between(0.04, np.array([0.02, 0.0]), np.diag([0.02, 0.01]), 0.01)
    problem = Problem([case], [case], between, np.ones(2), 0.0, 20.0, stated())
    now, gains = problem.gains([])
    assert now == pytest.approx(0.04)
    assert gains == pytest.approx([0.02**2 / 0.03, 0.0])
    assert best_runs(problem, 1.0) == [0]


@pytest.mark.parametrize("seed", range(6))
def test_the_design_is_nearly_the_best_of_all(seed: int) -> None:
    problem = random_problem(seed)
    budget = 8.0
    every = [
        runs
        for count in range(5)
        for runs in itertools.combinations_with_replacement(range(7), count)
        if problem.spend(runs) <= budget
    ]
    best = min(problem.half(runs) for runs in every)
    runs = best_runs(problem, budget)
    assert problem.spend(runs) <= budget
    least = min(problem.risk(runs) for runs in every)
    assert problem.risk(runs) <= least + 0.1 * (problem.risk() - least)
    cheapest = cheapest_runs(problem, best * 1.2)
    assert cheapest is not None
    assert problem.half(cheapest) <= best * 1.2
    least = min(problem.spend(runs) for runs in every if problem.half(runs) <= best * 1.2)
    assert problem.spend(cheapest) <= 1.35 * least
    assert cheapest_runs(problem, best / 100) is None
    assert cheapest_runs(problem, problem.half()) == []


def test_candidates_reach_four_times_around_what_was_measured() -> None:
    found = spread_levels(np.array([1e6, 3e6, 1e6, 9e6]), "params")
    assert found == [2.5e5, 5e5, 1e6, 3e6, 9e6, 1.8e7, 3.6e7]
    assert len(spread_levels(np.geomspace(1, 1e6, 40), "params")) == 7 + 4


def test_the_proposal_keeps_to_the_budget(fit: TableFit) -> None:
    found = proposal(fit, unit="flops", budget=2 * budget_of(table()))
    assert found["spent"] <= found["budget"]
    assert found["spent"] == pytest.approx(sum(run["cost"] for run in found["runs"]))
    for run in found["runs"]:
        assert run["cost"] == pytest.approx(6 * run["params"] * run["tokens"])
    assert found["blocks"] == []


def test_a_refit_finds_the_expected_width() -> None:
    ratios = []
    for seed in range(4):  # the noise that few runs show is now above, now below that of the truth
        runs = table(seed)
        fit = fit_table(runs, seed="seed", settings=QUICK)
        found = proposal(fit, unit="flops", budget=2 * budget_of(runs))
        places = [{name: run[name] for name in ("params", "tokens")} for run in found["runs"]]
        new = pd.DataFrame(places)
        new["loss"] = LAWS["loss"]["chinchilla"].predict(TRUTH, new)
        new["loss"] *= np.exp(0.005 * np.random.default_rng(100 + seed).normal(size=len(new)))
        both = pd.concat([runs, new], ignore_index=True)
        after = fit_table(both.assign(seed=range(len(both))), seed="seed", settings=QUICK)
        refit = after.predict(TARGET.params, TARGET.tokens)
        half = float(refit.high[0] / refit.value[0] - 1)
        assert half < 0.75 * found["now"]["half"]
        ratios.append(half / found["expected"]["half"])
    assert 0.75 < float(np.exp(np.mean(np.log(ratios)))) < 1.35


def test_what_is_enough_for_a_width_costs_more_the_narrower(fit: TableFit) -> None:
    now = proposal(fit, budget=1.0)["now"]["half"]
    spent = [proposal(fit, within=share * now)["spent"] for share in (1.01, 0.7, 0.4)]
    assert spent[0] == 0
    assert 0 < spent[1] < spent[2]
    with pytest.raises(Refusal, match=r"no 3 runs .* bring the answer to ± .* --runs"):
        proposal(fit, within=now / 100, most=3)


def test_a_study_gets_blocks_for_its_config() -> None:
    study = make_study(size_runs(), size_laws())
    (group,) = pick_groups(study, {"method": "kd"}, None)
    rows = trained_rows(size_runs(), None)
    target = Target(student="d144", samples=400_000)
    found = plan_next(study, rows, group, target, Limits(budget=40.0))
    assert found["unit"] == "hours"
    assert found["spent"] <= 40
    assert found["expected"]["half"] < found["now"]["half"]
    runs = {(run["student"], run["samples"], run["draw"], run["seed"]) for run in found["runs"]}
    blocks = [Block.model_validate(block) for block in found["blocks"]]
    crossed = [
        (student, samples, draw, seed)
        for block in blocks
        for student in block.students
        for samples in block.samples
        for draw in block.draws
        for seed in block.seeds
    ]
    assert len(crossed) == len(runs)
    assert set(crossed) == runs
    assert {tuple(block.caches) for block in blocks} == {("top64",)}
    known = size_runs(methods=("kd",))[["student", "samples", "draw", "seed"]]
    assert not runs & set(known.itertuples(index=False, name=None))
    # The teacher's work on text beyond that of the study is counted, and can be left out.
    dear = [run for run in found["runs"] if (run["tokens_beyond"] or 0) > 1]
    for run in dear:
        assert run["cost"] > 3e-9 * run["params"] * run["tokens"] / 3600


def test_a_seed_of_an_old_draw_tells_less_than_a_new_draw() -> None:
    runs, rng = size_runs(methods=("kd",)), np.random.default_rng(0)
    for _, rows in runs.groupby(["draw", "tokens_unique"]):  # noise that all sizes share
        runs.loc[rows.index, "loss"] *= float(np.exp(0.01 * rng.normal()))
    points = trained_rows(runs, None)
    laws = fit_laws(points, Settings(starts=4, replicates=19))
    (law,) = (one for one in make_study(runs, laws).laws if one.name == "chinchilla"
              and one.target == "loss" and one.selected["size"] == "params")  # fmt: skip
    fitted = rows_of(law, points)
    most = float(fitted["tokens"].max())
    places = {"params": np.array([1e5, 1e5, 1e7]), "tokens": np.array([most, most, 1e8])}
    old = Draws(*(fitted[name].to_numpy() for name in ("tokens", "draw", "teacher")))
    new = Draws(places["tokens"][:2], np.array([0, 2]), np.array(["smol", "smol"]))
    inputs = [inputs_of(law, fitted)]
    now = law.predict({name: values[-1:] for name, values in places.items()})
    shared = make_problem([law], inputs, places, np.ones(2), now, (old, new))
    assert shared.half([1, 1]) < shared.half([0, 0])
    alone = make_problem([law], inputs, places, np.ones(2), now)
    assert alone.half([1, 1]) == pytest.approx(alone.half([0, 0]))


def test_the_command_prints_runs_to_paste(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size_runs().to_parquet(tmp_path / "runs.parquet")
    write_json(tmp_path / "laws.json", size_laws())
    typed = ["next", str(tmp_path), "--select", "method=kd", "--budget", "40h",
             "--target", "loss@student=d144,samples=400000"]  # fmt: skip
    assert main(typed) == 0
    text = capsys.readouterr().out
    lines = text.split("\nruns:\n")[1].split("\nWhy each:")[0]
    blocks = yaml.safe_load(lines)
    assert main([*typed, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["blocks"] == blocks
    assert text.count("without it ±") == len(record["runs"])
    assert "90 % interval of the mean now ±" in text
    assert "expected after" in text


def test_the_command_reads_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.csv"
    table().rename(columns={"params": "N"}).to_csv(file, index=False)
    typed = ["next", str(file), "--params", "N", "--target", "loss@params=1e7,tokens=1e7"]
    assert main([*typed, "--seed", "seed", "--budget", "1e14"]) == 0
    text = capsys.readouterr().out
    assert "params" in text
    assert "FLOPs" in text
    assert "runs:" not in text
    assert main([*typed, "--seed", "seed", "--budget", "1h"]) == 1
    assert "its runs state no seconds; give a budget of FLOPs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--budget", "10 parsecs", "--target", "loss@params=1,tokens=1"], "write hours as 10h"),
        (["--budget", "1e999", "--target", "loss@params=1,tokens=1"], "write hours as 10h"),
        (["--budget", "1h", "--target", "loss@params=1,tokens=1"], "results/none does not exist"),
        (["--within", "2", "--target", "loss@params=1,tokens=1"], "a percentage such as 2%"),
        (["--budget", "1h", "--target", "accuracy@params=1"], "write loss@params=1e9,tokens=2e10"),
        (["--budget", "1h", "--target", "loss@params=x,tokens=1"], "params 'x' is not a positive"),
        (["--budget", "1h", "--target", "loss@tokens=1"], "needs either params or student"),
        (["--budget", "1h", "--target", "loss@params=1"], "needs either tokens or samples"),
    ],
)
def test_a_mistake_is_one_sentence(
    capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["next", "results/none", *options]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_without_a_law_there_is_no_proposal() -> None:
    fit = fit_table(table().head(3), seed="seed", settings=QUICK)
    with pytest.raises(NoLaw, match="no law over data is determined"):
        proposal(fit, budget=1e14)
