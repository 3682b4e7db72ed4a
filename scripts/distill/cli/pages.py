"""The pages that `distill reference` writes, that of the command line among them."""

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from distill.cli.command import EXIT_CODES, Command
from distill.cli.parsers import build_parser
from distill.workflow.reference_pages import page_text, schema_text, sound_pairs_text, table_text

WIDTH = 88
"""Columns of the help in the page."""
SNAKEMAKE = {
    "snakemake --cores 1": "the default study, without make",
    "snakemake --cores 1 --configfile FILE": "another study, which replaces the default config",
    "snakemake --cores 1 plan": "the same as `distill plan`",
    "snakemake -n": "what would run",
    "snakemake --cores 1 --use-conda": "jobs in conda environments",
    "snakemake --workflow-profile profiles/slurm": "jobs on a cluster",
    "snakemake --cores 1 --touch": "accept existing results as up to date",
    "snakemake --resources device=1": "at most one job on the GPU at a time",
}


GUIDES = {
    "init": "[Your own data](../guide/data.md)",
    "plan": "[Cost and prices](../guide/cost.md)",
    "ask": "[Ask a finished study](../guide/ask.md)",
    "verify": "[Verify, copy and clean up](../guide/results.md)",
    "unused": "[Verify, copy and clean up](../guide/results.md)",
}


def pages(root: Path, commands: Mapping[str, Command]) -> dict[str, str]:
    """Text of every generated page by its path below docs/reference/.

    Args:
        root: The project's folder.
        commands: Sub-commands by name.
    """
    return {
        "config.schema.json": schema_text(),
        "config.md": page_text(),
        "runs_table.md": table_text(),
        "sound_pairs.md": sound_pairs_text(),
        "cli.md": cli_text(commands, (root / "Makefile").read_text(encoding="utf-8")),
    }


def _parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Parsers below one, by what is typed, in their order."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield below.prog, below
                yield from _parsers(below)


def cli_text(commands: Mapping[str, Command], makefile: str) -> str:
    """The page of the command line.

    Args:
        commands: Sub-commands by name.
        makefile: Text of the Makefile, whose targets are listed with what stands behind `##`.
    """
    lines = [
        "# Command line",
        "",
        "`make` installs the command `distill` into `.venv/bin` (by `pip install -e . --no-deps`).",
        "`python -m distill` in `scripts/` is the same. Snakemake's own scripts do not need the",
        "installation. This page is written by `distill reference`.",
        "",
        "| command | what it does | guide |",
        "|---|---|---|",
        *(
            f"| `distill {name}` | {command.summary} | {GUIDES.get(name, '')} |"
            for name, command in commands.items()
        ),
        "",
        "Every command has `--json`: one JSON object on standard output, with `schema` (1); an",
        "error is an object with `error` and `exit_code`. Errors are sentences on standard error.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
    ]
    for typed, parser in _parsers(build_parser(commands, WIDTH)):
        level = "##" if len(typed.split()) == 2 else "###"
        text = parser.format_help().split("\nexit codes:")[0].rstrip()
        lines += ["", f"{level} `{typed}`", "", "```text", text, "```"]
    targets = re.findall(r"^([\w-]+):.*## (.*)$", makefile, re.M)
    lines += ["", "## make", "", "| target | what it does |", "|---|---|"]
    lines += [f"| `make {name}` | {meaning} |" for name, meaning in targets]
    lines += ["", "## Snakemake", "", "| command | what it does |", "|---|---|"]
    lines += [f"| `{command}` | {meaning} |" for command, meaning in SNAKEMAKE.items()]
    return "\n".join(lines) + "\n"
