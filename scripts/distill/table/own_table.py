"""A study that is a user's own table: laws, answers, figures and report from any CSV or Parquet.

The config holds `study` and `runs_table` alone. The table becomes a runs table with the columns of
any study (null where the table does not say), so nothing after it knows the difference.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from distill.config.own_table import TableStudy
from distill.config.reading import check_plain, validate
from distill.contracts.columns import COLUMNS
from distill.contracts.run import NO_CACHE, RAW
from distill.core.display import listed
from distill.core.errors import UserError
from distill.core.text_files import read_csv_rows
from distill.table.own_points import own_table


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises:
        UserError: It is missing, of another kind, or not readable.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"config: runs_table.path: the file {file} does not exist")
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"config: runs_table.path: {file} is neither .csv nor .parquet; convert it")
    if kind == ".csv":
        read_csv_rows(file)  # pandas would shift, drop or fill cells of uneven rows
    try:
        if kind == ".csv":
            return pd.read_csv(file, encoding="utf-8-sig", index_col=False)
        names = pq.read_schema(file).names
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"config: runs_table.path: {file}: the column {twice[0]!r} appears twice; rename "
                "one of them"
            )
        return pd.read_parquet(file)
    except (ValueError, OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"config: runs_table.path: {file} is not readable: {reason}") from None


def runs_of_table(
    study: TableStudy, frame: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The runs table of a user's own table, and its references.json.

    Args:
        study: The config.
        frame: The table; None: the file that the config names.

    Returns:
        The columns of any runs table and `group`, null where the table says nothing (`samples`
        among them: tokens are what it has); and the teachers' sizes and losses by name.

    Raises:
        UserError: The table does not hold what `distill.table.own_points.own_table` asks for.
    """
    rows = read_table(study.runs_table.path) if frame is None else frame
    points = own_table(rows, study.columns)
    out = pd.DataFrame(index=points.index, columns=[*COLUMNS, "group"], dtype="float64")
    same = ("teacher", "student", "method", "init", "group", "seed", "draw", "params", "loss")
    for name in same:
        out[name] = points[name]
    out["study"], out["task"] = study.study, "table"
    out["curation"], out["cache"] = RAW, NO_CACHE
    for name in ("params", "params_non_embedding", "updates", "loss_stderr"):
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
    return out, {"schema": 1, "study": study.study, "own_table": True, "teachers": teachers}


def _known(values: pd.Series) -> float | None:
    first = values.iloc[0]
    return None if pd.isna(first) else float(first)


def parse_table_study(config: dict[str, Any]) -> TableStudy:
    """Validate the config of a user's own table, and the table.

    Raises:
        UserError: One sentence per mistake, each naming key, column or row and the remedy.
    """
    check_plain(config)
    if extra := [key for key in config if key not in ("study", "runs_table")]:
        raise UserError(
            f"config: {listed(extra)} cannot be combined with runs_table, whose study "
            "trains no models; remove one or the other"
        )
    study = validate(TableStudy, config)
    runs_of_table(study)
    return study
