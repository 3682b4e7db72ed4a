"""Files and cells of a user's own table: what is read as it is, and what is told."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import data_files
from distill.core.errors import UserError
from distill.table.own_cells import read_number, remedy_of, rows_text
from distill.table.own_table import parse_table_study, points_of_table
from own_tables import config_of, grid


def points(path: Path, **section: object) -> pd.DataFrame:
    return points_of_table(parse_table_study(config_of(path, **section))).points


def told(path: Path, **section: object) -> str:
    with pytest.raises(UserError) as error:
        parse_table_study(config_of(path, **section))
    return str(error.value)


FORMS = {
    "plain.csv": lambda t: t.to_csv(index=False).encode(),
    "bom.csv": lambda t: b"\xef\xbb\xbf" + t.to_csv(index=False).encode(),
    "crlf.csv": lambda t: t.to_csv(index=False, lineterminator="\r\n").encode(),
    "utf16.csv": lambda t: t.to_csv(index=False).encode("utf-16"),
    "index.csv": lambda t: t.to_csv().encode(),
    "semicolon.csv": lambda t: t.to_csv(index=False, sep=";").encode(),
    "tab.csv": lambda t: t.to_csv(index=False, sep="\t").encode(),
    "table.tsv": lambda t: t.to_csv(index=False, sep="\t").encode(),
    "spaced.csv": lambda t: t.to_csv(index=False).replace(",", ", ").encode(),
    "blank.csv": lambda t: (t.to_csv(index=False) + ",,\n\n").encode(),
    "text.txt": lambda t: t.to_csv(index=False).encode(),
    "list.json": lambda t: json.dumps(t.to_dict("records")).encode(),
    "lines.jsonl": lambda t: t.to_json(orient="records", lines=True).encode(),
    "columns.json": lambda t: json.dumps(t.to_dict("list")).encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_is_read_from_any_file_of_rows(tmp_path: Path, name: str) -> None:
    path, table = tmp_path / name, grid()
    path.write_bytes(FORMS[name](table))
    read = points(path)
    np.testing.assert_allclose(read["params"], table["N"])
    np.testing.assert_allclose(read["tokens"], table["D"])
    np.testing.assert_allclose(read["loss"], table["L"], rtol=1e-9)


def test_a_compressed_table_and_a_workbook_are_read(tmp_path: Path) -> None:
    grid().to_csv(tmp_path / "table.csv.gz", index=False)
    np.testing.assert_allclose(points(tmp_path / "table.csv.gz")["loss"], grid()["L"])
    rows = [list(grid()), *grid().to_numpy().tolist()]
    data_files.workbook(tmp_path / "table.xlsx", Runs=rows)
    np.testing.assert_allclose(points(tmp_path / "table.xlsx")["loss"], grid()["L"])


def test_another_encoding_is_read_once_it_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    grid().assign(m="für").to_csv(path, index=False, encoding="cp1252")
    assert "set its encoding in the config, such as cp1252" in told(path)
    assert len(points(path, encoding="cp1252")) == 30


def test_several_files_are_not_one_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        grid().to_csv(tmp_path / f"{name}.csv", index=False)
    assert "is 2 files; name one file" in told(tmp_path / "*.csv")
    assert "is 2 files; name one file" in told(tmp_path)


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ("20,000,000", "remove the separators of thousands (write 20000000)"),
        ("20 000 000", "remove the separators of thousands (write 20000000)"),
        ("20'000'000", "remove the separators of thousands (write 20000000)"),
        ("20.000.000", "remove the separators of thousands (write 20000000)"),
        ("3,21", "write the decimal comma as a point (3.21)"),
        ("3,214", "write 3214, or 3.214 if the comma is a decimal one"),
        ("3.21%", "remove the '%'"),
        ("7B", "remove the suffix 'B'"),
        ("diverged", "correct or drop the row"),
        ("inf", "correct or drop the row"),
    ],
)
def test_a_value_is_quoted_as_written_with_its_remedy(
    tmp_path: Path, cell: str, remedy: str
) -> None:
    table = grid().astype({"L": object})
    table.loc[4, "L"] = cell
    table.to_csv(tmp_path / "table.csv", index=False)
    sentence = told(tmp_path / "table.csv")
    assert "row 5, column 'L': the value must be a positive finite number" in sentence
    assert f"but it is {cell!r}" in sentence or f'but it is "{cell}"' in sentence
    assert remedy in sentence


@pytest.mark.parametrize(
    ("cell", "value"),
    [("7B", 7e9), ("350M", 3.5e8), ("1.3b", 1.3e9), ("125 k", 1.25e5), ("2.5T", 2.5e12),
     ("7 billion", 7e9),
     ("1_000", 1e3), ("2.0e+07", 2e7), (" 5 ", 5.0), (True, None), ("7X", None), ("1,5", None)],
)  # fmt: skip
def test_numbers_of_a_count(cell: object, value: float | None) -> None:
    assert read_number(cell, suffixes=True) == value
    if isinstance(cell, str) and cell[-1].isalpha():
        assert read_number(cell, suffixes=False) is None
    assert "suffix" in remedy_of("7B")


def test_sizes_with_a_suffix_are_read(tmp_path: Path) -> None:
    table = grid().assign(N=[f"{size / 1e6:g}M" for size in grid()["N"]])
    table.to_csv(tmp_path / "table.csv", index=False)
    assert points(tmp_path / "table.csv")["params"].tolist() == grid()["N"].tolist()
    # A unit of the column and a suffix of the cell would multiply.
    assert "remove the suffix 'M'" in told(tmp_path / "table.csv", units={"params": "millions"})


@pytest.mark.parametrize("last", [("Total", "", ""), ("mean", "1e10", "2.5")])
def test_a_row_of_totals_is_to_be_dropped(tmp_path: Path, last: tuple[str, str, str]) -> None:
    text = grid().to_csv(index=False) + ",".join(last) + "\n"
    (tmp_path / "table.csv").write_text(text)
    sentence = told(tmp_path / "table.csv")
    assert "row 31" in sentence
    assert "the row looks like a total of the others, so drop it" in sentence


def test_a_row_of_sums_is_to_be_dropped(tmp_path: Path) -> None:
    table = grid()
    table.loc[30] = [*table[["N", "D"]].sum(), table["L"].mean()]
    table.to_csv(tmp_path / "table.csv", index=False)
    assert "row 31, column 'N' and 'D': the sums of the rows above" in told(tmp_path / "table.csv")


def test_rows_in_words() -> None:
    assert rows_text([3]) == "row 3"
    assert rows_text([4, 1]) == "rows 1 and 4"
    assert rows_text(range(2, 9)) == "rows 2 to 8"
    assert rows_text([1, 3, 5, 7, 9, 11]) == "rows 1, 3, 5, 7, 9 and 1 more"
