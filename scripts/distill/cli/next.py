"""`distill next`: the runs that narrow an answer most for a budget."""

import argparse
import math
import re
from pathlib import Path
from typing import Any

from distill.ask.choices import MOST_RUNS, SCOPES, Unit
from distill.cli.command import Command, Outcome, Refused, add_json, positive
from distill.cli.tables import add_columns, spec_of
from distill.contracts.points import GROUP_KEYS
from distill.core.errors import UserError

_UNITS: dict[str, tuple[Unit, float]] = {
    "": ("flops", 1.0), "flops": ("flops", 1.0), "s": ("hours", 1 / 3600),
    "min": ("hours", 1 / 60), "h": ("hours", 1.0), "d": ("hours", 24.0),
}  # fmt: skip
_NUMBER = r"[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?"
_TARGET = ("params", "student", "tokens", "samples", "epochs")


def _budget(text: str) -> tuple[Unit, float]:
    found = re.fullmatch(rf"({_NUMBER}) ?([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or not 0 < float(found[1]) < math.inf:
        raise UserError(
            f"--budget {text!r} is not understood; write hours as 10h (or min, d), FLOPs as 1e18"
        )
    unit, factor = _UNITS[found[2]]
    return unit, float(found[1]) * factor


def _within(text: str) -> float:
    found = re.fullmatch(rf"({_NUMBER}) ?%", text.strip())
    if found is None or not 0 < float(found[1]) < 100:
        raise UserError(f"--within {text!r} is not understood; write a percentage such as 2%")
    return float(found[1]) / 100


def _target(text: str) -> dict[str, Any]:
    """The options of `Target`: loss@params=1e9,tokens=2e10."""
    example = "loss@params=1e9,tokens=2e10"
    kind, _, rest = text.partition("@")
    pairs = [part.partition("=") for part in rest.split(",")]
    names = [name.strip() for name, _, _ in pairs]
    wrong = [name for name in names if name not in _TARGET]
    if kind.strip() != "loss" or wrong or len(set(names)) < len(names):
        raise UserError(
            f"--target {text!r} is not understood; write {example} with "
            f"{', '.join(_TARGET[:-1])} or {_TARGET[-1]}, each once"
        )
    target: dict[str, Any] = {}
    for name, (_, _, value) in zip(names, pairs, strict=True):
        number = re.fullmatch(_NUMBER, value.strip().lower())
        if name != "student" and (number is None or not 0 < float(value) < math.inf):
            raise UserError(f"--target: {name} {value!r} is not a positive number; write {example}")
        target[name] = value.strip() if name == "student" else float(value)
    if ("params" in target) == ("student" in target):
        raise UserError(f"--target needs either params or student; write {example}")
    if ("tokens" in target) == ("samples" in target):
        raise UserError(f"--target needs either tokens or samples; write {example}")
    return target


def _selected(pairs: list[str]) -> dict[str, str]:
    """Names of the group of runs: method=kd."""
    selected = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if key not in GROUP_KEYS or not equals:
            raise UserError(
                f"--select {pair!r} is not understood; write KEY=NAME with one of "
                f"{', '.join(GROUP_KEYS)}"
            )
        selected[key] = value
    return selected


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="folder of a finished study, results/<study>, or a table"
    )
    parser.add_argument(
        "--target", required=True, metavar="WHAT",
        help="what to predict: loss@params=1e9,tokens=2e10 or loss@student=NAME,samples=5000",
    )  # fmt: skip
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--budget", metavar="X", help="hours (10h, 30min, 2d) or FLOPs (1e18)")
    either.add_argument(
        "--within", metavar="X%", help="the cheapest runs that bring the answer to ± X %%"
    )
    parser.add_argument(
        "--select", action="append", default=[], metavar="KEY=NAME",
        help="the group of runs, such as method=kd; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--count", choices=SCOPES, default="all",
        help="whether costs include the teacher's work on new text (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--runs", type=positive, metavar="N", default=MOST_RUNS,
        help="propose at most N runs (default: %(default)s)",
    )  # fmt: skip
    add_columns(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.ask.next_runs import Limits, Target, plan_next
    from distill.ask.study import Refusal, pick_groups
    from distill.ask.words import text_of
    from distill.core.display import listed

    unit, budget = _budget(options.budget) if options.budget else (None, None)
    within = _within(options.within) if options.within else None
    limits = Limits(unit, budget, within, options.count, options.runs)
    target, selected = Target(**_target(options.target)), _selected(options.select)
    study, rows = _read(options)
    groups = pick_groups(study, selected, target.student)
    if len(groups) > 1:
        raise UserError(
            f"there are several groups of runs: {listed([group.label for group in groups])}; name "
            "one with --select, such as --select method=NAME"
        )
    try:
        found = plan_next(study, rows, groups[0], target, limits)
    except Refusal as error:
        raise Refused(str(error)) from None
    return Outcome({"schema": 1, "question": "next", **found}, text_of("next", found))


def _read(options: argparse.Namespace) -> tuple[Any, Any]:
    """The study, and its runs as points of laws; a table is fitted first."""
    from distill.ask.study import read_study
    from distill.core.files import read_json
    from distill.core.parquet import read_frame
    from distill.laws.runs import trained_rows

    folder = Path(options.study)
    if folder.is_dir():
        study, references = read_study(folder), folder / "references.json"
        stated = read_json(references) if references.is_file() else None
        return study, trained_rows(read_frame(folder / "runs.parquet"), stated)

    if not folder.exists():
        raise UserError(f"{folder} does not exist; name results/<study> or a table of runs")

    from distill.api import fit_table

    columns = spec_of(options.study, options)["runs_table"]["columns"]
    fit = fit_table(options.study, **columns)
    return fit.study, trained_rows(fit.runs, fit.references)


COMMAND = Command(
    summary="propose the next runs: which narrow an answer most for a budget",
    details="Propose the runs that narrow a predicted loss most for a budget of hours or FLOPs, or "
    "the cheapest that bring it within a width, from a finished study or a table of runs. Prints "
    "the interval now and the one expected after them, and blocks for runs: of the config.",
    examples=(
        "distill next results/my_study --budget 10h --target loss@student=w384,samples=80000",
        "distill next runs.csv --params N --tokens D --target loss@params=1e9,tokens=2e10 --within "
        "2%",
    ),
    add_options=_add_options,
    run=_run,
)
