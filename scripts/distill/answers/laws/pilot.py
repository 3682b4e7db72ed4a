"""How small a pilot predicts the dearest runs: laws refitted to growing prefixes of the ladder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import cannot_tell, law_record
from distill.laws.choice import Settings, fit_points, too_rich
from distill.laws.curves import epochs_of, rows_of
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.law import Law
from distill.laws.points import Points, log_linear, points_of, rungs
from distill.stats.intervals import number

PILOT = "How small a pilot predicts the dearest runs?"
WITHIN = (0.01, 0.02, 0.05, 0.1)
"""Mean relative errors asked for."""
NEEDS = "at least 3 rungs below the dearest one that determine a law"


def pilot_ladder(points: Points, law: Law, settings: Settings) -> list[dict[str, Any]]:
    """Mean relative error on the dearest rung, by the law fitted to each prefix of the ladder.

    A prefix holds all runs below a rung. Prefixes that do not determine the law are left out.

    Returns:
        Per prefix: rungs, runs, compute (its own FLOPs), compute_share (of the dearest rung's),
        error, worst_error, over_gap (error over the gap to the teacher, null where unknown) and
        log_linear (the error of the line through its last two sizes, null where there is none).
    """
    axis, ranks = rungs(points, law.inputs)
    top = int(ranks.max())
    there = points.where(ranks == top)
    dearest = float(there.compute.sum())
    ladder = []
    for last in range(top):
        pilot = points.where(ranks <= last)
        if too_rich(law, pilot) is not None:
            continue
        log, _ = fit_points(law, pilot, settings).log_prediction(there)
        errors = np.abs(np.exp(log) / there.target - 1)
        gaps = np.isfinite(there.gap) & (there.gap > 0)
        seen = points.where((ranks <= last) | (ranks == top))
        line = log_linear(seen, axis, np.where(ranks == top, last + 1, ranks)[
            (ranks <= last) | (ranks == top)], last + 1)  # fmt: skip
        naive = np.abs(np.exp(line) / there.target - 1)
        ladder.append(
            {
                "rungs": last + 1,
                "runs": len(pilot),
                "compute": float(pilot.compute.sum()),
                "compute_share": float(pilot.compute.sum()) / dearest,
                "error": float(errors.mean()),
                "worst_error": float(errors.max()),
                "over_gap": float((errors * there.target / there.gap)[gaps].mean())
                if gaps.any()
                else None,
                "log_linear": float(naive.mean()) if np.isfinite(naive).all() else None,
            }
        )
    return ladder


def smallest_pilots(ladder: Sequence[Mapping[str, Any]]) -> dict[float, Mapping[str, Any] | None]:
    """Per bound of `WITHIN`, the smallest pilot that meets it with all larger ones meeting it too.

    One that meets it by luck and is followed by a larger one that misses does not count.
    """
    found: dict[float, Mapping[str, Any] | None] = {}
    for bound in WITHIN:
        best = None
        for pilot in reversed(ladder):
            if pilot["error"] > bound:
                break
            best = pilot
        found[bound] = best
    return found


def pilot_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], settings: Settings
) -> list[dict[str, Any]]:
    """One answer per group with a chosen law of the loss: over size where there is one."""
    answers = []
    chosen = [law for law in laws if law.best and law.target == "loss"
              and law.selected.get("teacher") is not None
              and not law.name.startswith(("distillation", "ratio", "supervised"))]  # fmt: skip
    joint = [law for law in chosen if law.selected.get("size") == "params"]
    covered = [_without_student(law.selected) for law in joint]
    for law in chosen:
        if law not in joint and (
            law.selected.get("size") or _without_student(law.selected) in covered
        ):
            continue
        mine = rows_of(rows, law.selected)
        if "epochs" not in law.inputs:
            epochs = mine["epochs"].to_numpy(dtype=float)
            mine = mine[np.isclose(epochs, epochs_of(mine), rtol=0.01)]
        size = law.selected.get("size") or "params"
        points = points_of(mine, "loss", size, settings.shared)
        answers.append(_answer(points, LAWS["loss"][law.name], law, settings))
    return answers or [cannot_tell(PILOT, None, "no law could be fitted", NEEDS)]


def _without_student(selected: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(v for k, v in sorted(selected.items()) if k not in ("student", "size"))


def _answer(points: Points, law: Law, fitted: FittedLaw, settings: Settings) -> dict[str, Any]:
    ladder = pilot_ladder(points, law, settings)
    if not ladder:
        return cannot_tell(
            PILOT, fitted.selected, "no prefix of the runs determines the law", NEEDS
        )
    found = smallest_pilots(ladder)
    numbers: dict[str, Any] = {
        "law": law.name,
        "ladder": ladder,
        "within": {f"{bound:g}": pilot for bound, pilot in found.items()},
        "error": ladder[-1]["error"],
    }
    told = [
        f"within {number(100 * bound, 2)} %: {pilot['runs']} runs, "
        f"{number(100 * pilot['compute_share'], 2)} % of the dearest runs' compute"
        for bound, pilot in found.items()
        if pilot
    ]
    missed = [bound for bound, pilot in found.items() if pilot is None]
    last = ladder[-1]
    naive = "" if last["log_linear"] is None else (
        f" (the log-linear line: {number(100 * last['log_linear'], 2)} %)"
    )  # fmt: skip
    gap = "" if last["over_gap"] is None else (
        f"; of the gap to the teacher that is {number(100 * last['over_gap'], 2)} %"
    )  # fmt: skip
    evidence = (
        f"{law.formula}, refitted to {len(ladder)} growing prefixes; the largest pilot missed the "
        f"dearest rung by {number(100 * last['error'], 2)} %{naive}{gap}. Read off one study after "
        "the fact: a guide to the next one, not a promise."
    )
    if not told:
        return law_record(PILOT, fitted.selected,
                          f"None of the {len(ladder)} pilots predicts the dearest runs within "
                          f"{number(100 * WITHIN[-1], 2)} %.", evidence, numbers)  # fmt: skip
    answer = "Mean error on the dearest runs " + "; ".join(told) + "."
    if missed:
        answer += f" None comes within {number(100 * max(missed), 2)} %."
    return law_record(PILOT, fitted.selected, answer, evidence, numbers)
