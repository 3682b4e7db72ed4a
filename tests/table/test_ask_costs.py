import numpy as np
import pytest

from distill.ask.costs import Prices, rates_between, student_rates, teacher_rates
from size_study import SECONDS_PER_TOKEN, SIZES, own_runs, size_runs


def _rates(method: str, student: str):  # type: ignore[no-untyped-def]
    group = size_runs()
    group = group[group["method"] == method]
    return student_rates(group[group["student"] == student], teacher_rates(group))


def test_costs_are_the_runs_own_and_grow_with_tokens() -> None:
    cost = _rates("kd", "d24").cost(1_000_000, 2.0)
    assert cost["train_flops"] == pytest.approx(6 * 2_400_000 * 2_000_000)
    assert cost["train_seconds"] == pytest.approx(1.5 * SECONDS_PER_TOKEN * 2_400_000 * 2_000_000)
    # The teacher writes and scores each unique token once, however often it is seen.
    assert cost["teacher_tokens"] == 1_000_000
    assert cost["teacher_flops"] == pytest.approx(2e14)
    assert cost["target_flops"] == pytest.approx(1e14)
    assert cost["total_flops"] == pytest.approx(6 * 2_400_000 * 2_000_000 + 3e14)
    assert cost["cache_bytes"] == pytest.approx(131e6)
    assert cost["disk_bytes"] == pytest.approx(131e6 + 4 * 2_400_000)
    assert cost["money"] is None


def test_money_pays_the_teacher_by_the_hour_or_by_the_token_not_twice() -> None:
    rates = _rates("kd", "d24")
    train = 1.5 * SECONDS_PER_TOKEN * 2_400_000 * 1e6
    teacher, target = 100.0, 20.0
    hour = rates.cost(1e6, 1.0, Prices(hour=3.6))["money"]
    assert hour == pytest.approx((train + teacher + target) / 1000)
    both = rates.cost(1e6, 1.0, Prices(hour=3.6, million_tokens=5.0))["money"]
    assert both == pytest.approx((train + target) / 1000 + 5)
    assert rates.cost(1e6, 1.0, Prices(million_tokens=5.0))["money"] == pytest.approx(5)


def test_rates_between_students_are_log_linear_in_size() -> None:
    known = {float(size): _rates("sft", name) for name, size in SIZES.items()}
    for size in (900_000, 3_333_333, 30_000_000):
        rates = rates_between(known, size)
        assert rates is not None
        assert rates.train_flops == pytest.approx(6 * size)
        assert rates.train_seconds == pytest.approx(SECONDS_PER_TOKEN * size)
        assert rates.model_bytes == pytest.approx(4 * size)
    assert rates_between({600_000.0: _rates("sft", "d6")}, 700_000) is None


def test_text_alone_has_no_soft_targets_to_pay_for() -> None:
    cost = _rates("sft", "d6").cost(1e6, 1.0)
    assert cost["cache_bytes"] == 0
    assert cost["target_flops"] == 0


@pytest.mark.slow  # fits many laws
def test_a_table_without_costs_has_estimated_flops_and_no_seconds() -> None:
    runs, _ = own_runs()
    runs = runs.assign(cache=None)
    rates = student_rates(runs[runs["params"] == 600_000], teacher_rates(runs))
    assert rates.estimated
    cost = rates.cost(1e6, 1.0, Prices(hour=1.0))
    assert cost["train_flops"] == pytest.approx(6 * 600_000 * 1e6)
    assert cost["train_seconds"] is None
    assert cost["total_flops"] is None
    assert cost["money"] is None
    assert np.isfinite(cost["teacher_tokens"])
