"""What a user with one GPU should do next, from the laws and the other answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.answer import Answer, Need, about_group
from distill.answers.laws import claims
from distill.answers.laws.needs import need_amounts, need_draws, need_larger_data, need_students
from distill.laws.curves import curve_of, differences, grid_laws, group_of, label_of
from distill.laws.fitted import FittedLaw
from distill.laws.points import commonest_epochs
from distill.laws.runs import group_rows
from distill.stats.intervals import Estimate

KEY, SURER, MISSING = "advice", "surer", "missing"


def advice_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], answers: Sequence[Answer]
) -> list[Answer]:
    """Next steps: what lowers the loss most, what makes the answers more certain, what is missing.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        answers: The answers given so far.
    """
    return [_lower(rows, laws), _surer(rows, laws), _missing(answers)]


def _no_law(question: str, rows: pd.DataFrame) -> Answer:
    needs = (need_amounts(rows),)
    return Answer(question, {}, "cannot_tell", {"reason": "no_law"}, needs)


def _lower(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Answer:
    """Twice the data or twice the student, from the best student measured: one law's answer."""
    joint = [law for law in grid_laws(laws, "loss", "params").values() if "tokens" in law.inputs]
    covered = {group_of(law) for law in joint}
    alone = [
        law
        for law in laws
        if law.best
        and law.target == "loss"
        and law.inputs == ("tokens",)
        and group_of(law) not in covered
    ]
    candidates = [(law, group_rows(rows, law.selected)) for law in joint or alone]
    if not candidates:
        return _no_law(KEY, rows)
    law, mine = min(candidates, key=lambda pair: float(pair[1]["loss"].min()))
    best = mine.loc[mine["loss"].idxmin()]
    start: dict[str, float] = {}
    for name in ("tokens", "params"):
        if name in law.inputs:
            start[name] = float(best[name])
    gains, apart = _gains(law, mine, start)
    largest = {
        "tokens": float(rows["tokens"].max()),
        "params": float(np.nanmax(rows["params"])) if "params" in start else None,
    }
    numbers: dict[str, Any] = {
        "from": start | ({"epochs": _epochs(mine)} if law.law.repeats else {}),
        "label": label_of(law.selected),
        **{name: gain.ends() for name, gain in gains.items()},
        "percent": {name: _percent(gain).ends() for name, gain in gains.items()},
        "loss": float(best["loss"]),
        "largest": largest,
        "formula": law.record["formula"],
        "recommended": _recommended(gains, apart),
        "data_used_up": start["tokens"] >= largest["tokens"] / 1.2,  # type: ignore[operator]
        "largest_student": "params" in start and start["params"] >= (largest["params"] or 0) / 1.01,
    }
    if apart is not None:
        numbers["data_minus_size"] = apart.ends()
    return Answer(KEY, about_group(law.selected), "answered", numbers)


def _epochs(mine: pd.DataFrame) -> float:
    return commonest_epochs(mine["epochs"].to_numpy(dtype=float))


def _gains(
    law: FittedLaw, mine: pd.DataFrame, start: Mapping[str, float]
) -> tuple[dict[str, Estimate], Estimate | None]:
    """Fall of the log loss by doubling each input, and that of data less that of size."""
    curve, here = curve_of(law), dict(start)
    if law.law.repeats:
        here["epochs"] = _epochs(mine)
    log, row = curve.log(here)
    gains, rows = {}, {}
    for name in start:
        there, there_row = curve.log(here | {name: 2 * here[name]})
        rows[name] = row - there_row
        half = float(differences(curve, rows[name])[0])
        gains[name] = Estimate.around(float(log[0] - there[0]), half)
    if len(gains) < 2:
        return gains, None
    half = float(differences(curve, rows["tokens"] - rows["params"])[0])
    return gains, Estimate.around(gains["tokens"].value - gains["params"].value, half)


def _recommended(gains: Mapping[str, Estimate], apart: Estimate | None) -> str | None:
    """tokens, params or both: what clearly lowers the loss; None if nothing does."""
    if apart is None:
        return "tokens" if gains["tokens"].sign > 0 else None
    larger = "tokens" if apart.sign > 0 else "params"
    if apart.sign and gains[larger].sign > 0:
        return larger
    return "both" if all(gain.sign > 0 for gain in gains.values()) else None


def _percent(gain: Estimate) -> Estimate:
    """A fall in log loss as per cent of the loss; both ends are known."""
    value, low, high = (
        100 * (1 - float(np.exp(-(end or 0.0)))) for end in (gain.value, gain.low, gain.high)
    )
    return Estimate(value, None, low, high)


def _surer(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> Answer:
    """Draws, distance or evaluated size steps: which of them the laws lack."""
    chosen = [law for law in laws if law.best and law.target == "loss"]
    if not chosen:
        return _no_law(SURER, rows)
    draws, seeds = int(rows["draw"].nunique()), int(rows["seed"].nunique())
    loose = sorted(
        {
            name
            for law in chosen
            for name, c in law.record["coefficients"].items()
            if not c["identifiable"]
        }
    )
    unjudged = [law for law in chosen if law.record["holdout"] is None]
    skills = [(law.record["holdout"] or {}).get("skill") for law in chosen]
    losing = [skill for skill in skills if skill is not None and skill <= 0]
    spread = float(np.median([law.record["state"]["run_sd_log"] for law in chosen]))
    needs = []
    if draws * seeds <= 2:
        needs.append(need_draws(rows, draws * seeds + 1))
    if {"alpha", "E", "L0"} & set(loose):
        needs.append(need_students(rows, rows["params"].nunique() + 1))
    if unjudged or "beta" in loose:
        needs.append(need_larger_data(rows))
    numbers = {
        "draws": draws,
        "seeds": seeds,
        "not_identifiable": loose,
        "unjudged": len(unjudged),
        "no_better_than_a_line": len(losing),
        "run_sd_percent": 100 * spread,
        "laws": len(chosen),
    }
    return Answer(SURER, {}, "answered", numbers, tuple(needs))


def _missing(answers: Sequence[Answer]) -> Answer:
    """Needs of the questions without an answer, the most frequent first."""
    by_condition: dict[str, tuple[Need, list[str]]] = {}
    for answer in answers:
        if answer.question == claims.KEY:  # claims rest on the same questions
            continue
        for need in answer.needs:
            questions = by_condition.setdefault(need.what, (need, []))[1]
            if answer.question not in questions:
                questions.append(answer.question)
    ranked = sorted(by_condition.values(), key=lambda item: -len(item[1]))
    numbers = {
        "wanted": [
            {"need": asdict(need), "questions": questions_of} for need, questions_of in ranked
        ]
    }
    return Answer(MISSING, {}, "answered", numbers, tuple(need for need, _ in ranked))
