"""The compute-optimal student and data, and the teacher's share."""

import numpy as np
import pandas as pd
import pytest

from distill.answers.laws.compute_optimal import (
    KEY,
    SCENARIOS,
    TEACHER_SHARE,
    Cost,
    compute_optimal_answers,
    optimum,
)
from distill.laws.fitted import FittedLaw
from law_worlds import PLAIN, RANGES, TRUTH, answered, chinchilla, exact, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


NO_FLOPS = np.array([])


def test_the_best_case_is_chinchillas_closed_form() -> None:
    curve, budget = exact("chinchilla", RANGES, **PLAIN), 1e14
    cost = Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "2N")
    best = optimum(curve, cost, budget, SCENARIOS["best_case"])
    a, b = TRUTH["alpha"], TRUTH["beta"]
    ratio = a * PLAIN["A"] / (b * PLAIN["B"])
    size = ratio ** (1 / (a + b)) * (budget / 6) ** (b / (a + b))
    assert best is not None
    assert not best.edge
    assert best.params.value == pytest.approx(size, rel=0.02)
    assert best.tokens.value == pytest.approx(budget / 6 / size, rel=0.02)
    assert best.teacher_share.value == 0
    # A teacher that must write every token makes a larger student pay.
    written = optimum(curve, cost, budget, SCENARIOS["teacher_inference"])
    assert written is not None
    assert written.params.value > 1.5 * size
    spent = 6 * written.params.value * written.tokens.value + 2.4e8 * written.tokens.value
    assert spent == pytest.approx(budget)
    # Pre-training is a fixed cost: with it paid on top, the split is the same.
    paid = 3 * 2.4e8 * 1e5
    pretrained = optimum(curve, cost, budget + paid, SCENARIOS["teacher_pretraining"], 1e5)
    assert pretrained is not None
    assert pretrained.params.value == best.params.value
    assert optimum(curve, cost, paid, SCENARIOS["teacher_pretraining"], 1e5) is None


def test_repeats_and_text_are_split_as_by_brute_force() -> None:
    curve = exact("chinchilla_constrained", RANGES, **PLAIN, **{"R*": 5.0})
    cost, budget = Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "2N"), 1e14
    best = optimum(curve, cost, budget, SCENARIOS["teacher_inference"], most_epochs=32.0)
    assert best is not None
    loss = np.inf
    for size in np.geomspace(1e5, 1e9, 300):
        for epochs in np.geomspace(1, 32, 60):
            tokens = budget / (6 * size * epochs + 2.4e8)
            worth = tokens * (1 + 5 * (1 - np.exp(-(epochs - 1) / 5)))
            here = chinchilla(size, worth)
            if here < loss:
                loss, share = here, 2.4e8 / (6 * size * epochs + 2.4e8)
    assert np.exp(best.loss) == pytest.approx(loss, rel=1e-3)
    assert best.teacher_share.value == pytest.approx(share, abs=0.05)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows, sizes=("params",))


def test_scenarios_take_a_stated_teacher(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    cost = {"t": Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "2N")}
    unstated = [one for one in compute_optimal_answers(rows, laws, cost, {}) if one.question == KEY]
    assert {one.numbers["scenario"]: answered(one) for one in unstated} == {
        "best_case": True, "teacher_inference": True, "teacher_pretraining": False,
        "teacher_inference_and_pretraining": False,
    }  # fmt: skip
    (need,) = unstated[2].needs
    assert need.change == {"teachers.t.pretraining_tokens": "<tokens>"}
    stated = compute_optimal_answers(rows, laws, cost, {"t": 1e6})
    assert all(answered(one) for one in stated if one.question == KEY)
    unknown = [one for one in compute_optimal_answers(rows, laws, {}, {}) if one.question == KEY]
    assert [answered(one) for one in unknown] == [True, False, False, False]
    assert {one.numbers["reason"] for one in unknown[1:]} == {"no_cost"}
    without = compute_optimal_answers(rows, [], cost, {})
    assert [(one.question, answered(one)) for one in without] == [
        (KEY, False), (TEACHER_SHARE, False),
    ]  # fmt: skip


def test_an_optimum_outside_the_range_is_marked(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    cost = {"t": Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "2N")}
    answers = compute_optimal_answers(rows, laws, cost, {})
    (written,) = [one for one in answers if one.numbers.get("scenario") == "teacher_inference"]
    four = written.numbers["budget_4"]
    assert not four["inside_measured_range"]
    assert four["outside"]["params"] > 1
    entry = written.numbers["budget_1"]["params"]
    assert entry["low"] < entry["value"] < entry["high"]
    share = only(answers, TEACHER_SHARE)
    assert not answered(share)
    assert share.numbers["reason"] == "epochs_not_varied"
    assert share.needs[0].change == {"methods.*.train.epochs": [1, 4]}
