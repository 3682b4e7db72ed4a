"""Exponents per group, and how much methods differ in them."""

import numpy as np
import pandas as pd
import pytest

from distill.answers.laws.exponents import DIFFERENCE, KEY, exponent_answers, method_differences
from distill.laws.curves import Curve, curve_of, differences
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.intervals import Uncertainty
from law_worlds import SIZES, answered, chinchilla, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


def steeper(params: float, tokens: float) -> float:
    return chinchilla(params, tokens, beta=0.6)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """kd with β 0.4 and sft with β 0.6."""
    sft = make_rows(steeper, method="sft", seed=1)
    return pd.concat([make_rows(), sft], ignore_index=True)


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows)


def test_exponents_cover_the_truth(rows: pd.DataFrame, laws: list[FittedLaw]) -> None:
    kd = only(exponent_answers(rows, laws), KEY, method="kd")
    assert answered(kd)
    for entry, truth in ((kd.numbers["alpha"]["params"], 0.35), (kd.numbers["beta"], 0.4)):
        assert entry["claimed"]
        assert entry["low"] - 0.01 < truth < entry["high"] + 0.01
        assert entry["high"] - entry["low"] < 0.1


def test_an_exponent_in_size_takes_twenty_fold_sizes() -> None:
    rows = make_rows(sizes=SIZES[:4])
    answer = only(exponent_answers(rows, fit(rows, sizes=("params",))), KEY)
    alpha = answer.numbers["alpha"]["params"]
    assert not alpha["claimed"]
    assert alpha["doubt"] == "size_span"
    assert alpha["span"] == pytest.approx(SIZES[3] / SIZES[0])
    # β is claimed nevertheless, and the need names the sizes that would do.
    assert answered(answer)
    (need,) = answer.needs
    low, high = need.change["students[].params"]
    assert (need.what, need.wanted) == ("size_span", 20.0)
    assert high / low == pytest.approx(20, rel=1e-5)


def test_without_a_law_both_ways_to_one_are_named() -> None:
    rows = make_rows(sizes=SIZES[:1], tokens=(1e5, 2e5)).assign(samples=100)
    answer = only(exponent_answers(rows, []), KEY)
    assert not answered(answer)
    assert [(need.what, need.wanted, need.present) for need in answer.needs] == [
        ("amounts_of_data", 4, 2), ("student_sizes", 3, 1),
    ]  # fmt: skip
    assert answer.needs[0].change == {"runs[].samples": [100, 200, 400, 800]}


def test_a_difference_of_exponents_has_its_own_interval(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    apart = only(method_differences(rows, laws, []), DIFFERENCE)
    beta, alpha = apart.numbers["beta"], apart.numbers["alpha_params"]
    assert beta["low"] < -0.2 + 0.01
    assert beta["high"] > -0.2 - 0.01
    assert beta["high"] < 0
    assert alpha["low"] < 0 < alpha["high"]
    assert apart.numbers["doubts"] == {}
    # Another start is another group: never compared as a method, nor pooled.
    record = laws[2].record
    other = FittedLaw({**record, "selected": {**record["selected"], "init": "cut"}})
    assert method_differences(rows, [laws[0], other], []) == []
    # Against a corpus there is a question of its own.
    assert method_differences(rows, laws, ["sft"]) == []


def test_differences_are_as_wide_as_two_independent_laws() -> None:
    law = LAWS["loss"]["data_power"]
    found = Uncertainty(
        np.eye(3) * 1e-4, np.eye(3) * 0, np.array([1.0, 0.0]), np.diag([1e-12, 0]), np.zeros(3)
    )
    curve = Curve(law, np.zeros(3), {}, found, {})
    one = np.array([[1.0, 0.0, 0.0]])
    assert differences(curve, one)[0] == pytest.approx(1.6449 * 0.01, rel=1e-3)
    assert differences(curve, one, curve, one)[0] == pytest.approx(
        1.6449 * 0.02**0.5 * 0.1, rel=1e-3
    )
    # The test set moves both laws together.
    none = np.zeros((3, 3))
    moved = Uncertainty(none, none, np.zeros(2), np.zeros((2, 2)), np.ones(3))
    shifted = Curve(law, np.zeros(3), {}, moved, {})
    assert differences(shifted, one)[0] == pytest.approx(1.6449, rel=1e-3)
    assert differences(shifted, one, shifted, one)[0] == 0


def test_samples_of_a_law_spread_as_its_covariance(laws: list[FittedLaw]) -> None:
    curve = curve_of(laws[0])
    beta = curve.law.names.index("beta")
    drawn = np.exp(curve.samples(4000, seed=1)[:, beta])
    entry = laws[0].record["coefficients"]["beta"]
    assert np.quantile(drawn, 0.95) - np.quantile(drawn, 0.05) == pytest.approx(
        entry["high"] - entry["low"], rel=0.12
    )
