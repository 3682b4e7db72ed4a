"""Studies with a known truth, as tables of points of laws, and the laws fitted to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer
from distill.contracts.points import COLUMNS, GROUP_KEYS
from distill.laws.choice import Group, Settings, Standing, fit_points
from distill.laws.curves import Curve
from distill.laws.fit import fit_laws
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.intervals import Uncertainty
from distill.laws.judging import evaluate_holdout
from distill.laws.points import points_of
from distill.laws.records import record_law

SIZES = tuple(float(n) for n in np.geomspace(6e5, 2.4e7, 6))
TOKENS = tuple(1.25e5 * 2.0**k for k in range(6))
TRUTH = {"E": 1.5, "A": 1.0, "alpha": 0.35, "B": 1.0, "beta": 0.4}
"""Terms in nats at 3M parameters and 500k tokens."""
CENTRE_N, CENTRE_D = 3e6, 5e5


def chinchilla(params: float, tokens: float, **changes: float) -> float:
    """Loss of the truth, amplitudes as terms at the centre."""
    c = TRUTH | changes
    size, data = (params / CENTRE_N) ** -c["alpha"], (tokens / CENTRE_D) ** -c["beta"]
    return c["E"] + c["A"] * size + c["B"] * data


def make_rows(
    truth: Any = chinchilla,
    sizes: Sequence[float] = SIZES,
    tokens: Sequence[float] = TOKENS,
    draws: int = 2,
    epochs: Sequence[float] = (1.0,),
    noise: float = 0.003,
    seed: int = 0,
    teacher_params: float = 1.2e8,
    reference: bool = False,
    **keys: Any,
) -> pd.DataFrame:
    """Points of laws of one group; `truth(params, tokens[, epochs])` is the loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in sizes:
        for amount in tokens:
            for times in epochs:
                given = (size, amount) if len(epochs) == 1 else (size, amount, times)
                for draw in range(draws):
                    loss = truth(*given) * np.exp(noise * rng.normal())
                    rows.append(
                        {
                            "teacher": "t", "student": f"{size:.0f}", "method": "kd", "cache": "",
                            "curation": "raw", "init": "random", "group": "", "seed": 0,
                            "draw": draw, "params": size,
                            "params_non_embedding": size * 0.8, "tokens": amount,
                            "epochs": times, "updates": 1.0, "flops": 6 * size * amount * times,
                            "teacher_loss": 1.2, "teacher_params": teacher_params,
                            "teacher_params_non_embedding": 0.8 * teacher_params, "loss": loss,
                            "gap": loss - 1.2, "loss_stderr": np.nan,
                            "reference": loss if reference else np.nan,
                        }
                        | keys
                    )  # fmt: skip
    return pd.DataFrame(rows, columns=[*COLUMNS, "reference"])


def bent(params: float, tokens: float) -> float:
    """Steeper by 0.6 below 3M parameters, 5 % of a teacher of 60M."""
    size = (params / 3e6) ** -0.3 * (1 + (3e6 / params) ** 5) ** (0.6 * 0.2)
    return float(1.5 + size + (tokens / 5e5) ** -0.4)


def ratio_world(best: float | None, teachers: Sequence[float], seed: int = 3) -> pd.DataFrame:
    """Teachers of several sizes; the loss has its minimum at a ratio, or falls with it."""

    def with_ratio(teacher: float) -> Any:
        def truth(params: float, tokens: float) -> float:
            x = np.log(teacher / params / (best or 1.0))
            return chinchilla(params, tokens) * float(np.exp(0.03 * x**2 if best else -0.03 * x))

        return truth

    return pd.concat(
        [
            make_rows(with_ratio(t), SIZES[:3], (2.5e5, 1e6), teacher_params=t, teacher=f"t{t:.0f}",
                      seed=seed + i, noise=0.002)
            for i, t in enumerate(teachers)
        ],
        ignore_index=True,
    )  # fmt: skip


def fit(
    rows: pd.DataFrame, names: Sequence[str] = ("chinchilla",), target: str = "loss",
    sizes: Sequence[str] = ("params", "params_non_embedding"), best: str | None = None,
) -> list[FittedLaw]:  # fmt: skip
    """Laws of every group of a table, fitted and judged as a study's; the first is the best."""
    settings = Settings(starts=8)
    laws = []
    for values, group in rows.groupby(list(GROUP_KEYS), sort=False):
        for size in sizes:
            points = points_of(group, target, size, True)
            selected: dict[str, Any] = {"student": None, "size": size}
            selected |= dict(zip(GROUP_KEYS, map(str, values), strict=True))
            for name in names:
                law = LAWS[target][name]
                first = name == (best or names[0])
                fitted = fit_points(law, points, settings)
                held = evaluate_holdout(law, [law], points, settings) if first else None
                choice = {"by": "step", "chosen": name, "errors": {name: 0.01}}
                standing = Standing(choice, first, held)
                record = record_law(fitted, Group(points, target, selected), standing, settings)
                laws.append(FittedLaw(record))
    return laws


def fit_all(rows: pd.DataFrame, corpus_methods: Sequence[str] = ()) -> dict[str, Any]:
    """laws.json of a table, from few starts and with few simulated studies."""
    return fit_laws(rows, Settings(starts=8, replicates=19), corpus_methods)


def laws_of(document: Mapping[str, Any]) -> list[FittedLaw]:
    """The laws of laws.json."""
    return [FittedLaw(record) for record in document["laws"]]


def only(answers: Sequence[Answer], question: str, **about: Any) -> Answer:
    """The one answer to a question, about these runs."""
    found = [
        answer
        for answer in answers
        if answer.question == question
        and all(answer.about.get(key) == value for key, value in about.items())
    ]
    assert len(found) == 1, [(answer.question, answer.about) for answer in answers]
    return found[0]


def answered(answer: Answer) -> bool:
    """Whether an answer is one; a refusal must give its reason and what it needs."""
    refused = answer.status == "cannot_tell"
    assert not refused or answer.needs
    return not refused


RANGES = {"params": (6e5, 2.4e7), "tokens": (1.25e5, 4e6), "epochs": (1.0, 32.0)}
PLAIN = {
    "E": 1.5, "A": CENTRE_N**0.35, "alpha": 0.35, "B": CENTRE_D**0.4, "beta": 0.4,
}  # fmt: skip
"""`TRUTH` with plain amplitudes."""


def exact(name: str, ranges: Mapping[str, Sequence[float]], **coefficients: float) -> Curve:
    """A law known without error."""
    law = LAWS["loss"][name]
    zero = np.zeros((len(law.names), len(law.names)))
    found = Uncertainty(zero, zero, np.zeros(2), np.zeros((2, 2)), np.zeros(len(law.names)))
    return Curve(law, law.internal(coefficients, {}), {}, found, ranges)


def chinchilla_points(seed: int, count: int = 240) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Points on Besiroglu et al.'s law with 1 % noise."""
    rng = np.random.default_rng(seed)
    inputs = {
        "params": np.exp(rng.uniform(np.log(4e7), np.log(1e10), count)),
        "tokens": np.exp(rng.uniform(np.log(5e8), np.log(5e11), count)),
    }
    coefficients = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
    mean = LAWS["loss"]["chinchilla"].predict(coefficients, inputs)
    return inputs, mean * np.exp(0.01 * rng.normal(size=count))
