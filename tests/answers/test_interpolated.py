import math

import numpy as np
import pytest
from scipy import stats

from distill.answers.interpolated import Interpolated, difference_at
from distill.stats.intervals import Spread, pooled_spread

SIZES = (64, 128, 256, 512, 1024)


def curve(flops: list[float], losses: list[float], draws: int = 1, first: int = 0) -> Interpolated:
    """Return a curve whose runs are named by size and draw."""
    runs = tuple(tuple((first + k, draw, 0) for draw in range(draws)) for k, _ in enumerate(flops))
    return Interpolated(tuple(flops), tuple(losses), runs)


def test_a_power_law_is_read_off_exactly() -> None:
    flops = [1e12, 3e12, 4e12, 2e13]
    law = curve(flops, [5.0 * f**-0.05 for f in flops])
    for at in (1e12, 2e12, 3.5e12, 1.9e13, 2e13):
        assert law.read_off(at)[0] == pytest.approx(5.0 * at**-0.05)
        assert law.bend(at) == pytest.approx(0, abs=1e-12)


def test_slopes_are_derivatives() -> None:
    flops, losses = [1e12, 3e12, 9e12], [3.0, 2.0, 1.5]
    for at in (1e12, 2e12, 5e12, 9e12):
        value, slopes = curve(flops, losses, draws=2).read_off(at)
        for k in range(3):
            moved = [loss + 1e-6 * (k == place) for place, loss in enumerate(losses)]
            change = (curve(flops, moved).read_off(at)[0] - value) / 1e-6
            mine = sum(slope for run, slope in slopes.items() if run[0] == k)
            assert mine == pytest.approx(change, abs=1e-5)


def test_the_bend_of_a_parabola_is_exact() -> None:
    def loss(flops: float) -> float:
        return math.exp(0.1 * (math.log10(flops) - 15) ** 2)

    flops = [1e12, 2e12, 5e12, 2e13]
    bent = curve(flops, [loss(f) for f in flops])
    for at in (1.5e12, 3e12, 1.2e13):
        value, _ = bent.read_off(at)
        distance = math.log(value / loss(at)) * value  # to first order in nats
        assert bent.bend(at) == pytest.approx(distance, rel=1e-6)
    for at in flops:
        assert bent.bend(at) == pytest.approx(0, abs=1e-12)


def test_equal_costs_give_the_paired_comparison() -> None:
    one, other = curve([1e12, 4e12], [2.0, 1.5], draws=3), curve([1e12, 4e12], [1.9, 1.4], draws=3)
    found = difference_at(one, other, 4e12, Spread(0.5, 9, 3), Spread(0.02, 4, 2))
    assert found.value == pytest.approx(0.1)
    assert found.stderr == pytest.approx(0.02 / math.sqrt(3))
    half = stats.t.ppf(0.95, 4) * 0.02 / math.sqrt(3)
    assert (found.low, found.high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))


def test_runs_that_nothing_links_are_independent() -> None:
    one = curve([1e12, 4e12], [2.0, 1.5], draws=2)
    other = curve([1e12, 4e12], [1.9, 1.4], draws=3, first=5)
    found = difference_at(one, other, 4e12, Spread(0.5, 9, 3), Spread(0.02, 4, 2))
    assert found.stderr == pytest.approx(0.5 * math.sqrt(1 / 2 + 1 / 3))
    half = stats.t.ppf(0.95, 9) * 0.5 * math.sqrt(1 / 2 + 1 / 3)
    assert found.high == pytest.approx(0.1 + half)
    # Without an estimate of the pairs' spread, common runs count as independent too.
    alone = difference_at(one, curve([1e12, 4e12], [1.9, 1.4], 3), 4e12, Spread(0.5, 9, 3), None)
    assert alone.stderr == pytest.approx(found.stderr)


@pytest.mark.slow
def test_the_standard_error_is_that_of_simulated_studies() -> None:
    rng = np.random.default_rng(1)
    law = np.array([3.0, 2.5, 2.1])
    sd, shared = 0.02, 0.7
    flops = np.array([1e12, 2e12, 4e12])
    at, values = 3e12, []
    for _ in range(3000):
        draws = math.sqrt(shared) * rng.normal(size=(3, 2))
        own = [draws + math.sqrt(1 - shared) * rng.normal(size=(3, 2)) for _ in range(2)]
        means = [law + sd * noise.mean(axis=1) for noise in own]
        one = curve(list(flops), list(means[0]), draws=2)
        other = curve(list(1.3 * flops), list(0.95 * means[1]), draws=2)
        values.append(one.read_off(at)[0] - other.read_off(at)[0])
    one, other = curve(list(flops), list(law), 2), curve(list(1.3 * flops), list(0.95 * law), 2)
    between = Spread(sd * math.sqrt(2 * (1 - shared)), 10**6, 9)
    found = difference_at(one, other, at, Spread(sd, 10**6, 9), between)
    # The second method's noise is 0.95 of the first's, which the pooled spread leaves out.
    assert found.stderr == pytest.approx(np.std(values), rel=0.06)
    apart = difference_at(one, other, at, Spread(sd, 10**6, 9), None)
    assert apart.stderr is not None
    assert apart.stderr > 1.3 * np.std(values)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "shared", "cost"), [(0.003, 0.8, 1.35), (0.02, 0.0, 1.03)])
def test_intervals_cover_the_truth(noise: float, shared: float, cost: float) -> None:
    rng = np.random.default_rng(2)
    gaps = {1.0: 1.0, cost: 0.93}
    keys = [(n, draw, 0) for n in SIZES for draw in range(2 if n <= 256 else 1)]

    def truth(flops: float, price: float) -> float:
        return 0.95 + gaps[price] * (64 * price / flops) ** 0.35

    hits, trials = 0, 300
    for _ in range(trials):
        common = rng.normal(size=len(keys))
        runs = {}
        for price in gaps:
            own = math.sqrt(shared) * common + math.sqrt(1 - shared) * rng.normal(size=len(keys))
            runs[price] = {
                key: truth(price * key[0], price) + noise * e
                for key, e in zip(keys, own, strict=True)
            }
        cells = {
            price: [[loss for key, loss in each.items() if key[0] == n] for n in SIZES]
            for price, each in runs.items()
        }
        curves = [
            Interpolated(
                tuple(price * n for n in SIZES),
                tuple(float(np.mean(cell)) for cell in cells[price]),
                tuple(tuple(key for key in keys if key[0] == n) for n in SIZES),
            )
            for price in gaps
        ]
        spread = pooled_spread([cell for price in gaps for cell in cells[price]])
        between = pooled_spread(
            np.subtract(a, b) for a, b in zip(cells[1.0], cells[cost], strict=True)
        )
        found = difference_at(curves[0], curves[1], float(SIZES[-1]), spread, between)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth(1024, 1.0) - truth(1024, cost) <= found.high
    assert 0.86 <= hits / trials <= 0.98


def test_shift_variance_is_the_slope_in_log_flops() -> None:
    flops, losses = (1e3, 4e3, 9e3), (3.0, 2.0, 1.5)
    runs = tuple(((n, 0, 0), (n, 1, 0)) for n in (1, 2, 3))
    for at in (1.5e3, 4.5e3, 8e3):
        curve = Interpolated(flops, losses, runs)
        numeric = 0.0
        for place in range(3):
            moved = [f * (math.exp(1e-6) if k == place else 1) for k, f in enumerate(flops)]
            change = (
                Interpolated(tuple(moved), losses, runs).read_off(at)[0] - curve.read_off(at)[0]
            )
            numeric += (change / 1e-6) ** 2 / 2
        assert curve.shift_variance(at) == pytest.approx(numeric, rel=1e-4)
