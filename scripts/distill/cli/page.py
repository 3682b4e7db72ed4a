"""`distill page`: a study's results inside a page of Markdown."""

import argparse
from pathlib import Path

from distill.cli.command import OK, Command, Outcome, add_json


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", metavar="RESULTS", type=Path, help="folder of a study's results")
    parser.add_argument("page", metavar="PAGE", type=Path,
                        help="Markdown file with the two marks")  # fmt: skip
    parser.add_argument("--figures", nargs="*", default=["perplexity"], metavar="NAME",
                        help="figures to show (default: perplexity)")  # fmt: skip
    parser.add_argument("--images", type=Path, metavar="FOLDER",
                        help="folder for pictures (default: img beside the page)")  # fmt: skip
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.report.markdown import fill_page

    images = options.images or options.page.parent / "img"
    written = fill_page(options.page, options.results, options.figures, images)
    names = [str(path) for path in written]
    lines = [f"{name} written" for name in names]
    return Outcome({"schema": 1, "written": names}, "\n".join(lines), OK, [])


COMMAND = Command(
    summary="write a study's results into a page of Markdown",
    details="Replace what stands between the lines <!-- results: written by distill page --> and "
    "<!-- end of results --> of a page by the study's table, answers and figures, and copy the "
    "figures. The rest of the page stays as it is.",
    examples=("distill page results/my_study docs/my_study.md --figures perplexity law_curves",),
    add_options=_add_options,
    run=_run,
)
