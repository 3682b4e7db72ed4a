"""`distill container`: the definition of an image with the environments in envs/."""

import argparse

from distill.cli.command import Command, Outcome, Refused, add_json
from distill.cli.studies import project


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true",
                        help="write nothing; exit code 1 if the file is not current")  # fmt: skip
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.core.files import write_text
    from distill.workflow.container import DEFINITION, definition

    root = project()
    text = definition(root)
    file = root / DEFINITION
    current = file.is_file() and file.read_text(encoding="utf-8") == text
    if options.check and not current:
        raise Refused(f"{DEFINITION} is not current; run distill container")
    if not current:
        write_text(file, text)
    record = {"schema": 1, "file": str(file), "written": not current}
    return Outcome(record, f"{DEFINITION} {'is current' if current else 'written'}")


COMMAND = Command(
    summary="write envs/container.def",
    details="Write envs/container.def, from which Apptainer builds an image with the environments "
    "in envs/. Snakemake generates it, and needs conda on the PATH.",
    examples=("distill container", "distill container --check"),
    add_options=_add_options,
    run=_run,
)
