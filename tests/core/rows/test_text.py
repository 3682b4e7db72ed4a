"""Encodings of text files, and files whose form differs from their name."""

from pathlib import Path
from typing import Any

import pytest

import data_files
from distill.core.errors import UserError
from distill.core.rows.reading import DataSet

UMLAUTS = [{"prompt": f"Größe {n} “naïve” café", "response": "Ärger"} for n in range(3)]


def read(path: Path, **spec: Any) -> list[tuple[Any, Any]]:
    data = DataSet({"path": str(path), "fields": data_files.FIELDS, **spec})
    return [(row["prompt"], row["response"]) for row in data.rows()]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "mac-roman", "utf-8"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json"])
def test_a_stated_encoding_is_used(tmp_path: Path, name: str, encoding: str) -> None:
    text = {
        "x.csv": data_files.delimited(UMLAUTS),
        "x.jsonl": data_files.lines(UMLAUTS, ensure_ascii=False),
        "x.json": "[" + data_files.lines(UMLAUTS, ensure_ascii=False).replace("}\n{", "},{") + "]",
    }[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    wanted = [(row["prompt"], row["response"]) for row in UMLAUTS]
    assert read(tmp_path / name, encoding=encoding) == wanted
    if encoding != "utf-8":
        example = encoding if encoding == "utf-16-le" else "cp1252"
        with pytest.raises(UserError, match=f"not UTF-8 text.* encoding .*, such as {example}"):
            read(tmp_path / name)


def test_a_wrong_stated_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(data_files.delimited(UMLAUTS).encode())
    with pytest.raises(UserError, match=r"x\.csv, line 2: not ascii text"):
        read(tmp_path / "x.csv", encoding="ascii")


def test_lines_of_a_text_file_are_rows(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("one\r\n\r\n two\u2028three \r\n".encode())
    data = DataSet({"path": str(tmp_path / "x.txt"), "fields": {"prompt": "text"}})
    assert [row["prompt"] for row in data.rows()] == ["one", " two\u2028three "]
    data = DataSet({"path": str(tmp_path / "x.txt"), "fields": {"text": "text"}, "begins": "x"})
    assert [row["text"] for row in data.rows()] == ["one", "", " two\u2028three "]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": [1, 2], "b": []}', "the columns have different lengths"),
        ('{"x": [{"a": "b"}], "y": [{"a": "b"}]}', r"several lists of rows \(x, y\); set .*split"),
        ('{"x": {"y": 3}, "z": 4}', "must hold a JSON list of objects, one per row"),
        ('[{"a": "b", "b": "c"}] x', r"is not valid JSON: Extra data \(line 1\)"),
        ('[{"a": "b", "b": "c"}\n\n{"a": 1}]', r"Expecting ',' delimiter \(line 3\)"),
        ('[{"a": "b"},\n\n', r"is not valid JSON: Expecting value \(line 3\)"),
        ('[{"a": "b",\n "a": 1}]', r"an object has the name 'a' twice; rename one of them"),
    ],
)
def test_json_that_holds_no_rows_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        list(DataSet({"path": str(tmp_path / "x.json"), "fields": {"prompt": "a", "response": "b"}})
             .rows())  # fmt: skip


@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_a_list_is_read_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("distill.core.rows.json_rows._BLOCK", block)
    (tmp_path / "x.json").write_text(data_files.ARRAY)
    assert read(tmp_path / "x.json") == [(r["prompt"], r["response"]) for r in data_files.ROWS]


def test_one_row_is_a_row(tmp_path: Path) -> None:
    for name, text in (("x.json", '{"prompt": "a", "response": "b"}'),
                       ("x.jsonl", '{"prompt": "a", "response": "b"}\n'),
                       ("x.json", '[{"prompt": "a", "response": "b"}]'),
                       ("x.csv", "prompt,response\na,b")):  # fmt: skip
        (tmp_path / name).write_text(text)
        assert read(tmp_path / name) == [("a", "b")]
    turns = data_files.chat({"prompt": "a", "response": "b"})
    for name in ("x.json", "x.jsonl"):
        (tmp_path / name).write_text(data_files.lines([{"m": turns}]))
        data = DataSet({"path": str(tmp_path / name), "fields": {"prompt": "m"}})
        assert [row["response"] for row in data.rows()] == ["b"]


def test_values_of_a_sheet_become_text(tmp_path: Path) -> None:
    rows: list[list[Any]] = [[None], ["prompt", " response "], ["a", 7], [None, None], ["b", 0.5],
                             ["c", True], ["d", None], ["e", 2.0]]  # fmt: skip
    data_files.workbook(tmp_path / "x.xlsx", First=rows)
    assert read(tmp_path / "x.xlsx") == [
        ("a", "7"), ("b", "0.5"), ("c", "TRUE"), ("d", ""), ("e", "2"),
    ]  # fmt: skip
    data_files.workbook(tmp_path / "x.xlsx", First=[["prompt"], ["a"]], Second=rows)
    with pytest.raises(UserError, match=r"x\.xlsx: no column 'response'; there are prompt"):
        read(tmp_path / "x.xlsx")
