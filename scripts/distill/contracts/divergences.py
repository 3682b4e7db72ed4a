"""Divergences of a student's distribution s from its teacher's p: one row each.

A row here and the function of the same name in `distill.training.losses` define a divergence. Its
config keys, the schemes that it may read, the report's formula and the reference page follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """The parameter of a divergence.

    Attributes:
        name: Argument of the divergence's function.
        key: Key of a method that sets it.
        default: Its value if the method does not set it.
        example: Another value, for the documentation.
        limits: Its range, as constraints of a pydantic field: ge, gt, le, lt.
        meaning: Description of the key.
        infinite_at: Value at which the divergence is infinite where p = 0; None for no such value.
    """

    name: str
    key: str
    default: float
    example: float
    limits: Mapping[str, float]
    meaning: str
    infinite_at: float | None = None


@dataclass(frozen=True)
class Divergence:
    """Facts about a divergence.

    Attributes:
        name: Key of a method for its weight, and name of its function.
        meaning: Short description.
        source: Paper, or name and paper.
        paper: Address of the paper.
        definition: Formula of p and s, and of m if it has a mixture.
        formula: Short formula of q and s for the report; may contain the parameter and `rest`, 1
            minus the parameter, as fields of `str.format`.
        unit: Unit of its value.
        parameter: None for a divergence without one.
        linear: Whether it is linear in p up to a constant, so that sampled targets are unbiased.
        infinite: Whether it is infinite where p = 0, whatever its parameter.
    """

    name: str
    meaning: str
    source: str
    paper: str
    definition: str
    formula: str
    unit: str = "nats"
    parameter: Parameter | None = None
    linear: bool = False
    infinite: bool = False

    def text(self, settings: Mapping[str, Any]) -> str:
        """The short formula with the parameter of a method's settings."""
        if self.parameter is None:
            return self.formula
        value = float(settings.get(self.parameter.key, self.parameter.default))
        return self.formula.format(**{self.parameter.name: value, "rest": 1 - value})

    def infinite_with(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is infinite where p = 0, with a method's settings."""
        if self.parameter is None or self.parameter.infinite_at is None:
            return self.infinite
        return bool(settings[self.parameter.key] == self.parameter.infinite_at)


DIVERGENCES = {
    row.name: row
    for row in (
        Divergence(
            name="forward_kl",
            meaning="KL(teacher || student)",
            source="Hinton 2015",
            paper="https://arxiv.org/abs/1503.02531",
            definition="KL(p ‖ s)",
            formula="KL(q ‖ s)",
            linear=True,
        ),
        Divergence(
            name="reverse_kl",
            meaning="KL(student || teacher)",
            source="MiniLLM, Gu 2024",
            paper="https://arxiv.org/abs/2306.08543",
            definition="KL(s ‖ p)",
            formula="KL(s ‖ q)",
            infinite=True,
        ),
        Divergence(
            name="jsd",
            meaning="Generalised Jensen-Shannon divergence",
            source="GKD, Agarwal 2024",
            paper="https://arxiv.org/abs/2306.13649",
            definition="β KL(p ‖ m) + (1 − β) KL(s ‖ m), m = β p + (1 − β) s",
            formula="JSD(q, s; β = {beta:g})",
            parameter=Parameter(
                "beta",
                "jsd_beta",
                0.5,
                0.1,
                {"ge": 0, "le": 1},
                "beta of jsd, the teacher's share of the mixture",
                infinite_at=1.0,
            ),
        ),
        Divergence(
            name="total_variation",
            meaning="Total variation",
            source="f-distill, Wen 2023",
            paper="https://arxiv.org/abs/2307.15190",
            definition="½ Σ |p − s|",
            formula="TV(q, s)",
            unit="difference of probability",
        ),
        Divergence(
            name="skew_kl",
            meaning="KL(teacher || mixture of teacher and student)",
            source="DistiLLM, Ko 2024",
            paper="https://arxiv.org/abs/2402.03898",
            definition="KL(p ‖ α p + (1 − α) s)",
            formula="KL(q ‖ {alpha:g} q + {rest:g} s)",
            parameter=Parameter(
                "alpha",
                "skew_alpha",
                0.1,
                0.3,
                {"ge": 0, "lt": 1},
                "alpha of skew_kl, the teacher's share of the mixture",
            ),
        ),
    )
}
"""Rows by name, in the order of the config's keys."""
PARAMETERS = [row.parameter for row in DIVERGENCES.values() if row.parameter is not None]
