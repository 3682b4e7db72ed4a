"""Generated data files: read as they were meant, or refused in one sentence with their place."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from distill.core.errors import UserError
from distill.core.parquet import read_rows
from distill.data.fetch import fetch_data
from distill.table.own_file import read_table
from distill.table.own_table import parse_table_study
from generated import examples

NAMES = ("Frage, neu", 'die "Antwort"', "Ünnötig")
FIELDS = {"prompt": NAMES[0], "response": NAMES[1]}
Rows = list[tuple[str, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def read(path: Path) -> list[tuple[Any, Any]]:
    """Prompt and response of each row, as the workflow takes them over."""
    out = path.with_name("rows.out.parquet")
    fetch_data({"path": str(path), "fields": FIELDS}, out)
    return [(row["prompt"], row["response"]) for row in read_rows(out)]


def told(path: Path, reader: Callable[[Path], Any] = read) -> str:
    """The sentence with which a file is refused; "" where it is read."""
    try:
        reader(path)
    except UserError as error:
        sentence = str(error)
    else:
        return ""
    assert str(path) in sentence
    assert sentence.isprintable()
    assert len(sentence) < 1500
    return sentence


CELLS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
).filter(lambda text: text not in ("nan", "<NA>"))  # these are missing values
FILLED = CELLS.filter(lambda text: bool(text.strip()))
ROWS = st.lists(st.tuples(FILLED, CELLS, CELLS), min_size=1, max_size=5)
KINDS = st.sampled_from(
    ["csv", "csv quoted", "csv windows", "json", "json wide", "jsonl", "jsonl ascii", "parquet",
     "parquet large", "parquet dictionary", "parquet view"]
)  # fmt: skip


def written(kind: str, rows: Rows) -> tuple[str, bytes]:
    """Rows as the bytes of a file, and how its name ends."""
    objects = [dict(zip(NAMES, row, strict=True)) for row in rows]
    form, _, how = kind.partition(" ")
    if form == "csv":
        text = io.StringIO(newline="")
        # Python's writer leaves a carriage return bare, which ends a line.
        bare = any("\r" in cell for row in rows for cell in row)
        csv.writer(
            text,
            quoting=csv.QUOTE_ALL if how == "quoted" or bare else csv.QUOTE_MINIMAL,
            lineterminator="\r\n" if how == "windows" else "\n",
        ).writerows([NAMES, *rows])
        return form, text.getvalue().encode("utf-8-sig" if how == "windows" else "utf-8")
    if form == "json":
        return form, json.dumps(objects, ensure_ascii=False, indent=2 if how else None).encode()
    if form == "jsonl":
        lines = [json.dumps(entry, ensure_ascii=how == "ascii") for entry in objects]
        return form, "\n".join(lines).encode()
    types = {"": pa.string(), "large": pa.large_string(), "view": pa.string_view()}
    types["dictionary"] = pa.dictionary(pa.int32(), pa.string())
    columns = {name: pa.array([entry[name] for entry in objects], pa.string()) for name in NAMES}
    table = pa.table({name: column.cast(types[how]) for name, column in columns.items()})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return form, sink.getvalue()


@pytest.mark.slow
@examples(200)
@given(KINDS, ROWS)
@example("csv", [('a "quoted", cell\r\nwith lines', "", "\ufeff")])
@example("csv", [("x" * 300_000, "y", "z")])
@example("csv windows", [("Größe\u2028", "\x1b[31m", "\u202e")])
def test_a_file_that_is_whole_is_read_cell_by_cell(folder: Path, kind: str, rows: Rows) -> None:
    form, data = written(kind, rows)
    path = folder / f"whole.{form}"
    path.write_bytes(data)
    assert read(path) == [row[:2] for row in rows]


# One fault at a known row: the row is named.

LONG = [(f"Frage {k}", f"Antwort {k}\nzwei", "x") for k in range(9)]


def csv_of(rows: list[Any], header: Any = NAMES) -> bytes:
    """Rows, uneven ones too, as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


@pytest.mark.parametrize("row", [1, 2, 5, 9])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda row: row[:2], "2 cells but 3 columns"),
        (lambda row: row[:1], "1 cells but 3 columns"),
        (lambda row: (*row, "more"), "more cells than columns"),
    ],
)
def test_the_row_of_a_fault_is_named(folder: Path, row: int, fault: Any, sentence: str) -> None:
    rows: list[Any] = list(LONG)
    rows[row - 1] = fault(rows[row - 1])
    path = folder / "fault.csv"
    path.write_bytes(csv_of(rows))
    assert re.search(rf"row {row}\b.*{sentence}", told(path))


@pytest.mark.parametrize("row", [1, 2, 5, 9])
@pytest.mark.parametrize("cell", ["", " \t"])
def test_a_row_without_a_prompt_is_left_out(folder: Path, row: int, cell: str) -> None:
    path = folder / "blank.csv"
    path.write_bytes(csv_of([*LONG[: row - 1], (cell, "a", "b"), *LONG[row:]]))
    assert read(path) == [entry[:2] for entry in LONG[: row - 1] + LONG[row:]]


@pytest.mark.slow
@examples(60)
@given(st.integers(0, 8), st.sampled_from("äß€“é"), st.sampled_from(["cp1252", "latin-1", "utf-8"]))
def test_other_encodings_are_read_or_their_row_is_named(
    folder: Path, row: int, letter: str, encoding: str
) -> None:
    rows = list(LONG)
    rows[row] = (f"vor{letter} nach", "Antwort", "x")
    path = folder / "encoded.csv"
    assume(encoding != "latin-1" or letter not in "€“")
    path.write_bytes(csv_of(rows, ("Frage, neu", 'die "Antwort"', "u")).decode().encode(encoding))
    if encoding == "utf-8":
        assert read(path)[row][0] == f"vor{letter} nach"
    else:
        assert re.search(rf"row {row + 1} \(line \d+\): not UTF-8 text.*Windows-1252", told(path))


def line(prompt: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(dict(zip(NAMES, [prompt, "", ""], strict=True))).encode()


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.csv", csv_of(LONG).decode().encode("cp500"), r"not UTF-8 text \(perhaps Windows-12"),
        ("a.csv", b"a,b\n".decode().encode("utf-16-le"), "line 1: a null character"),
        ("a.csv", csv_of([*LONG[:2], ("a\0b", "c", "d")]), "line 6: a null character"),
        ("a.csv", csv_of(LONG) + b'"never closed', "row 10 .*unexpected end of data; put quotes"),
        ("a.csv", csv_of(LONG) + b'"a"b,c,d\n', "row 10 .*expected after"),
        ("a.csv", csv_of(LONG, (*NAMES[:2], NAMES[0])), "columns have the name 'Frage, neu'"),
        ("a.csv", csv_of(LONG, ("a", *NAMES[1:])), "a.csv: no column 'Frage, neu'; there are a, d"),
        ("a.csv", b"", "has no rows; give a file with rows"),
        ("a.csv", b"a;b\n1;2\n", "no column 'Frage, neu'; there are a, b"),
        ("a.tsv", b"a\tb\n1\t2\n", "no column 'Frage, neu'; there are a, b"),
        ("a.csv", b"\x1f\x8b\x08 cut short", "is damaged .*; copy or compress it again"),
        ("a.json", b"[{]", "is not valid JSON"),
        ("a.json", b"", "has no rows"),
        ("a.json", b"{}", "must hold a JSON list"),
        ("a.json", b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
        ("a.json", b"[1]", "row 1: not an object"),
        ("a.json", b'[{"a": 1, "a": 2}]', "an object has the name 'a' twice"),
        ("a.json", b"[" + b"9" * 5000 + b"]", "is not valid JSON"),
        ("a.jsonl", b'{"a": "b"}\n{"a"\n', "line 2: Expecting"),
        ("a.jsonl", b'{"a": "b"}\n\xff\n', "line 2: not UTF-8"),
        ("a.jsonl", b'["a"]\n', "row 1: not an object"),
        ("a.jsonl", b"[" * 100_000, r"it is nested too deeply \(line 1\)"),
        ("a.jsonl", line("\ud800"), "row 1: Frage, neu has an unpaired surrogate"),
        ("a.jsonl", line(["a"]), "row 1: Frage, neu is not text but a list; name one of its items"),
        ("a.jsonl", line(float("nan")), "1 of 1 rows would be left out, all of them"),
        ("a.parquet", b"PAR1", "is not a readable Parquet file"),
        ("a.parquet", b"", "is not a readable Parquet file"),
        ("a.parquet", written("parquet", LONG)[1][:-9], "is not a readable Parquet file"),
    ],
)  # fmt: skip
def test_files_that_are_damaged_are_refused(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert re.search(sentence, told(path)), told(path)


def latin_texts() -> Any:
    """Two texts of which the second is not UTF-8."""
    ends = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"a\xff")]
    return pa.Array.from_buffers(pa.string(), 2, buffers)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([1.5, None]), "row 1: Frage, neu is not text but a number"),
        (pa.array([True, False]), "rows 1, 2: Frage, neu is not text but true or false"),
        (pa.array([["a"], ["b"]]), r"rows 1, 2: .* a list; name .* such as Frage, neu\[0\]"),
        (pa.array([{"a": 1}, None]), "row 1: Frage, neu is .* such as Frage, neu.a"),
        (pa.array([b"a", b"\xff"]), "row 2: Frage, neu is not text but bytes"),
        (pa.array([None, None], pa.string()), "2 of 2 rows would be left out, all of them"),
        (pa.array([10**17, 1], pa.timestamp("us")), "Frage, neu is not text|not a readable"),
        (latin_texts(), "Invalid UTF8"),
    ],
)  # fmt: skip
def test_parquet_columns_of_other_kinds_are_refused(
    tmp_path: Path, column: Any, sentence: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({NAMES[0]: column, NAMES[1]: ["c", "d"]}), path)
    assert re.search(sentence, told(path)), told(path)


def test_parquet_columns_that_are_not_named_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    late = pa.array([2**62], pa.timestamp("us"))  # beyond any date of Python's
    columns = [pa.array(["a"]), pa.array(["b"]), late, late]
    pq.write_table(pa.Table.from_arrays(columns, [*NAMES[:2], "when", "when"]), path)
    assert read(path) == [("a", "b")]
    pq.write_table(pa.Table.from_arrays(columns, [*NAMES[:2], "when", NAMES[0]]), path)
    assert "the column 'Frage, neu' appears twice" in told(path)
    pq.write_table(pa.Table.from_arrays(columns[:2], ["a", NAMES[1]]), path)
    assert "no column 'Frage, neu'; there are a, die" in told(path)


WHOLE = {kind: written(kind, LONG) for kind in ("csv", "csv windows", "json", "jsonl", "parquet")}
BYTES = st.sampled_from(
    [b"\0", b"\xff", b"\xe4", b'"', b"'", b",", b"\n", b"\r", b"\r\n", b";", b"\\", b"{", b"]",
     b"\x1b[31m", b"\xef\xbb\xbf", b"null", b"1e999", b'"a"', b"\xed\xa0\x80"]
)  # fmt: skip


@pytest.mark.slow
@examples(300)
@given(st.sampled_from(list(WHOLE)), st.floats(0, 1), st.integers(0, 40), BYTES | st.just(b""))
def test_a_damaged_file_is_read_as_text_or_refused(
    folder: Path, kind: str, place: float, length: int, piece: bytes
) -> None:
    form, data = WHOLE[kind]
    start = int(place * len(data))
    path = folder / f"damaged.{form}"
    path.write_bytes(data[:start] + piece + data[start + length :])
    if not told(path):
        rows = read(path)
        assert all(isinstance(row[0], str) for row in rows)
        assert all("\0" not in (cell or "") for row in rows for cell in row)


@pytest.mark.slow
@examples(60)
@given(st.sampled_from(list(WHOLE)), st.floats(0, 1))
def test_a_file_that_is_cut_short_lacks_whole_rows_alone(
    folder: Path, kind: str, place: float
) -> None:
    form, data = WHOLE[kind]
    path = folder / f"cut.{form}"
    path.write_bytes(data[: int(place * len(data))])
    if told(path):
        return
    rows, whole = read(path), [row[:2] for row in LONG]
    assert rows == whole[: len(rows)]


# A table of one's own.

TABLE = [("N", "D", "L", "M"), *((1e6 * k, 2e6 * k, 3.0 - k / 10, f"m{k}") for k in range(1, 5))]
COLUMNS = {"params": "N", "tokens": "D", "loss": "L", "method": "M"}


def table_told(path: Path) -> str:
    """How the study of a table is refused."""
    units = {"params": "ones", "tokens": "ones", "loss": "nats"}
    table = {"path": str(path), "columns": COLUMNS, "units": units}
    config = {"study": "mine", "runs_table": table}
    try:
        parse_table_study(config)
    except UserError as error:
        sentence = str(error)
    else:
        return ""
    assert sentence.isprintable()
    return sentence


@pytest.mark.slow
@examples(150)
@given(
    st.integers(1, 4),
    st.integers(0, 2),
    st.sampled_from(["", " ", "nan", "inf", "-1", "0", "x", "True", "1,000", "1e999", "1+2j",
                     "\x1b", "0x10", "2020-01-01", "½", "NULL", "[1]", "=1+1",
                     "1e6 ", "1_000", "٣"]),
)  # fmt: skip
def test_a_cell_that_is_no_number_names_row_and_column(
    folder: Path, row: int, column: int, cell: str
) -> None:
    rows = [list(map(str, entry)) for entry in TABLE]
    rows[row][column] = cell
    path = folder / "own.csv"
    path.write_bytes(csv_of(rows[1:], rows[0]))
    sentence = table_told(path)
    try:
        good = 0 < float(cell) < float("inf")
    except ValueError:
        good = False
    if good:
        assert not sentence
    else:
        assert re.search(rf"row {row}, column '{TABLE[0][column]}'", sentence), sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"N,D,L,M\n1,2,3,a,\n", ""),
        (b"N,D,L,M\n1,2,3,a,9\n", r"row 1 \(line 2\): more cells than columns"),
        (b"N,D,L,M\n1,2,3\n", r"row 1 \(line 2\): 3 cells but 4 columns"),
        (b"N,D,L,M,N\n1,2,3,a,9\n", "two columns have the name 'N'"),
        (b"N;D;L;M\n1;2;3;a\n", ""),
        (b"\xef\xbb\xbfN,D,L,M\n1,2,3,a\n", ""),
        (b'"N","D","L","M"\r\n1,2,3,"a\nb"\r\n', ""),
        ("N,D,L,M\n1,2,3,ä\n".encode("cp1252"), r"row 1 \(line 2\): not UTF-8 text"),
        ("N,D,L,M\n1,2,3,a\n".encode("utf-16"), ""),
        (b"N,D,L,M\n1,2,3,a\0\n", "line 2: a null character"),
        (b'N,D,L,M\n1,2,3,"a\n', "unexpected end of data"),
        (b"N,D,L,M\n", "the table has no rows"),
        (b"N,D\n1,2\n", "the table has no column 'L'; it has N, D"),
        (b"", r"own\.csv is empty; give a header"),
        (b"N,D,L,M\n1,2,3,\n", "row 1, column 'M': the value is missing"),
    ],
)
def test_a_table_that_is_odd_is_refused_or_read(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(data)
    found = table_told(path)
    assert re.search(sentence, found) if sentence else not found, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "good"),
    [
        (pa.array([1.0, 2.0]), True),
        (pa.array([1, 2], pa.int8()), True),
        (pa.array(["1", "2"]), True),
        (pa.array(["1", "2"]).dictionary_encode(), True),
        (pa.array([1, 2], pa.decimal128(5, 2)), True),
        (pa.array([True, True]), False),
        (pa.array([1, 2], pa.timestamp("s")), False),
        (pa.array([1, 2], pa.duration("s")), False),
        (pa.array([[1.0], [2.0]]), False),
        (pa.array([{"a": 1}, {"a": 2}]), False),
        (pa.array([1.0, None]), False),
        (pa.array([b"1", b"2"]), False),
    ],
)
def test_columns_of_a_parquet_table_hold_numbers(tmp_path: Path, column: Any, good: bool) -> None:
    path = tmp_path / "own.parquet"
    table = {"N": column, "D": [1.0, 2.0], "L": [2.0, 3.0], "M": ["a", "b"]}
    pq.write_table(pa.table(table), path)
    assert bool(re.search(r"row \d, column 'N'", table_told(path))) != good, table_told(path)
    assert bool(table_told(path)) != good


def test_a_parquet_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    arrays = [pa.array([1.0])] * 5
    pq.write_table(pa.Table.from_arrays(arrays, ["N", "D", "L", "M", "N"]), path)
    assert "the column 'N' appears twice" in table_told(path)


@pytest.mark.slow
@examples(100)
@given(
    st.floats(0, 1), st.integers(0, 40), BYTES | st.just(b""), st.sampled_from(["csv", "parquet"])
)
def test_a_damaged_table_is_refused_or_read(
    folder: Path, place: float, length: int, piece: bytes, form: str
) -> None:
    frame = pd.DataFrame(TABLE[1:], columns=TABLE[0])
    path = folder / f"damaged-table.{form}"
    frame.to_csv(path, index=False) if form == "csv" else frame.to_parquet(path)
    data = path.read_bytes()
    start = int(place * len(data))
    path.write_bytes(data[:start] + piece + data[start + length :])
    if not told(path, lambda path: read_table(path, COLUMNS)):
        table_told(path)
