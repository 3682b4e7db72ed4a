"""The table of laws: from a runs table and from a table of one's own."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.contracts.points import COLUMNS
from distill.core.errors import UserError
from distill.laws.runs import trained_rows
from distill.table.own_points import own_table
from synthetic_runs import make_runs

NAMES = {"params": "N", "tokens": "D", "loss": "L"}


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"N": [1e6, 2e6, 4e6], "D": [1e7] * 3, "L": [3.0, 2.8, 2.7], **columns})


def test_runs_table_gives_trained_runs_with_unique_tokens_and_epochs() -> None:
    runs = make_runs()
    table = trained_rows(runs, {"teachers": {"smol": {"params": 9e7, "params_non_embedding": 5e7}}})
    assert set(COLUMNS) <= set(table.columns)
    assert len(table) == (runs["samples"] > 0).sum()
    trained = runs[runs["samples"] > 0].reset_index(drop=True)
    np.testing.assert_allclose(table["tokens"], trained["tokens_unique"])
    np.testing.assert_allclose(table["epochs"], 2.0)
    np.testing.assert_allclose(table["gap"], trained["kl_teacher"])
    np.testing.assert_allclose(table["flops"], trained["train_flops"])
    assert set(table["teacher_params"]) == {9e7}
    assert set(table["teacher_params_non_embedding"]) == {5e7}
    assert set(table["group"]) == {""}
    assert trained_rows(runs, None)["teacher_params"].isna().all()


@pytest.mark.slow
def test_the_gap_leaves_out_what_a_trimmed_vocabulary_cannot_say() -> None:
    runs = make_runs().assign(kl_floor=0.25)
    trained = runs[runs["samples"] > 0]
    np.testing.assert_allclose(trained_rows(runs, None)["gap"], trained["kl_teacher"] - 0.25)
    whole = trained_rows(runs.assign(kl_floor=None), None)
    np.testing.assert_allclose(whole["gap"], trained["kl_teacher"])


def test_a_runs_table_without_a_known_teacher_keeps_null_sizes() -> None:
    table = trained_rows(
        make_runs(), {"teachers": {"other": {"params": 1, "params_non_embedding": 1}}}
    )
    assert table["teacher_params"].isna().all()


def test_own_table_fills_in_what_is_not_given() -> None:
    table = own_table(frame(), NAMES)
    assert tuple(table.columns) == COLUMNS
    assert table["student"].tolist() == ["1000000", "2000000", "4000000"]
    assert table["tokens"].tolist() == [1e7] * 3
    assert table["epochs"].tolist() == [1.0] * 3
    assert table["gap"].isna().all()


def test_own_table_takes_unique_tokens_from_epochs_and_back() -> None:
    by_epochs = own_table(frame(e=[1.0, 2.0, 4.0]), {**NAMES, "epochs": "e"})
    assert by_epochs["tokens"].tolist() == [1e7, 5e6, 2.5e6]
    by_unique = own_table(frame(u=[1e7, 5e6, 2.5e6]), {**NAMES, "unique_tokens": "u"})
    assert by_unique["epochs"].tolist() == [1.0, 2.0, 4.0]


def test_gap_is_loss_minus_the_teachers_and_null_where_not_positive() -> None:
    table = own_table(frame(t=[2.5, 2.8, np.nan]), {**NAMES, "teacher_loss": "t"})
    assert table["gap"].tolist()[0] == pytest.approx(0.5)
    assert table["gap"].isna().tolist() == [False, True, True]
    assert table["teacher"].tolist()[2] == ""


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({"N": [1e6, np.nan, 4e6]}, {}, r"row 2, column 'N'.*positive finite"),
        ({"N": [1e6, 0.0, 4e6]}, {}, r"row 2, column 'N'.*positive finite"),
        ({"L": [3.0, 2.8, -1.0]}, {}, r"row 3, column 'L'.*positive finite"),
        ({"L": [np.inf, 2.8, 1.0]}, {}, r"row 1, column 'L'.*positive finite"),
        ({"L": ["3", "much", "2"]}, {}, r"row 2, column 'L'.*positive finite"),
        ({"t": [1.0, 0.0, 1.0]}, {"teacher_loss": "t"}, r"row 2, column 't'"),
        ({"s": [0, 0.5, 1]}, {"seed": "s"}, r"row 2, column 's'.*whole number"),
        ({"m": ["a", None, "b"]}, {"method": "m"}, r"row 2, column 'm'.*missing"),
        ({"u": [1e7, 5e6, 1e7], "e": [1, 1, 1]}, {"unique_tokens": "u", "epochs": "e"},
         r"row 2, column 'u' and 'e' and 'D'.*not the tokens seen"),
        ({"e": [1.0, 0.5, 1.0]}, {"epochs": "e"}, r"row 2, column 'e'.*fewer tokens"),
        ({"N": [1e6, 1e6, 4e6]}, {}, r"rows 1 and 2 are the same run.*'L'"),
        ({}, {"loss": "X"}, r"columns\.loss: the table has no column 'X'; it has N, D, L"),
        ({}, {"size": "N"}, r"columns\.size is not a column"),
    ],
)  # fmt: skip
def test_mistakes_name_row_and_column(
    columns: dict[str, Any], names: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        own_table(frame(**columns), {**NAMES, **names})


def test_a_required_name_and_rows_are_asked_for() -> None:
    with pytest.raises(UserError, match=r"columns\.loss is missing"):
        own_table(frame(), {"params": "N", "tokens": "D"})
    with pytest.raises(UserError, match="no rows"):
        own_table(frame().iloc[:0], NAMES)


def test_seeds_tell_runs_of_one_cell_apart() -> None:
    same = frame(N=[1e6, 1e6, 4e6], s=[0, 1, 0])
    assert own_table(same, {**NAMES, "seed": "s"})["seed"].tolist() == [0, 1, 0]


def test_one_column_cannot_be_two_things() -> None:
    with pytest.raises(UserError, match="params and tokens name the same column 'N'"):
        own_table(frame(), {"params": "N", "tokens": "N", "loss": "L"})
