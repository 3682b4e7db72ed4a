"""`distill init`: a first config for a file of yours."""

import argparse
import os
import re
from pathlib import Path

from distill.cli.command import Command, Outcome, add_json, count
from distill.cli.studies import SNAKEFILE
from distill.core.errors import UserError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="PATH", required=True,
        help="your prompts, with or without answers: a file, a folder of files, or a pattern",
    )  # fmt: skip
    model = "a model folder, or owner/name or owner/name@commit on the Hugging Face hub"
    parser.add_argument("--teacher", metavar="MODEL", help=f"{model} (default: the embedded one)")
    parser.add_argument(
        "--student", metavar="MODEL", help=f"{model} (default: layers of the teacher)"
    )
    parser.add_argument("--out", metavar="CONFIG", help="default: the name of the data, .yaml")
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    import yaml

    from distill.cli.first_config import config_text
    from distill.cli.first_study import Models, measure
    from distill.config.checks.study import parse_study
    from distill.core.files import write_text
    from distill.plan.study import Plan
    from distill.workflow.startup import check_local_files, check_row_counts

    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(options.data).name.split(".")[0]).strip("_-")
    out = Path(options.out or f"{stem or 'my_study'}.yaml")
    if os.path.lexists(out):
        raise UserError(f"{out} exists; name another file with --out")
    study = re.sub(r"[^A-Za-z0-9_.-]+", "_", out.stem).strip("_.-")[:64] or "my_study"
    models = Models.of(_placed(options.teacher), _placed(options.student))
    data = measure(_placed(options.data) or "", models)
    text = config_text(study, data, models)
    plan = Plan(parse_study(yaml.safe_load(text)))
    check_local_files(plan)
    check_row_counts(plan)
    write_text(out, text)
    guessed = ", ".join(f"{field} is {column!r}" for field, column in data.fields.items())
    lines = [
        f"{out} written. Guessed from {count(data.read, 'row')} of {options.data}: {guessed}.",
        *(f"  left out: {note}" for note in data.notes),
        f"Next: distill check {out}; make study CONFIG={out}",
    ]
    record = {
        "schema": 1, "config": str(out), "study": study, "fields": data.fields, "rows": data.read,
        "pool": data.pool, "test": data.test, "notes": data.notes,
    }  # fmt: skip
    return Outcome(record, "\n".join(lines))


def _placed(path: str | None) -> str | None:
    """A path as a study finds it: as it is in a project's folder, else absolute."""
    if path is None or not (Path(path).expanduser().exists() or re.search(r"[*?\[]", path)):
        return path
    return path if Path(SNAKEFILE).is_file() else str(Path(path).expanduser().absolute())


COMMAND = Command(
    summary="write a first config for your own data",
    details="Write a commented config for a file of prompts, with or without answers, in any "
    "format that a study reads. The columns are guessed from their names and values, sizes from "
    "the number of rows; what was guessed is printed, and stands in the config. The embedded "
    "teacher needs no account and no GPU.",
    examples=(
        "distill init --data my.csv",
        "distill init --data chats.jsonl --teacher models/big --student models/small",
    ),
    add_options=_add_options,
    run=_run,
)
