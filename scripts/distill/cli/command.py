"""What a sub-command is, what it returns, and the exit codes."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.core.errors import UserError

OK, REFUSED, USAGE, DEFECT, INTERRUPTED, CLOSED = 0, 1, 2, 70, 130, 141
EXIT_CODES = {
    OK: "success",
    REFUSED: "the answer is negative: the study cannot answer, or files differ",
    USAGE: "a mistake in the command, the config or a file that it names",
    DEFECT: "a defect of this program; DISTILL_TRACEBACK=1 shows where",
    INTERRUPTED: "interrupted (Ctrl-C)",
    CLOSED: "the reader of the output has ended, as head does",
}


class Refused(UserError):
    """The command is right, but its answer is negative: exit code 1."""


@dataclass(frozen=True)
class Outcome:
    """What a sub-command reports.

    Attributes:
        record: For `--json`; `schema` is 1.
        text: For people; may be empty.
        code: The exit code.
        errors: Sentences for stderr, of a command that reports the rest nevertheless.
    """

    record: dict[str, Any]
    text: str
    code: int = OK
    errors: Sequence[str] = ()


@dataclass(frozen=True)
class Command:
    """A sub-command.

    Attributes:
        summary: One line.
        details: A paragraph.
        examples: Command lines.
        add_options: Adds its options to its parser, `add_json` among them.
        run: Does the work.
    """

    summary: str
    details: str
    examples: Sequence[str]
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]


def epilog(examples: Sequence[str], below: Mapping[str, str] | None = None) -> str:
    """What stands at the end of a parser's help.

    Args:
        examples: Command lines.
        below: What the parser's own sub-commands do, by name.
    """
    lines = [f"  {name:<10} {meaning}" for name, meaning in (below or {}).items()]
    lines = ["commands:", *lines, ""] if lines else []
    lines += ["examples:", *(f"  {line}" for line in examples), "", "exit codes:"]
    return "\n".join([*lines, *(f"  {code:<4} {text}" for code, text in EXIT_CODES.items())])


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option that every command has."""
    parser.add_argument("--json", action="store_true", help="print JSON, errors included")


def count(number: int, singular: str) -> str:
    """A number with its noun: 1 run, 2 runs."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"


def positive(text: str) -> int:
    """The type of an option that counts."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


positive.__name__ = "positive whole number"  # for argparse's error
