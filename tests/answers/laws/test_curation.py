"""Whether curation shifts the exponent in size."""

from typing import Any

import pandas as pd
import pytest

from distill.answers.answer import Answer
from distill.answers.laws import claims
from distill.answers.laws.common_text import CURATION, CommonText, curation_differences
from distill.laws.choice import Settings, fit_points
from distill.laws.common_text import fit_on_common_text
from law_worlds import answered, chinchilla, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


def curated(params: float, tokens: float) -> float:
    return chinchilla(params, tokens, alpha=0.5)


GRID: dict[str, Any] = {"tokens": (2.5e5, 1e6, 4e6), "draws": 3, "reference": True, "noise": 0.002}
RAW = make_rows(**GRID)
CLEAN = make_rows(curated, curation="clean", seed=5, **GRID)


def ask(*parts: pd.DataFrame) -> Answer:
    rows = pd.concat(parts, ignore_index=True)
    text = CommonText(fit_on_common_text(rows, [], Settings(starts=8), fit_points))
    return only(curation_differences(rows, text), CURATION)


def test_a_shift_is_measured_and_tests_the_claim() -> None:
    answer = ask(RAW, CLEAN)
    assert answered(answer)
    assert answer.numbers["alpha_params"]["low"] < 0.15 < answer.numbers["alpha_params"]["high"]
    verdicts = claims.claim_answers(RAW, [], [], [answer])
    (claim,) = [one for one in verdicts if one.numbers["claim"] == claims.CURATED.name]
    assert claim.numbers["verdict"] == claims.SUPPORTED
    assert claim.numbers["intervals"]["alpha_params"]["value"] == pytest.approx(
        abs(answer.numbers["alpha_params"]["value"])
    )


@pytest.mark.parametrize(
    ("parts", "reason", "need"),
    [
        ((RAW,), "no_curation", "curated_beside_raw"),
        ((RAW, CLEAN[CLEAN["draw"] < 2]), "few_draws", "draws"),
        ((RAW, CLEAN[CLEAN["params"] < 5e6]), "few_sizes", "student_sizes"),
        ((RAW, CLEAN.assign(tokens=CLEAN["tokens"] * 0.6)), "unequal_tokens", "curated_beside_raw"),
    ],
)
def test_sizes_draws_and_equal_tokens_are_needed(
    parts: tuple[pd.DataFrame, ...], reason: str, need: str
) -> None:
    answer = ask(*parts)
    assert not answered(answer)
    assert answer.numbers["reason"] == reason
    assert [one.what for one in answer.needs] == [need]
