"""Each size step predicted from those below it."""

import numpy as np
import pandas as pd
import pytest

from distill.laws.choice import Settings, fit_points
from distill.laws.forms import LAWS
from distill.laws.judging import evaluate_holdout
from distill.laws.points import Points, points_of
from distill.laws.rollouts import record_rollouts, roll_out
from law_simulations import chinchilla_rows, table_of

pytestmark = pytest.mark.slow  # fits many laws
SETTINGS = Settings(starts=8, shared=False)
LAW = LAWS["loss"]["data_power"]


def points(losses: np.ndarray, repeats: int = 1) -> Points:
    """Runs of one model at doubling amounts of data."""
    rows = [
        {"params": 1e6, "tokens": 1e5 * 2.0**k, "loss": float(loss), "seed": seed}
        for k, loss in enumerate(losses)
        for seed in range(repeats)
    ]
    return points_of(table_of(rows), "loss", "params", False)


def test_a_step_is_predicted_from_the_steps_below_it_alone() -> None:
    tokens = 1e5 * 2.0 ** np.arange(9)
    noise = np.exp(0.002 * np.random.default_rng(0).normal(size=9))
    given = points((1.5 + 300 / tokens**0.45) * noise)
    rollouts = roll_out(LAW, [LAW], given, SETTINGS)
    records = record_rollouts(rollouts, None)
    assert [one["step"] for one in records] == [5, 6, 7, 8]
    for one in records:
        below = given.where(given.values["tokens"] < tokens[one["step"]] * 0.99)
        fitted = fit_points(LAW, below, SETTINGS)
        (run,) = one["predicted"]
        there = given.where(given.values["tokens"] == tokens[one["step"]])
        assert run["measured"] == there.target[0]
        assert run["predicted"] == pytest.approx(
            np.exp(fitted.log_prediction(there)[0][0]), rel=1e-4
        )
        assert run["low"] < run["predicted"] < run["high"]
        assert one["compute_factor"] == pytest.approx(2.0)
    # A later step changes nothing of what was said before it.
    shorter = record_rollouts(roll_out(LAW, [LAW], given.where(np.arange(9) < 8), SETTINGS), None)
    by_step = {one["step"]: one for one in shorter}
    assert by_step[7]["predicted"][0]["predicted"] == pytest.approx(
        records[2]["predicted"][0]["predicted"], rel=1e-4
    )


def test_errors_of_earlier_steps_widen_the_next_interval() -> None:
    tokens = 1e5 * 2.0 ** np.arange(9)
    smooth = 1.5 + 300 / tokens**0.45
    bent = np.where(tokens > 2e6, smooth + 0.08 * np.log(tokens / 2e6), smooth)
    widths = []
    for losses in (smooth, bent):
        *_, last = record_rollouts(roll_out(LAW, [LAW], points(losses), SETTINGS), None)
        (run,) = last["predicted"]
        widths.append(np.log(run["high"] / run["low"]))
    assert widths[1] > 5 * widths[0]


def test_the_largest_step_is_the_holdout() -> None:
    law = LAWS["loss"]["chinchilla"]
    sizes, amounts = [1e5 * 3.0**k for k in range(5)], [1e5 * 2.0**k for k in range(5)]
    given = points_of(table_of(chinchilla_rows(sizes, amounts, 0.002)), "loss", "params", False)
    held = evaluate_holdout(law, [law], given, SETTINGS)
    assert held is not None
    records = record_rollouts(roll_out(law, [law], given, SETTINGS), held)
    assert records[-1]["step"] == held["step"]
    assert records[-1]["mean_relative_error"] == held["mean_relative_error"]
    frame = pd.DataFrame(records)
    assert frame["step"].is_monotonic_increasing
    assert (frame["mean_relative_error"] < 0.1).all()
    assert frame["interval_coverage"].mean() > 0.6
