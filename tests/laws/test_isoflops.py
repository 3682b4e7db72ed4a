"""Minima at equal FLOPs, and the power law through them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.laws.isoflops import fit_isoflops
from law_simulations import table_of

BUDGETS = tuple(1e15 * 4.0**k for k in range(5))


def rows(
    exponent: float = 0.46,
    noise: float = 0.0,
    seed: int = 0,
    sizes: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0),
    budgets: tuple[float, ...] = BUDGETS,
    **columns: Any,
) -> pd.DataFrame:
    """Parabolas in log N about N* = 2e6 (C/1e15)^exponent; sizes are multiples of N*."""
    rng = np.random.default_rng(seed)
    out = []
    for budget in budgets:
        best = 2e6 * (budget / 1e15) ** exponent
        for times in sizes:
            size = best * times
            loss = 3.0 - 0.1 * np.log(budget / 1e15) + 0.04 * np.log(times) ** 2
            loss += noise * rng.normal()
            flops = budget * (1 + 0.04 * rng.uniform(-1, 1))
            row = {"params": size, "tokens": flops / (6 * size), "loss": loss, "flops": flops}
            out.append({**row, "student": f"{size:.0f}", "epochs": 1.0, **columns})
    return table_of(out)


def only(table: pd.DataFrame) -> dict[str, Any]:
    document = fit_isoflops(table)
    records: list[dict[str, Any]] = [*document["fitted"], *document["refused"]]
    assert len(records) == 1
    return records[0]


def test_exact_parabolas_give_their_minima_and_the_exponent() -> None:
    record = only(rows())
    assert record["exponent"]["value"] == pytest.approx(0.46, abs=0.003)
    for level, budget in zip(record["levels"], BUDGETS, strict=True):
        best = 2e6 * (budget / 1e15) ** 0.46
        assert level["params"]["value"] == pytest.approx(best, rel=1e-6)
        ratio = level["flops"] / (6 * best**2)
        assert level["tokens_per_parameter"]["value"] == pytest.approx(ratio, rel=1e-6)
        assert level["loss"] == pytest.approx(3.0 - 0.1 * np.log(budget / 1e15))
        assert level["sizes"] == level["runs"] == 5
    assert record["largest"]["flops"] == pytest.approx(BUDGETS[-1], rel=0.05)
    assert record["largest"]["params"]["value"] == pytest.approx(best, rel=0.02)


def test_the_minimum_is_that_of_a_polynomial_fit() -> None:
    table = rows(noise=0.01, budgets=BUDGETS[:3])
    record = only(table)
    for place, level in enumerate(record["levels"]):
        here = table.iloc[5 * place : 5 * place + 5]
        curve, slope, _ = np.polyfit(np.log(here["params"]), here["loss"], 2)
        assert level["params"]["value"] == pytest.approx(np.exp(-slope / (2 * curve)), rel=1e-6)


def test_a_flat_budget_has_no_minimum() -> None:
    table = rows(noise=0.01)
    flat = np.isclose(np.log(table["flops"]), np.log(BUDGETS[-1]), atol=0.1)
    table.loc[flat, "loss"] = 2.0 + 0.001 * np.log(table["params"] / 1e7)[flat] ** 2
    record = only(table)
    assert len(record["levels"]) == 4
    assert [one["reason"] for one in record["levels_refused"]] == ["no_minimum"]


def test_scattered_flops_within_a_budget_do_not_move_the_minimum() -> None:
    table = rows(sizes=tuple(np.geomspace(0.2, 5.0, 9)))
    # Within a budget the loss falls with FLOPs, and larger models happen to have more of them.
    more = 1 + 0.08 * np.tile([-1, -0.6, 0.2, -0.8, 0, 0.7, 0.3, 1, 0.9], 5)
    table["flops"] = np.repeat(BUDGETS, 9) * more
    table["loss"] -= 0.5 * np.log(more)
    for level, budget in zip(only(table)["levels"], BUDGETS, strict=True):
        best = 2e6 * (budget / 1e15) ** 0.46
        assert level["params"]["value"] == pytest.approx(best, rel=1e-3)


def test_flops_that_are_not_stated_are_six_per_parameter_and_token() -> None:
    counted, taken = only(rows()), only(rows().assign(flops=np.nan))
    assert counted["flops_counted"]
    assert not taken["flops_counted"]
    assert taken["flops_per_product"] == 6.0
    assert taken["exponent"]["value"] == pytest.approx(counted["exponent"]["value"])


@pytest.mark.slow
def test_the_interval_of_the_exponent_covers() -> None:
    covered = []
    for seed in range(300):
        record = only(rows(noise=0.004, seed=seed))
        ends = record["exponent"]
        covered.append(ends["low"] <= 0.46 <= ends["high"])
    assert 0.85 <= np.mean(covered) <= 0.98, np.mean(covered)


def test_what_has_no_minimum_inside_is_refused() -> None:
    outside = only(rows(sizes=(1.5, 2.0, 4.0, 8.0)))
    assert outside["reason"] == "few_minima"
    assert {one["reason"] for one in outside["levels_refused"]} == {"edge"}
    falling = rows()
    falling["loss"] = 9.0 - 0.2 * np.log(falling["params"])
    falling["loss"] -= 0.01 * (np.log(falling["params"]) - 15) ** 2
    assert {one["reason"] for one in only(falling)["levels_refused"]} == {"no_minimum"}


def test_too_few_budgets_or_sizes_are_refused() -> None:
    assert only(rows(budgets=BUDGETS[:2])) | {"selected": None} == {
        "selected": None, "reason": "few_levels", "levels": 2, "minima": 2, "levels_refused": [],
    }  # fmt: skip
    assert only(rows(sizes=(0.5, 1.0, 2.0)))["levels"] == 0
    one = rows().assign(params=1e6)
    assert fit_isoflops(one) == {"fitted": [], "refused": []}


def test_repeats_and_other_groups_stay_apart() -> None:
    once, often = rows(), rows(0.3).assign(epochs=4.0)
    both = pd.concat([once, often.iloc[:-1]], ignore_index=True)
    assert only(both)["exponent"] == only(once)["exponent"]
    groups = pd.concat([once, rows(0.3, group="b")], ignore_index=True)
    found = fit_isoflops(groups)["fitted"]
    assert [one["exponent"]["value"] for one in found] == pytest.approx([0.46, 0.3], abs=0.01)
