"""`distill verify`: whether results are what their study wrote."""

import argparse
from pathlib import Path
from typing import Any

from distill.cli.command import OK, REFUSED, USAGE, Command, Outcome, add_json
from distill.core.errors import UserError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="STUDY", nargs="+", type=Path,
                        help="folder of results, results/<study> or a copy of it")  # fmt: skip
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.workflow.provenance import verify

    records: list[dict[str, Any]] = []
    errors: list[str] = []
    lines: list[str] = []
    for folder in options.folder:
        try:
            verdict = verify(folder)
        except UserError as error:
            errors.append(str(error))
            records.append({"folder": str(folder), "error": str(error)})
            continue
        named = verdict.outputs + verdict.inputs
        lines += [f"{folder}: {sentence}" for sentence in verdict.wrong]
        lines.append(
            f"{folder}: {named - len(verdict.wrong)} of {named} files are as written "
            f"({verdict.outputs} results, {verdict.inputs} of models and data)"
        )
        if verdict.further:
            more = f"{len(verdict.further)} more are not in the record: {verdict.further[0]}"
            lines.append(f"{folder}: {more}")
        records.append(
            {
                "folder": str(folder),
                "outputs": verdict.outputs,
                "inputs": verdict.inputs,
                "wrong": verdict.wrong,
                "not_in_record": verdict.further,
            }
        )
    wrong = any(record.get("wrong") for record in records)
    code = USAGE if errors else REFUSED if wrong else OK
    return Outcome({"schema": 1, "folders": records}, "\n".join(lines), code, errors)


COMMAND = Command(
    summary="compare results with what the study wrote",
    details="Compare every file of results with the SHA-256 in provenance.json, also in a copy of "
    "the folder; models and data that the study read are compared where they are at hand, from "
    "STUDY/../.. on.",
    examples=("distill verify results/my_study", "distill verify results/*"),
    add_options=_add_options,
    run=_run,
)
