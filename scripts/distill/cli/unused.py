"""`distill unused`: results that no run of the given configs refers to."""

import argparse
import shutil

from distill.cli.command import Command, Outcome, add_json, count
from distill.cli.studies import CONFIG, add_directory, read_plan, working_in


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", nargs="*", default=[CONFIG],
        help="every config whose results are to stay (default: config.yaml)",
    )  # fmt: skip
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    add_directory(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.plan.unused import size_mb, unused_folders, unused_resources

    with working_in(options.directory, options.config) as paths:
        plans = [read_plan(path) for path in paths]
        unused = [path for plan in plans for path in unused_folders(plan)]
        unused += unused_resources(plans)
        sizes = [size_mb(path) for path in unused]
        for path in unused if options.delete else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    total = sum(sizes)
    lines = [f"{size:10.1f} MB  {path}" for path, size in zip(unused, sizes, strict=True)]
    what = "deleted" if options.delete else "unused"
    lines.append(f"{total:10.1f} MB  {what} in {count(len(unused), 'place')}")
    record = {
        "schema": 1,
        "deleted": options.delete,
        "total_mb": total,
        "unused": [{"path": str(p), "mb": s} for p, s in zip(unused, sizes, strict=True)],
    }
    return Outcome(record, "\n".join(lines))


COMMAND = Command(
    summary="list or delete results that no config refers to",
    details="List results and shared work that no run of the configs refers to, with their sizes. "
    "Work in resources/ is shared between studies: name every config whose work is to stay.",
    examples=("distill unused", "distill unused config.yaml my_study.yaml --delete"),
    add_options=_add_options,
    run=_run,
)
