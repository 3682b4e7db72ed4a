"""Fitted laws read back from laws.json: predictions with intervals, and how far they reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.core.errors import UserError
from distill.core.files import read_json
from distill.laws.extrapolation import Extrapolation, effort_of
from distill.laws.forms import LAWS
from distill.laws.intervals import half_widths, uncertainty_of
from distill.laws.law import Array, Law


@dataclass(frozen=True)
class Predictions:
    """Predicted values with 90 % intervals, nats per token, shape (m,) each.

    `low`, `high`: of the mean over seeds and draws; `run_low`, `run_high`: of one new run.
    """

    value: Array
    low: Array
    high: Array
    run_low: Array
    run_high: Array


class FittedLaw:
    """A law of laws.json.

    Args:
        record: Its record.

    Raises:
        UserError: The record names a law that this version does not know.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = dict(record)
        self.name: str = record["name"]
        self.target: str = record["target"]
        self.selected: dict[str, Any] = record["selected"]
        self.best: bool = record["best"]
        known = LAWS.get(self.target, {})
        if self.name not in known:
            raise UserError(
                f"laws.json holds the law {self.name!r} for {self.target!r}, which this "
                "version does not know; fit the laws again"
            )
        self.law: Law = known[self.name]
        self.inputs: tuple[str, ...] = self.law.inputs
        self.range: dict[str, list[float]] = record["range"]
        beyond = record.get("extrapolation")
        self.beyond = Extrapolation.of(beyond, known) if beyond else None

    def predict(self, inputs: Mapping[str, Any], test_set: bool = True) -> Predictions:
        """Predict the target.

        Args:
            inputs: Values or arrays per input of the law, broadcast to shape (m,): `params` in the
                measure that `selected["size"]` names, `tokens` (unique ones), `epochs`,
                `teacher_loss`, `teacher_params`. Others are ignored.
            test_set: Count the test set's sampling noise; False for a measurement on the very test
                set that the fitted runs share.

        Raises:
            UserError: An input is missing or not positive and finite.
        """
        checked = {}
        for name in self.inputs:
            if name not in inputs:
                raise UserError(f"the law {self.name} needs {name}; give it")
            values = np.asarray(inputs[name], dtype=np.float64)
            if not (np.isfinite(values) & (values > 0)).all():
                raise UserError(f"{name} must be positive and finite for the law {self.name}")
            checked[name] = values
        state = self.record["state"]
        x = self.law.centred(checked, state["centre"])
        log, gradient = self.law.curve(np.array(state["theta"], dtype=np.float64), x)
        ratio: Array | float = 1.0
        if self.beyond is not None:
            ratio = self.beyond.noise_ratio(checked)
        uncertain = uncertainty_of(state)
        curve, run = half_widths(gradient, uncertain, state["level"], test_set, ratio)
        if self.beyond is not None:
            added = self.beyond.variance(log, checked, curve)
            curve, run = np.sqrt(curve**2 + added), np.sqrt(run**2 + added)
        # Far outside the fitted range a width may overflow: then that end is infinite.
        with np.errstate(over="ignore"):
            return Predictions(
                value=np.exp(log),
                low=np.exp(log - curve),
                high=np.exp(log + curve),
                run_low=np.exp(log - run),
                run_high=np.exp(log + run),
            )

    def extrapolation(self, inputs: Mapping[str, Any]) -> float:
        """The largest factor by which an input, or the compute of size and data, lies outside what
        was fitted; 1 inside."""
        factor = 1.0
        if self.beyond is not None and {"params", "tokens"} <= {*self.range, *inputs}:
            effort = effort_of(inputs, self.beyond.ranges)
            most = np.log(self.beyond.ranges["effort"][1])
            factor = max(factor, float(np.exp(effort - most).max()))
        for name, (low, high) in self.range.items():
            if name in inputs:
                values = np.asarray(inputs[name], dtype=np.float64)
                factor = max(factor, float((values / high).max()), float((low / values).max()))
        return factor


def read_laws(path: str | Path) -> list[FittedLaw]:
    """Read laws.json."""
    return [FittedLaw(record) for record in read_json(path)["laws"]]


def find_laws(
    laws: Sequence[FittedLaw],
    target: str | None = None,
    name: str | None = None,
    best: bool | None = None,
    **selected: Any,
) -> list[FittedLaw]:
    """The laws with this target, name, standing, and these values of `selected`."""
    return [
        law
        for law in laws
        if (target is None or law.target == target)
        and (name is None or law.name == name)
        and (best is None or law.best == best)
        and all(law.selected.get(key) == value for key, value in selected.items())
    ]
