"""One score as a function of another: closed forms, recovery, coverage, refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student_t

from distill.laws.related_scores import relate_scores
from distill.laws.relation_fitting import fit_relation
from distill.laws.relations import Form, Relation, loss_form, sigmoid_form
from law_worlds import chinchilla, make_rows

LOSSES = np.linspace(1.5, 4.0, 12)
OTHERS = 0.8 + 1.3 * (LOSSES - 1.0) ** 0.8


def rate(loss: Any, chance: float = 0.1, top: float = 0.85) -> Any:
    return chance + (top - chance) * expit(-3.0 * (np.asarray(loss) - 2.4))


FORMS = {
    "falls": sigmoid_form(LOSSES, -1, None),
    "rises": sigmoid_form(np.log(LOSSES), 1, 0.1),
    "loss": loss_form(LOSSES, OTHERS, None),
    "loss above a floor": loss_form(LOSSES, OTHERS, 1.0),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_gradient_is_that_of_differences(form: Form) -> None:
    x = np.log(LOSSES) if form.frame.get("direction") == 1 else LOSSES
    theta = np.concatenate(form.starts(np.array([0.3, 0.8])))
    _, gradient = form.curve(theta, x)
    for place in range(theta.shape[1]):
        step = 1e-6 * np.eye(theta.shape[1])[place]
        ends = [form.curve(theta + sign * step, x)[0] for sign in (1, -1)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, gradient[:, place], atol=1e-6)


@pytest.mark.parametrize("items", [None, np.full(12, 1e6)], ids=["least squares", "binomial"])
@pytest.mark.parametrize("chance", [None, 0.1])
def test_an_exact_sigmoid_gives_its_coefficients(
    items: np.ndarray | None, chance: float | None
) -> None:
    found = fit_relation(sigmoid_form(LOSSES, -1, chance), LOSSES, rate(LOSSES), items)
    values = {name: entry["value"] for name, entry in found.coefficients().items()}
    assert values == pytest.approx({"x0": 2.4, "k": -3.0, "top": 0.85, "chance": 0.1}, rel=1e-4)
    ahead = found.predict([1.2, 5.0])
    np.testing.assert_allclose(ahead["value"], rate([1.2, 5.0]), rtol=1e-4)
    slope = (rate(2.401) - rate(2.399)) / 0.002
    assert found.predict(2.4)["slope"][0] == pytest.approx(slope, rel=1e-3)


def test_an_exact_loss_to_loss_gives_its_coefficients() -> None:
    for floor in (None, 1.0):
        found = fit_relation(loss_form(LOSSES, OTHERS, floor), LOSSES, OTHERS)
        values = {name: entry["value"] for name, entry in found.coefficients().items()}
        assert values == pytest.approx({"K": 1.3, "kappa": 0.8, "E_y": 0.8, "E_x": 1.0}, rel=1e-3)
    assert found.predict(1.2)["value"][0] == pytest.approx(0.8 + 1.3 * 0.2**0.8, rel=1e-4)


def test_a_binomial_fit_is_the_maximum_of_the_likelihood() -> None:
    """Against scipy on the plain formula, and scores of different numbers of items."""
    rng = np.random.default_rng(1)
    items = rng.integers(20, 400, 12).astype(float)
    y = rng.binomial(items.astype(int), rate(LOSSES)) / items

    def cost(p: np.ndarray) -> float:
        share = 0.1 + (p[2] - 0.1) * expit(p[1] * (LOSSES - p[0]))
        return float(-(items * (y * np.log(share) + (1 - y) * np.log(1 - share))).sum())

    exactly = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    best = minimize(cost, [2.3, -2.0, 0.8], method="Nelder-Mead", options=exactly)
    found = fit_relation(sigmoid_form(LOSSES, -1, 0.1), LOSSES, y, items)
    values = found.coefficients()
    np.testing.assert_allclose(
        [values[name]["value"] for name in ("x0", "k", "top")], best.x, rtol=1e-3
    )


def test_a_relation_is_read_back_as_it_was() -> None:
    found = fit_relation(
        loss_form(LOSSES, OTHERS * 1.01**LOSSES, None), LOSSES, OTHERS * 1.01**LOSSES
    )
    again = Relation.of_state(found.state())
    for name, values in found.predict([1.3, 2.0]).items():
        np.testing.assert_array_equal(again.predict([1.3, 2.0])[name], values)
    wider = found.predict(2.0, x_half=0.1)
    plain = found.predict(2.0)
    expected = (
        np.log(plain["high"] / plain["value"]) ** 2 + (0.1 * plain["slope"] / plain["value"]) ** 2
    )
    np.testing.assert_allclose(np.log(wider["high"] / wider["value"]) ** 2, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("lowest", [1.5, 2.4], ids=["top reached", "top not reached"])
def test_intervals_cover_the_curve_and_a_new_run(lowest: float) -> None:
    x = np.linspace(lowest, 4.0, 12)
    at = np.array([lowest + 0.1, lowest + 1.0, lowest - 0.4])
    mean, run = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y = rng.binomial(200, rate(x)) / 200
        found = fit_relation(sigmoid_form(x, -1, 0.1), x, y, np.full(12, 200.0))
        ahead = found.predict(at, 200)
        mean.append((ahead["low"] <= rate(at)) & (rate(at) <= ahead["high"]))
        new = rng.binomial(200, rate(at)) / 200
        run.append((ahead["run_low"] <= new) & (new <= ahead["run_high"]))
    assert (np.mean(mean, axis=0) > 0.84).all(), np.mean(mean, axis=0)
    assert np.mean(run) > 0.85, np.mean(run)


@pytest.mark.slow
def test_intervals_of_a_loss_to_loss_cover() -> None:
    at = np.array([1.6, 2.5, 1.4])
    truth = 0.8 + 1.3 * (at - 1.0) ** 0.8
    covered = []
    for seed in range(80):
        y = OTHERS * np.exp(0.005 * np.random.default_rng(seed).normal(size=12))
        ahead = fit_relation(loss_form(LOSSES, y, None), LOSSES, y).predict(at)
        covered.append((ahead["low"] <= truth) & (truth <= ahead["high"]))
    assert (np.mean(covered, axis=0) > 0.82).all(), np.mean(covered, axis=0)


def test_a_miss_beyond_the_runs_widens_intervals_there() -> None:
    found = fit_relation(loss_form(LOSSES, OTHERS, 1.0), LOSSES, OTHERS)
    there = np.array([1.3, 1.2])
    assert found.beyond(LOSSES, OTHERS * 1.1, None) == 0.0  # no run lies beyond
    right = found.predict(there)["value"]
    assert found.beyond(there, right, None) < 1e-6
    # A miss of 10 % at a distance of .2 and .3 nats.
    rate = found.beyond(there, right * 1.1, None)
    assert rate == pytest.approx(np.log(1.1) / np.sqrt((0.2**2 + 0.3**2) / 2), rel=1e-6)
    wider = replace(found, rate=rate)
    assert wider.predict(2.0)["high"] == found.predict(2.0)["high"]
    half = np.log(wider.predict(1.0)["high"] / wider.predict(1.0)["value"])
    assert half == pytest.approx(rate * 0.5 * student_t.ppf(0.95, found.df), rel=1e-3)
    assert Relation.of_state(wider.state()).rate == rate


def table(score: Any, column: str = "accuracy", seed: int = 3, **more: Any) -> pd.DataFrame:
    """A grid of runs with a further score, a function of the loss and a generator."""
    rows = make_rows(chinchilla, draws=1, noise=0.002, **more)
    rng = np.random.default_rng(seed)
    return rows.assign(**{column: score(rows["loss"].to_numpy(), rng)})


def only(document: dict[str, Any], side: str, by: str = "loss") -> dict[str, Any]:
    (record,) = [one for one in document[side] if one["by"] == by]
    return dict(record)


ITEMS = 400


def passes(loss: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.binomial(ITEMS, rate(loss, 0.05, 0.95)) / ITEMS)


def test_an_accuracy_with_items_is_related_and_the_largest_step_predicted() -> None:
    rows = table(passes).assign(items=ITEMS)
    record = only(relate_scores(rows, None, [], False), "fitted")
    assert record["items"] == ITEMS
    assert record["dispersion"] < 2
    relation = Relation.of_state(record["state"])
    np.testing.assert_allclose(
        relation.predict([2.6, 3.2])["value"], rate([2.6, 3.2], 0.05, 0.95), atol=0.03
    )
    held = record["holdout"]
    assert held["axis"] == "compute"
    assert held["mean_error"] < 0.05
    assert held["interval_coverage"] >= 0.6
    assert len(held["predicted"]) == held["runs"]


def test_data_alone_is_related_student_by_student() -> None:
    document = relate_scores(table(passes).assign(items=ITEMS), None, [], False)
    by_data = [one for side in document.values() for one in side if one["by"] == "tokens"]
    assert {one["selected"]["student"] for one in by_data} == set(table(passes)["student"])
    fitted = [one for one in document["fitted"] if one["by"] == "tokens"]
    assert fitted
    for record in fitted:
        relation = Relation.of_state(record["state"])
        ends = relation.predict(relation.range)["value"]
        assert ends[1] > ends[0]


def test_items_and_floors_of_a_study_are_those_of_its_references() -> None:
    rows = table(passes, "pass_rate_large")
    references = {"items": {"large": ITEMS}, "floor": {"large": 0.05}}
    record = only(relate_scores(rows, references, [], True), "fitted")
    assert (record["items"], record["chance"]) == (ITEMS, 0.05)
    assert record["coefficients"]["chance"]["value"] == 0.05
    top = record["coefficients"]["top"]
    assert top["low"] <= 0.95 <= top["high"]


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (lambda loss, rng: rng.binomial(50, 0.06, len(loss)) / 50, "at_floor"),
        (lambda loss, rng: 0.5 + 0.05 * rng.normal(size=len(loss)), "no_trend"),
        (lambda loss, rng: 0.9 - 0.3 * np.abs(loss - 3.2), "rises_and_falls"),
        (lambda loss, rng: 0.1 + 0.1 * loss, "wrong_way"),
    ],
    ids=["at_floor", "no_trend", "rises_and_falls", "wrong_way"],
)
def test_what_has_no_relation_is_refused_with_the_reason(score: Any, reason: str) -> None:
    rows = table(score, "pass_rate")
    references = {"items": {"fixed": 50}, "floor": {"fixed": 0.06}}
    record = only(relate_scores(rows, references, [], False), "refused")
    assert record["reason"] == reason


def test_few_cells_are_refused() -> None:
    rows = table(passes, sizes=(1e6,), tokens=(1e5, 2e5, 4e5))
    record = only(relate_scores(rows, None, [], False), "refused")
    assert (record["reason"], record["levels"], record["needed"]) == ("few_levels", 3, 6)


def test_a_loss_on_another_text_takes_the_floor_that_a_law_claims() -> None:
    def other(loss: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (0.8 + 1.3 * (loss - 1.5) ** 0.9) * np.exp(0.003 * rng.normal(size=len(loss)))

    rows = table(other, "reference_loss")
    free = only(relate_scores(rows, None, [], True), "fitted")
    key = free["selected"] | {"size": "params"}
    law = {
        "selected": key, "best": True, "target": "loss", "floor": {"name": "E", "refused": None},
        "coefficients": {"E": {"value": 1.5}},
    }  # fmt: skip
    known = only(relate_scores(rows, None, [law], True), "fitted")
    assert "E_x" in free["coefficients"]
    assert known["coefficients"]["E_x"] == {
        "value": 1.5, "low": None, "high": None, "identifiable": True,
    }  # fmt: skip
    assert known["coefficients"]["kappa"]["value"] == pytest.approx(0.9, abs=0.06)
    for record in (free, known):
        value = Relation.of_state(record["state"]).predict(2.5)["value"][0]
        assert value == pytest.approx(0.8 + 1.3, rel=0.01)
        assert record["holdout"]["mean_error"] < 0.02
    refused = only(
        relate_scores(rows, None, [law | {"floor": {"name": "E", "refused": "missed"}}], True),
        "fitted",
    )
    assert refused["coefficients"] == free["coefficients"]


def test_a_table_without_scores_has_no_relations() -> None:
    assert relate_scores(make_rows(draws=1), None, [], True) == {"fitted": [], "refused": []}
