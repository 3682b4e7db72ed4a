"""Which laws are fitted, chosen, judged and refused; laws.json and predictions from it."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import law_simulations
from distill.contracts.points import MEASURES
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.laws.choice import Settings, choose, fit_points, too_rich
from distill.laws.fit import Fitting, fit_laws
from distill.laws.fitted import FittedLaw, find_laws, read_laws
from distill.laws.forms import LAWS
from distill.laws.intervals import half_widths
from distill.laws.judging import evaluate_holdout
from distill.laws.points import levels, points_of
from distill.laws.size_steps import log_linear, size_steps
from distill.laws.staged import StagedFitter
from distill.table.own_points import own_table
from law_simulations import chinchilla_rows, table_of
from law_worlds import chinchilla_points

pytestmark = pytest.mark.slow  # fits many laws

OWN = Settings(shared=False)


def pick(found: dict[str, Any], name: str, target: str = "loss", **selected: Any) -> dict[str, Any]:
    """The one record of a law."""
    hits = [
        law for law in found["laws"]
        if law["name"] == name and law["target"] == target
        and all(law["selected"][key] == value for key, value in selected.items())
    ]  # fmt: skip
    assert len(hits) == 1, [(law["name"], law["target"], law["selected"]) for law in found["laws"]]
    return hits[0]


def reasons(found: dict[str, Any], name: str, target: str = "loss") -> str:
    return " | ".join(
        one["reason"] for one in found["refused"] if (one["name"], one["target"]) == (name, target)
    )


@pytest.fixture(scope="module")
def grid() -> dict[str, Any]:
    """Laws of a noisy 6 x 6 grid, two draws."""
    rows = [
        row for draw in (0, 1) for row in chinchilla_rows(seed=draw, draw=draw, noise=0.004)
    ]  # fmt: skip
    return fit_laws(table_of(rows))


def test_chinchillas_coefficients_come_back_within_their_intervals() -> None:
    inputs, target = chinchilla_points(3)
    frame = pd.DataFrame({"N": inputs["params"], "D": inputs["tokens"], "L": target})
    table = own_table(frame, {"params": "N", "tokens": "D", "loss": "L"})
    law = pick(fit_laws(table, OWN), "chinchilla")
    truth = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
    for name, value in truth.items():
        found = law["coefficients"][name]
        assert found["low"] <= value <= found["high"], name
        assert found["identifiable"] or name == "E"  # only a law that was evaluated claims a floor
    alpha = law["coefficients"]["alpha"]
    assert alpha["high"] - alpha["low"] < 0.08
    assert law["residual_rmse_log"] == pytest.approx(0.01, rel=0.2)


def test_record_has_what_the_contract_says(grid: dict[str, Any]) -> None:
    json.dumps(grid, allow_nan=False)
    assert grid["schema"] == 1
    law = pick(grid, "chinchilla")
    assert law["points"] == 72
    assert law["range"] == {"params": [1e5, 1e7], "tokens": [0.125e6, 4e6]}
    (won,) = (one for one in grid["laws"] if one["best"] and one["selected"]["size"] == "params"
              and one["target"] == "loss" and one["selected"]["student"] is None)  # fmt: skip
    held = won["holdout"]
    assert held["axis"] == "compute"
    assert {(p["params"], p["tokens"]) for p in held["predicted"]} == {
        (1e7, 4e6), (1e7, 2e6), (4e6, 4e6),
    }  # fmt: skip
    assert held["runs"] == 6
    assert held["compute_factor"] == pytest.approx(4.0)
    assert held["mean_relative_error"] < 0.02
    assert won["choice"]["errors"].keys() == {
        "chinchilla", "tied", "joined", "data_by_size", "broken_chinchilla",
    }  # fmt: skip
    assert won["choice"]["simple"]["error"] > 0
    assert law["settings"]["starts"] == 108
    assert law["settings"]["parameter_counts"].startswith("embeddings and output head counted")
    best = [one for one in grid["laws"] if one["best"] and one["selected"]["student"] is None]
    assert sorted(one["target"] for one in best) == ["gap", "loss"]


def test_fitting_is_deterministic() -> None:
    table = table_of(chinchilla_rows(sizes=law_simulations.SIZES[:3]))
    first, second = fit_laws(table), fit_laws(table)
    for one in (*first["laws"], *second["laws"]):
        one.pop("fit_seconds")
    assert first == second


def test_predictions_from_the_file_alone(grid: dict[str, Any], tmp_path: Any) -> None:
    write_json(tmp_path / "laws.json", grid)
    laws = read_laws(tmp_path / "laws.json")
    law = find_laws(laws, target="loss", best=True, student=None, size="params")[0]
    ask = {"params": 2e6, "tokens": np.array([1e6, 8e6])}
    found = law.predict(ask)
    truth = LAWS["loss"]["chinchilla"].predict(law_simulations.TRUTH, ask)
    np.testing.assert_allclose(found.value, truth, rtol=0.02)
    assert (found.run_low < found.low).all()
    assert (found.low < found.value).all()
    assert (found.value < found.high).all()
    assert (found.high < found.run_high).all()
    same_test = law.predict(ask, test_set=False)
    assert (same_test.high < found.high).all()
    assert law.extrapolation(ask) == pytest.approx(2.0)
    assert law.extrapolation({"params": 5e4}) == pytest.approx(2.0)
    assert law.extrapolation({"params": 1e6, "tokens": 1e6}) == 1.0
    with pytest.raises(UserError, match="needs tokens"):
        law.predict({"params": 1e6})
    with pytest.raises(UserError, match="params must be positive"):
        law.predict({"params": 0.0, "tokens": 1e6})
    with pytest.raises(UserError, match="this version does not know"):
        FittedLaw({**law.record, "name": "other"})


def test_intervals_follow_the_formula(grid: dict[str, Any]) -> None:
    from scipy.stats import norm, t

    law = FittedLaw(pick(grid, "chinchilla") | {"extrapolation": None})
    state = law.record["state"]
    x = law.law.centred({"params": 3e5, "tokens": 5e5}, state["centre"])
    g = law.law.curve(np.array(state["theta"]), x)[1][:, 0]
    parts = np.array([g @ np.array(state[f"covariance_by_{k}"]) @ g for k in ("run", "draw")])
    variances, doubt = np.array(state["variances"]), np.array(state["doubt"])
    shift = (g @ np.array(state["shift"])) ** 2 * norm.ppf(0.95) ** 2
    found = law.predict({"params": 3e5, "tokens": 5e5})
    for own, low in ((parts, found.low), (parts + 1, found.run_low)):
        variance = own @ variances
        df = max(2 * variance**2 / (own @ doubt @ own), 1)
        half = np.sqrt(variance * t.ppf(0.95, df) ** 2 + shift)
        assert np.log(found.value[0] / low[0]) == pytest.approx(half)


def test_least_squares_standard_errors_for_independent_runs() -> None:
    """With a wide Huber loss the intervals are those of nonlinear least squares."""
    from scipy.optimize import curve_fit
    from scipy.stats import t

    inputs, target = chinchilla_points(5, 60)
    frame = pd.DataFrame({"N": inputs["params"], "D": inputs["tokens"], "L": target})
    table = own_table(frame, {"params": "N", "tokens": "D", "loss": "L"})
    law = pick(fit_laws(table, Settings(shared=False, huber_delta=10.0)), "chinchilla")

    def model(x: Any, e: float, a: float, alpha: float, b: float, beta: float) -> Any:
        return np.log(e + np.exp(a - alpha * x[0]) + np.exp(b - beta * x[1]))

    x = np.log(np.stack([inputs["params"], inputs["tokens"]]))
    start = [1.8, 6.0, 0.35, 7.6, 0.37]
    best, cov = curve_fit(model, x, np.log(target), p0=start, maxfev=20000)
    for name, place in (("E", 0), ("alpha", 2), ("beta", 4)):
        found = law["coefficients"][name]
        half = t.ppf(0.95, 55) * np.sqrt(cov[place, place])
        assert found["value"] == pytest.approx(best[place], rel=1e-3)
        assert found["high"] - found["value"] == pytest.approx(half, rel=1e-2)


def test_rungs_and_levels() -> None:
    assert levels(np.array([100.0, 110.0, 119.0, 125.0, 260.0]), "tokens").tolist() == [
        0,
        0,
        0,
        1,
        2,
    ]
    assert levels(np.array([100.0, 110.0, 100.0]), "params").tolist() == [0, 1, 0]
    table = table_of(chinchilla_rows())
    axis, ranks = size_steps(points_of(table, "loss", "params", True), ("params", "tokens"))
    assert axis == "compute"
    points = points_of(table, "loss", "params", True)
    top = ranks == ranks.max()
    assert points.compute[top].min() > points.compute[~top].max()
    assert np.bincount(ranks).min() >= 3
    assert size_steps(points, ("tokens",))[0] == "tokens"
    assert np.bincount(size_steps(points, ("tokens",))[1]).tolist() == [6] * 6
    inputs, target = chinchilla_points(0, 100)
    scattered = table_of(
        [{"params": n, "tokens": d, "loss": y}
         for n, d, y in zip(inputs["params"], inputs["tokens"], target, strict=True)]
    )  # fmt: skip
    axis, ranks = size_steps(points_of(scattered, "loss", "params", False), ("params", "tokens"))
    assert axis == "compute"
    assert 4 <= ranks.max() <= 8
    assert np.bincount(ranks).min() >= 3


def test_log_linear_line_goes_through_the_last_two_sizes() -> None:
    rows = [
        {"tokens": t, "loss": y, "draw": d}
        for t, y, d in ((1e5, 9.0, 0), (2e5, 4.1, 0), (2e5, 3.9, 1), (4e5, 3.5, 0), (8e5, 3.1, 0))
    ]
    points = points_of(table_of(rows), "loss", "params", True)
    axis, ranks = size_steps(points, ("tokens",))
    assert log_linear(points, axis, ranks, 3)[0] == pytest.approx(3.0)
    assert np.isnan(log_linear(points, axis, ranks, 1)).all()


def planted(losses: dict[float, float]) -> Any:
    return points_of(
        table_of([{"tokens": t, "loss": y} for t, y in losses.items()]), "loss", "params", False
    )


def test_choice_looks_at_the_second_rung_and_judgement_at_the_last() -> None:
    """The top step is planted far off: it must not touch the choice, only the judgement."""
    tokens = 1e5 * 2.0 ** np.arange(9)
    rectified = 1.0 + 8.0 / (60.0 + tokens**0.45) * 20
    table = dict(zip(tokens.tolist(), rectified.tolist(), strict=True))
    laws = [LAWS["loss"]["data_power"], LAWS["loss"]["rectified"]]
    honest, spoilt = planted(table), planted({**table, tokens[-1]: 2 * rectified[-1]})
    errors = []
    for points in (honest, spoilt):
        winner, choice, _ = choose(laws, points, OWN)
        assert laws[winner].name == "rectified"
        assert choice["step"] == 7
        assert choice["errors"]["rectified"] < choice["errors"]["data_power"]
        errors.append(choice["errors"])
    assert errors[0] == errors[1]
    good, bad = (evaluate_holdout(laws[1], laws, points, OWN) for points in (honest, spoilt))
    assert good is not None
    assert bad is not None
    assert good["mean_relative_error"] < 1e-3
    assert good["skill"] > 0.9
    assert bad["mean_relative_error"] == pytest.approx(0.5, abs=0.01)
    assert good["predicted"][0]["predicted"] == bad["predicted"][0]["predicted"]
    assert bad["interval_coverage"] == 0.0


def test_a_richer_law_must_beat_the_noise() -> None:
    rng = np.random.default_rng(4)
    tokens = 1e5 * 2.0 ** np.arange(9)
    table = dict(
        zip(tokens, (1 + 90 * tokens**-0.4) * np.exp(0.01 * rng.normal(size=9)), strict=True)
    )
    laws = [LAWS["loss"]["rectified"], LAWS["loss"]["data_power"]]
    assert laws[choose(laws, planted(table), OWN)[0]].name == "data_power"


def test_more_coefficients_than_cells_allow_is_refused() -> None:
    three = table_of([{"tokens": t, "loss": y, "seed": s} for s in (0, 1, 2)
                      for t, y in ((1e5, 3.0 + s / 50), (2e5, 2.5), (4e5, 2.2))])  # fmt: skip
    found = fit_laws(three)
    assert not found["laws"]
    assert "3 coefficients need at least 4 distinct cells of tokens; there are 3" in reasons(
        found, "data_power"
    )
    assert too_rich(LAWS["loss"]["data_power"], points_of(three, "loss", "params", True))


def test_repeats_cannot_be_told_when_all_runs_have_the_same_epochs(grid: dict[str, Any]) -> None:
    assert "R* is not identifiable: all runs have the same epochs (1)" in reasons(
        grid, "data_constrained"
    )
    assert "vary epochs" in reasons(grid, "chinchilla_constrained")


def test_varied_epochs_give_r_star_and_drop_repeats_from_other_laws() -> None:
    law, rng = LAWS["loss"]["data_constrained"], np.random.default_rng(2)
    truth = {"E": 1.2, "B": 60.0, "beta": 0.35, "R*": 8.0}
    rows = []
    for tokens in law_simulations.TOKENS:
        for epochs in (1.0, 4.0, 16.0, 40.0):
            loss = float(law.predict(truth, {"tokens": tokens, "epochs": epochs})[0])
            loss *= float(np.exp(0.002 * rng.normal()))
            rows.append({"tokens": tokens, "epochs": epochs, "loss": loss})
    found = fit_laws(table_of(rows))
    record = pick(found, "data_constrained")
    assert record["best"]
    star = record["coefficients"]["R*"]
    assert star["low"] <= 8.0 <= star["high"]
    assert star["identifiable"]
    plain = pick(found, "data_power")
    assert not plain["best"]
    assert plain["points"] == 6
    assert len(plain["dropped"]) == 18
    assert "does not know repeats" in plain["dropped"][0]["reason"]


def test_gamma_wants_three_teachers() -> None:
    rows = chinchilla_rows(sizes=law_simulations.SIZES[:4], teacher_params=1e8)
    assert "gamma needs at least 3 sizes of teacher" in reasons(
        fit_laws(table_of(rows)), "ratio", "gap"
    )


def ratio_rows() -> list[dict[str, Any]]:
    law, rng = LAWS["gap"]["ratio"], np.random.default_rng(6)
    truth = {"A": 30.0, "alpha": 0.3, "D0": 5e5, "beta": 0.5, "gamma": 0.15}
    rows = []
    for size in law_simulations.SIZES:
        for tokens in law_simulations.TOKENS:
            for teacher in (2e7, 5e7, 2e8):
                inputs = {"params": size, "tokens": tokens, "teacher_params": teacher}
                gap = float(law.predict(truth, inputs)[0] * np.exp(0.01 * rng.normal()))
                rows.append({**inputs, "gap": gap, "loss": 1 + gap, "student": f"{size:.0f}",
                             "teacher": f"{teacher:.0f}", "teacher_loss": 1.0})  # fmt: skip
    return rows


def test_ratio_law_over_three_teachers_only_for_the_gap_of_a_study() -> None:
    table = table_of(ratio_rows())
    only = table[table["student"].isin(["100000", "600000", "4000000"])]
    found = fit_laws(only)
    record = pick(found, "ratio", "gap")
    assert record["selected"]["teacher"] is None
    gamma = record["coefficients"]["gamma"]
    assert gamma["low"] <= 0.15 <= gamma["high"]
    assert gamma["low"] > 0
    assert "scored on its own text" in reasons(found, "ratio", "loss")


def test_size_laws_want_three_sizes() -> None:
    rows = chinchilla_rows(sizes=(1e6, 4e6))
    found = fit_laws(table_of(rows))
    assert "needs at least 3 sizes" in reasons(found, "size_power")
    assert all(law["selected"]["student"] for law in found["laws"])


def test_both_counts_of_parameters_are_fitted_and_a_short_range_is_warned_of() -> None:
    rows = [
        {**row, "params": 2e6 + row["params"], "params_non_embedding": row["params"]}
        for row in chinchilla_rows()
    ]
    found = fit_laws(table_of(rows))
    long = pick(found, "chinchilla", size="params_non_embedding")
    short = pick(found, "chinchilla", size="params")
    assert not any("span a factor" in warning for warning in long["warnings"])
    assert any("sizes span a factor of 5.71" in warning for warning in short["warnings"])


def test_initialisations_and_methods_are_never_pooled() -> None:
    rows = chinchilla_rows(sizes=SMALL) + chinchilla_rows(sizes=SMALL, init="cut", seed=1)
    found = fit_laws(table_of(rows + chinchilla_rows(sizes=SMALL, method="sft", cache="none")))
    records = [law for law in found["laws"] if law["name"] == "chinchilla"]
    assert {law["points"] for law in records} == {18}
    assert {(law["selected"]["init"], law["selected"]["method"]) for law in records} == {
        ("random", "kd"), ("cut", "kd"), ("random", "sft"),
    }  # fmt: skip
    # A random student knows nothing at n = 0, so the rectified law is not for it.
    rectified = {law["selected"]["init"] for law in found["laws"] if law["name"] == "rectified"}
    assert rectified == {"cut"}


SMALL = (1e5, 6e5, 4e6)


def test_runs_without_a_gap_are_listed_as_dropped() -> None:
    rows = chinchilla_rows(sizes=SMALL)
    rows[3]["gap"] = -0.01
    law = pick(fit_laws(table_of(rows)), "chinchilla", "gap")
    assert law["points"] == 17
    assert law["dropped"] == [
        {"row": 4, "student": "100000", "teacher": "smol", "tokens": 1e6, "seed": 0, "draw": 0,
         "reason": "its gap is not positive"}
    ]  # fmt: skip


def test_a_repeated_row_counts_once() -> None:
    rows = chinchilla_rows(sizes=SMALL)
    law = pick(fit_laws(table_of([*rows, rows[0]])), "chinchilla")
    assert law["points"] == 18
    assert law["dropped"][0]["row"] == 19
    assert "stands in an earlier row" in law["dropped"][0]["reason"]


def test_a_floor_that_reaches_zero_is_flagged() -> None:
    tokens = 1e5 * 2.0 ** np.arange(7)
    rng = np.random.default_rng(0)
    rows = [{"tokens": t, "loss": 90 * t**-0.3 * np.exp(0.01 * rng.normal())} for t in tokens]
    law = pick(fit_laws(table_of(rows)), "data_power")
    assert law["coefficients"]["E"]["low"] is None
    assert not law["coefficients"]["E"]["identifiable"]
    assert law["floor"]["refused"] == "unbounded"
    assert any("no floor is claimed" in warning for warning in law["warnings"])


def test_a_law_that_misses_structure_is_warned_of() -> None:
    rng = np.random.default_rng(1)
    tokens = 1e5 * 2.0 ** np.arange(8)
    bent = 2 + 0.3 * np.sin(np.arange(8.0))
    rows = [
        {"tokens": t, "loss": y * np.exp(0.002 * rng.normal()), "seed": s}
        for s in range(3)
        for t, y in zip(tokens, bent, strict=True)
    ]
    law = pick(fit_laws(table_of(rows), OWN), "data_power")
    assert any("misses structure" in warning for warning in law["warnings"])


def paper_table() -> tuple[pd.DataFrame, pd.DataFrame]:
    """697 points on the paper's grid: supervised and distilled runs, noise 0.2 %."""
    sizes = np.array([143e6, 198e6, 266e6, 546e6, 975e6, 1.82e9, 2.72e9, 4.82e9, 7.75e9])
    tokens = np.geomspace(4e9, 512e9, 8)
    supervised, student = LAWS["loss"]["supervised"], LAWS["loss"]["distillation"]
    rows: list[dict[str, Any]] = []
    for n in sizes:
        for d in tokens:
            loss = supervised.predict(law_simulations.SUPERVISED, {"params": n, "tokens": d})[0]
            rows.append({"N": n, "D": d, "L": loss, "m": "supervised"})
    for t in sizes:
        known = supervised.predict(law_simulations.SUPERVISED, {"params": t, "tokens": 20 * t})[0]
        for n in sizes:
            for d in tokens:
                inputs = {"params": n, "tokens": d, "teacher_loss": known}
                loss = student.predict(law_simulations.PAPER, inputs)[0]
                rows.append({"N": n, "D": d, "L": loss, "m": "kd", "T": t, "LT": known})
    frame = pd.DataFrame(rows)
    rng = np.random.default_rng(0)
    keep = np.sort(np.concatenate([np.arange(72), 72 + rng.permutation(648)[:625]]))
    frame = frame.iloc[keep].reset_index(drop=True)
    assert len(frame) == 697
    clean = frame.copy()
    frame["L"] *= np.exp(0.002 * rng.normal(size=697))
    return frame, clean


NAMES = {"params": "N", "tokens": "D", "loss": "L", "teacher_loss": "LT",
         "teacher_params": "T", "method": "m"}  # fmt: skip


def test_distillation_laws_predictions_come_back_from_697_points() -> None:
    frame, clean = paper_table()
    table = own_table(frame, NAMES)
    few = Settings(shared=False, starts=12)
    taught = (table["method"] == "kd").to_numpy()
    staged = StagedFitter(
        fit_points(
            LAWS["loss"]["supervised"], points_of(table[~taught], "loss", "params", False), few
        )
    )
    fitted = staged(
        LAWS["loss"]["distillation_reduced"], points_of(table[taught], "loss", "params", False), few
    )
    real = np.log(clean["L"].to_numpy()[taught])
    points = points_of(table[taught], "loss", "params", False)
    log, gradient = fitted.log_prediction(points)
    assert np.abs(log - real).mean() < 0.0005
    assert np.abs(log - real).max() < 0.005
    curve, run = half_widths(gradient, fitted.uncertainty)
    assert (np.abs(log - real) <= run).mean() > 0.99
    assert (curve < run).all()
    # The supervised stage's own error is in: its coefficients are no more certain than there.
    first = staged.first.uncertainty.by_run * staged.first.uncertainty.variances[0]
    both = fitted.uncertainty.by_run * fitted.uncertainty.variances[0]
    np.testing.assert_allclose(both[:6, :6], first, rtol=1e-9)


def over_teachers(table: pd.DataFrame, starts: int) -> dict[str, Any]:
    """Only the laws of the loss over several teachers."""
    fitting = Fitting(table, Settings(shared=False, starts=starts))
    for size in MEASURES:
        fitting.fit_teachers("loss", size)
    return fitting.document()


def test_both_forms_of_the_distillation_law_are_offered() -> None:
    frame, _ = paper_table()
    some = frame[frame["T"].isna() | frame["T"].isin([143e6, 546e6, 2.72e9])]
    some = some[some["N"].isin([143e6, 546e6, 2.72e9])]
    found = over_teachers(own_table(some, NAMES), 12)
    laws = {one["name"]: one for one in found["laws"]}
    assert laws.keys() == {"ratio", "distillation", "distillation_reduced"}
    full, short = laws["distillation"], laws["distillation_reduced"]
    assert not full["coefficients"]["c1"]["identifiable"]
    assert not full["coefficients"]["d1"]["identifiable"]
    for law in (full, short):
        assert any("c1 and d1 are not separately" in warning for warning in law["warnings"])
    assert short["choice"]["chosen"] == "distillation_reduced"
    json.dumps(found, allow_nan=False)
    without = own_table(some[some["m"] == "kd"], NAMES)
    reason = reasons(over_teachers(without, 4), "distillation")
    assert "trained without a teacher" in reason
