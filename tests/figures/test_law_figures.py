import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.laws.fitted import FittedLaw, find_laws
from distill.laws.runs import (
    laws_in,
    line_names,
    rows_of,
    token_levels,
    trained_rows,
    typical_inputs,
)
from distill.table.own_points import own_table
from drawing import drawable, table_of
from figure_study import SAMPLES, STUDENTS, make_references, make_study, study_laws

pytestmark = pytest.mark.slow  # fits many laws
OF_LAWS = ("law_curves", "size_curves", "residuals", "exponents", "judged", "rollouts")


@pytest.fixture(scope="module")
def laws() -> list[FittedLaw]:
    return laws_in(study_laws())


def drawn(name: str, document: dict[str, Any] | None = None) -> pd.DataFrame:
    """A figure's table as its CSV holds it."""
    table = table_of(name, make_study(), make_references(), document or study_laws())
    return pd.read_csv(io.StringIO(table.to_csv(index=False)), keep_default_na=True)


def test_rows_of_figures_are_named_by_method() -> None:
    rows = trained_rows(make_study(), make_references())
    assert set(rows["line"]) == {"sft", "kd"}


def test_a_table_of_ones_own_has_rows_without_samples() -> None:
    frame = pd.DataFrame({"n": [1e6, 2e6], "d": [1e5, 1e5], "l": [3.0, 2.5], "t": [2.0, 2.0]})
    table = own_table(frame, {"params": "n", "tokens": "d", "loss": "l", "teacher_loss": "t"})
    runs = table.rename(columns={"tokens": "tokens_unique", "gap": "kl_teacher"})
    rows = trained_rows(runs.assign(samples=None, tokens_seen=runs["tokens_unique"]), None)
    assert rows["loss"].tolist() == [3.0, 2.5]
    assert rows["gap"].tolist() == [1.0, 0.5]
    assert rows["line"].tolist() == ["runs", "runs"]


def test_runs_are_named_by_what_tells_them_apart() -> None:
    keys = {"method": ["kd", "kd", "sft"], "cache": ["a", "b", "none"], "curation": ["raw"] * 3}
    rows = pd.DataFrame(keys).assign(init=["cut", "cut", "random"], teacher="t", group="")
    assert line_names(rows).tolist() == ["kd · a", "kd · b", "sft"]
    rows["cache"] = "none"
    assert line_names(rows).tolist() == ["kd", "kd", "sft"]
    rows["method"] = "sft"
    assert line_names(rows).tolist() == ["sft · cut", "sft · cut", "sft · random"]


def test_scattered_tokens_fall_into_equal_shares() -> None:
    levels = token_levels(pd.Series(np.geomspace(1e4, 1e8, 160)))
    assert levels.nunique() == 8
    assert set(levels.value_counts()) == {20}
    grid = token_levels(pd.Series([100.0, 104.0, 200.0, 208.0]))
    assert grid.tolist() == [102.0, 102.0, 204.0, 204.0]


def test_curves_are_the_laws_with_both_intervals(laws: list[FittedLaw]) -> None:
    table = drawn("law_curves")
    rows = trained_rows(make_study(), make_references())
    for law in find_laws(laws, best=True, student="w128"):
        line = law.selected["method"]
        mine = table[(table["row"] == line) & (table["column"] == law.target)]
        mine = mine[mine["label"] == "w128"]
        curve, runs = mine[mine["kind"] == "curve"], mine[mine["kind"] == "run"]
        inputs = {**typical_inputs(law, rows_of(law, rows)), "tokens": curve["x"].to_numpy()}
        found = law.predict(inputs, test_set=False)
        np.testing.assert_allclose(curve["y"], found.value)
        np.testing.assert_allclose(curve["low"], found.low)
        np.testing.assert_allclose(curve["run_high"], found.run_high)
        assert curve["x"].max() == pytest.approx(2 * 180 * SAMPLES[-1])
        wanted = rows[(rows["student"] == "w128") & (rows["method"] == line)]
        assert runs["x"].tolist() == wanted["tokens"].tolist()
        assert runs["y"].tolist() == wanted[law.target].tolist()
        # The most expensive step was held out, and it alone.
        held = runs["mark"] == "judged"
        assert held.tolist() == (wanted["tokens"] == 180 * SAMPLES[-1]).tolist()
        assert held.sum() == 1


def test_size_curves_hold_every_level_of_both_sizes(laws: list[FittedLaw]) -> None:
    table = drawn("size_curves")
    means = table[table["kind"] == "mean"]
    assert len(means) == 2 * 2 * len(SAMPLES) * len(STUDENTS)
    runs = make_study()
    cell = runs[(runs["student"] == "w64") & (runs["method"] == "kd") & (runs["samples"] == 512)]
    tokens = 180 * 512
    mine = means[(means["row"] == "kd") & (means["label"] == tokens) & (means["mark"] == "w64")]
    assert mine["y"].tolist() == pytest.approx([cell["loss"].mean()] * 2)
    assert mine["low"].tolist() == [cell["loss"].min()] * 2
    assert set(mine["x"]) == {cell["params"].iloc[0], cell["params_non_embedding"].iloc[0]}
    (law,) = find_laws(laws, target="loss", best=True, method="sft", size="params", student=None)
    curve = table[(table["kind"] == "curve") & (table["row"] == "sft")]
    curve = curve[(curve["column"] == "params") & (curve["label"] == tokens)]
    found = law.predict({"params": curve["x"].to_numpy(), "tokens": tokens, "epochs": 1.0})
    np.testing.assert_allclose(curve["y"], found.value)


def test_without_a_law_sizes_are_still_drawn() -> None:
    table = drawn("size_curves", {"laws": []})
    assert set(table["kind"]) == {"mean"}


def test_residuals_are_logs_of_measured_over_predicted(laws: list[FittedLaw]) -> None:
    table = drawn("residuals")
    rows = trained_rows(make_study(), make_references())
    assert (table["column"] == "tokens").sum() == (table["column"] == "size").sum()
    # Per target: each student's law, and one law per measure of size.
    assert len(table) == 2 * 2 * 3 * len(rows)
    (law,) = find_laws(laws, "loss", best=True, method="kd", size="params_non_embedding")
    mine = table[(table["row"] == "held-out loss, law over non-embedding size")]
    mine = mine[(mine["label"] == "kd") & (mine["column"] == "tokens")]
    behind = rows[rows["method"] == "kd"]
    inputs = {"params": behind["params_non_embedding"], "tokens": behind["tokens"], "epochs": 1.0}
    wanted = 100 * np.log(behind["loss"].to_numpy() / law.predict(inputs).value)
    np.testing.assert_allclose(mine["y"], wanted)
    assert np.sqrt((wanted**2).mean()) == pytest.approx(100 * law.record["residual_rmse_log"])


def test_exponents_are_those_of_the_laws(laws: list[FittedLaw]) -> None:
    table = drawn("exponents")
    assert list(dict.fromkeys(table["row"]))[:2] == ["alpha", "beta"]
    found = {(r.row, r.column, r.label): r for r in table.itertuples()}
    for law in find_laws(laws, best=True, method="sft"):
        label = law.selected["student"] or {
            "params": "by total size", "params_non_embedding": "by non-embedding size"
        }[law.selected["size"]]  # fmt: skip
        if not law.law.exponents:
            continue
        record = law.record["coefficients"]["beta"]
        row = found["beta", law.target, f"sft · {label}"]
        assert (row.x, row.law) == (record["value"], law.name)
        assert (row.kind == "known") == record["identifiable"]
        for name in ("low", "high"):
            value = getattr(row, name)
            assert (None if np.isnan(value) else value) == record[name]


def test_judged_runs_are_those_of_the_holdouts(laws: list[FittedLaw]) -> None:
    table = drawn("judged")
    value, miss = table[table["row"] == "value"], table[table["row"] == "miss"]
    held = [law.record["holdout"] for law in find_laws(laws, best=True) if law.record["holdout"]]
    assert len(value) == len(miss) == sum(len(one["predicted"]) for one in held) > 8
    wanted = sorted(one["predicted"] for law in held for one in law["predicted"])
    assert sorted(value["y"]) == wanted
    np.testing.assert_allclose(miss["y"], 100 * (value["y"].to_numpy() / value["x"] - 1))
    np.testing.assert_allclose(miss["high"], 100 * (value["high"].to_numpy() / value["x"] - 1))


def test_rollouts_end_with_the_holdout(laws: list[FittedLaw]) -> None:
    table = drawn("rollouts")
    chosen = [law.record for law in find_laws(laws, best=True) if law.record["rollouts"]]
    assert len(table) == sum(len(s["predicted"]) for one in chosen for s in one["rollouts"])
    for record in chosen:
        *_, last = record["rollouts"]
        assert last["step"] == record["holdout"]["step"]
        steps = [step["step"] for step in record["rollouts"]]
        assert steps == sorted(set(steps))
        for run in last["predicted"]:
            mine = table[np.isclose(table["high"], 100 * (run["high"] / run["measured"] - 1))]
            assert 100 * (run["predicted"] / run["measured"] - 1) == pytest.approx(
                mine["y"].iloc[0]
            )


@pytest.mark.parametrize("name", OF_LAWS)
def test_without_laws_there_is_nothing(name: str) -> None:
    runs = make_study()
    one = runs[runs["student"] == "w64"]
    nothing: list[dict[str, Any] | None] = [None, {"laws": []}]
    for laws in nothing:
        assert table_of(name, one, make_references(), laws).empty
        assert not drawable(name, one, make_references(), laws)
    assert drawable(name, runs, make_references(), study_laws())
    few = runs[["student", "method", "samples", "loss"]]
    assert table_of(name, few, None, None).empty


def test_the_gap_drawn_is_the_gap_that_laws_are_fitted_to() -> None:
    runs = make_study().assign(kl_floor=0.3)
    fitted = trained_rows(runs, make_references())["gap"].to_numpy()
    np.testing.assert_allclose(trained_rows(runs, make_references())["gap"], fitted)
