"""A study that is a user's own table: laws, answers, figures and report from any file of runs.

The config holds `study` and `runs_table` alone. The table becomes a runs table with the columns of
any study (null where the table does not say), so nothing after it knows the difference.
"""

from typing import Any

import pandas as pd

from distill.config.own_table import TableStudy
from distill.config.reading import check_plain, validate
from distill.contracts.columns import COLUMNS
from distill.contracts.points import FURTHER
from distill.contracts.run import NO_CACHE, RAW
from distill.core.display import listed
from distill.core.errors import UserError
from distill.table.own_file import read_table
from distill.table.own_points import OwnPoints, own_points


def points_of_table(study: TableStudy, frame: pd.DataFrame | None = None) -> OwnPoints:
    """The table of a study, as points of laws.

    Args:
        study: The config.
        frame: The table; None: the file that the config names.

    Raises:
        UserError: As `distill.table.own_points.own_points` and `distill.table.own_file.read_table`.
    """
    table = study.runs_table
    if frame is None:
        frame = read_table(table.path, study.columns, table.encoding)
    else:
        frame = frame.reset_index(drop=True)  # whose index may be anything
    return own_points(frame, study.columns, study.units)


def runs_of_table(
    study: TableStudy, frame: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The runs table of a user's own table, and its references.json.

    Args:
        study: The config.
        frame: The table; None: the file that the config names.

    Returns:
        The columns of any runs table and `group`, null where the table says nothing (`samples`
        among them: tokens are what it has), weight, accuracy and
        items if the table has them; and the teachers' sizes and losses by name.

    Raises:
        UserError: The table does not hold what `distill.table.own_points.own_points` asks for.
    """
    read = points_of_table(study, frame)
    points = read.points
    out = pd.DataFrame(index=points.index, columns=[*COLUMNS, "group"], dtype="float64")
    same = ("teacher", "student", "method", "init", "group", "seed", "draw", "params", "loss")
    for name in same:
        out[name] = points[name]
    out["study"], out["task"] = study.study, "table"
    out["curation"], out["cache"] = RAW, NO_CACHE
    for name in ("params", "params_non_embedding", "updates", "loss_stderr"):
        out[name] = points[name]
    for name in FURTHER:
        if name in points:
            out[name] = points[name]
    out["tokens_unique"] = points["tokens"]
    out["tokens_seen"] = points["tokens"] * points["epochs"]
    out["train_flops"] = points["flops"]
    out["loss_teacher"], out["kl_teacher"] = points["teacher_loss"], points["gap"]
    teachers = {
        str(name): {
            "params": _known(rows["teacher_params"]),
            "params_non_embedding": None,
            "loss": _known(rows["teacher_loss"]),
        }
        for name, rows in points[points["teacher"] != ""].groupby("teacher", sort=False)
    }
    return out, {
        "schema": 1,
        "study": study.study,
        "own_table": True,
        "distils": read.distils,
        "corpus_methods": list(read.supervised),
        "notes": [note.record() for note in read.notes],
        "teachers": teachers,
    }


def _known(values: pd.Series) -> float | None:
    first = values.iloc[0]
    return None if pd.isna(first) else float(first)


def table_study(config: dict[str, Any]) -> TableStudy:
    """Validate the config of a user's own table, without the table.

    Raises:
        UserError: One sentence per mistake, each naming key, column or row and the remedy.
    """
    check_plain(config)
    if extra := [key for key in config if key not in ("study", "runs_table")]:
        raise UserError(
            f"config: {listed(extra)} cannot be combined with runs_table, whose study "
            "trains no models; remove one or the other"
        )
    return validate(TableStudy, config)


def parse_table_study(config: dict[str, Any]) -> TableStudy:
    """Validate the config of a user's own table, and the table.

    Raises:
        UserError: One sentence per mistake, each naming key, column or row and the remedy.
    """
    study = table_study(config)
    runs_of_table(study)
    return study
