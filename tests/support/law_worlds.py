"""Studies with a known truth, as tables of points of laws, and the laws fitted to them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.contracts.points import COLUMNS
from distill.laws.choice import Settings, fit_points, judge, record_law
from distill.laws.curves import GROUP_KEYS
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.points import points_of

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
                held = judge(law, [law], points, settings) if first else None
                choice: Mapping[str, Any] = {"by": "rung", "chosen": name, "errors": {name: 0.01}}
                record = record_law(
                    fitted, points, target, selected, held, choice, first, [], settings
                )
                laws.append(FittedLaw(record))
    return laws


def only(answers: Sequence[Mapping[str, Any]], question: str, **keys: Any) -> Mapping[str, Any]:
    """The one answer to a question (its beginning), with these entries."""
    found = [
        answer
        for answer in answers
        if answer["question"].startswith(question)
        and all(answer[key] == value for key, value in keys.items())
    ]
    assert len(found) == 1, [answer["question"] for answer in answers]
    return found[0]


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
