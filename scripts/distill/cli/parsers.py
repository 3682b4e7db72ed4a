"""The parser of the command line: help with examples and exit codes, errors of one line."""

import argparse
import functools
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, NoReturn

from distill.cli.command import USAGE, Command, epilog
from distill.core.display import visible

TEXT_WIDTH = 80
"""Columns of a paragraph of help."""
EXAMPLES = (
    "distill check my_study.yaml",
    "distill plan my_study.yaml",
    "distill ask results/my_study best --budget-hours 10",
    "distill verify results/my_study",
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence."""

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse itself would hide that the reader of the output has ended."""
        stream = file or sys.stderr
        if message and stream is not None:
            stream.write(message)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        line = " ".join(message.split())
        print(visible(f"Error: {line}; see {self.prog} --help"), file=sys.stderr)
        raise SystemExit(USAGE)


def build_parser(commands: Mapping[str, Command], width: int | None = None) -> Parser:
    """The parser of all sub-commands.

    Args:
        commands: By name; also the value of `commands` among the options.
        width: Columns of the help; None: those of the terminal.
    """
    layout = functools.partial(argparse.RawDescriptionHelpFormatter, width=width)
    parser = Parser(
        prog="distill",
        description="Measure scaling laws of knowledge distillation: check, plan and ask studies.",
        epilog=epilog(EXAMPLES, {name: command.summary for name, command in commands.items()}),
        formatter_class=layout,
    )
    parser.set_defaults(commands=commands)
    below = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="see below"
    )
    for name, command in commands.items():
        own = below.add_parser(
            name,
            description=textwrap.fill(command.details, TEXT_WIDTH),
            epilog=epilog(command.examples),
            formatter_class=layout,
        )
        command.add_options(own)
    return parser
