"""Wrong paths, damaged files, closed pipes and interruptions: sentences, never a traceback."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import program
from distill.cli.command import Command
from distill.cli.commands import COMMANDS
from distill.cli.main import main
from distill.core.files import write_json

READERS = [
    ["check", "{}"], ["plan", "{}"], ["unused", "{}"], ["verify", "{}"], ["ask", "{}", "laws"],
    ["ask", "{}", "loss", "--student", "a", "--samples", "3"],
    ["ask", "{}", "best", "--budget-hours", "3"],
]  # fmt: skip
EMPTY: dict[str, list[object]] = {"laws": [], "refused": []}


def run(
    capsys: pytest.CaptureFixture[str], words: list[str], path: Path | str
) -> tuple[int, str, str]:
    code = main([word.format(path) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def is_one_sentence(code: int, out: str, err: str) -> bool:
    return (code, out) == (2, "") and re.fullmatch(r"Error: [^\n]{10,}\n", err) is not None


@pytest.mark.slow
@pytest.mark.parametrize("words", READERS, ids=" ".join)
@pytest.mark.parametrize("kind", ["missing", "folder", "file", "link", "binary", "ünïcode näme"])
def test_a_wrong_path_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("[1, 2")
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "binary":
        path.write_bytes(b"\x89PNG\xff\x00\x1b[31m")
    code, out, err = run(capsys, words, path)
    assert is_one_sentence(code, out, err), (code, out, err)
    assert kind in err
    assert "\x1b" not in err
    code, out, again = run(capsys, [*words, "--json"], path)
    assert (code, again) == (2, err)
    reported = json.loads(out)
    if words[0] == "verify":
        (reported,) = reported["folders"]
    assert f"Error: {reported['error']}\n" == err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["runs.parquet", "laws.json", "references.json"])
@pytest.mark.parametrize("damage", ["cut", "folder", "text", "empty", "other"])
def test_damaged_results_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    from size_study import size_runs

    size_runs().to_parquet(tmp_path / "runs.parquet")
    write_json(tmp_path / "laws.json", EMPTY)
    write_json(tmp_path / "references.json", {"teachers": {}})
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        other = b"[[3]]" if name.endswith(".json") else b"PAR1"
        new = {"cut": content[: len(content) // 2], "text": b"a: b", "empty": b"", "other": other}
        path.write_bytes(new[damage])
    words = ["ask", "{}", "loss", "--student", "d24", "--samples", "3"]
    code, out, err = run(capsys, words, tmp_path)
    if (name, damage) == ("references.json", "folder"):  # it is optional, and not there
        assert (code, out) == (1, "")
        assert "cannot tell for d24" in err
    else:
        assert is_one_sentence(code, out, err), (code, out, err)
        assert name in err


@contextmanager
def another_user() -> Iterator[None]:
    """Without root's rights to every file, if the tests run with them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_what_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir("/")
    run(capsys, words, "/none")  # loads what the command imports, while all may be read
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "config.yaml").write_text("study: a\n")
    target = folder / "config.yaml" if words[0] in ("check", "plan", "unused") else folder
    folder.chmod(0)
    try:
        with another_user():
            code, out, err = run(capsys, words, target)
    finally:
        folder.chmod(0o700)
    assert is_one_sentence(code, out, err), (code, out, err)
    assert str(folder) in err


def test_names_with_spaces_and_other_letters_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results" / "my study – ü 汉"
    folder.mkdir(parents=True)
    write_json(folder / "laws.json", EMPTY)
    code, out, err = run(capsys, ["ask", "{}", "laws", "--json"], folder)
    assert (code, err) == (0, "")
    assert json.loads(out)["laws"] == []


@pytest.mark.slow
def test_a_file_name_that_is_not_text_is_shown(tmp_path: Path) -> None:
    done = program.distill("check", os.fsdecode(b"a\xff.yaml"), cwd=tmp_path)
    assert done.returncode == 2
    assert "a⟨U+DCFF⟩.yaml does not exist" in done.stderr


@pytest.mark.slow
def test_a_terminal_without_these_letters_gets_an_answer(tmp_path: Path) -> None:
    folder = tmp_path / "ü"
    folder.mkdir()
    environment = {**program.ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = program.distill("verify", folder, env=environment)
    assert done.returncode == 2
    assert r"\xfc has no provenance.json" in done.stderr


PRINTING = [["--help"], ["ask", "--help"], ["ask", ".", "laws", "--json"], ["ask", ".", "laws"]]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
@pytest.mark.slow
def test_a_reader_that_has_ended_is_no_error(
    tmp_path: Path, words: list[str], unbuffered: str
) -> None:
    write_json(tmp_path / "laws.json", EMPTY)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        program.command(*words), stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**program.ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_an_output_on_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / "laws.json", EMPTY)
    for words in PRINTING[1:3]:
        with Path("/dev/full").open("w") as full:
            done = program.distill(*words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
                                   capture_output=False)  # fmt: skip
        assert done.returncode == 2
        assert done.stderr == "Error: the output cannot be written: No space left on device\n"


@pytest.mark.slow
def test_an_interruption_prints_nothing(tmp_path: Path) -> None:
    """The config is a pipe that nobody writes to, so the command waits."""
    pipe = tmp_path / "config.yaml"
    os.mkfifo(pipe)
    started = subprocess.Popen(
        program.command("check"), cwd=tmp_path, env=program.ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with pipe.open("wb"):  # opens once the command reads
        started.send_signal(signal.SIGINT)
        printed = started.communicate(timeout=60)
    assert (started.returncode, printed) == (130, (b"", b""))


@pytest.mark.slow
def test_a_removed_folder_is_one_sentence(tmp_path: Path) -> None:
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    command = ["sh", "-c", script, "sh", str(tmp_path / "gone"), *program.command("check")]
    (tmp_path / "gone").mkdir()
    done = subprocess.run(command, env=program.ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: the current folder was removed; change to another one\n"


def test_a_defect_is_one_sentence_and_its_place_is_shown_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_wrong(options: object) -> None:
        raise KeyError("a\nb")

    verify = COMMANDS["verify"]
    broken = Command("", "", (), verify.add_options, run_wrong)  # type: ignore[arg-type]
    monkeypatch.setitem(COMMANDS, "verify", broken)
    monkeypatch.delenv("DISTILL_TRACEBACK", raising=False)
    assert main(["verify", "."]) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"Error: a defect of distill: KeyError: [^\n]+ report it\n", err)
    monkeypatch.setenv("DISTILL_TRACEBACK", "1")
    assert main(["verify", ".", "--json"]) == 70
    out, err = capsys.readouterr()
    assert "run_wrong" in err
    assert json.loads(out)["exit_code"] == 70
