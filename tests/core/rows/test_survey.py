"""Numbers of a data set for planning, and the memory that reading takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import data_files
from distill.core.errors import UserError
from distill.core.rows import survey as module
from distill.core.rows.lengths import prompt_tokens, text_tokens
from distill.core.rows.survey import Survey, survey


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("one two  three\n", 3),
        ("Describe the old mill near the river, and why it should follow small boats.", 14),
        ("Привет, как дела?", 4),  # 31 bytes
        ("長" * 50, 50),
        ("日本語のテキスト。", 9),
        ("你好 world 你好", 5),
        ("안녕하세요 여러분", 8),
        ("สวัสดีครับ", 10),
        ("a" * 800, 100),
        ("word " * 99 + "x" * 805, 163),  # 1300 bytes
        ("👩‍👩‍👧‍👦", 4),  # 25 bytes
    ],
)
def test_tokens_are_estimated_in_any_script(text: str, tokens: int) -> None:
    assert text_tokens(text) == tokens


def test_what_stands_before_a_prompt_counts() -> None:
    row: dict[str, Any] = {"prompt": "one two"}
    assert prompt_tokens(row) == 2
    assert prompt_tokens(row | {"context": "three"}) == 3
    turns = json.dumps([{"role": "user", "content": "three four five"}])
    assert prompt_tokens(row | {"turns": turns, "system": "six", "context": None}) == 6


ROWS = [
    {"q": "one two", "a": "x"}, {"q": "one two", "a": "y"}, {"q": "one two three", "a": ""},
    {"q": "", "a": "z"},
]  # fmt: skip


def spec_of(folder: Path, rows: list[Any] = ROWS, **more: Any) -> dict[str, Any]:
    (folder / "x.jsonl").write_text(data_files.lines(rows))
    fields = {"prompt": "q", "response": "a"}
    return {"path": str(folder / "x.jsonl"), "fields": fields, **more}


def test_a_survey_counts_usable_fitting_and_different_rows(tmp_path: Path) -> None:
    numbers = survey(spec_of(tmp_path))
    assert numbers is not None
    assert (numbers.read, numbers.usable, numbers.distinct) == (4, 3, 2)
    assert numbers.left_out == {"q": 1}
    assert [numbers.fitting(most) for most in (1, 2, 3)] == [0, 2, 3]
    answered = survey(spec_of(tmp_path, answered=True))
    assert answered is not None
    assert (answered.usable, answered.left_out) == (2, {"q": 1, "a": 1})


def test_a_survey_counts_bytes_of_text(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(data_files.lines([{"t": "ab"}, {"t": "ä"}, {"t": "cde"}]))
    spec = {"path": str(tmp_path / "x.jsonl"), "fields": {"text": "t"}}
    numbers = survey(spec, before=2)
    assert numbers is not None
    assert (numbers.bytes, numbers.bytes_before) == (3 + 3 + 4, 3 + 3)


def test_the_stated_number_of_rows_includes_those_left_out(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert survey(spec | {"rows": 4}) is not None
    with pytest.raises(UserError, match=r"has 4 rows but the config's source says rows: 3"):
        survey(spec | {"rows": 3})


def test_a_survey_is_stored_and_made_again_for_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, reads, count = spec_of(tmp_path), list[Any](), module._count

    def counted(*given: Any) -> Survey:
        reads.append(given)
        return count(*given)

    monkeypatch.setattr(module, "_count", counted)

    def again(**more: Any) -> int:
        """Rows, as a new process reads them."""
        monkeypatch.setattr(module, "_seen", {})
        numbers = survey(spec | more)
        assert numbers is not None
        return numbers.usable

    assert again() == again() == 3
    assert len(reads) == 2  # nothing is stored outside a workflow's directory
    (tmp_path / ".snakemake").mkdir()
    assert again() == again() == 3
    assert len(reads) == 3
    spec_of(tmp_path, ROWS[:2])
    os.utime(tmp_path / "x.jsonl", ns=(1, 1))
    assert again() == 2
    assert again(answered=True) == 2
    assert len(reads) == 5
    module.STORE.write_text("no JSON")
    assert again() == 2


READ = """
import json, resource, sys
from distill.data import fetch
fetch._CHARACTERS = 1 << 22
spec = json.loads(sys.argv[1])
fetch.fetch_data(spec, spec["path"] + ".rows.parquet")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, name: str) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 40

    def peak(rows: int) -> int:
        """Most memory of a process that reads a file, in MB."""
        path = tmp_path / name
        with path.open("w") as stream:
            stream.write({"x.json": "[", "x.csv": "q,a\n", "x.jsonl": ""}[name])
            for number in range(rows):
                row = {"q": f"{number} {text}", "a": text}
                comma = "," if name == "x.json" and number else ""
                stream.write(f"{row['q']},{row['a']}\n" if name == "x.csv" else
                             f"{comma}{json.dumps(row)}\n")  # fmt: skip
            stream.write("]" if name == "x.json" else "")
        spec = {"path": str(path), "fields": {"prompt": "q", "response": "a"}}
        done = subprocess.run(
            [sys.executable, "-c", READ, json.dumps(spec)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return int(done.stdout)

    small, large = peak(5_000), peak(20_000)  # 18 and 72 MB
    assert large - small < 18
