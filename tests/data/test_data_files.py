"""Data files as programs write them: read as they were meant, by the check and by the job."""

from pathlib import Path

import pytest

import data_files
from distill.core.parquet import read_metadata, read_rows
from distill.core.rows.survey import survey
from distill.data.fetch import fetch_data


@pytest.mark.slow
@pytest.mark.parametrize("name", data_files.FILES)
def test_a_file_is_read_as_it_was_meant(tmp_path: Path, name: str) -> None:
    path, fields = data_files.FILES[name](tmp_path)
    spec = {"path": str(tmp_path / path), "fields": fields}
    fetch_data(spec, tmp_path / "rows.parquet")
    wanted = data_files.OTHER_ROWS.get(name, data_files.ROWS)
    rows = read_rows(tmp_path / "rows.parquet")
    assert [(row["prompt"], row["response"]) for row in rows] == [
        (row["prompt"], row["response"]) for row in wanted
    ]
    assert {(row["system"], row["turns"], row["text"]) for row in rows} == {(None, None, None)}
    counts = {"read": len(wanted), "usable": len(wanted), "left_out": {}}
    assert read_metadata(tmp_path / "rows.parquet", "data") == counts
    numbers = survey(spec)
    assert numbers is not None
    assert (numbers.read, numbers.usable, numbers.distinct) == (len(wanted),) * 3
