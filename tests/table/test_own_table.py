"""A table of one's own as a study."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.contracts.columns import COLUMNS
from distill.core.errors import UserError
from distill.laws.runs import trained_rows
from distill.table.own_points import own_table
from distill.table.own_table import parse_table_study, runs_of_table


def grid() -> pd.DataFrame:
    """Two methods, two students, three sizes, two seeds."""
    rows = [
        {"N": size, "D": tokens, "val": 2 + 50 / size**0.3 + 90 / tokens**0.4 + 0.01 * seed,
         "how": how, "again": seed, "T": 2.0, "NT": 1e9, "ep": 2.0}
        for how in ("kd", "sft") for size in (1e6, 1e7) for tokens in (1e6, 2e6, 4e6)
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


COLUMNS_GIVEN = {
    "params": "N", "tokens": "D", "loss": "val", "method": "how", "seed": "again",
    "teacher_loss": "T", "teacher_params": "NT", "epochs": "ep",
}  # fmt: skip


def config(path: Path, **columns: Any) -> dict[str, Any]:
    given = {key: value for key, value in (COLUMNS_GIVEN | columns).items() if value}
    return {"study": "mine", "runs_table": {"path": str(path), "columns": given}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_runs_table_gives_the_same_points_as_the_table_itself(
    tmp_path: Path, kind: str
) -> None:
    path, table = tmp_path / f"table.{kind}", grid()
    table.to_csv(path, index=False) if kind == "csv" else table.to_parquet(path)
    runs, references = runs_of_table(parse_table_study(config(path)))
    assert set(COLUMNS) < set(runs)
    assert runs["samples"].isna().all()
    direct = own_table(table, COLUMNS_GIVEN)
    through = trained_rows(runs, references)
    through["cache"], through["curation"] = direct["cache"], direct["curation"]  # named in a study
    pd.testing.assert_frame_equal(through[list(direct)], direct, check_dtype=False)
    assert np.allclose(runs["tokens_seen"], table["D"])
    assert np.allclose(runs["tokens_unique"], table["D"] / 2)


def test_further_scores_reach_the_points_of_laws(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    grid().assign(acc=0.25, n=80, other=3.0, w=2.0).to_csv(path, index=False)
    named = {"accuracy": "acc", "items": "n", "reference_loss": "other", "weight": "w"}
    runs, references = runs_of_table(parse_table_study(config(path, **named)))
    rows = trained_rows(runs, references)
    for name, value in (("accuracy", 0.25), ("items", 80), ("reference_loss", 3.0), ("weight", 2)):
        assert set(rows[name]) == {value}
    assert {"accuracy", "weight"}.isdisjoint(runs_of_table(parse_table_study(config(path)))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"loss": "value"}}, r"columns\.loss: the table has no column 'value'"),
        ({"columns": {"tokens": None}}, r"columns: tokens is missing; name the column of training"),
        ({"columns": {"items": "again"}}, r"name the column of accuracy too"),
        ({"columns": {"weight": "ep", "loss_stderr": "again"}}, r"both say how much a run counts"),
        ({"columns": {"los": "val"}}, r"'runs_table.columns.los' is not a known key"),
        ({"teachers": {}}, r"config: teachers cannot be combined with runs_table"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    grid().to_csv(tmp_path / "table.csv", index=False)
    given = config(tmp_path / "table.csv", **change.pop("columns", {})) | change
    with pytest.raises(UserError, match=message):
        parse_table_study(given)


def test_a_missing_or_odd_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the file .*none\.csv does not exist"):
        parse_table_study(config(tmp_path / "none.csv"))
    (tmp_path / "table.docx").write_text("N,D\n")
    with pytest.raises(UserError, match=r"table\.docx: a data file must end in csv, tsv"):
        parse_table_study(config(tmp_path / "table.docx"))
    (tmp_path / "table.parquet").write_text("N,D\n")
    with pytest.raises(UserError, match=r"table\.parquet is not a readable Parquet"):
        parse_table_study(config(tmp_path / "table.parquet"))


def test_a_loss_that_is_no_number_names_its_row(tmp_path: Path) -> None:
    table = grid()
    table.loc[3, "val"] = np.nan
    table.to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(UserError, match="row 4, column 'val'"):
        parse_table_study(config(tmp_path / "table.csv"))
