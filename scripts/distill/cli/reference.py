"""`distill reference`: the pages of docs/reference/ that are written from the code."""

import argparse

from distill.cli.command import Command, Outcome, Refused, add_json
from distill.cli.studies import project


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true",
                        help="write nothing; exit code 1 if a page is not current")  # fmt: skip
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.cli.pages import pages
    from distill.core.files import write_text

    folder = project() / "docs" / "reference"
    stale = {
        name: text
        for name, text in pages(project(), options.commands).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }
    if options.check and stale:
        raise Refused(f"docs/reference is not current ({', '.join(stale)}); run distill reference")
    for name, text in stale.items():
        write_text(folder / name, text)
    lines = [f"docs/reference/{name} written" for name in stale] or ["all pages are current"]
    return Outcome({"schema": 1, "written": list(stale)}, "\n".join(lines))


COMMAND = Command(
    summary="write the reference pages and the config's schema",
    details="Write the pages of docs/reference/ that come from the code: every key of a config and "
    "its JSON schema, the columns of the runs table, sound pairs of losses and soft targets, and "
    "this command line.",
    examples=("distill reference", "distill reference --check"),
    add_options=_add_options,
    run=_run,
)
