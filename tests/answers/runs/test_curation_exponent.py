import pytest
from scipy import stats

from distill.answers.runs import curation_exponent
from question_tables import ask, curated


@pytest.mark.slow
def test_an_exponent_needs_sizes_and_draws() -> None:
    found = ask(curated(shift=0.15), curation_exponent)[0]
    assert (found.status, found.numbers["axis"]) == ("answered", "size")
    numbers = found.numbers
    assert 0 < numbers["exponent_shift_low"] <= 0.15 <= numbers["exponent_shift_high"]
    assert numbers["draws"] == 3
    for lacking in (curated(shift=0.15, students=4), curated(shift=0.15, draws=2)):
        found = ask(lacking, curation_exponent)[0]
        assert (found.status, found.numbers["axis"]) == ("cannot_tell", "size")
        wanted = {need.what: need.wanted for need in found.needs}
        assert wanted == {"students": 5, "draws": 3}
    # Three sizes of data are too few for the exponent in data.
    data = [a for a in ask(curated(shift=0.15), curation_exponent) if a.numbers["axis"] == "data"]
    assert [a.status for a in data] == ["cannot_tell"] * 5
    assert data[0].needs[0].change == {"runs[].samples": [32, 64, 128, 256, 512]}
    longer = ask(curated(shift=0.15, longer=1.5), curation_exponent)[0]
    assert longer.numbers["draws_at_equal_tokens"] == 0
    assert longer.numbers["draws"] == 0


@pytest.mark.slow
def test_an_exponent_that_does_not_shift_is_covered() -> None:
    inside = 0
    for seed in range(8):
        numbers = ask(curated(seed=seed), curation_exponent)[0].numbers
        inside += numbers["exponent_shift_low"] <= 0 <= numbers["exponent_shift_high"]
    assert inside >= stats.binom.ppf(0.001, 8, 0.9)
