"""How small a pilot predicts the largest runs: a law refitted to growing subsets of the runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distill.laws.choice import Fitter, Settings, fit_points, too_rich
from distill.laws.law import Law
from distill.laws.points import Points
from distill.laws.size_steps import best_forecast, size_steps

WITHIN = (0.01, 0.02, 0.05, 0.1)
"""Mean relative errors asked for."""


def pilot_ladder(
    points: Points, law: Law, settings: Settings, fitter: Fitter = fit_points
) -> list[dict[str, Any]]:
    """Mean relative error on the largest size step, by the law fitted to each prefix of the steps.

    A prefix holds all runs up to a step of the held-out axis (`size_steps`). Prefixes that do not
    determine the law are left out.

    Returns:
        Per prefix: steps (of size), runs, compute (FLOPs), compute_share (of the largest
        step's), error,
        worst_error, over_gap (error over the gap to the teacher, null where unknown) and
        simple (name and error of the best simple forecast).
    """
    axis, ranks = size_steps(points, law.inputs)
    top = int(ranks.max())
    held_out = points.where(ranks == top)
    compute = float(held_out.compute.sum())
    ladder = []
    for last in range(top):
        pilot = points.where(ranks <= last)
        if too_rich(law, pilot) is not None:
            continue
        log, _ = fitter(law, pilot, settings).log_prediction(held_out)
        errors = np.abs(np.exp(log) / held_out.target - 1)
        gaps = np.isfinite(held_out.gap) & (held_out.gap > 0)
        seen = (ranks <= last) | (ranks == top)
        steps = np.where(ranks == top, last + 1, ranks)[seen]
        name, simple = best_forecast(points.where(seen), axis, steps, last + 1)
        ladder.append(
            {
                "steps": last + 1,
                "runs": len(pilot),
                "compute": float(pilot.compute.sum()),
                "compute_share": float(pilot.compute.sum()) / compute,
                "error": float(errors.mean()),
                "worst_error": float(errors.max()),
                "over_gap": float((errors * held_out.target / held_out.gap)[gaps].mean())
                if gaps.any()
                else None,
                "simple": {"name": name, "error": float(simple.mean())},
            }
        )
    return ladder


def smallest_pilots(ladder: Sequence[Mapping[str, Any]]) -> dict[float, Mapping[str, Any] | None]:
    """Per bound of `WITHIN`, the smallest pilot that meets it with all larger ones meeting it too.

    A pilot that meets it before a larger pilot misses it does not count.
    """
    smallest: dict[float, Mapping[str, Any] | None] = {}
    for bound in WITHIN:
        best = None
        for pilot in reversed(ladder):
            if pilot["error"] > bound:
                break
            best = pilot
        smallest[bound] = best
    return smallest
