"""Verdicts on published claims."""

import pandas as pd
import pytest

from distill.answers.laws import claims
from distill.laws.fitted import FittedLaw
from distill.stats.intervals import Estimate
from law_worlds import fit, make_rows

pytestmark = pytest.mark.slow  # fits many laws


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.32, 0.48, claims.SUPPORTED),
        (0.3, 0.5, claims.SUPPORTED),
        (0.51, 0.6, claims.CONTRADICTED),
        (0.1, 0.29, claims.CONTRADICTED),
        (0.25, 0.4, claims.NOT_TESTED),
        (None, 0.4, claims.NOT_TESTED),
        (0.6, None, claims.CONTRADICTED),
        (None, None, claims.NOT_TESTED),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    low: float | None, high: float | None, expected: str
) -> None:
    assert claims.verdict(low, high, claims.ALPHA_DISTILLED) == expected


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return make_rows()


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows)


def verdicts(
    rows: pd.DataFrame, laws: list[FittedLaw], corpus_methods: list[str]
) -> dict[str, tuple[str, str]]:
    return {
        one.numbers["claim"]: (one.numbers["verdict"], one.status)
        for one in claims.claim_answers(rows, laws, corpus_methods, [])
    }


def test_a_claim_is_tested_by_its_own_kind_of_students(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    distilled = verdicts(rows, laws, [])
    assert len(distilled) == 8
    assert distilled["alpha_distilled"] == (claims.SUPPORTED, "answered")
    assert distilled["alpha_scratch"] == (claims.NOT_TESTED, "cannot_tell")
    scratch = verdicts(rows, laws, ["kd"])
    assert scratch["alpha_distilled"] == (claims.NOT_TESTED, "cannot_tell")
    assert scratch["alpha_scratch"] == (claims.CONTRADICTED, "answered")


def test_all_measures_of_size_must_agree_on_a_claim() -> None:
    intervals = {
        "params": Estimate(0.4, None, 0.35, 0.45),
        "params_non_embedding": Estimate(0.6, None, 0.55, 0.65),
    }
    measured = [claims.Measured({}, intervals)]
    (split,) = claims.claim_answer(claims.ALPHA_DISTILLED, measured, ())
    assert split.numbers["verdict"] == claims.NOT_TESTED
    assert split.numbers["measured"]
    assert split.status == "cannot_tell"


def test_the_size_of_a_shift_counts_whichever_way_it_goes() -> None:
    assert claims._size_of_shift(Estimate(-0.2, None, -0.3, -0.1)) == Estimate(0.2, None, 0.1, 0.3)
    assert claims._size_of_shift(Estimate(0.1, None, -0.1, 0.3)) == Estimate(0.1, None, 0.0, 0.3)
