"""Scaling laws as typed objects: prediction of the log of the target, with analytic gradients.

A law is a sum of positive terms. Its internal parameters are logarithms, so that every coefficient
is positive by construction (one signed exponent apart), and amplitudes are measured at the centre
of the data (log N and log D minus their means), where they hardly correlate with the exponents.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Inputs = Mapping[str, Array]
"""Per name of `Law.inputs`, values of n points, shape (n,): parameters, tokens, epochs, nats."""
Term = Callable[[Array, Inputs], tuple[Array, list[Array]]]
"""Internal parameters (..., P of the term) and centred inputs to the log of a term (..., n) and its
derivative by each of them."""
BREAK_WIDTH = 0.2
"""Width of the break in log N: fixed, since no grid of this size determines it."""


def floor(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A constant: what no size and no data removes."""
    one = np.ones_like(next(iter(x.values())))
    return p[..., 0, :] * one, [one]


def power(name: str) -> Term:
    """a - exponent * log input."""

    def term(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
        falls = -np.exp(p[..., 1, :]) * x[name]
        return p[..., 0, :] + falls, [np.ones_like(x[name]), falls]

    return term


def broken_size(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A power of N that is steeper by `delta` below N_c."""
    falls, steeper = -np.exp(p[..., 1, :]) * x["params"], np.exp(p[..., 3, :])
    below = (p[..., 2, :] - x["params"]) / BREAK_WIDTH
    rise = steeper * BREAK_WIDTH * np.logaddexp(0.0, below)
    return p[..., 0, :] + falls + rise, [
        np.ones_like(falls),
        falls,
        steeper * sigmoid(below),
        rise,
    ]


def repeated_data(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A power of D', what repeated tokens are worth in unique ones."""
    beta, rate = np.exp(p[..., 1, :]), np.exp(p[..., 2, :])
    repeats = x["epochs"] - 1.0
    left = np.exp(-repeats / rate)
    worth = 1.0 + rate * (1.0 - left)
    data = x["tokens"] + np.log(worth)
    by_rate = rate * (1.0 - left - repeats / rate * left) / worth
    return p[..., 0, :] - beta * data, [np.ones_like(data), -beta * data, -beta * by_rate]


def rectified(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """B / (D_l + D^beta)."""
    rises = np.exp(p[..., 1, :]) * x["tokens"]
    total = np.logaddexp(p[..., 2, :], rises)
    return p[..., 0, :] - total, [
        np.ones_like(rises),
        -np.exp(rises - total) * rises,
        -np.exp(p[..., 2, :] - total),
    ]


def ratio(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A N_s^-alpha (1 + (D0/D)^beta) (N_t/N_s)^gamma."""
    falls = -np.exp(p[..., 1, :]) * x["params"]
    beta = np.exp(p[..., 3, :])
    lack = beta * (p[..., 2, :] - x["tokens"])
    share = sigmoid(lack)
    ratio = x["teacher_params"] - x["params"]
    log = p[..., 0, :] + falls + np.logaddexp(0.0, lack) + p[..., 4, :] * ratio
    return log, [np.ones_like(falls), falls, share * beta, share * lack, ratio]


def joined(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """(A/N^alpha + B/D^beta)^gamma."""
    size, data = -np.exp(p[..., 1, :]) * x["params"], -np.exp(p[..., 3, :]) * x["tokens"]
    gamma = np.exp(p[..., 4, :])
    first, second = p[..., 0, :] + size, p[..., 2, :] + data
    total = np.logaddexp(first, second)
    one, two = gamma * np.exp(first - total), gamma * np.exp(second - total)
    return gamma * total, [one, one * size, two, two * data, gamma * total]


def sigmoid(value: Array) -> Array:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * value))


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
class Law:
    """A scaling law.

    Attributes:
        name: Name in laws.json.
        formula: In plain letters.
        source: Where it comes from.
        inputs: What it reads.
        parameters: Its coefficients, in the order of internal parameters.
        terms: Its positive terms, each with how many parameters it takes in turn.
        unidentifiable: Coefficients that no data tells apart.
        note: What a reader of its coefficients must know.
    """

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    terms: tuple[tuple[Term, int], ...]
    unidentifiable: tuple[str, ...] = ()
    note: str = ""
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(p.name for p in self.parameters))

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


def _teacher(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """The teacher's loss, a term without coefficients."""
    return x["teacher_loss"], []


def _distilled(reduced: bool) -> Term:
    """What the student adds to the teacher's loss, Busbridge et al. 2025, Eq. 8.

    The supervised law's six coefficients come first, then c0, the bracket's and the joined term's.
    """
    names, count = ("params", "tokens"), 2 if reduced else 3

    def term(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
        there = {name: x[name] for name in names}
        free = p[..., 0]
        supervised, slopes = SUPERVISED.curve(free[..., :6], there)
        extra, extra_slopes = joined(p[..., 7 + count :, :], there)
        teacher = x["teacher_loss"]
        weight = -np.exp(p[..., 6, :]) * teacher
        odds = teacher - supervised
        if reduced:
            kappa, width = np.exp(p[..., 7, :]), np.exp(p[..., 8, :])
            power = odds / width
            bracket = -kappa * np.exp(power)
            inner, by_supervised = [bracket, -bracket * power], -bracket / width
        else:
            c1, width = np.exp(p[..., 7, :]), np.exp(p[..., 9, :])
            power = (odds - p[..., 8, :]) / width
            bracket = -c1 * width * np.logaddexp(0.0, power)
            by_supervised = c1 * sigmoid(power)
            inner = [bracket, by_supervised, bracket + by_supervised * width * power]
        outer = [by_supervised * slopes[..., row, :] for row in range(6)]
        return weight + bracket + extra, [*outer, weight, *inner, *extra_slopes]

    return term


# Starts: a floor as a share of the smallest target, terms as shares of the typical one.
_E = Parameter("E", "floor", (0.02, 0.4, 0.8), 1e-6, 1.5, True)


def _a(name: str, shifts: Sequence[tuple[str, str, int]], starts: Sequence[float]) -> Parameter:
    return Parameter(name, "amplitude", tuple(starts), 1e-9, 1e6, True, tuple(shifts))


def _exponent(name: str, *starts: float) -> Parameter:
    return Parameter(name, "exponent", starts or (0.15, 0.4, 0.9), 0.003, 8.0)


_A = _a("A", [("alpha", "params", 1)], (0.05, 0.3))
_B = _a("B", [("beta", "tokens", 1)], (0.05, 0.3))
_ALPHA, _BETA = _exponent("alpha"), _exponent("beta")
_R = Parameter("R*", "amplitude", (4.0, 20.0), 0.02, 1e4)
_HOFFMANN = "Hoffmann et al. 2022, Training compute-optimal large language models, approach 3"
_MUENNIGHOFF = "Muennighoff et al. 2023, Scaling data-constrained language models"
_BUSBRIDGE = "Busbridge et al. 2025, Distillation scaling laws"
_WORTH = "D' = U + U R* (1 - exp(-R/R*)), R = epochs - 1"


def _additive(
    name: str,
    formula: str,
    source: str,
    inputs: tuple[str, ...],
    *parts: tuple[Term, tuple[Parameter, ...]],
) -> Law:
    parameters = tuple(parameter for _, group in parts for parameter in group)
    terms = tuple((term, len(group)) for term, group in parts)
    return Law(name, formula, source, inputs, parameters, terms)


_SIZE = (power("params"), (_A, _ALPHA))
_DATA = (power("tokens"), (_B, _BETA))
_REPEATED = (repeated_data, (_B, _BETA, _R))
_BROKEN = (
    broken_size,
    (
        _A,
        _ALPHA,
        Parameter("N_c", "amplitude", (0.3, 1.0, 3.0), 1e-3, 1e3, shifts=(("", "params", 1),)),
        _exponent("delta", 0.3, 1.0),
    ),
)
_RATIO = (
    ratio,
    (
        _A,
        _ALPHA,
        Parameter("D0", "amplitude", (0.1, 1.0, 10.0), 1e-6, 1e6, shifts=(("", "tokens", 1),)),
        _BETA,
        Parameter("gamma", "signed", (-0.1, 0.1), -5.0, 5.0),
    ),
)
_FLOOR = (floor, (_E,))
_JOINED = (
    _a("A", [("alpha", "params", 1)], (0.1, 0.5)),
    _exponent("alpha", 0.2, 0.5),
    _a("B", [("beta", "tokens", 1)], (0.1, 0.5)),
    _exponent("beta", 0.2, 0.5),
    _exponent("gamma", 0.5, 1.0),
)
SUPERVISED = _additive(
    "supervised",
    "L = E + (A/N^alpha + B/D^beta)^gamma",
    f"{_BUSBRIDGE}, Eq. 1",
    ("params", "tokens"),
    _FLOOR,
    (joined, _JOINED),
)
"""Loss of a student trained without a teacher, the first stage of the distillation law."""
# (key, name, formula without floor, source, inputs, parts)
_BASES: list[tuple[str, str, str, tuple[str, ...], tuple[tuple[Term, tuple[Parameter, ...]], ...]]]
_BASES = [
    ("data_power", "B/D^beta", "Hestness et al. 2017, Deep learning scaling is predictable, "
     "empirically", ("tokens",), (_DATA,)),
    ("size_power", "A/N^alpha", "Kaplan et al. 2020, Scaling laws for neural language models",
     ("params",), (_SIZE,)),
    ("chinchilla", "A/N^alpha + B/D^beta", _HOFFMANN, ("params", "tokens"), (_SIZE, _DATA)),
    ("rectified", "B/(D_l + D^beta)", "Lin et al. 2024, Selecting large language model to "
     "fine-tune via rectified scaling law", ("tokens",),
     ((rectified, (_a("B", [("beta", "tokens", 1)], (0.3, 1.0)), _BETA,
        Parameter("D_l", "amplitude", (0.1, 1.0), 1e-9, 1e6,
                  shifts=(("beta", "tokens", 1),)))),)),
    ("data_constrained", f"B/D'^beta, {_WORTH}", _MUENNIGHOFF, ("tokens", "epochs"),
     (_REPEATED,)),
    ("chinchilla_constrained", f"A/N^alpha + B/D'^beta, {_WORTH}", _MUENNIGHOFF,
     ("params", "tokens", "epochs"), (_SIZE, _REPEATED)),
    ("ratio", "A N_s^-alpha (1 + (D0/D)^beta) (N_t/N_s)^gamma",
     "study 2 of this workflow: L(S) = L0 + A/N_s^alpha f(N_t/N_s, D)",
     ("params", "tokens", "teacher_params"), (_RATIO,)),
    ("broken_size", "A/N^alpha (1 + (N_c/N)^(1/f))^(delta f), f = 0.2",
     "Caballero et al. 2023, Broken neural scaling laws, one break", ("params",), (_BROKEN,)),
    ("broken_chinchilla", "A/N^alpha (1 + (N_c/N)^(1/f))^(delta f) + B/D^beta, f = 0.2",
     "Caballero et al. 2023, Broken neural scaling laws, one break, with a data term",
     ("params", "tokens"), (_BROKEN, _DATA)),
]  # fmt: skip


def _distillation(reduced: bool, target: str) -> Law:
    first = tuple(_renamed(parameter, "_supervised") for parameter in SUPERVISED.parameters)
    c0 = _exponent("c0", 1.0, 2.5)
    bracket: tuple[Parameter, ...]
    if reduced:
        bracket = (
            Parameter("kappa", "amplitude", (1.0, 4.0), 1e-9, 1e6),
            Parameter("f1", "exponent", (0.1, 0.3), 0.005, 20.0),
        )
    else:
        bracket = (
            Parameter("c1", "amplitude", (10.0, 500.0), 1e-6, 1e6),
            Parameter("d1", "amplitude", (1.0, 1.5), 1e-3, 1e3),
            Parameter("f1", "exponent", (0.1, 0.3), 0.005, 20.0),
        )
    parameters = (*first, c0, *bracket, *_JOINED)
    own = "exp(-kappa (L_T/L~_S)^(1/f1))" if reduced else "[1 + (L_T/(L~_S d1))^(1/f1)]^(-c1 f1)"
    formula = (
        f"{'L_T + ' if target == 'loss' else ''}L_T^(-c0) {own} (A/N^alpha + B/D^beta)^gamma, "
        "L~_S = E + (A/N^alpha + B/D^beta)^gamma of the supervised runs"
    )
    terms: tuple[tuple[Term, int], ...] = ((_distilled(reduced), len(parameters)),)
    return Law(
        name="distillation_reduced" if reduced else "distillation",
        formula=formula,
        source=f"{_BUSBRIDGE}, Eq. 8" + (", bracket in its exponential limit" if reduced else ""),
        inputs=("params", "tokens", "teacher_loss"),
        parameters=parameters,
        terms=((_teacher, 0), *terms) if target == "loss" else terms,
        unidentifiable=() if reduced else ("c1", "d1"),
        note="kappa stands for c1 f1 d1^(-1/f1): c1 and d1 are not separately identifiable"
        if reduced
        else "c1 and d1 are not separately identifiable: the reduced form fits as well",
    )


def _renamed(parameter: Parameter, suffix: str) -> Parameter:
    """The same parameter under a longer name."""
    shifts = tuple((f"{e}{suffix}" if e else "", name, sign) for e, name, sign in parameter.shifts)
    return replace(parameter, name=parameter.name + suffix, shifts=shifts)


def _laws(target: str) -> dict[str, Law]:
    laws = {}
    for name, formula, source, inputs, parts in _BASES:
        floor = (_FLOOR,) if target == "loss" else ()
        sign = "L = L0 + " if name == "ratio" else "L = E + "
        shown = f"{sign if target == 'loss' else 'gap = '}{formula}"
        law = _additive(name, shown, source, inputs, *floor, *parts)
        if name == "ratio" and target == "loss":
            first = replace(_E, name="L0")
            law = replace(law, parameters=(first, *law.parameters[1:]))
        laws[name] = law
    for reduced in (False, True):
        law = _distillation(reduced, target)
        laws[law.name] = law
    return laws


LAWS: dict[str, dict[str, Law]] = {target: _laws(target) for target in ("loss", "gap")}
"""Per target (loss, or gap with floor 0) and name, every law."""
LAWS["loss"]["supervised"] = SUPERVISED
