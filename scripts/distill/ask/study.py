"""A finished study as it is asked: its groups of runs, what they cost, its laws."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distill.ask.costs import Rates, student_rates, teacher_rates
from distill.contracts.points import GROUP_KEYS, MEASURES, size_name
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.laws.fitted import FittedLaw
from distill.laws.points import commonest_epochs

_OF_A_LAW = ("name", "target", "selected", "best", "range", "state", "coefficients",
             "extrapolation", "holdout", "floor", "warnings")  # fmt: skip
"""Keys of a law's record that are read here."""


class Refusal(UserError):
    """The study has no answer to a question."""


class NoLaw(Refusal):
    """No law determines the answer.

    Args:
        who: About whom.
        why: The reason and the remedy.
    """

    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"cannot tell for {who}: {why}")
        self.who, self.why = who, why


def joined(refusals: list[NoLaw]) -> list[str]:
    """One sentence per reason, with all whom it is about."""
    by_reason: dict[str, list[str]] = {}
    for one in refusals:
        by_reason.setdefault(one.why, []).append(one.who)
    return [f"cannot tell for {'; '.join(dict.fromkeys(w))}: {why}" for why, w in by_reason.items()]


@dataclass(frozen=True)
class Group:
    """Runs that share a law: all that differ only by student, data, draw and seed.

    Attributes:
        keys: Values of `GROUP_KEYS`, "" where unknown.
        label: For a reader: method, and what else tells groups apart.
        rows: The trained runs.
        teacher_params: The teacher's size by measure, None where unknown.
    """

    keys: Mapping[str, str]
    label: str
    rows: pd.DataFrame
    teacher_params: Mapping[str, float | None] = field(default_factory=dict)

    @cached_property
    def students(self) -> dict[str, pd.DataFrame]:
        """Runs per student, smallest first."""
        found = {str(name): rows for name, rows in self.rows.groupby("student", sort=False)}
        return dict(sorted(found.items(), key=lambda item: item[1]["params"].mean()))

    @cached_property
    def rates(self) -> dict[str, Rates]:
        """Costs per token of each student."""
        teacher = teacher_rates(self.rows)
        return {name: student_rates(rows, teacher) for name, rows in self.students.items()}

    @cached_property
    def _sizes(self) -> dict[str, dict[float, Rates]]:
        """`sizes` of each measure."""
        sized = {
            measure: {self.size(name, measure): self.rates[name] for name in self.students}
            for measure in MEASURES
        }
        return {
            measure: {size: rates for size, rates in found.items() if size is not None}
            for measure, found in sized.items()
        }

    @cached_property
    def epochs(self) -> float:
        """The epochs that most runs have, the least of several."""
        return commonest_epochs(
            (self.rows["tokens_seen"] / self.rows["tokens_unique"]).to_numpy(dtype=float)
        )

    @cached_property
    def tokens_per_sample(self) -> float | None:
        """Mean unique tokens of a sample; None for a table that does not count samples."""
        known = self.rows[self.rows["samples"].notna()]
        if known.empty:
            return None
        return float(known["tokens_unique"].sum() / known["samples"].sum())

    def size(self, student: str, measure: str) -> float | None:
        """Parameters of a student."""
        value = float(self.students[student][measure].mean())
        return value if math.isfinite(value) else None

    def sizes(self, measure: str) -> dict[float, Rates]:
        """Rates by size, of the students whose size is known."""
        return self._sizes[measure]

    def teacher_loss(self) -> float | None:
        """The teacher's own loss, nats per token."""
        values = self.rows["loss_teacher"].dropna()
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Study:
    """A finished study: its groups of runs, its laws, what was refused, and related scores."""

    groups: list[Group]
    laws: list[FittedLaw]
    refused: list[dict[str, Any]]
    relations: Mapping[str, Any] = field(default_factory=dict)


def read_study(folder: str | Path) -> Study:
    """Read runs.parquet, laws.json and (where there is one) references.json of a study.

    Raises:
        UserError: The folder is no finished study.
    """
    path = Path(folder)
    if not (path / "runs.parquet").is_file():
        raise UserError(f"{path / 'runs.parquet'} is missing; run the study first")
    references = path / "references.json"
    runs, document = read_frame(path / "runs.parquet"), read_document(path)
    teachers = read_json(references) if references.is_file() else {}
    if not (isinstance(teachers, dict) and isinstance(teachers.get("teachers", {}), dict)):
        raise _another_kind(references)
    return make_study(runs, document, teachers)


def read_document(folder: str | Path) -> dict[str, Any]:
    """Read laws.json of a study.

    Raises:
        UserError: It is missing, damaged, or a record of another kind.
    """
    path = Path(folder) / "laws.json"
    document = read_json(path)
    laws, refused = (
        document.get(key) if isinstance(document, dict) else None for key in ("laws", "refused")
    )
    if not (isinstance(laws, list) and isinstance(refused, list)) or not all(
        isinstance(law, dict) and law.keys() >= set(_OF_A_LAW) for law in laws
    ):
        raise _another_kind(path)
    return dict(document)


def _another_kind(path: Path) -> UserError:
    return UserError(f"{path} is a record of another kind; delete it and run the workflow again")


def make_study(
    runs: pd.DataFrame, document: Mapping[str, Any], references: Mapping[str, Any] | None = None
) -> Study:
    """A study from its runs table, laws.json and references.json.

    Users' own tables may leave all but params, tokens_unique and loss null.
    """
    rows = _trained(runs)
    teachers = (references or {}).get("teachers", {})
    split = [
        (dict(zip(GROUP_KEYS, values, strict=True)), part)
        for values, part in rows.groupby(list(GROUP_KEYS), sort=False)
    ]
    shown = [key for key in GROUP_KEYS if len({keys[key] for keys, _ in split}) > 1]
    groups = []
    for keys, part in split:
        names = [keys[key] for key in dict.fromkeys(["method", *shown])]
        label = " · ".join(name for name in names if name not in ("", "none")) or "all runs"
        known = teachers.get(keys["teacher"]) or {}
        groups.append(Group(keys, label, part, {name: known.get(name) for name in MEASURES}))
    laws = [FittedLaw(record) for record in document["laws"]]
    return Study(groups, laws, list(document["refused"]), document.get("relations") or {})


def _trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows of trained runs, with every column that is read here."""
    rows = runs.copy()
    numeric = ["samples", "params", "params_non_embedding", "tokens_unique", "tokens_seen", "loss",
               "loss_teacher"]  # fmt: skip
    for name in numeric:
        values = rows[name] if name in rows else pd.Series(np.nan, index=rows.index)
        rows[name] = pd.to_numeric(values, errors="coerce").astype(float)
    rows = rows[~(rows["samples"] <= 0) & (rows["tokens_unique"] > 0)].reset_index(drop=True)
    if rows.empty:
        raise UserError("the runs table has no trained run; run the study first")
    rows["tokens_seen"] = rows["tokens_seen"].fillna(rows["tokens_unique"])
    for name in (*GROUP_KEYS, "student"):
        rows[name] = rows[name].fillna("").astype(str) if name in rows else ""
    unnamed = rows["student"] == ""
    rows.loc[unnamed, "student"] = [*map(size_name, rows.loc[unnamed, "params"])]
    return rows


def pick_groups(study: Study, wanted: Mapping[str, str | None], student: str | None) -> list[Group]:
    """The groups with these names, that hold a student if one is named.

    Args:
        study: The study.
        wanted: Key of `GROUP_KEYS` to its value, None for any.
        student: Name of a student, None for any.

    Raises:
        UserError: A name is unknown, or no group has all of them.
    """
    found = study.groups
    for key, value in [*wanted.items(), ("student", student)]:
        if value is None:
            continue
        known = list(dict.fromkeys(_names(study.groups, key)))
        if value not in known:
            raise UserError(
                f"this study has no {key} {value!r}; it has {', '.join(map(repr, known))}"
            )
        found = [group for group in found if value in _names([group], key)]
    if not found:
        named = [f"{k} {v!r}" for k, v in [*wanted.items(), ("student", student)] if v is not None]
        raise UserError(f"no run of this study has {' and '.join(named)}; name one of them only")
    return found


def _names(groups: list[Group], key: str) -> list[str]:
    if key == "student":
        return [name for group in groups for name in group.students]
    return [group.keys[key] for group in groups]


def tokens_of(group: Group, samples: float | None, tokens: float | None) -> float:
    """Unique tokens of so many samples, or the tokens given.

    Raises:
        UserError: The table counts no samples, or a number is not positive.
    """
    given = samples if tokens is None else tokens
    if given is None or not (math.isfinite(given) and given > 0):
        raise UserError("give a positive number of --samples or --tokens")
    if tokens is not None:
        return tokens
    if group.tokens_per_sample is None:
        raise UserError("this table counts no samples; give --tokens")
    return given * group.tokens_per_sample
