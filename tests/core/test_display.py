"""Text of models, data sets and configs in sentences, logs and on a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill.ask import program
from distill.cli.main import main
from distill.core.display import brief, listed, short_name, visible
from distill.core.errors import UserError

EVIL = "\x1b]0;owned\x07\x1b[31m \x9b1m \u202eabc \u2066 \x00 \r \x08"


def test_a_sentence_cannot_steer_a_terminal() -> None:
    text = str(UserError(f"the file {EVIL} is bad;\n\ttwo lines, ü 東京"))
    assert text.startswith("the file ⟨U+001B⟩]0;owned⟨U+0007⟩⟨U+001B⟩[31m ⟨U+009B⟩1m ⟨U+202E⟩abc")
    assert text.endswith("is bad;\n\ttwo lines, ü 東京")
    assert text.replace("\n", "").replace("\t", "").isprintable()
    assert visible(text) == text


def test_values_and_names_are_written_on_one_short_line() -> None:
    assert brief("a\n\x1b\u202e") == r"'a\n\x1b\u202e'"
    assert len(brief("x" * 10_000)) < 250
    assert len(brief([[["y" * 500] * 500] * 500] * 500)) <= 300
    assert len(brief(10**4000)) < 100
    assert short_name("Frage, neu") == "Frage, neu"
    assert short_name("a\nb") == r"'a\nb'"
    assert short_name("x" * 500) == "x" * 99 + "…"
    assert listed(["a", 1, "b\n"]) == r"a, 1, 'b\n'"
    assert listed(range(5), most=3) == "0, 1, 2, … (2 more)"


JOB = """
import logging, sys, types
from distill.core.errors import UserError
from distill.runtime.job import job
snakemake = types.SimpleNamespace(log=["job.log"])
with job(snakemake):
    logging.info("a model wrote %s", TEXT)
    logging.warning("half a character: %s", "\\ud800")
    raise KIND(TEXT)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["UserError", "RuntimeError"])
def test_a_jobs_log_and_its_last_words_are_harmless(tmp_path: Path, kind: str) -> None:
    text = "\x1b[31mred\x1b[0m \u202eabc \x00 \x9b \r\nsecond line"
    program = JOB.replace("TEXT", repr(text)).replace("KIND", kind)
    scripts = Path(__file__).parents[2] / "scripts"
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(scripts)},
        capture_output=True,
    )
    assert outcome.returncode == 1
    log = (tmp_path / "job.log").read_text(encoding="utf-8")
    said = outcome.stderr.decode()
    assert "a model wrote ⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+202E⟩abc ⟨U+0000⟩ ⟨U+009B⟩" in log
    assert "half a character: ⟨U+D800⟩" in log
    for shown in (log, said):
        assert "⟨U+001B⟩[31mred" in shown
        assert shown.replace("\n", "").isprintable()


def test_answers_on_a_terminal_are_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "answer", lambda given: ({"label": EVIL}, f"loss of {EVIL}"))
    for more in ([], ["--json"]):
        assert main(["ask", "results/mine", "laws", *more]) == 0
        assert capsys.readouterr().out.strip().isprintable()
