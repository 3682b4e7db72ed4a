"""How small a pilot predicts the largest runs."""

import pytest

from distill.answers.laws.pilot import KEY, pilot_answers
from distill.laws.choice import Settings
from distill.laws.forms import LAWS
from distill.laws.pilots import pilot_ladder, smallest_pilots
from distill.laws.points import points_of
from law_worlds import answered, fit_all, laws_of, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws


def test_the_pilot_is_the_smallest_that_all_larger_ones_confirm() -> None:
    errors = [0.2, 0.015, 0.04, 0.012, 0.004]
    ladder = [{"error": error, "runs": i} for i, error in enumerate(errors)]
    found = {k: v and v["runs"] for k, v in smallest_pilots(ladder).items()}
    # 0.015 was luck at 2 %: the next pilot missed.
    assert found == {0.01: 4, 0.02: 3, 0.05: 1, 0.1: 1}
    missed = smallest_pilots([{"error": 0.3, "runs": 1}])
    assert set(missed.values()) == {None}


def test_a_ladder_holds_growing_prefixes_beside_the_line() -> None:
    points = points_of(make_rows(), "loss", "params", True)
    ladder = pilot_ladder(points, LAWS["loss"]["chinchilla"], Settings(starts=8))
    shares = [one["compute_share"] for one in ladder]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    assert ladder[-1]["error"] < 0.01
    assert ladder[-1]["error"] < ladder[-1]["simple"]["error"]


def test_one_answer_a_group_by_its_joint_law() -> None:
    rows = make_rows()
    document = fit_all(rows)
    answer = only(pilot_answers(rows, laws_of(document)), KEY)
    assert answered(answer)
    assert answer.about["student"] is None
    assert answer.numbers["law"] in ("chinchilla", "tied")
    assert answer.numbers["within"]["0.01"]["runs"] < len(rows)
    assert not answered(only(pilot_answers(rows, []), KEY))
    one = make_rows(sizes=(1e6,))
    alone = only(pilot_answers(one, laws_of(fit_all(one))), KEY)
    assert alone.about["student"] == "1000000"
