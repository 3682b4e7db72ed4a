"""A scaling law as a typed object: predicts the log of its target, with an analytic gradient.

A law is a sum of positive terms. Its internal parameters are logarithms, so that every coefficient
is positive by construction (one signed exponent apart), and amplitudes are measured at the centre
of the data (log N and log D minus their means), where they hardly correlate with the exponents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Inputs = Mapping[str, Array]
"""Per name of `Law.inputs`, values of n points, shape (n,): parameters, tokens, epochs, nats."""
Term = Callable[[Array, Inputs], tuple[Array, list[Array]]]
"""Internal parameters (..., P of the term) and centred inputs to the log of a term (..., n) and its
derivative by each of them."""


@dataclass(frozen=True)
class Parameter:
    """One coefficient.

    Attributes:
        name: As in the formula.
        kind: amplitude (log scale for inference), exponent, floor or signed (plain scale).
        starts: Starting values of the centred coefficient; floors and amplitudes with `of_target`
            in units of the typical target.
        low: Lower bound, same units as `starts`.
        high: Upper bound.
        of_target: Whether the coefficient scales with the target.
        shifts: (exponent or "", input, sign): the log of the coefficient is the internal value plus
            sign times that exponent (1 for "") times the input's centre.
    """

    name: str
    kind: str
    starts: tuple[float, ...]
    low: float
    high: float
    of_target: bool = False
    shifts: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Levels:
    """How many different values of an input a law needs.

    Attributes:
        name: The input.
        least: Fewest different values.
        why: Why a law with fewer is refused, for laws.json. `{least}`, `{span}`, `{count}` (values
            present), `{are}` ("is" or "are"), `{factor}` (largest over smallest value) and
            `{value}` (the median) are filled in.
        span: Least factor between the smallest and the largest value.
    """

    name: str
    least: int
    why: str
    span: float = 1.0


Over = Literal["data", "size", "joint", "teachers", "stage"]


@dataclass(frozen=True)
class Law:
    """A scaling law: what it predicts, and what its fit needs.

    Attributes:
        name: Name in laws.json.
        formula: In plain letters.
        source: Where it comes from.
        inputs: What it reads.
        parameters: Its coefficients, in the order of internal parameters.
        terms: Its positive terms, each with how many parameters it takes in turn.
        over: The runs that one fit spans, which decides the laws that it competes with. `data`:
            one student; `size`: the students of one teacher, at one amount of data; `joint`: the
            students of one teacher, at all amounts of data; `teachers`: students of several
            teachers; `stage`: fitted only as a stage of another law.
        needs: Levels of its inputs without which it is refused.
        breaks: Name of the smooth law that this law extends by a break; "" for a smooth law.
        inits: Initialisations of the students that it describes; empty for all.
        first_stage: The law that is fitted first, to runs without a teacher, if there is one.
        limit_of: Name of the law of which this is a limit: the two are refused together.
        unfit: Why it is never fitted to its target; "" if it is.
        unidentifiable: Coefficients that no data can distinguish.
        note: What a reader of its coefficients must know.
        exponents: Whether alpha and beta are the exponents of size and of data.
    """

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    terms: tuple[tuple[Term, int], ...]
    over: Over
    needs: tuple[Levels, ...] = ()
    breaks: str = ""
    inits: tuple[str, ...] = ()
    first_stage: "Law | None" = None
    limit_of: str = ""
    unfit: str = ""
    unidentifiable: tuple[str, ...] = ()
    note: str = ""
    exponents: bool = True
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(p.name for p in self.parameters))

    @property
    def smooth(self) -> bool:
        """Whether it is a power of each input throughout, without a break."""
        return not self.breaks

    @property
    def repeats(self) -> bool:
        """Whether it models the value of repeated tokens."""
        return "epochs" in self.inputs

    @property
    def plain(self) -> bool:
        """Whether it has neither a break nor repeats."""
        return self.smooth and not self.repeats

    def curve(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Log of the prediction and its gradient.

        Args:
            theta: Internal parameters, shape (..., P).
            x: `centred` inputs, n points.

        Returns:
            Shapes (..., n) and (..., P, n).
        """
        logs, slopes, first = [], [], 0
        for term, count in self.terms:
            # A trailing axis, so that parameters broadcast over points.
            log, slope = term(theta[..., first : first + count, None], x)
            logs.append(log)
            slopes.append(slope)
            first += count
        total = logs[0] if len(logs) == 1 else np.logaddexp.reduce(np.broadcast_arrays(*logs))
        gradient = np.empty((*theta.shape, total.shape[-1]))
        row = 0
        for log, slope in zip(logs, slopes, strict=True):
            share = np.exp(log - total)
            for part in slope:
                gradient[..., row, :] = share * part
                row += 1
        return total, gradient

    def centred(
        self, inputs: Mapping[str, object], centre: Mapping[str, float]
    ) -> dict[str, Array]:
        """Logs of the inputs minus their centres, shape (n,); epochs stay plain."""
        arrays = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(inputs[name], dtype=np.float64)) for name in self.inputs)
        )
        return {
            name: array.copy() if name == "epochs" else np.log(array) - centre.get(name, 0.0)
            for name, array in zip(self.inputs, arrays, strict=True)
        }

    def natural(self, theta: Array, centre: Mapping[str, float]) -> tuple[Array, Array]:
        """Coefficients on their scale of inference, and the Jacobian by internal parameters.

        Returns:
            Shape (P,): the log of an amplitude, else the plain value; and shape (P, P).
        """
        index = {name: place for place, name in enumerate(self.names)}
        values, jacobian = np.array(theta), np.eye(len(theta))
        for row, parameter in enumerate(self.parameters):
            for exponent, name, sign in parameter.shifts:
                power = np.exp(theta[index[exponent]]) if exponent else 1.0
                values[row] += sign * power * centre.get(name, 0.0)
                if exponent:
                    jacobian[row, index[exponent]] += sign * power * centre.get(name, 0.0)
            if parameter.kind in ("exponent", "floor"):
                values[row] = np.exp(theta[row])
                jacobian[row, row] = values[row]
        return values, jacobian

    def internal(self, coefficients: Mapping[str, float], centre: Mapping[str, float]) -> Array:
        """Internal parameters of given coefficients (amplitudes plain, not logs)."""
        theta = np.array(
            [
                coefficients[p.name] if p.kind == "signed" else np.log(coefficients[p.name])
                for p in self.parameters
            ]
        )
        for row, parameter in enumerate(self.parameters):
            for exponent, name, sign in parameter.shifts:
                power = coefficients[exponent] if exponent else 1.0
                theta[row] -= sign * power * centre.get(name, 0.0)
        return theta

    def predict(self, coefficients: Mapping[str, float], inputs: Mapping[str, object]) -> Array:
        """Value of the law, in the target's unit, shape (n,), from plain coefficients."""
        return np.exp(self.curve(self.internal(coefficients, {}), self.centred(inputs, {}))[0])
