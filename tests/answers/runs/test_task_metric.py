import math

import numpy as np
import pytest

from distill.answers.runs import task_metric
from distill.answers.runs.task_metric import rank_correlation
from question_tables import ask, rated


def test_loss_moves_the_task_metric() -> None:
    floors = {"floor": {"fixed": 0.06, "large": 0.06}}
    rows = rated(lambda n: 0.1 + 0.08 * math.log2(n / 64))
    found = {a.about["label"]: a for a in ask(rows, task_metric, floors)}
    assert found["pass_rate_large"].status == "answered"
    assert found["pass_rate_large"].numbers["rank_correlation_high"] < 0
    worse = ask(rated(lambda n: 0.5 - 0.08 * math.log2(n / 64)), task_metric, floors)
    assert worse[1].status == "answered"
    assert worse[1].numbers["rank_correlation_low"] > 0


@pytest.mark.slow
def test_the_task_metric_at_its_floor_tells_nothing() -> None:
    floors = {"floor": {"fixed": 0.1, "large": 0.1}}
    # A slight trend below the sampling error of each rate: all within noise of the floor.
    rows = rated(lambda n: 0.09 + 0.005 * math.log2(n / 64))
    for found in ask(rows, task_metric, floors):
        assert (found.status, found.needs[0].what) == ("cannot_tell", "clear_of_floor")
        assert found.numbers["clear_of_floor"] == 0
    high = rated(lambda n: 0.5)
    assert ask(high, task_metric)[0].needs[0].what == "floor"
    few = [row for row in high if row["samples"] <= 128]
    (need,) = ask(few, task_metric, floors)[0].needs
    assert (need.what, need.wanted, need.present) == ("cells", 6, 4)
    assert need.change == {"runs[].samples": [32, 64, 128]}
    flat = [row | {"pass_rate": 0.5, "pass_rate_large": 0.5} for row in high]
    assert ask(flat, task_metric, floors)[0].needs[0].what == "varying_cells"
    noise = [row | {"pass_rate_large": 0.5 + 0.01 * ((k * 7) % 5)} for k, row in enumerate(high)]
    found = ask(noise, task_metric, floors)[1]
    assert found.status == "cannot_tell"
    assert found.numbers["rank_correlation_low"] < 0 < found.numbers["rank_correlation_high"]


def test_more_items_would_clear_the_floor() -> None:
    floors = {"floor": {"fixed": 0.1, "large": 0.1}}
    fixed, large = ask(rated(lambda n: 0.12), task_metric, floors)
    assert fixed.needs[0].change == {}  # the fixed set is what it is
    wanted = large.needs[0].wanted
    assert large.needs[0].change == {"evaluate.generated_instructions": wanted}
    assert wanted > large.numbers["items"]
    more = floors | {"items": {"fixed": 50, "large": wanted + 1}}
    (_, enough) = ask(rated(lambda n: 0.12), task_metric, more)
    assert enough.numbers["clear_of_floor"] >= 1


def test_items_that_the_templates_cannot_make_are_not_proposed() -> None:
    floors = {"floor": {"fixed": 0.1, "large": 0.1}}
    rows = [row | {"pass_rate_large": 0.102} for row in rated(lambda n: 0.1)]
    (_, large) = ask(rows, task_metric, floors)
    assert large.needs[0].wanted > 2769
    assert large.needs[0].change == {}


def test_few_items_have_a_large_sampling_error() -> None:
    floors = {"floor": {"fixed": 0.1, "large": 0.1}}
    (_, many) = ask(rated(lambda n: 0.5), task_metric, floors)
    (_, few) = ask(rated(lambda n: 0.5), task_metric, floors | {"items": {"large": 8}})
    assert (many.numbers["items"], few.numbers["items"]) == (200, 8)
    assert few.numbers["sampling_error"] == pytest.approx(5 * many.numbers["sampling_error"])


@pytest.mark.slow
def test_rank_correlation_covers() -> None:
    rng = np.random.default_rng(1)
    rho = 0.6
    truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a bivariate normal
    inside = 0
    for _ in range(400):
        x = rng.normal(size=20)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=20)
        found = rank_correlation(x, y)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    assert 0.86 < inside / 400 < 0.95
