"""Units of a user's own table: what is stated is converted, what is implausible is an error."""

import re
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

from distill.config.own_table import ComputeUnit, CountUnit, LossUnit
from distill.core.errors import UserError
from distill.table.own_points import own_table
from distill.table.own_units import COMPUTE, COUNT, LOSS
from own_tables import NAMES, changed, grid


def error_of(table: pd.DataFrame, units: dict[str, str] | None = None, **columns: str) -> str:
    with pytest.raises(UserError) as error:
        own_table(table, {**NAMES, **columns}, units)
    return str(error.value)


def test_the_config_names_the_units_that_are_converted() -> None:
    assert set(get_args(CountUnit)) == set(COUNT)
    assert set(get_args(LossUnit)) == set(LOSS)
    assert set(get_args(ComputeUnit)) == set(COMPUTE)


SCALED: list[tuple[dict[str, Callable[[Any], Any]], dict[str, str]]] = [
    ({"N": lambda n: n / 1e9}, {"params": "billions"}),
    ({"N": lambda n: n / 1e6}, {"params": "millions"}),
    ({"N": lambda n: n / 1e3}, {"params": "thousands"}),
    ({"N": np.log10}, {"params": "log10"}),
    ({"N": np.log}, {"params": "ln"}),
    ({"D": lambda d: d / 1e9}, {"tokens": "billions"}),
    ({"D": lambda d: d / 1e6}, {"tokens": "millions"}),
    ({"D": lambda d: d / 1e12}, {"tokens": "trillions"}),
    ({"D": np.log10}, {"tokens": "log10"}),
    ({"N": lambda n: n / 1e6, "D": lambda d: d / 1e9},
     {"params": "millions", "tokens": "billions"}),
    ({"N": lambda n: n / 1e9, "D": lambda d: d / 1e9},
     {"params": "billions", "tokens": "billions"}),
    ({"L": np.exp}, {"loss": "perplexity"}),
    ({"L": lambda loss: 100 * loss}, {"loss": "hundredths"}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "units"), SCALED)
def test_a_unit_that_shows_is_named_and_read_once_it_is_stated(
    change: dict[str, Callable[[Any], Any]], units: dict[str, str]
) -> None:
    table = changed(**change)
    key = ", ".join(f"{name}: {unit}" for name, unit in units.items())
    sentence = error_of(table)
    assert f"set runs_table.units: {{{key}}}" in sentence
    assert re.search(r"\brows? \d", sentence)
    right, read = own_table(grid(), NAMES), own_table(table, NAMES, units)
    assert read["student"].tolist() == right["student"].tolist()
    for name in ("params", "tokens", "loss"):
        np.testing.assert_allclose(read[name], right[name], rtol=1e-9)


def test_bits_are_read_as_nats_once_they_are_stated() -> None:
    read = own_table(changed(L=lambda loss: loss / np.log(2)), NAMES, {"loss": "bits"})
    np.testing.assert_allclose(read["loss"], grid()["L"])


@pytest.mark.parametrize(("name", "unit"), [("val_ppl", "perplexity"), ("bits_per_token", "bits")])
def test_a_name_that_speaks_of_a_unit_asks_for_it(name: str, unit: str) -> None:
    sentence = error_of(grid().rename(columns={"L": name}), loss=name)
    assert f"{{loss: {unit}}}" in sentence
    columns = {**NAMES, "loss": name}
    assert len(own_table(grid().rename(columns={"L": name}), columns, {"loss": "nats"})) == 30


def test_losses_of_another_unit_are_told() -> None:
    sentence = error_of(changed(L=lambda loss: loss / 100))
    assert "less than a language model's loss; write nats per token" in sentence
    sentence = error_of(changed(L=lambda loss: -loss))
    assert "write log-likelihoods with the opposite sign (30 such rows)" in sentence


def test_a_unit_of_a_column_that_is_not_named_is_an_error() -> None:
    sentence = error_of(grid(), {"flops": "exaflops"})
    assert "runs_table.units.flops: runs_table.columns names no column of flops" in sentence


@pytest.mark.parametrize("scale", [1, 100])
def test_an_accuracy_is_no_loss(scale: int) -> None:
    table = changed(L=lambda loss: scale * (1 - loss / 8))
    assert "rises with size and data as an accuracy does" in error_of(table)


def test_a_stated_unit_is_not_questioned() -> None:
    small = changed(N=lambda n: n / 1e6, D=lambda d: d / 1e9)
    read = own_table(small, NAMES, {"params": "ones", "tokens": "ones"})
    # Sizes of less than one apart keep different names.
    assert read["student"].nunique() == 6
    assert read["params"].tolist() == small["N"].tolist()


def test_a_column_that_mixes_units_is_told_by_its_rows() -> None:
    table = grid()
    table.loc[:9, "D"] /= 1e9
    sentence = error_of(table)
    assert "column 'D' mixes units: rows 1 to 10 hold 2 to 240" in sentence
    assert "rows 11 to 30 hold 2e+09 to 2.4e+11" in sentence
    losses = grid()
    losses.loc[5:19, "L"] = np.exp(losses["L"] + 2)
    assert "column 'L' mixes units: rows 6 to 20 hold" in error_of(losses)


def test_one_row_in_another_unit_is_told_by_its_number() -> None:
    table = grid()
    table.loc[4, "D"] /= 1e9
    assert "column 'D' mixes units: row 5 holds 240, but rows 1, 2, " in error_of(table)


def test_losses_of_which_some_are_perplexities_mix_units() -> None:
    table = grid()
    table.loc[::2, "L"] = np.exp(table["L"][::2])
    assert "column 'L' seems to mix units: rows 1, 3, 5" in error_of(table)


def test_more_tokens_than_there_are_may_be_flops() -> None:
    table = grid().assign(D=lambda rows: 6 * rows["N"] * rows["D"])
    assert "name the column as runs_table.columns.flops" in error_of(table)


def test_one_loss_far_above_a_uniform_guess_is_a_mistake_of_its_row() -> None:
    table = grid()
    table.loc[22, "L"] *= 10
    assert "row 23, column 'L': 2" in error_of(table)


def test_parameters_in_thousands_show_by_tokens_per_parameter() -> None:
    table = changed(N=lambda n: n / 1e3)
    assert table["N"].min() > 1e3
    assert "tokens per parameter; probably params in thousands" in error_of(table)


def test_flops_show_their_unit_and_stand_in_for_tokens() -> None:
    table = grid()
    flops = 6 * table["N"] * table["D"]
    columns = {"params": "N", "loss": "L", "flops": "C"}
    read = own_table(table.assign(C=flops), columns)
    np.testing.assert_allclose(read["tokens"], table["D"])
    days = table.assign(C=flops / 8.64e19)
    assert "set runs_table.units: {flops: petaflop_days}" in error_of(days, flops="C")
    read = own_table(days, columns, {"flops": "petaflop_days"})
    np.testing.assert_allclose(read["tokens"], table["D"])


def test_the_teachers_columns_share_the_students_units() -> None:
    table = grid().assign(
        T=1.5 / np.log(2), NT=13.0, L=grid()["L"] / np.log(2), N=grid()["N"] / 1e9
    )
    columns = {**NAMES, "teacher_loss": "T", "teacher_params": "NT"}
    read = own_table(table, columns, {"params": "billions", "loss": "bits"})
    assert read["teacher_params"].tolist() == [1.3e10] * 30
    np.testing.assert_allclose(read["teacher_loss"], 1.5)
    np.testing.assert_allclose(read["gap"], grid()["L"] - 1.5)


def test_the_error_of_a_perplexity_is_relative() -> None:
    table = changed(L=np.exp).assign(se=lambda rows: 0.01 * rows["L"])
    read = own_table(table, {**NAMES, "loss_stderr": "se"}, {"loss": "perplexity"})
    np.testing.assert_allclose(read["loss_stderr"], 0.01)
