"""A study's results inside a page of Markdown."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.core.errors import UserError
from distill.report.markdown import BEGIN, END, fill_page
from synthetic_runs import make_references, make_runs

ANSWERS: list[dict[str, Any]] = [
    {"question": "Does it | help?", "label": "a", "answer": "Yes <b>.", "status": "answered"},
    {"question": "Does it | help?", "label": "b", "answer": "No.", "status": "answered"},
    {"question": "Why?", "label": None, "answer": "Cannot tell.", "status": "cannot_tell"},
    {"question": "Why?", "label": "x", "answer": "Cannot tell.", "status": "cannot_tell"},
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of a finished study."""
    folder = tmp_path / "results"
    (folder / "figures").mkdir(parents=True)
    (folder / "figures/perplexity.svg").write_text("<svg/>")
    table = pa.Table.from_pandas(make_runs(), preserve_index=False)
    pq.write_table(table, folder / "runs.parquet")
    (folder / "references.json").write_text(json.dumps(make_references() | {"hardware": ["X x 2"]}))
    (folder / "answers.json").write_text(json.dumps({"answers": ANSWERS}))
    return folder


def test_what_stands_between_the_marks_is_replaced(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text(f"# Mine\n{BEGIN}\nold\n{END}\nAlso mine.\n")
    first = fill_page(page, results, ["perplexity"], tmp_path / "docs/img")
    text = page.read_text()
    assert text.startswith("# Mine\n")
    assert text.endswith("\nAlso mine.\n")
    assert "old" not in text
    assert "Measured on X x 2." in text
    assert "](img/perplexity.svg)" in text
    assert "**Does it \\| help?**\n\n- a: Yes &lt;b>.\n- b: No.\n" in text
    assert "- Why? (2 cases)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    cells = make_runs().groupby(["student", "method", "samples"])
    assert len(rows) >= 1 + cells.ngroups
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert first == [page, tmp_path / "docs/img/perplexity.svg"]
    fill_page(page, results, ["perplexity"], tmp_path / "docs/img")
    assert page.read_text() == text


@pytest.mark.parametrize("text", ["", f"{BEGIN}", f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_marks_is_left_alone(results: Path, tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match="needs the lines"):
        fill_page(page, results, [], tmp_path)
    assert page.read_text() == text


def test_missing_files_are_named(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    with pytest.raises(UserError, match="the study has no figure pareto"):
        fill_page(page, results, ["pareto"], tmp_path)
    (results / "answers.json").unlink()
    with pytest.raises(UserError, match=r"answers\.json is missing; run the study"):
        fill_page(page, results, [], tmp_path)
