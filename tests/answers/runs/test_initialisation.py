import pytest
from scipy import stats

from distill.answers.runs import initialisation
from question_tables import ask, gap, runs_of, starts


def test_an_initialisation_is_worth_samples() -> None:
    (found,) = ask(starts(3.0), initialisation)
    points = {point["samples"]: point for point in found.numbers["points"]}
    assert points[256]["equivalent"] == pytest.approx(768, rel=0.05)
    assert points[256]["low"] < 768 < points[256]["high"]
    assert points[1024]["equivalent"] is None
    assert points[1024]["low"] == pytest.approx(1024)
    numbers = found.numbers
    assert (numbers["outcome"], numbers["samples"]) == ("more", 256)
    assert numbers["worth_low"] < numbers["worth"] < numbers["worth_high"]
    assert numbers["worth"] == pytest.approx(512, rel=0.1)
    assert numbers["params"] == [1e6, 1e6]


@pytest.mark.slow
def test_the_worth_of_an_initialisation_is_covered() -> None:
    inside = 0
    repeats = 12
    for seed in range(repeats):
        (found,) = ask(starts(3.0, seed), initialisation)
        point = found.numbers["points"][1]
        inside += point["low"] <= 384 <= point["high"]
    assert inside >= stats.binom.ppf(0.001, repeats, 0.9)


@pytest.mark.slow
def test_the_worth_of_an_initialisation_may_be_open_or_unknown() -> None:
    (far,) = ask(starts(100.0), initialisation)
    assert (far.status, far.numbers["outcome"]) == ("answered", "above")
    assert far.numbers["worth_low"] == pytest.approx(960)
    (same,) = ask(starts(1.0), initialisation)
    assert (same.status, same.numbers["outcome"]) == ("cannot_tell", "nothing")
    assert same.numbers["worth_low"] <= 0 <= same.numbers["worth_high"]
    (worse,) = ask(starts(0.05), initialisation)
    assert (worse.status, worse.numbers["outcome"]) == ("answered", "below")
    assert worse.numbers["worth_high"] == pytest.approx(-960, rel=0.01)
    (near,) = ask(starts(3.0, params=1.2e6), initialisation)
    assert near.numbers["params"] == [1.2e6, 1e6]
    for lacking in (starts(3.0, params=2e6), runs_of(lambda n: 1 + gap(n))):
        (found,) = ask(lacking, initialisation)
        assert (found.status, found.needs[0].what) == ("cannot_tell", "initialisation")
    single = [row for row in starts(3.0) if row["draw"] == 0]
    (found,) = ask(single, initialisation)
    assert (found.status, found.numbers["outcome"]) == ("cannot_tell", "no_error_bar")


def test_an_interval_without_a_lower_end_is_no_value() -> None:
    """The random student's curve is met at its smallest size, so the interval is open below."""
    rows = runs_of(lambda n: 1 + gap(n), noise=0.05, student="fresh", init="random")
    other = runs_of(lambda n: 1 + gap(66), noise=0.05, sizes=(512,), init="cut")
    (found,) = ask(rows + other, initialisation)
    (point,) = found.numbers["points"]
    assert point["equivalent"] is not None
    assert point["low"] is None
    assert found.numbers["outcome"] == "below"
    assert found.numbers["worth_low"] is None
    assert found.numbers["worth_high"] < 0
