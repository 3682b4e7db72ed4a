"""Questions to a finished study: expected loss of a student, samples that a loss takes.

Every number comes from laws.json (by `distill.laws.fitted`) and from what the study's runs cost
(`distill.ask.costs`). Where no law determines an answer, one sentence says so.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.ask.choices import MAX_FACTOR
from distill.ask.costs import Prices, Rates, rates_between
from distill.ask.study import Group, NoLaw, Study
from distill.contracts.points import GROUP_KEYS
from distill.core.errors import UserError
from distill.laws.fitted import FittedLaw, Predictions
from distill.laws.forms import simplest

SAME_LEVEL = 1.2
"""Runs of one size differ by up to this factor in tokens: within it nothing is extrapolated."""
_REACH = 1e6
"""Samples are sought up to this many times the largest fitted number."""


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
        teacher_loss: Loss of another teacher, nats per token; None: that of the group's.
    """

    group: Group
    name: str | None
    size: float | None
    measure: str
    law: FittedLaw
    rates: Rates | None
    epochs: float
    teacher_loss: float | None = None

    @property
    def label(self) -> str:
        """For a reader."""
        if self.name is not None:
            return self.name
        kind = " non-embedding" if self.measure == "params_non_embedding" else ""
        return f"a model of {self.size:,.0f}{kind} parameters"

    def inputs(self, tokens: Any) -> dict[str, Any]:
        """The law's inputs at so many unique tokens."""
        known = {
            "params": self.size,
            "tokens": tokens,
            "epochs": self.epochs,
            "teacher_loss": self.teacher_loss or self.group.teacher_loss(),
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
    teacher_loss: float | None = None,
) -> Subject:
    """The law and rates for a student: its own data law, else the joint law of its group.

    A joint law that predicted unseen runs comes before a data law that did not.

    Args:
        study: The study.
        group: One of its groups.
        student: Name of a measured student; or
        size: parameters of any student.
        measure: What `size` counts; None: all parameters. For a named student the measure of the
            joint law that was judged better.
        epochs: None: those of most runs.
        teacher_loss: Loss of another teacher on the same text; None: the group's own teacher.

    Raises:
        NoLaw: No law of the group can answer.
    """
    candidates = [law for law in study.laws if _fits(law, group, student)]
    order = [law for law in candidates if student and law.selected["student"] == student]
    over_size = [law for law in candidates if law.selected["student"] is None]
    if size is not None:
        over_size = [law for law in over_size if law.selected["size"] == (measure or "params")]
    order += sorted(over_size, key=lambda law: (law.selected["teacher"] is None, judged_error(law)))
    order.sort(key=lambda law: law.record["holdout"] is None)
    if teacher_loss is not None:
        order = [law for law in order if "teacher_loss" in law.inputs]
    for law in order:
        counted = law.selected["size"] or "params"
        value = size if student is None else group.size(student, counted)
        if "params" in law.inputs and value is None:
            continue
        rates = group.rates[student] if student else rates_between(group.sizes(counted), value or 0)
        subject = Subject(group, student, value, counted, law, rates, epochs or group.epochs,
                          teacher_loss)  # fmt: skip
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
    if teacher_loss is not None:
        raise NoLaw(
            f"a teacher of loss {teacher_loss:g}, {group.label}",
            "no law of these runs reads the teacher's loss; the distillation law needs runs of at "
            "least three teachers, and supervised ones; leave --teacher-loss out",
        )
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
    """Error on the size step that judged a law, to two digits so that equals tie; else infinite."""
    judged = law.record["holdout"]
    return math.inf if judged is None else float(f"{judged['mean_relative_error']:.1e}")


def _why(study: Study, group: Group, student: str | None) -> str:
    """The reasons of laws.json for which laws over data were refused."""
    reasons = []
    for refused in study.refused:
        chosen = refused["selected"]
        mine = all((chosen[key] or "") == group.keys[key] for key in GROUP_KEYS)
        name = simplest("loss", "data" if chosen["student"] else "joint").name
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
        "law_over": "data" if law.law.over == "data" else "size and data",
        "law_runs": law.record["points"],
        "law_error": judged and judged["mean_relative_error"],
        "law_compute_factor": judged and judged["compute_factor"],
        "law_warnings": list(law.record.get("warnings", [])),
        "teacher_loss": subject.teacher_loss,
        "range": law.range,
    }


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
    stated = subject.law.record["floor"]
    claimed = stated is not None and stated["refused"] is None
    answer: dict[str, Any] = {**about(subject), "target": loss, "floor": limits, "reached": False,
                              "warnings": []}  # fmt: skip
    if loss <= floor.value[0] or loss < curve.value[-1]:
        answer["below_floor"] = bool(loss <= floor.value[0])
        answer["floor_excludes"] = (
            claimed and loss < subject.law.record["coefficients"][stated["name"]]["low"]
        )
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
