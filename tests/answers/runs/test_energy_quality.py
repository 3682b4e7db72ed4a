import math
from typing import Any

import pytest
from scipy import stats

from distill.answers.runs import energy_quality
from distill.answers.runs.energy_quality import KWH
from question_tables import ask, runs_of


def test_quality_per_kwh_by_hand() -> None:
    """Unigram entropy 5, teacher 1 nat: at loss 2 quality is .75, at 3 it is .5."""
    entropies = {"unigram_entropy": {"t": 5.0}}
    rows = runs_of(lambda n: 2.0, sizes=(64,), draws=2, noise=0.0, total_kwh_amortised=0.001)
    rows += runs_of(
        lambda n: 3.0, sizes=(64,), draws=2, noise=0.0, method="b", total_kwh_amortised=0.002
    )
    # Runs of a cell differ in energy by a factor of 1.1: the spread of the ratio's logarithm.
    rows[1] |= {KWH: 0.0011}
    rows[3] |= {KWH: 0.0022}
    (found,) = ask(rows, energy_quality, entropies)
    first, second = found.numbers["cells"]
    assert first["quality"] == 0.75
    assert second["quality"] == 0.5
    assert first["per_kwh"] == pytest.approx(0.75 / 0.001 / math.sqrt(1.1))
    assert second["per_kwh"] == pytest.approx(0.5 / 0.002 / math.sqrt(1.1))
    half = stats.t.ppf(0.95, 2) * math.log(1.1) / math.sqrt(2) / math.sqrt(2)
    assert math.log(first["per_kwh_high"] / first["per_kwh"]) == pytest.approx(half)
    assert first["not_clearly_less"]
    assert not second["not_clearly_less"]
    assert found.status == "answered"
    assert found.numbers["kwh_estimated"] == 0
    (found,) = ask([row | {"kwh_estimated": 1.0} for row in rows], energy_quality, entropies)
    assert found.numbers["kwh_estimated"] == 1


def test_quality_per_kwh_claims_nothing_it_cannot_tell() -> None:
    entropies = {"unigram_entropy": {"t": 5.0}}
    one = runs_of(lambda n: 2.0, sizes=(64,), draws=1, total_kwh_amortised=0.001)
    two = runs_of(lambda n: 2.0, sizes=(64,), draws=1, method="b", total_kwh_amortised=0.002)
    (found,) = ask(one + two, energy_quality, entropies)
    assert (found.status, found.needs[0].what) == ("cannot_tell", "repeats")
    assert found.numbers["log_sd"] is None
    cases: tuple[tuple[list[dict[str, Any]], dict[str, Any], str], ...] = (
        (one, {}, "unigram_entropy"),
        (runs_of(lambda n: 2.0), entropies, "column"),
    )
    for rows, known, what in cases:
        (found,) = ask(rows, energy_quality, known)
        assert (found.status, found.numbers["cells"]) == ("cannot_tell", [])
        assert [need.what for need in found.needs] == [what]
    (found,) = ask([row | {"loss": 6.0} for row in one], energy_quality, entropies)
    assert [(need.what, need.wanted) for need in found.needs] == [("loss_below", 5.0)]
