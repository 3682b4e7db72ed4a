"""Questions to a finished study: expected loss of a student, samples that a loss takes.

Every number comes from laws.json (by `distill.fitted`) and from what the study's runs cost
(`distill.run_costs`). Where no law determines an answer, one sentence says so.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from distill.files import UserError, read_json
from distill.fitted import FittedLaw, Predictions
from distill.run_costs import MEASURES, Prices, Rates, rates_between, student_rates

GROUP_KEYS = ("teacher", "method", "cache", "curation", "init", "group")
MAX_FACTOR = 4.0
"""How far outside the fitted range an answer goes without a warning."""
SAME_LEVEL = 1.2
"""Runs of one size differ by up to this factor in tokens: within it nothing is extrapolated."""
_REACH = 1e6
"""Samples are sought up to this many times the largest fitted number."""


class NoLaw(UserError):
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
        return {name: student_rates(rows, self.rows) for name, rows in self.students.items()}

    @cached_property
    def epochs(self) -> float:
        """The epochs that most runs have, the least of several."""
        return float(
            (self.rows["tokens_seen"] / self.rows["tokens_unique"]).round(3).mode().iloc[0]
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
        sized = {self.size(name, measure): self.rates[name] for name in self.students}
        return {size: rates for size, rates in sized.items() if size is not None}

    def teacher_loss(self) -> float | None:
        """The teacher's own loss, nats per token."""
        values = self.rows["loss_teacher"].dropna()
        return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class Study:
    """A finished study: its groups of runs, its laws, what was refused."""

    groups: list[Group]
    laws: list[FittedLaw]
    refused: list[dict[str, Any]]


def read_study(folder: str | Path) -> Study:
    """Read runs.parquet, laws.json and (where there is one) references.json of a study.

    Raises:
        UserError: The folder is no finished study.
    """
    path = Path(folder)
    if not (path / "runs.parquet").is_file():
        raise UserError(f"{path / 'runs.parquet'} is missing; run the study first")
    references = path / "references.json"
    return make_study(
        pd.read_parquet(path / "runs.parquet"),
        read_json(path / "laws.json"),
        read_json(references) if references.is_file() else None,
    )


def make_study(
    runs: pd.DataFrame, document: Mapping[str, Any], references: Mapping[str, Any] | None = None
) -> Study:
    """A study from its runs table, laws.json and references.json.

    Tables of one's own may leave all but params, tokens_unique and loss null.
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
    return Study(groups, laws, list(document["refused"]))


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
    rows.loc[unnamed, "student"] = [f"{size:.0f}" for size in rows.loc[unnamed, "params"]]
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


@dataclass(frozen=True)
class Subject:
    """A student to ask about, with the law and the rates that answer for it.

    Attributes:
        group: Its group.
        name: Its name, None for a size that was not measured.
        size: Its parameters, in `measure`; None where the law does not read them.
        measure: params or params_non_embedding.
        law: The law.
        rates: Costs per token; None where they are unknown.
        epochs: Tokens seen over unique ones.
    """

    group: Group
    name: str | None
    size: float | None
    measure: str
    law: FittedLaw
    rates: Rates | None
    epochs: float

    @property
    def label(self) -> str:
        """For a reader."""
        if self.name is not None:
            return self.name
        kind = " non-embedding" if self.measure == "params_non_embedding" else ""
        return f"a student of {self.size:,.0f}{kind} parameters"

    def inputs(self, tokens: Any) -> dict[str, Any]:
        """The law's inputs at so many unique tokens."""
        known = {
            "params": self.size,
            "tokens": tokens,
            "epochs": self.epochs,
            "teacher_loss": self.group.teacher_loss(),
            "teacher_params": self.group.teacher_params.get(self.measure),
        }
        return {name: known[name] for name in self.law.inputs if known[name] is not None}

    def predict(self, tokens: Any) -> Predictions:
        """Loss at unique tokens, scalar or shape (m,)."""
        return self.law.predict(self.inputs(tokens))

    def factor(self, tokens: float) -> float:
        """How far outside the fitted range; 1 inside, and within one level of tokens."""
        factor = self.law.extrapolation(self.inputs(tokens))
        return 1.0 if factor <= SAME_LEVEL else factor

    def require_exponents(self, tokens: float) -> None:
        """Refuse to extrapolate along an axis whose exponent the points do not determine.

        Raises:
            NoLaw: They do not.
        """
        for axis, name in (("tokens", "beta"), ("params", "alpha")):
            found = self.law.record["coefficients"].get(name)
            if axis not in self.law.inputs or found is None or found["identifiable"]:
                continue
            low, high = self.law.range[axis]
            value = self.inputs(tokens)[axis]
            if not low / SAME_LEVEL <= value <= high * SAME_LEVEL:
                raise NoLaw(
                    f"{self.label}, {self.group.label}",
                    f"{name} of the law {self.law.name} is not identifiable from "
                    f"{self.law.record['points']} runs, so it says nothing outside {low:,.0f} to "
                    f"{high:,.0f} {axis}; ask within that range or measure more sizes",
                )


def find_subject(
    study: Study,
    group: Group,
    student: str | None = None,
    size: float | None = None,
    measure: str | None = None,
    epochs: float | None = None,
) -> Subject:
    """The law and rates for a student: its own data law, else the joint law of its group.

    Args:
        study: The study.
        group: One of its groups.
        student: Name of a measured student; or
        size: parameters of any student.
        measure: What `size` counts; None: all parameters. For a named student the measure of the
            joint law that was judged better.
        epochs: None: those of most runs.

    Raises:
        NoLaw: No law of the group can answer.
    """
    candidates = [law for law in study.laws if _fits(law, group, student)]
    order = [law for law in candidates if student and law.selected["student"] == student]
    over_size = [law for law in candidates if law.selected["student"] is None]
    if size is not None:
        over_size = [law for law in over_size if law.selected["size"] == (measure or "params")]
    order += sorted(over_size, key=lambda law: (law.selected["teacher"] is None, judged_error(law)))
    for law in order:
        counted = law.selected["size"] or "params"
        value = size if student is None else group.size(student, counted)
        if "params" in law.inputs and value is None:
            continue
        rates = group.rates[student] if student else rates_between(group.sizes(counted), value or 0)
        subject = Subject(group, student, value, counted, law, rates, epochs or group.epochs)
        if set(subject.inputs(1.0)) < set(law.inputs):
            continue
        if epochs is not None and "epochs" not in law.inputs and abs(epochs - group.epochs) > 0.01:
            raise NoLaw(
                f"{epochs:g} epochs, {group.label}",
                f"the law {law.name} knows no repeats, its runs have {group.epochs:g}; leave "
                "--epochs out",
            )
        return subject
    asked = student or f"{size:,.0f} parameters"
    raise NoLaw(
        f"{asked}, {group.label}",
        "no law over data is determined by these runs" + _why(study, group, student),
    )


def _fits(law: FittedLaw, group: Group, student: str | None) -> bool:
    """Whether a law of the loss over data is the chosen one of a group."""
    chosen = law.selected
    return (
        law.best
        and law.target == "loss"
        and "tokens" in law.inputs
        and all((chosen[key] or "") == group.keys[key] for key in GROUP_KEYS if key != "teacher")
        and chosen["teacher"] in (group.keys["teacher"], None)
        and chosen["student"] in (student, None)
    )


def judged_error(law: FittedLaw) -> float:
    """Error on the rung that judged a law, to two digits so that equals tie; infinite without."""
    judged = law.record["holdout"]
    return math.inf if judged is None else float(f"{judged['mean_relative_error']:.1e}")


def _why(study: Study, group: Group, student: str | None) -> str:
    """The reasons of laws.json for which laws over data were refused."""
    reasons = []
    for refused in study.refused:
        chosen = refused["selected"]
        mine = all((chosen[key] or "") == group.keys[key] for key in GROUP_KEYS)
        name = "data_power" if chosen["student"] else "chinchilla"
        about_it = chosen["student"] in (student, None) and chosen["size"] in ("params", None)
        if mine and about_it and refused["target"] == "loss" and refused["name"] == name:
            reasons.append(f"{name}: {refused['reason']}")
    return f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""


def finite(value: Any) -> float | None:
    """A plain number, None where infinite: JSON has no word for it."""
    return float(value) if math.isfinite(float(value)) else None


def warnings_of(subject: Subject, tokens: float, max_factor: float) -> list[str]:
    """What a reader must know of an answer at so many tokens."""
    out = []
    factor = subject.factor(tokens)
    if factor > max_factor:
        out.append(
            f"extrapolated by a factor of {factor:.3g}, more than {max_factor:g}: the law is no "
            "evidence that far"
        )
    judged = subject.law.record["holdout"]
    if judged is None:
        out.append("the law was not judged on runs that it had not seen")
    rates = subject.rates
    if subject.name is None and subject.size is not None:
        sizes = sorted(subject.group.sizes(subject.measure))
        if sizes and not sizes[0] <= subject.size <= sizes[-1]:
            out.append("costs are continued beyond the sizes measured")
    if rates is not None and rates.estimated:
        out.append("FLOPs of training are 6 N D: the table has none counted")
    return out


def point_answer(
    subject: Subject, tokens: float, max_factor: float, prices: Prices | None
) -> dict[str, Any]:
    """Loss, intervals, perplexity and costs of one student at so many unique tokens."""
    at = subject.predict(tokens)
    per_sample = subject.group.tokens_per_sample
    loss = {
        "value": finite(at.value[0]),
        "low": finite(at.low[0]),
        "high": finite(at.high[0]),
        "run_low": finite(at.run_low[0]),
        "run_high": finite(at.run_high[0]),
    }
    return {
        **about(subject),
        "tokens": float(tokens),
        "samples": None if per_sample is None else tokens / per_sample,
        "loss": loss,
        "perplexity": {key: _exp(value) for key, value in loss.items()},
        "extrapolation": subject.factor(tokens),
        "cost": None
        if subject.rates is None
        else subject.rates.cost(float(tokens), subject.epochs, prices),
        "warnings": warnings_of(subject, tokens, max_factor),
    }


def _exp(value: float | None) -> float | None:
    return None if value is None or value > 700 else math.exp(value)


def about(subject: Subject) -> dict[str, Any]:
    """Whom an answer is about, and by which law."""
    law = subject.law
    judged = law.record["holdout"]
    return {
        "student": subject.name,
        "params": subject.size
        if subject.name is None
        else subject.group.size(subject.name, "params"),
        "size": subject.measure,
        "label": subject.label,
        "line": subject.group.label,
        **dict(subject.group.keys),
        "epochs": subject.epochs,
        "law": law.name,
        "law_over": "data" if law.selected["student"] else "size and data",
        "law_runs": law.record["points"],
        "law_error": judged and judged["mean_relative_error"],
        "law_compute_factor": judged and judged["compute_factor"],
        "range": law.range,
    }


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


def ask_loss(
    subject: Subject, tokens: float, max_factor: float = MAX_FACTOR, prices: Prices | None = None
) -> dict[str, Any]:
    """Expected loss at so many unique tokens, with what was measured there."""
    subject.require_exponents(tokens)
    answer = point_answer(subject, tokens, max_factor, prices)
    there = subject.group.students[subject.name] if subject.name else subject.group.rows.iloc[:0]
    epochs = there["tokens_seen"] / there["tokens_unique"]
    near = there[
        (np.abs(np.log(there["tokens_unique"] / tokens)) < np.log(1.1))
        & (np.abs(epochs - subject.epochs) < 0.01 * subject.epochs)
    ]
    answer["measured"] = None
    if len(near):
        answer["measured"] = {"loss": float(near["loss"].mean()), "runs": len(near)}
    return answer


def ask_samples(
    subject: Subject, loss: float, max_factor: float = MAX_FACTOR, prices: Prices | None = None
) -> dict[str, Any]:
    """Unique tokens (and samples) at which the curve reaches a loss.

    The interval holds every number of tokens at which the loss lies in the mean curve's interval;
    an end is None where there is none within 1/1,000 to 1,000,000 times the fitted range. `sure` is
    where a single new run reaches it with 95 %.

    Raises:
        UserError: The loss is not positive.
        NoLaw: The answer lies where the law is not determined.
    """
    if not (math.isfinite(loss) and loss > 0):
        raise UserError("give a positive --loss (nats per token) or a --perplexity above 1")
    low, high = subject.law.range["tokens"]
    grid = np.exp(np.linspace(math.log(low / 1e3), math.log(high * _REACH), 4001))
    curve = subject.predict(grid)
    floor = subject.predict(1e30 * high)
    limits = [finite(floor.value[0]), finite(floor.low[0]), finite(floor.high[0])]
    answer: dict[str, Any] = {**about(subject), "target": loss, "floor": limits, "reached": False,
                              "warnings": []}  # fmt: skip
    if loss <= floor.value[0] or loss < curve.value[-1]:
        answer["below_floor"] = bool(loss <= floor.value[0])
        answer["floor_excludes"] = bool(loss < floor.low[0])
        answer["nearest"] = float(subject.predict(high * max_factor).value[0])
        return answer
    if loss > curve.value[0]:
        raise NoLaw(
            f"{subject.label}, {subject.group.label}",
            f"a loss of {loss:g} is above all that the law {subject.law.name} says down to a "
            "thousandth of the data measured; ask for a lower one",
        )
    tokens = _crossing(grid, curve.value, loss, 0)
    subject.require_exponents(tokens)
    place = int(np.searchsorted(grid, tokens))
    answer |= point_answer(subject, tokens, max_factor, prices)
    ends = {
        "tokens_low": _end(grid, curve.low, loss, place),
        "tokens_high": _end_above(grid, curve.high, loss, place),
        "tokens_sure": _end_above(grid, curve.run_high, loss, place),
    }
    answer["reached"] = True
    answer |= ends
    for name, value in ends.items():
        per = subject.group.tokens_per_sample
        answer[name.replace("tokens", "samples")] = value / per if value and per else None
    return answer


def _crossing(grid: np.ndarray, values: np.ndarray, level: float, first: int) -> float:
    """Where a falling curve is first down at a level, from `first` on; log-linear between."""
    place = first + int(np.argmax(values[first:] <= level))
    if place == 0 or not values[place] < values[place - 1]:
        return float(grid[place])
    x, y = np.log(grid[place - 1 : place + 1]), np.log(values[place - 1 : place + 1])
    return float(np.exp(x[0] + (math.log(level) - y[0]) / (y[1] - y[0]) * (x[1] - x[0])))


def _end(grid: np.ndarray, low: np.ndarray, level: float, place: int) -> float | None:
    """The nearest point below `place` at which the lower curve is above the level."""
    above = np.flatnonzero(low[:place] > level)
    return _crossing(grid, low, level, int(above[-1])) if len(above) else None


def _end_above(grid: np.ndarray, high: np.ndarray, level: float, place: int) -> float | None:
    """The nearest point above `place` at which the upper curve is down at the level."""
    below = high[place:] <= level
    return _crossing(grid, high, level, place) if below.any() else None
