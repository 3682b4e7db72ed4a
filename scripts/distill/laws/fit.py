"""From the table of laws to laws.json: which runs share a law, what is refused and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import KEYS
from distill.laws.choice import Fitter, Settings, choose, fit_points, judge, record_law, too_rich
from distill.laws.forms import LAWS, SUPERVISED
from distill.laws.law import Law
from distill.laws.points import Points, distinct, levels, points_of
from distill.laws.staged import STAGES, StagedFitter

TARGETS = ("loss", "gap")
SIZE_COLUMNS = ("params", "params_non_embedding")
_LEAST_SIZES, _LEAST_RANGE = 3, 1.5
_BREAK_SIZES = 6
"""Sizes that a question of collapse wants."""
_LEAST_TEACHERS = 3
_PRETRAINED = ("cut", "pretrained", "")
"""Initialisations that know something at n = 0; a table of one's own may not say."""


@dataclass(frozen=True)
class Refusal:
    """A law that is not fitted, and why."""

    name: str
    target: str
    selected: dict[str, Any]
    reason: str

    def record(self) -> dict[str, Any]:
        """The record in laws.json."""
        return {
            "name": self.name,
            "target": self.target,
            "selected": self.selected,
            "reason": self.reason,
        }


def fit_laws(
    table: pd.DataFrame, settings: Settings | None = None, fitter: Fitter = fit_points
) -> dict[str, Any]:
    """Fit every law that the table allows; the content of laws.json.

    Args:
        table: From `law_table` (settings.shared) or `own_table` (not shared).
        settings: How to fit.
        fitter: Fits a law to points.

    Returns:
        schema, laws (records) and refused (records), in the table's order of groups.
    """
    settings = settings or Settings()
    laws: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    table = table.reset_index(drop=True)
    for target in TARGETS:
        for selected, rows in _groups(table, _LINE_KEYS):
            if target == "gap" and not np.isfinite(rows["gap"].to_numpy()).any():
                continue
            _lines(rows, target, selected, settings, fitter, laws, refused)
        for size in SIZE_COLUMNS:
            for selected, rows in _groups(table, _GRID_KEYS, size):
                if target == "gap" and not np.isfinite(rows["gap"].to_numpy()).any():
                    continue
                _grid(rows, target, selected, settings, fitter, laws, refused)
            for selected, rows in _groups(table, _TEACHER_KEYS, size):
                _across(rows, table, target, selected, settings, fitter, laws, refused)
    return {"schema": 1, "laws": laws, "refused": [one.record() for one in refused]}


def fit_across(table: pd.DataFrame, target: str, settings: Settings) -> dict[str, Any]:
    """Fit only the laws over several teachers; the content of laws.json with nothing else."""
    laws: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    table = table.reset_index(drop=True)
    for size in SIZE_COLUMNS:
        for selected, rows in _groups(table, _TEACHER_KEYS, size):
            _across(rows, table, target, selected, settings, fit_points, laws, refused)
    return {"schema": 1, "laws": laws, "refused": [one.record() for one in refused]}


_LINE_KEYS = KEYS
_GRID_KEYS = tuple(key for key in KEYS if key != "student")
_TEACHER_KEYS = tuple(key for key in _GRID_KEYS if key != "teacher")


def _groups(
    table: pd.DataFrame, keys: Sequence[str], size: str | None = None
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Groups of runs with equal keys, and the record `selected` of each."""
    for values, rows in table.groupby(list(keys), sort=False):
        selected: dict[str, Any] = dict.fromkeys(KEYS)
        selected.update(zip(keys, map(str, values), strict=True))
        yield {**selected, "size": size}, rows


def _usable(
    rows: pd.DataFrame, target: str, size: str, shared: bool
) -> tuple[Points, list[dict[str, Any]]]:
    """Points with a target, and a record of each run that is left out."""
    keep = np.isfinite(rows[target].to_numpy()) & (rows[target].to_numpy() > 0)
    reasons = dict.fromkeys(rows.index[~keep], f"its {target} is not positive")
    again = rows.duplicated([*KEYS, "seed", "draw", "params", "tokens", "epochs", target])
    for row in rows.index[again.to_numpy() & keep]:
        reasons[row] = "the same run stands in an earlier row"
    points = points_of(rows, target, size, shared)
    kept = points.where(np.array([row not in reasons for row in rows.index], dtype=bool))
    return kept, [_dropped(rows.loc[row], row, why) for row, why in reasons.items()]


def _dropped(row: pd.Series, place: Any, reason: str) -> dict[str, Any]:
    return {
        "row": int(place) + 1,
        "student": str(row["student"]),
        "teacher": str(row["teacher"]),
        "tokens": float(row["tokens"]),
        "seed": int(row["seed"]),
        "draw": int(row["draw"]),
        "reason": reason,
    }


def _one_level(
    points: Points, rows: pd.DataFrame, name: str, level: int, why: str
) -> tuple[Points, list[dict[str, Any]]]:
    """The points of one level of an input; the others are listed as dropped."""
    keep = levels(points.values[name], name) == level
    dropped = [_dropped(rows.loc[row], row, why) for row in points.rows[~keep]]
    return points.where(keep), dropped


def _commonest(points: Points, name: str) -> int:
    """The level of an input that most points share, the least of several."""
    return int(np.bincount(levels(points.values[name], name)).argmax())


def _at_common_epochs(points: Points, rows: pd.DataFrame) -> tuple[Points, list[dict[str, Any]]]:
    """The points of the epochs that most have, for laws that know no repeats."""
    why = "other epochs than most: this law does not know repeats"
    return _one_level(points, rows, "epochs", _commonest(points, "epochs"), why)


def _lines(
    rows: pd.DataFrame, target: str, selected: dict[str, Any], settings: Settings,
    fitter: Fitter, laws: list[dict[str, Any]], refused: list[Refusal],
) -> None:  # fmt: skip
    """Laws over data, for one student."""
    points, dropped = _usable(rows, target, "params", settings.shared)
    if not len(points):
        return
    if not settings.shared and distinct(points, "tokens") < 2:
        return  # scattered points of a table of one's own: every size is its own student
    known = LAWS[target]
    several = distinct(points, "epochs") > 1
    names = ["data_power"]
    if selected["init"] in _PRETRAINED:
        names.append("rectified")
    if several:
        # D' takes in repeats; the other laws would read them as unique tokens.
        _compete([known["data_constrained"]], points, dropped, target, selected, settings, fitter,
                 laws, refused, best=True)  # fmt: skip
        points, left = _at_common_epochs(points, rows)
        dropped = dropped + left
    else:
        refused.append(_no_repeats("data_constrained", target, selected, points))
    constrained = several and bool(laws) and laws[-1]["selected"] == selected
    constrained = constrained and laws[-1]["target"] == target
    _compete([known[name] for name in names], points, dropped, target, selected, settings, fitter,
             laws, refused, best=not constrained)  # fmt: skip


def _no_repeats(name: str, target: str, selected: dict[str, Any], points: Points) -> Refusal:
    epochs = float(np.median(points.values["epochs"]))
    return Refusal(
        name,
        target,
        selected,
        f"R* cannot be told: all runs have the same epochs ({epochs:.3g}); vary epochs at equal "
        "unique tokens",
    )


def _compete(
    candidates: Sequence[Law], points: Points, dropped: list[dict[str, Any]], target: str,
    selected: dict[str, Any], settings: Settings, fitter: Fitter, laws: list[dict[str, Any]],
    refused: list[Refusal], best: bool,
) -> None:  # fmt: skip
    """Fit candidates that the points determine, choose, judge and record them."""
    able = []
    for law in candidates:
        reason = too_rich(law, points)
        if reason is None:
            able.append(law)
        else:
            refused.append(Refusal(law.name, target, selected, reason))
    if not able:
        return
    winner, choice, fits = choose(able, points, settings, fitter)
    for place, fitted in enumerate(fits):
        # The most expensive rung is the winner's alone: a second look would make it a choice.
        holdout = judge(fitted.law, able, points, settings, fitter) if place == winner else None
        laws.append(
            record_law(
                fitted,
                points,
                target,
                selected,
                holdout,
                choice,
                best and place == winner,
                dropped,
                settings,
            )
        )


def _grid(
    rows: pd.DataFrame, target: str, selected: dict[str, Any], settings: Settings,
    fitter: Fitter, laws: list[dict[str, Any]], refused: list[Refusal],
) -> None:  # fmt: skip
    """Laws over size, for the students of one teacher."""
    size = selected["size"]
    counts = rows[size].to_numpy(dtype=np.float64)
    if not np.isfinite(counts).all() or (counts <= 0).any():
        return
    points, dropped = _usable(rows, target, size, settings.shared)
    sizes = distinct(points, "params")
    if sizes < 2:
        return
    known = LAWS[target]
    span = float(counts.max() / counts.min())
    if sizes < _LEAST_SIZES or span < _LEAST_RANGE:
        for name in ("size_power", "chinchilla"):
            refused.append(
                Refusal(name, target, selected,
                        f"a law over size wants at least {_LEAST_SIZES} sizes over a factor of "
                        f"{_LEAST_RANGE:g}; there are {sizes} over a factor of {span:.3g}")
            )  # fmt: skip
        return
    before = len(laws)
    if distinct(points, "epochs") > 1:
        _compete([known["chinchilla_constrained"]], points, dropped, target, selected, settings,
                 fitter, laws, refused, best=True)  # fmt: skip
        points, left = _at_common_epochs(points, rows)
        dropped = dropped + left
    else:
        refused.append(_no_repeats("chinchilla_constrained", target, selected, points))
    joint = [known["chinchilla"]]
    if distinct(points, "params") >= _BREAK_SIZES:
        joint.append(known["broken_chinchilla"])
    else:
        refused.append(
            Refusal("broken_chinchilla", target, selected,
                    f"a break in size wants at least {_BREAK_SIZES} sizes; there are {sizes}")
        )  # fmt: skip
    _compete(joint, points, dropped, target, selected, settings, fitter, laws, refused,
             best=len(laws) == before)  # fmt: skip
    level = _largest_shared(points)
    if level is None:
        refused.append(
            Refusal("size_power", target, selected,
                    f"no number of tokens has {_LEAST_SIZES} sizes: size and data cannot be told "
                    "apart one at a time")
        )  # fmt: skip
        return
    alone, left = _one_level(points, rows, "tokens", level,
                             "other tokens than the largest number with most sizes")  # fmt: skip
    names = ["size_power"]
    if distinct(alone, "params") >= _BREAK_SIZES:
        names.append("broken_size")
    _compete([known[name] for name in names], alone, dropped + left, target, selected, settings,
             fitter, laws, refused, best=len(laws) == before)  # fmt: skip


def _largest_shared(points: Points) -> int | None:
    """Of the levels of tokens with the most sizes, the largest; None below three sizes."""
    ranks, sizes = (
        levels(points.values["tokens"], "tokens"),
        levels(points.values["params"], "params"),
    )
    counts = [len(np.unique(sizes[ranks == rank])) for rank in range(int(ranks.max()) + 1)]
    most = max(counts)
    return max(r for r, c in enumerate(counts) if c == most) if most >= _LEAST_SIZES else None


def _across(
    rows: pd.DataFrame, table: pd.DataFrame, target: str, selected: dict[str, Any],
    settings: Settings, fitter: Fitter, laws: list[dict[str, Any]], refused: list[Refusal],
) -> None:  # fmt: skip
    """Laws over several teachers: the ratio law and the distillation law."""
    size = selected["size"]
    known = rows[np.isfinite(rows[f"teacher_{size}"].to_numpy(dtype=np.float64))
                 & np.isfinite(rows[size].to_numpy(dtype=np.float64))]  # fmt: skip
    points, dropped = _usable(known, target, size, settings.shared)
    if not len(points) or distinct(points, "params") < _LEAST_SIZES:
        return
    teachers = distinct(points, "teacher_params")
    if settings.shared and target == "loss":
        reason = (
            "each teacher's students are scored on its own text, whose entropy differs: only the "
            "gap compares across teachers"
        )
        refused.append(Refusal("ratio", target, selected, reason))
        refused.append(Refusal("distillation", target, selected, reason))
        return
    candidates, staged = [], fitter
    if teachers < _LEAST_TEACHERS:
        refused.append(
            Refusal("ratio", target, selected,
                    f"gamma wants at least {_LEAST_TEACHERS} sizes of teacher, with fewer it "
                    f"merges into alpha; there {'is' if teachers == 1 else 'are'} {teachers}")
        )  # fmt: skip
    else:
        candidates.append(LAWS[target]["ratio"])
    why: str | None = None
    supervised = _supervised(table, selected, settings)
    if target == "gap":
        why = "its gap vanishes under a weak teacher, where logs are noise; see its fit to loss"
    elif supervised is None:
        why = (
            "it needs the loss of the same students trained without a teacher: rows with no "
            "teacher_loss, same init, curation and group"
        )
    elif too_rich(SUPERVISED, supervised) is not None:
        why = f"its supervised stage: {too_rich(SUPERVISED, supervised)}"
    elif distinct(points, "teacher_loss") < _LEAST_TEACHERS:
        why = f"c0 and f1 want at least {_LEAST_TEACHERS} teachers of different loss"
    if why is None and supervised is not None:
        staged = StagedFitter(fit_points(SUPERVISED, supervised, settings))
        candidates += [LAWS[target][name] for name in STAGES]
    else:
        refused.append(Refusal("distillation", target, selected, str(why)))
    _compete(candidates, points, dropped, target, selected, settings, staged, laws, refused,
             best=True)  # fmt: skip


def _supervised(
    table: pd.DataFrame, selected: Mapping[str, Any], settings: Settings
) -> Points | None:
    """Runs without a teacher that share all but the method with the selected ones."""
    alone = ~np.isfinite(table["teacher_loss"].to_numpy(dtype=np.float64))
    for key in ("curation", "init", "group"):
        alone &= (table[key] == selected[key]).to_numpy()
    rows = table[alone]
    return points_of(rows, "loss", selected["size"], settings.shared) if len(rows) else None
