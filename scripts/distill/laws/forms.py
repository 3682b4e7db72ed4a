"""Every scaling law: its terms, with derivatives, and one entry of `FORMS` that states its needs.

A term is a function of p, its internal parameters (..., P, 1), and x, the centred log inputs
(epochs plain), shape (n,) each. It returns its log, shape (..., n), and the log's derivatives by
its parameters.
docs/contribute/add_a_law.md shows how to add a law.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distill.laws.law import Array, Inputs, Law, Levels, Over, Parameter, Term

_DIFFERENCE = 1e-5
BREAK_WIDTH = 0.2
"""Width of the break in log N: fixed, since no grid of this size determines it."""


def floor(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A constant: the irreducible part."""
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
    """A power of D', repeated tokens in equivalent unique tokens."""
    beta, rate = np.exp(p[..., 1, :]), np.exp(p[..., 2, :])
    repeats = x["epochs"] - 1.0
    left = np.exp(-repeats / rate)
    worth = 1.0 + rate * (1.0 - left)
    data = x["tokens"] + np.log(worth)
    by_rate = rate * (1.0 - left - repeats / rate * left) / worth
    return p[..., 0, :] - beta * data, [np.ones_like(data), -beta * data, -beta * by_rate]


def _worth(log: Array, repeats: Array, rate: Array) -> Array:
    """Log of what a quantity is worth that was used 1 + repeats times: log + its worth."""
    return log + np.log1p(rate * -np.expm1(-repeats / rate))


def _excess(p: Array, x: Inputs) -> Array:
    """Log of the sum of both terms of `excess_parameters`."""
    alpha, beta = np.exp(p[..., 1, :]), np.exp(p[..., 3, :])
    data = _worth(x["tokens"], x["epochs"] - 1.0, np.exp(p[..., 4, :]))
    # The size at which both terms fall alike per factor of compute, for the unique tokens.
    fitting = np.log(alpha / beta) + p[..., 0, :] - p[..., 2, :] + beta * x["tokens"]
    base = np.minimum(x["params"], fitting / alpha)
    surplus = np.expm1(np.minimum(x["params"] - base, 50.0))
    size = _worth(base, surplus, np.exp(p[..., 5, :]))
    return np.asarray(np.logaddexp(p[..., 0, :] - alpha * size, p[..., 2, :] - beta * data))


def excess_parameters(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A/N'^alpha + B/D'^beta, both with decaying worth; derivatives by central differences."""
    slopes = []
    for row in range(p.shape[-2]):
        step = np.zeros((p.shape[-2], 1))
        step[row] = _DIFFERENCE
        slopes.append((_excess(p + step, x) - _excess(p - step, x)) / (2 * _DIFFERENCE))
    return _excess(p, x), slopes


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


def tied(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A/N^alpha + B/D^alpha."""
    alpha = np.exp(p[..., 1, :])
    size, data = p[..., 0, :] - alpha * x["params"], p[..., 2, :] - alpha * x["tokens"]
    total = np.logaddexp(size, data)
    one, two = np.exp(size - total), np.exp(data - total)
    return total, [one, -alpha * (one * x["params"] + two * x["tokens"]), two]


def data_by_size(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """A power of D whose exponent is a power of N."""
    falls = -np.exp(p[..., 1, :] + p[..., 2, :] * x["params"]) * x["tokens"]
    return p[..., 0, :] + falls, [np.ones_like(falls), falls, falls * x["params"]]


def sigmoid(value: Array) -> Array:
    """1 / (1 + exp(-value)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * value))


def _teacher(p: Array, x: Inputs) -> tuple[Array, list[Array]]:
    """The teacher's loss, a term without coefficients."""
    return x["teacher_loss"], []


def _distilled(reduced: bool) -> Term:
    """The student's excess over the teacher's loss, Busbridge et al. 2025, Eq. 8.

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
_GADRE = "Gadre et al. 2024, Language models scale reliably with over-training"
_FARSEER = "Li et al. 2025, Farseer: a refined scaling law in large language models"
_BUSBRIDGE = "Busbridge et al. 2025, Distillation scaling laws"
_WORTH = "D' = U + U R* (1 - exp(-R/R*)), R = epochs - 1"


@dataclass(frozen=True)
class Form:
    """An entry of `FORMS`: a law of the gap, and, with a floor, of the loss.

    Attributes:
        name: Name in laws.json.
        formula: Without the floor.
        source: Where it comes from.
        inputs: What it reads.
        parts: Its terms, each with its parameters.
        over: As of `Law`, like those below.
        needs: Levels of its inputs.
        breaks: The smooth law that it extends.
        inits: Initialisations that it describes.
        floor: Name of the floor of its loss.
        exponents: Whether alpha and beta are the exponents of size and of data.
    """

    name: str
    formula: str
    source: str
    inputs: tuple[str, ...]
    parts: tuple[tuple[Term, tuple[Parameter, ...]], ...]
    over: Over
    needs: tuple[Levels, ...] = ()
    breaks: str = ""
    inits: tuple[str, ...] = ()
    floor: str = "E"
    exponents: bool = True

    def law(self, target: str) -> Law:
        """The law of a target: `loss` has a floor, `gap` falls to 0."""
        parts, left = self.parts, "gap = "
        if target == "loss":
            parts = ((floor, (replace(_E, name=self.floor),)), *parts)
            left = f"L = {self.floor} + "
        return Law(
            name=self.name,
            formula=left + self.formula,
            source=self.source,
            inputs=self.inputs,
            parameters=tuple(parameter for _, group in parts for parameter in group),
            terms=tuple((term, len(group)) for term, group in parts),
            over=self.over,
            needs=self.needs,
            breaks=self.breaks,
            inits=self.inits,
            exponents=self.exponents,
        )


_SIZE = (power("params"), (_A, _ALPHA))
_DATA = (power("tokens"), (_B, _BETA))
_REPEATED = (repeated_data, (_B, _BETA, _R))
_EXCESS = (
    excess_parameters,
    (_A, _ALPHA, _B, _BETA, _R, Parameter("R_N*", "amplitude", (1.0, 5.0), 0.02, 1e4)),
)
_BROKEN = (
    broken_size,
    (
        _A,
        _ALPHA,
        Parameter("N_c", "amplitude", (0.3, 1.0, 3.0), 1e-3, 1e3, shifts=(("", "params", 1),)),
        _exponent("delta", 0.3, 1.0),
    ),
)
_TIED = (
    tied,
    (
        _A,
        _ALPHA,
        _a("B", [("alpha", "tokens", 1)], (0.05, 0.3)),
    ),
)
_DATA_BY_SIZE = (
    data_by_size,
    (
        _a("B", [], (0.05, 0.3)),
        _BETA,
        Parameter("c", "signed", (-0.1, 0.1), -1.0, 1.0),
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
_RECTIFIED = (
    _a("B", [("beta", "tokens", 1)], (0.3, 1.0)),
    _BETA,
    Parameter("D_l", "amplitude", (0.1, 1.0), 1e-9, 1e6, shifts=(("beta", "tokens", 1),)),
)
_JOINED = (
    _a("A", [("alpha", "params", 1)], (0.1, 0.5)),
    _exponent("alpha", 0.2, 0.5),
    _a("B", [("beta", "tokens", 1)], (0.1, 0.5)),
    _exponent("beta", 0.2, 0.5),
    _exponent("gamma", 0.5, 1.0),
)
SUPERVISED = Form(
    name="supervised",
    formula="(A/N^alpha + B/D^beta)^gamma",
    source=f"{_BUSBRIDGE}, Eq. 1",
    inputs=("params", "tokens"),
    parts=((joined, _JOINED),),
    over="stage",
).law("loss")
"""Loss of a student trained without a teacher, the first stage of the distillation law."""

_SIZES = Levels(
    "params",
    3,
    "a law over size needs at least {least} sizes over a factor of {span:g}; there "
    "are {count} over a factor of {factor:.3g}",
    span=1.5,
)
_BREAK_SIZES = Levels(
    "params", 6, "a break in size needs at least {least} sizes; there are {count}"
)
_EPOCHS = Levels(
    "epochs",
    2,
    "R* is not identifiable: all runs have the same epochs ({value:.3g}); vary epochs at equal "
    "unique tokens",
)
_TEACHER_SIZES = Levels(
    "teacher_params",
    3,
    "gamma needs at least {least} sizes of teacher, with fewer it merges into "
    "alpha; there {are} {count}",
)
_TEACHER_LOSSES = Levels(
    "teacher_loss", 3, "c0 and f1 need at least {least} teachers of different loss"
)
_PRETRAINED = ("cut", "pretrained", "")
"""Initialisations that know something before training; a user's own table may not say."""
FORMS = (
    Form(
        name="data_power",
        formula="B/D^beta",
        source="Hestness et al. 2017, Deep learning scaling is predictable, empirically",
        inputs=("tokens",),
        parts=(_DATA,),
        over="data",
    ),
    Form(
        name="size_power",
        formula="A/N^alpha",
        source="Kaplan et al. 2020, Scaling laws for neural language models",
        inputs=("params",),
        parts=(_SIZE,),
        over="size",
        needs=(_SIZES,),
    ),
    Form(
        name="chinchilla",
        formula="A/N^alpha + B/D^beta",
        source=_HOFFMANN,
        inputs=("params", "tokens"),
        parts=(_SIZE, _DATA),
        over="joint",
        needs=(_SIZES,),
    ),
    Form(
        name="tied",
        formula="A/N^alpha + B/D^alpha",
        source=_GADRE,
        inputs=("params", "tokens"),
        parts=(_TIED,),
        over="joint",
        needs=(_SIZES,),
        exponents=False,
    ),
    Form(
        name="joined",
        formula="(A/N^alpha + B/D^beta)^gamma",
        source=f"{_BUSBRIDGE}, Eq. 1",
        inputs=("params", "tokens"),
        parts=((joined, _JOINED),),
        over="joint",
        needs=(_SIZES,),
        exponents=False,
    ),
    Form(
        name="data_by_size",
        formula="A/N^alpha + B (D/D_m)^(-beta (N/N_m)^c), N_m and D_m the runs' geometric means",
        source=f"{_FARSEER}: an exponent of data that depends on size",
        inputs=("params", "tokens"),
        parts=(_SIZE, _DATA_BY_SIZE),
        over="joint",
        needs=(_SIZES,),
        exponents=False,
    ),
    Form(
        name="rectified",
        formula="B/(D_l + D^beta)",
        source="Lin et al. 2024, Selecting large language model to fine-tune via rectified "
        "scaling law",
        inputs=("tokens",),
        parts=((rectified, _RECTIFIED),),
        over="data",
        inits=_PRETRAINED,
    ),
    Form(
        name="data_constrained",
        formula=f"B/D'^beta, {_WORTH}",
        source=_MUENNIGHOFF,
        inputs=("tokens", "epochs"),
        parts=(_REPEATED,),
        over="data",
        needs=(_EPOCHS,),
    ),
    Form(
        name="chinchilla_constrained",
        formula=f"A/N^alpha + B/D'^beta, {_WORTH}",
        source=_MUENNIGHOFF,
        inputs=("params", "tokens", "epochs"),
        parts=(_SIZE, _REPEATED),
        over="joint",
        needs=(_EPOCHS,),
    ),
    Form(
        name="excess_parameters",
        formula=f"A/N'^alpha + B/D'^beta, {_WORTH}, "
        "N' likewise with R_N* from the size that suits U",
        source=f"{_MUENNIGHOFF}, Eq. 7",
        inputs=("params", "tokens", "epochs"),
        parts=(_EXCESS,),
        over="joint",
        needs=(_SIZES, _EPOCHS),
    ),
    Form(
        name="ratio",
        formula="A N_s^-alpha (1 + (D0/D)^beta) (N_t/N_s)^gamma",
        source="study 2 of this workflow: L(S) = L0 + A/N_s^alpha f(N_t/N_s, D)",
        inputs=("params", "tokens", "teacher_params"),
        parts=(_RATIO,),
        over="teachers",
        needs=(_TEACHER_SIZES,),
        floor="L0",
    ),
    Form(
        name="broken_size",
        formula="A/N^alpha (1 + (N_c/N)^(1/f))^(delta f), f = 0.2",
        source="Caballero et al. 2023, Broken neural scaling laws, one break",
        inputs=("params",),
        parts=(_BROKEN,),
        over="size",
        needs=(_BREAK_SIZES,),
        breaks="size_power",
    ),
    Form(
        name="broken_chinchilla",
        formula="A/N^alpha (1 + (N_c/N)^(1/f))^(delta f) + B/D^beta, f = 0.2",
        source="Caballero et al. 2023, Broken neural scaling laws, one break, with a data term",
        inputs=("params", "tokens"),
        parts=(_BROKEN, _DATA),
        over="joint",
        needs=(_BREAK_SIZES,),
        breaks="chinchilla",
    ),
)
"""Every law but the distillation law, which is fitted in two stages."""


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
    student_factor = (
        "exp(-kappa (L_T/L~_S)^(1/f1))" if reduced else "[1 + (L_T/(L~_S d1))^(1/f1)]^(-c1 f1)"
    )
    formula = (
        f"{'L_T + ' if target == 'loss' else ''}L_T^(-c0) {student_factor} "
        "(A/N^alpha + B/D^beta)^gamma, L~_S = E + (A/N^alpha + B/D^beta)^gamma of the "
        "supervised runs"
    )
    terms: tuple[tuple[Term, int], ...] = ((_distilled(reduced), len(parameters)),)
    return Law(
        name="distillation_reduced" if reduced else "distillation",
        formula=formula,
        source=f"{_BUSBRIDGE}, Eq. 8" + (", bracket in its exponential limit" if reduced else ""),
        inputs=("params", "tokens", "teacher_loss"),
        parameters=parameters,
        terms=((_teacher, 0), *terms) if target == "loss" else terms,
        over="teachers",
        needs=(_TEACHER_LOSSES,),
        first_stage=SUPERVISED,
        limit_of="distillation" if reduced else "",
        unfit=""
        if target == "loss"
        else "its gap vanishes under a weak teacher, where logs are noise; see its fit to loss",
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
    laws = [form.law(target) for form in FORMS]
    laws += [_distillation(reduced, target) for reduced in (False, True)]
    return {law.name: law for law in laws}


LAWS: dict[str, dict[str, Law]] = {target: _laws(target) for target in ("loss", "gap")}
"""Per target (loss, or gap with floor 0) and name, every law."""
LAWS["loss"]["supervised"] = SUPERVISED


def laws_over(target: str, *over: Over) -> list[Law]:
    """The laws of a target over `over`, in the order of `FORMS`."""
    return [law for law in LAWS[target].values() if law.over in over]


def simplest(target: str, over: Over) -> Law:
    """The plain law with the fewest coefficients whose exponents are those of size and data."""
    plain = [law for law in laws_over(target, over) if law.plain and law.exponents]
    return min(plain, key=lambda law: len(law.parameters))
