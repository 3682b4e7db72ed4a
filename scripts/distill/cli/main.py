"""The command `distill`: runs a sub-command; whatever happens, errors are sentences."""

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

from distill.cli.command import CLOSED, DEFECT, INTERRUPTED, OK, REFUSED, USAGE, Outcome, Refused
from distill.cli.commands import COMMANDS
from distill.cli.parsers import build_parser
from distill.core.display import visible
from distill.core.errors import UserError

TRACEBACK = "DISTILL_TRACEBACK"
"""Environment variable that shows where a defect lies."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: After the program's name; None: those of this process.

    Returns:
        The exit code (`distill.cli.command.EXIT_CODES`).
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 must not end an answer
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            code = _run(arguments)
        except SystemExit as end:  # of argparse, which has printed
            code = end.code if isinstance(end.code, int) else OK
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence(sys.stdout)
        return CLOSED
    except OSError as error:  # a full disk, where the output goes to a file
        _silence(sys.stdout)
        print(f"Error: the output cannot be written: {error.strerror}", file=sys.stderr)
        return USAGE


def _run(arguments: Sequence[str] | None) -> int:
    """Run a sub-command and print what it reports."""
    options = build_parser(COMMANDS).parse_args(arguments)
    try:
        outcome = COMMANDS[options.command].run(options)
    except UserError as error:
        code = REFUSED if isinstance(error, Refused) else USAGE
        outcome = _failed(str(error), code)
    except OSError as error:
        outcome = _failed(_sentence(error), USAGE)
    except MemoryError:
        outcome = _failed("there is not enough memory for this command", USAGE)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        sentence = f"a defect of distill: {reason}; {TRACEBACK}=1 shows where, please report it"
        outcome = _failed(sentence, DEFECT)
    for sentence in outcome.errors:
        print(visible(f"Error: {sentence}"), file=sys.stderr)
    if options.json:
        print(json.dumps(outcome.record, allow_nan=False))
    elif outcome.text:
        print(visible(outcome.text))
    return outcome.code


def _failed(sentence: str, code: int) -> Outcome:
    record: dict[str, Any] = {"schema": 1, "error": sentence, "exit_code": code}
    return Outcome(record, "", code, [sentence])


def _sentence(error: OSError) -> str:
    """What the system refuses, and where."""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename is None:
        return f"the system refuses to go on: {reason}"
    return f"{os.fsdecode(error.filename)} cannot be used: {reason}"


def _silence(stream: TextIO | None) -> None:
    """Let what is still to be written go nowhere: Python itself would complain at its end."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
