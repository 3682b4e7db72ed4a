import pytest

from distill.answers.runs import sweet_spot
from distill.core.errors import UserError
from question_tables import ask, small_table
from synthetic_runs import make_runs


def test_no_sweet_spot_without_a_cost() -> None:
    for answer in ask(make_runs(), sweet_spot):
        assert (answer.status, answer.needs[0].what) == ("cannot_tell", "cost")
        assert answer.numbers["samples"] is None


def test_no_sweet_spot_at_the_edge() -> None:
    for answer in ask(make_runs(), sweet_spot, cost={"samples": 1e-7}):
        assert answer.needs[0].what == "larger_size"
        assert answer.needs[0].change["runs[].samples"][-1] == 2048
    for answer in ask(make_runs(), sweet_spot, cost={"samples": 1.0}):
        assert answer.needs[0].what == "smaller_size"
        assert answer.needs[0].change["runs[].samples"][0] == 32
        assert answer.numbers["samples"] is None


def test_a_cost_makes_a_sweet_spot() -> None:
    price = 7e-4
    for answer in ask(make_runs(), sweet_spot, cost={"samples": price}):
        totals = {t["samples"]: t["total"] for t in answer.numbers["totals"]}
        assert answer.numbers["samples"] == min(totals, key=lambda n: totals[n])
        assert answer.status == "answered"


def test_a_sweet_spot_within_the_noise_is_not_claimed() -> None:
    runs = small_table()
    runs["loss"] = [2.0, 2.4, 1.6, 1.9, 1.6]
    (answer,) = ask(runs, sweet_spot, cost={"samples": 1e-3})
    assert answer.numbers["lowest_measured_at"] == 200
    assert answer.numbers["samples"] is None
    assert (answer.status, answer.needs[0].what) == ("cannot_tell", "precision")


def test_a_cost_of_a_missing_column_is_refused() -> None:
    with pytest.raises(UserError, match="energy"):
        ask(make_runs(), sweet_spot, cost={"energy": 1.0})
