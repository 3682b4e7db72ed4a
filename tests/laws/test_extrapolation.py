"""What intervals hold beyond the noise of runs about a curve."""

import json

import numpy as np
import pytest

from distill.laws.bootstrap import is_odd, pair_covariance
from distill.laws.choice import Settings, fit_points
from distill.laws.extrapolation import (
    PRIOR_RATE,
    PRIOR_WEIGHT,
    Extrapolation,
    Noise,
    Origin,
    Rival,
    noise_of,
    rate_of,
    weights_of,
)
from distill.laws.fit import fit_laws
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.points import Points, points_of
from law_simulations import chinchilla_rows, table_of

CHINCHILLA = LAWS["loss"]["chinchilla"]
RANGES = {"params": [1e5, 1e7], "tokens": [1e5, 1e6], "effort": [1e10, 1e13]}
EVEN = Noise(0.0, 25.0, 23.0, 30.0)


def points(noise: float = 0.004, slope: float = 0.0, count: int = 1) -> Points:
    """A grid whose noise has a variance that goes with a power of compute."""
    rows = [row for _ in range(count) for row in chinchilla_rows(noise=0.0)]
    rng = np.random.default_rng(3)
    for row in rows:
        share = (row["params"] * row["tokens"] / 1e12) ** (slope / 2)
        row["loss"] *= float(np.exp(noise * share * rng.normal()))
    return points_of(table_of(rows), "loss", "params", False)


def test_distance_counts_size_data_and_compute_in_logs() -> None:
    beyond = Extrapolation(0.01, 9.0, 1, EVEN, (), RANGES)

    def far(size: float, tokens: float) -> float:
        inputs = {"params": np.array([size]), "tokens": np.array([tokens])}
        return float(beyond.distance(inputs)[0])

    assert far(1e6, 1e6) == 0.0
    assert far(1e7, 2e6) == pytest.approx(np.log(2))
    assert far(1e8, 1e7) == pytest.approx(np.log(100))
    assert far(1e4, 1e5) == pytest.approx(np.log(10))  # below the smallest size


def test_each_origin_counts_once_and_the_latest_most() -> None:
    assert rate_of([]) == (pytest.approx(PRIOR_RATE), PRIOR_WEIGHT, 0)

    def origin(error: float, runs: int = 1) -> Origin:
        ones = np.ones(runs)
        return Origin(np.zeros(runs), error * ones, 2 * ones, 1e-12 * ones)

    rate, weight, steps = rate_of([origin(0.08)])
    wanted = (PRIOR_WEIGHT * PRIOR_RATE**2 + 0.04**2) / (PRIOR_WEIGHT + 1)
    assert (rate, weight, steps) == (pytest.approx(wanted**0.5), PRIOR_WEIGHT + 1, 1)
    assert rate_of([origin(0.08, runs=50)])[0] == pytest.approx(rate)
    assert rate_of([origin(0.0), origin(0.08)])[0] > rate_of([origin(0.08), origin(0.0)])[0]
    noisy = Origin(np.zeros(1), np.array([0.08]), np.array([2.0]), np.array([0.01]))
    assert rate_of([noisy])[0] < PRIOR_RATE  # noise explains the error


def test_noise_that_falls_with_compute_is_found_and_even_noise_is_not() -> None:
    for slope in (0.0, -0.6):
        made = points(slope=slope, count=4)
        fitted = fit_points(CHINCHILLA, made, Settings(shared=False, starts=8))
        effort = np.log(made.values["params"] * made.values["tokens"])
        noise = noise_of(fitted.fit, effort)
        assert noise.slope == pytest.approx(slope, abs=0.2)
        assert noise.ratio(effort).mean() == pytest.approx(1.0)
        beyond = np.array([effort.max(), effort.max() + 5])
        assert np.ptp(noise.ratio(beyond)) == 0.0


def test_laws_that_disagree_widen_the_interval() -> None:
    theta = CHINCHILLA.internal({"E": 1.6, "A": 60.0, "alpha": 0.33, "B": 500.0, "beta": 0.4}, {})
    inputs = {"params": np.array([1e6]), "tokens": np.array([1e5])}
    log = CHINCHILLA.curve(theta, CHINCHILLA.centred(inputs, {}))[0]
    rival = Rival(CHINCHILLA, theta, {}, 0.25)
    alone = Extrapolation(0.01, 9.0, 1, EVEN, (rival,), RANGES)
    exact = np.zeros(1)
    assert alone.variance(log, inputs, exact)[0] == pytest.approx(0.0, abs=1e-12)
    assert alone.variance(log + 0.02, inputs, exact)[0] == pytest.approx(
        0.25 * 0.02**2 * 1.6449**2, rel=1e-3
    )
    # What the curve's own noise explains of the difference is not counted again.
    some, all_of_it = (share * 0.5 * 0.02 * 1.6449 for share in (0.6, 1.1))
    assert alone.variance(log + 0.02, inputs, exact + some)[0] == pytest.approx(
        (1 - 0.6**2) * (0.5 * 0.02 * 1.6449) ** 2, rel=1e-3
    )
    assert alone.variance(log + 0.02, inputs, exact + all_of_it)[0] == 0.0
    again = Extrapolation.of(json.loads(json.dumps(alone.record())), LAWS["loss"])
    far = {"params": np.array([1e9]), "tokens": np.array([1e9])}
    assert again.variance(log, far, exact) == pytest.approx(alone.variance(log, far, exact))


def test_shares_of_laws_go_with_their_errors() -> None:
    assert weights_of([0.01, 0.02, None]) == pytest.approx([0.8, 0.2, 0.0])
    assert weights_of([None, None]) == [0.0, 0.0]


@pytest.mark.slow
def test_a_chosen_laws_intervals_grow_beyond_its_runs() -> None:
    document = fit_laws(table_of(chinchilla_rows(noise=0.004)), Settings(shared=False, starts=16))
    law = next(
        FittedLaw(one)
        for one in document["laws"]
        if one["best"] and one["target"] == "loss" and one["selected"]["student"] is None
    )
    steps = np.array([1.0, 10.0, 100.0])
    found = law.predict({"params": 1e7 * steps, "tokens": 4e6 * steps})
    widths = np.log(found.run_high / found.run_low)
    assert widths[0] < widths[1] < widths[2]
    bare = FittedLaw({**law.record, "extrapolation": None})
    near, far = (one.predict({"params": 1e8, "tokens": 4e7}) for one in (bare, law))
    assert (far.run_high > near.run_high).all()
    assert law.extrapolation({"params": 1e7, "tokens": 4e6 * 3}) == pytest.approx(3.0)
    assert law.extrapolation({"params": 1e7 * 2, "tokens": 4e6 * 3}) == pytest.approx(6.0)


@pytest.mark.slow
def test_resampled_pairs_agree_with_refits_from_scratch() -> None:
    made = points(noise=0.01, slope=-0.8, count=3)
    law, rng = LAWS["loss"]["tied"], np.random.default_rng(5)
    fitted = fit_points(law, made, Settings(shared=False, starts=8))
    assert is_odd(rng.standard_t(2, size=300))
    assert not is_odd(rng.normal(size=300))
    ours = np.sqrt(np.diag(pair_covariance(law, made, fitted.fit)))
    found = []
    for _ in range(60):
        rows = rng.integers(len(made), size=len(made))
        again = Points(
            {name: values[rows] for name, values in made.values.items()}, made.target[rows],
            made.gap[rows], None, made.compute[rows], made.teacher[rows], made.student[rows], None,
            made.rows[rows],
        )  # fmt: skip
        centred = fit_points(law, again, Settings(shared=False, starts=8), fitted.fit.theta)
        natural, _ = law.natural(centred.fit.theta, centred.fit.centre)
        found.append(natural[law.names.index("alpha")])
    alpha = float(np.exp(fitted.fit.theta[law.names.index("alpha")]))
    assert ours[law.names.index("alpha")] * alpha == pytest.approx(np.std(found), rel=0.35)
