"""The sub-commands: one line each, in the order of `distill --help`."""

from distill.cli import (
    ask,
    check,
    container,
    init,
    laws,
    next,
    page,
    plan,
    reference,
    unused,
    verify,
)
from distill.cli.command import Command

COMMANDS: dict[str, Command] = {
    "init": init.COMMAND,
    "check": check.COMMAND,
    "plan": plan.COMMAND,
    "ask": ask.COMMAND,
    "laws": laws.COMMAND,
    "next": next.COMMAND,
    "page": page.COMMAND,
    "verify": verify.COMMAND,
    "unused": unused.COMMAND,
    "reference": reference.COMMAND,
    "container": container.COMMAND,
}
