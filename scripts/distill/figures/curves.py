"""Points and bands of fitted laws, for the figures that draw curves."""

from typing import Any

import numpy as np

from distill.figures.figure import Layer, Rows
from distill.laws.fitted import FittedLaw

STEPS = 25
"""Points of a curve."""
BANDS = (
    Layer("curve", "band", key="new run", style={"alpha": 0.11}, ends=("run_low", "run_high")),
    Layer("curve", "band", key="mean curve", style={"alpha": 0.28}),
)
"""The 90 % intervals of one new run and of the mean curve."""


def curve_rows(
    law: FittedLaw, inputs: dict[str, Any], xs: np.ndarray, place: dict[str, Any]
) -> Rows:
    """Return the points of a law's curve with both of its bands."""
    prediction = law.predict(inputs, test_set=False)
    columns = {
        "y": prediction.value,
        "low": prediction.low,
        "high": prediction.high,
        "run_low": prediction.run_low,
        "run_high": prediction.run_high,
    }
    return [
        {**place, "kind": "curve", "law": law.name, "x": float(x)}
        | {name: float(values[k]) for name, values in columns.items()}
        for k, x in enumerate(xs)
    ]
