"""Data files as programs write them, each with the fields that name its columns."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

ROWS = [
    {"prompt": f'Why is number {n}, the "{n}th", so large?', "response": f"Because of {n}.\nReally"}
    for n in range(30)
]
FIELDS = {"prompt": "prompt", "response": "response"}
Writer = Callable[[Path], tuple[str, dict[str, str]]]
FILES: dict[str, Writer] = {}
"""By name: writes a file into a folder; returns its path there and the fields."""


def _file(writer: Writer) -> Writer:
    FILES[writer.__name__] = writer
    return writer


def delimited(rows: list[dict[str, Any]], separator: str = ",", line: str = "\n") -> str:
    """Rows as CSV text."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator=line)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(rows: list[Any], **how: Any) -> str:
    """Rows as JSONL text."""
    return "".join(json.dumps(row, **how) + "\n" for row in rows)


def _write(name: str, data: bytes | str, **fields: str) -> Writer:
    """A writer of one file with these bytes."""

    def writer(folder: Path) -> tuple[str, dict[str, str]]:
        content = data if isinstance(data, bytes) else data.encode()
        (folder / name).write_bytes(content)
        return name, fields or FIELDS

    return writer


CSV, JSONL = delimited(ROWS), lines(ROWS)
ARRAY = json.dumps(ROWS, indent=1)
ZSTD = pa.compress(CSV.encode(), "zstd", asbytes=True)
BACKSLASHES = [row | {"response": rf"\frac{{{n}}}{{2}} \ is it"} for n, row in enumerate(ROWS)]
FLAT = [row | {"response": f"Because of {n}."} for n, row in enumerate(ROWS)]
PLAIN = [{key: value.replace('"', "'") for key, value in row.items()} for row in FLAT]
TEXTS = {
    "csv": ("x.csv", CSV),
    "csv_windows": ("x.csv", delimited(ROWS, line="\r\n").encode("utf-8-sig")),
    "csv_old_mac": ("x.csv", delimited(FLAT, line="\r")),
    "csv_semicolons": ("x.csv", delimited(ROWS, ";")),
    "csv_semicolons_with_commas_in_the_header": (
        "x.csv", delimited([row | {"note, if any": "a, b"} for row in ROWS], ";"),
    ),
    "csv_tabs": ("x.csv", delimited(ROWS, "\t")),
    "csv_bars": ("x.csv", delimited(ROWS, "|")),
    "csv_says_its_separator": ("x.csv", "sep=;\r\n" + delimited(ROWS, ";", "\r\n")),
    "csv_utf16": ("x.csv", delimited(ROWS, "\t").encode("utf-16")),
    "csv_utf32": ("x.csv", CSV.encode("utf-32")),
    "csv_of_pandas_with_its_index": ("x.csv", pd.DataFrame(ROWS).to_csv()),
    "csv_upper_case_ending": ("X.CSV", CSV),
    "csv_empty_last_column": ("x.csv", delimited(FLAT).replace("\n", ",\n")),
    "tsv": ("x.tsv", delimited(ROWS, "\t")),
    "tsv_with_commas": ("x.tsv", CSV),
    "tsv_without_quoting": (
        "x.tsv", "prompt\tresponse\n" + "".join(f'{r["prompt"]}\t"{r["response"]}\n' for r in FLAT),
    ),
    "json": ("x.json", ARRAY),
    "json_on_one_line": ("x.json", json.dumps(ROWS, ensure_ascii=False)),
    "json_with_mark": ("x.json", ARRAY.encode("utf-8-sig")),
    "json_inside_an_object": ("x.json", json.dumps({"version": "1.0", "data": ROWS})),
    "json_of_splits": ("x.json", json.dumps({"test": ROWS[:3], "train": ROWS})),
    "json_columns": ("x.json", pd.DataFrame(ROWS).to_json(orient="columns")),
    "json_lists_as_columns": (
        "x.json", json.dumps({key: [row[key] for row in ROWS] for key in FIELDS}),
    ),
    "json_by_index": ("x.json", pd.DataFrame(ROWS).to_json(orient="index")),
    "json_records": ("x.json", pd.DataFrame(ROWS).to_json(orient="records")),
    "json_split": ("x.json", pd.DataFrame(ROWS).to_json(orient="split")),
    "json_table": ("x.json", pd.DataFrame(ROWS).to_json(orient="table")),
    "json_that_is_jsonl": ("x.json", JSONL),
    "json_one_after_the_other": ("x.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
    "json_compressed_under_a_plain_name": ("x.json", gzip.compress(ARRAY.encode())),
    "jsonl": ("x.jsonl", JSONL),
    "jsonl_that_is_json": ("x.jsonl", ARRAY),
    "jsonl_that_is_json_on_one_line": ("x.jsonl", json.dumps(ROWS)),
    "jsonl_windows": ("x.jsonl", JSONL.replace("\n", "\r\n\r\n").encode("utf-8-sig")),
    "jsonl_utf16": ("x.jsonl", JSONL.encode("utf-16")),
    "jsonl_upper_case_ending": ("x.JSONL", JSONL),
    "jsonl_gz": ("x.jsonl.gz", gzip.compress(JSONL.encode())),
    "jsonl_gz_of_two_members": (
        "x.jsonl.gz",
        b"".join(gzip.compress(lines(rows).encode()) for rows in (ROWS[:9], ROWS[9:])),
    ),
    "jsonl_bz2": ("x.jsonl.bz2", bz2.compress(JSONL.encode())),
    "ndjson_xz": ("x.ndjson.xz", lzma.compress(JSONL.encode())),
    "ndjson": ("x.ndjson", JSONL),
    "csv_zst": ("x.csv.zst", ZSTD),
    "csv_zst_of_two_frames": ("x.csv.zst", ZSTD + pa.compress(b"a,b\n", "zstd", asbytes=True)),
    "csv_gz": ("x.csv.gz", gzip.compress(CSV.encode())),
}  # fmt: skip
"""Name and content of files of text; all hold `ROWS`, or those of `OTHER_ROWS`."""
OTHER_ROWS: dict[str, list[dict[str, Any]]] = {
    "csv_old_mac": FLAT,
    "csv_empty_last_column": FLAT,
    "tsv_without_quoting": [row | {"response": f'"{row["response"]}'} for row in FLAT],
    "csv_zst_of_two_frames": [*ROWS, {"prompt": "a", "response": "b"}],
}
for _name, (_path, _content) in TEXTS.items():
    FILES[_name] = _write(_path, _content)


@_file
def csv_with_spaces_behind_commas(folder: Path) -> tuple[str, dict[str, str]]:
    body = "".join(f'"{r["prompt"]}", "{r["response"]}"\n' for r in PLAIN)
    return _write("x.csv", "prompt, response\n" + body)(folder)


@_file
def csv_with_escaped_quotes(folder: Path) -> tuple[str, dict[str, str]]:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([list(FIELDS), *([r["prompt"], r["response"]] for r in BACKSLASHES)])
    return _write("x.csv", text.getvalue().replace('""', '\\"'))(folder)


@_file
def csv_with_escaped_backslashes(folder: Path) -> tuple[str, dict[str, str]]:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\", lineterminator="\n"
    )
    writer.writerows([list(FIELDS), *([r["prompt"], r["response"]] for r in BACKSLASHES)])
    return _write("x.csv", text.getvalue())(folder)


OTHER_ROWS |= {
    "csv_with_spaces_behind_commas": PLAIN,
    "csv_with_escaped_quotes": BACKSLASHES,
    "csv_with_escaped_backslashes": BACKSLASHES,
}


# Columns.

TABLE = pa.Table.from_pylist(ROWS)


@_file
def parquet(folder: Path) -> tuple[str, dict[str, str]]:
    pq.write_table(TABLE, folder / "x.parquet", row_group_size=7)
    return "x.parquet", FIELDS


@_file
def parquet_under_a_name_of_text(folder: Path) -> tuple[str, dict[str, str]]:
    pq.write_table(TABLE, folder / "x.csv")
    return "x.csv", FIELDS


@_file
def parquet_of_other_types(folder: Path) -> tuple[str, dict[str, str]]:
    columns = {"prompt": TABLE["prompt"].dictionary_encode(),
               "response": TABLE["response"].cast(pa.string_view())}  # fmt: skip
    pq.write_table(pa.table(columns), folder / "X.PARQUET")
    return "X.PARQUET", FIELDS


@_file
def parquet_of_bytes(folder: Path) -> tuple[str, dict[str, str]]:
    columns = {name: TABLE[name].cast(pa.large_binary()) for name in FIELDS}
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return "x.parquet", FIELDS


@_file
def parquet_of_structs_and_lists(folder: Path) -> tuple[str, dict[str, str]]:
    rows = [
        {"qa": {"q": row["prompt"]}, "answers": {"text": [row["response"], "or so"], "at": [1, 2]}}
        for row in ROWS
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    return "x.parquet", {"prompt": "qa.q", "response": "answers.text[0]"}


@_file
def columns_with_dots(folder: Path) -> tuple[str, dict[str, str]]:
    rows = [{"a.b": row["prompt"], "a": {"b": "no"}, "c[0]": row["response"]} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    return "x.parquet", {"prompt": "a.b", "response": "c[0]"}


def _parts(folder: Path, split: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(3):
        name = f"{split}-{part:05d}-of-00003.parquet"
        pq.write_table(TABLE.slice(10 * part, 10), folder / name)


@_file
def folder_of_parts(folder: Path) -> tuple[str, dict[str, str]]:
    _parts(folder / "x", "part")
    (folder / "x/_SUCCESS").touch()
    (folder / "x/.part-00000.crc").touch()
    return "x", FIELDS


@_file
def folder_of_a_repository(folder: Path) -> tuple[str, dict[str, str]]:
    _parts(folder / "x/data", "train")
    pq.write_table(TABLE.slice(0, 2), folder / "x/data/test-00000-of-00001.parquet")
    (folder / "x/README.md").write_text("# A data set\n")
    (folder / "x/dataset_infos.json").write_text("{}")
    return "x", FIELDS


@_file
def folder_of_splits(folder: Path) -> tuple[str, dict[str, str]]:
    for split, rows in (("train", ROWS), ("dev", ROWS[:1])):
        (folder / "x" / split).mkdir(parents=True)
        (folder / "x" / split / "a.jsonl").write_text(lines(rows))
    return "x", FIELDS


@_file
def pattern(folder: Path) -> tuple[str, dict[str, str]]:
    _parts(folder / "x", "test")
    (folder / "x/other.csv").write_text("a,b\n")
    return "x/*.parquet", FIELDS


@_file
def pattern_over_folders(folder: Path) -> tuple[str, dict[str, str]]:
    (folder / "x/a/b").mkdir(parents=True)
    (folder / "x/a/1.csv").write_text(delimited(ROWS[:9]))
    (folder / "x/a/b/2.csv.gz").write_bytes(gzip.compress(delimited(ROWS[9:]).encode()))
    return "x/**/*.csv*", FIELDS


@_file
def saved_data_set(folder: Path) -> tuple[str, dict[str, str]]:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "x"), num_shards=2)
    return "x", FIELDS


@_file
def saved_splits(folder: Path) -> tuple[str, dict[str, str]]:
    splits = {
        "train": datasets.Dataset.from_list(ROWS),
        "test": datasets.Dataset.from_list(ROWS[:2]),
    }
    datasets.DatasetDict(splits).save_to_disk(str(folder / "x"))
    return "x", FIELDS


@_file
def arrow_stream(folder: Path) -> tuple[str, dict[str, str]]:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "x"))
    return "x/data-00000-of-00001.arrow", FIELDS


@_file
def arrow_file(folder: Path) -> tuple[str, dict[str, str]]:
    pyarrow.feather.write_feather(TABLE, folder / "x.feather", compression="zstd", chunksize=7)
    return "x.feather", FIELDS


# Sheets.

_TYPE = "application/vnd.openxmlformats-"
_BOOK = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Default Extension="rels" ContentType="{_TYPE}package.relationships+xml"/><Default '
        f'Extension="xml" ContentType="{_TYPE}officedocument.spreadsheetml.sheet.main+xml"/>'
        "</Types>"
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        'relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
}
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def workbook(path: Path, **sheets: list[list[Any]]) -> None:
    """Write an Excel workbook: strings, numbers and booleans in rows of cells."""
    files = dict(_BOOK)
    names = "".join(
        f'<sheet name="{name}" sheetId="{place}" r:id="r{place}"/>'
        for place, name in enumerate(sheets, 1)
    )
    files["xl/workbook.xml"] = (
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>{names}</sheets></workbook>'
    )
    links = "".join(
        f'<Relationship Id="r{place}" Type="{_LINKS}/worksheet" Target="worksheets/s{place}.xml"/>'
        for place in range(1, len(sheets) + 1)
    )
    files["xl/_rels/workbook.xml.rels"] = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f"{links}</Relationships>"
    )
    for place, rows in enumerate(sheets.values(), 1):
        body = ""
        for number, row in enumerate(rows, 1):
            cells = "".join(_cell(cell, column, number) for column, cell in enumerate(row))
            body += f'<row r="{number}">{cells}</row>'
        files[f"xl/worksheets/s{place}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData></worksheet>'
        )
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{text}')


def _cell(value: Any, column: int, row: int) -> str:
    place = f'r="{chr(65 + column)}{row}"'
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c {place} t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f"<c {place}><v>{value}</v></c>"
    return f'<c {place} t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


@_file
def sheet(folder: Path) -> tuple[str, dict[str, str]]:
    rows = [["prompt", "response"], *([r["prompt"], r["response"]] for r in ROWS)]
    workbook(folder / "x.xlsx", Data=rows, Notes=[["prompt"], ["no"]])
    return "x.xlsx", FIELDS


# Chats.


def chat(row: dict[str, Any], *names: str) -> list[dict[str, str]]:
    """A row's turns; `names` are those of role, content, user and assistant."""
    role, content, user, assistant = names or ("role", "content", "user", "assistant")
    return [{role: user, content: row["prompt"]}, {role: assistant, content: row["response"]}]


def _in_parts(turns: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Turns whose content is a list of parts, as those of models of several kinds of content."""
    return [turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in turns]


SHAREGPT = "from", "value", "human", "gpt"
_CHATS: list[tuple[str, list[Any], dict[str, str]]] = [
    ("messages", [{"messages": chat(row)} for row in ROWS], {"prompt": "messages"}),
    (
        "messages_named_twice",
        [{"messages": chat(row)} for row in ROWS],
        {"prompt": "messages", "response": "messages"},
    ),
    ("trl", [{"p": chat(row)[:1], "c": chat(row)[1:]} for row in ROWS],
     {"prompt": "p", "response": "c"}),
    ("trl_text", [{"p": chat(row)[:1], "c": row["response"]} for row in ROWS],
     {"prompt": "p", "response": "c"}),
    ("preferences", [{"p": row["prompt"], "chosen": chat(row), "rejected": []} for row in ROWS],
     {"prompt": "p", "response": "chosen"}),
    ("sharegpt", [{"conversations": chat(row, *SHAREGPT)} for row in ROWS],
     {"prompt": "conversations"}),
    ("sharegpt_by_path", [{"conversations": chat(row, *SHAREGPT)} for row in ROWS],
     {"prompt": "conversations[0].value", "response": "conversations[-1].value"}),
    ("chats_as_json_text", [{"messages": json.dumps(chat(row))} for row in ROWS],
     {"prompt": "messages"}),
    ("parts_of_content", [{"messages": _in_parts(chat(row))} for row in ROWS],
     {"prompt": "messages"}),
]  # fmt: skip
for _name, _rows, _fields in _CHATS:
    FILES[_name] = _write("x.jsonl", lines(_rows), **_fields)


@_file
def chats_in_parquet(folder: Path) -> tuple[str, dict[str, str]]:
    rows = [{"messages": chat(row), "n": 1} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    return "x.parquet", {"prompt": "messages"}


@_file
def chats_in_csv(folder: Path) -> tuple[str, dict[str, str]]:
    rows = [{"messages": json.dumps(chat(row))} for row in ROWS]
    return _write("x.csv", delimited(rows), prompt="messages")(folder)
