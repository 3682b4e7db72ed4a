"""The help of every command, and what the command line loads."""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import program
from distill.cli.command import EXIT_CODES
from distill.cli.commands import COMMANDS
from distill.cli.main import main
from distill.cli.parsers import build_parser
from miniature import ROOT

QUESTIONS = ("loss", "samples", "best", "laws")
LEAVES = [[name] for name in COMMANDS if name != "ask"]
LEAVES += [["ask", "results/study", question] for question in QUESTIONS]


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["ask"], *LEAVES], ids=" ".join)
def test_each_help_has_examples_and_every_exit_code(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    text = help_of(capsys, *words)
    examples = text.split("\nexamples:\n")[1].split("\n\n")[0].splitlines()
    assert examples
    for line in examples:
        typed = shlex.split(line)
        assert typed[0] == "distill"
        assert [word for word in words if "/" not in word] == [
            word for word in typed[1:] if word in words
        ]
        build_parser(COMMANDS).parse_args(typed[1:])  # ends the test where it is wrong
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^  {code} +{re.escape(meaning)}$", text, re.M)


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", text, re.M)


@pytest.mark.slow
@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_each_command_prints_json_on_request(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert "--json" in help_of(capsys, *words)


def test_there_is_a_file_for_each_command_and_a_test_of_its_page() -> None:
    files = {path.stem for path in (ROOT / "scripts/distill/cli").glob("*.py")}
    assert files >= set(COMMANDS)
    page = (ROOT / "docs/reference/cli.md").read_text()
    for name in COMMANDS:
        assert f"## `distill {name}`" in page
    targets = re.findall(r"^([\w-]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert len(targets) > 5
    for target in targets:
        assert f"| `make {target}` |" in page


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "COMMAND"), (["asc"], "invalid choice: 'asc'"), (["ask"], "STUDY"),
        (["check", "a.yaml", "b.yaml"], "b.yaml"), (["plan", "--cores", "0"], "positive whole"),
        (["plan", "--cores", "two"], "positive whole"), (["verify"], "STUDY"),
        (["ask", "results", "loss", "--student", "a"], "--samples --tokens"),
        (["ask", "results", "loss", "--samples", "many", "--student", "a"], "'many'"),
        (["check", "--deployment", "docker"], "'docker'"), (["check", "--\x1b[31mred"], "U+001B"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert re.fullmatch(r"Error: [^\n]+; see distill[\w ]* --help\n", err)


def test_no_help_loads_what_studies_need() -> None:
    heavy = {"torch", "transformers", "pandas", "numpy", "scipy", "pyarrow", "pydantic", "yaml"}
    code = (
        "import sys\nfrom distill.cli.main import main\nmain(['--help'])\nmain(['ask', '--help'])\n"
        f"assert not {heavy!r} & set(sys.modules), sorted({heavy!r} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=program.ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_options_of_all_commands_are_described() -> None:
    def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
        below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        return [parser, *(leaf for a in below for p in a.choices.values() for leaf in leaves(p))]

    budgets = {"--budget-flops", "--budget-hours", "--budget-money"}  # their question says it
    for parser in leaves(build_parser(COMMANDS)):
        for action in parser._actions:
            assert action.help or budgets & set(action.option_strings), (parser.prog, action)


def test_jobs_of_another_clone_import_its_own_library(tmp_path: Path) -> None:
    """Snakemake adds a job's folder behind the installed packages, `distill` among them."""
    package = tmp_path / "scripts" / "distill"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("CLONE = True\n")
    code = f"import sys; sys.path.append({str(package.parent)!r}); from distill import CLONE"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
