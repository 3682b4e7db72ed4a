"""How far the laws reach, and what a user with one GPU should do next, from the evidence alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from distill.answers.record import cannot_tell, law_record
from distill.laws.curves import (
    curve_of,
    differences,
    epochs_of,
    grid_laws,
    group_of,
    label_of,
    rows_of,
)
from distill.laws.fitted import FittedLaw
from distill.stats.intervals import Interval, number

REACH = "How far do these laws reach?"
ADVICE = "What should a user with one GPU do next?"
UNCERTAINTY = "What would make the answers surer?"
ADD = "What would turn a 'cannot tell' into an answer?"


def reach_answer(rows: pd.DataFrame) -> dict[str, Any]:
    """The largest sizes measured, beyond which exponents are no evidence."""
    numbers: dict[str, Any] = {"runs": len(rows)}
    told = []
    for name, unit in (
        ("params", "parameters"),
        ("params_non_embedding", "without embeddings"),
        ("tokens", "unique tokens"),
        ("epochs", "epochs"),
        ("flops", "FLOPs of training"),
    ):
        values = rows[name].to_numpy(dtype=float)
        largest = float(np.nanmax(values)) if np.isfinite(values).any() else None
        numbers[f"largest_{name}"] = largest
        if largest is not None:
            smallest = float(np.nanmin(values))
            numbers[f"smallest_{name}"] = smallest
            both = smallest < largest
            told.append(f"{number(smallest)} to {number(largest)} {unit}" if both else
                        f"{number(largest)} {unit}")  # fmt: skip
    answer = (
        f"The largest student measured has {number(numbers['largest_params'])} parameters, the "
        f"largest data {number(numbers['largest_tokens'])} unique tokens. Exponents are no "
        "evidence far beyond that."
        if numbers["largest_params"] is not None
        else f"The largest data measured are {number(numbers['largest_tokens'])} unique tokens. "
        "Exponents are no evidence far beyond that."
    )
    evidence = f"{len(rows)} runs: {'; '.join(told)}."
    return law_record(REACH, None, answer, evidence, numbers)


def advice_answers(
    rows: pd.DataFrame, laws: Sequence[FittedLaw], answers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Next steps: what lowers the loss most, what makes the answers surer, what is missing.

    Args:
        rows: Points of laws.
        laws: Of laws.json.
        answers: The answers given so far.
    """
    return [_lower(rows, laws), _surer(rows, laws), _missing(answers)]


def _lower(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> dict[str, Any]:
    """Twice the data or twice the student, from the best student measured: one law's answer."""
    joint = [law for law in grid_laws(laws, "loss", "params").values() if "tokens" in law.inputs]
    alone = [law for law in laws if law.best and law.target == "loss" and law.inputs == ("tokens",)
             and group_of(law) not in {group_of(one) for one in joint}]  # fmt: skip
    candidates = [(law, rows_of(rows, law.selected)) for law in joint or alone]
    if not candidates:
        return cannot_tell(ADVICE, None, "no law could be fitted",
                           "one student at 4 or more amounts of data first")  # fmt: skip
    law, mine = min(candidates, key=lambda pair: float(pair[1]["loss"].min()))
    best = mine.loc[mine["loss"].idxmin()]
    here = {"tokens": float(best["tokens"])}
    if "params" in law.inputs:
        here["params"] = float(best["params"])
    if "epochs" in law.inputs:
        here["epochs"] = epochs_of(mine)
    curve = curve_of(law)
    steps = {"tokens": "twice the unique data", "params": "a student twice as large"}
    points = {name: here | {name: 2 * here[name]} for name in steps if name in here}
    start, start_rows = curve.log(here)
    gains, gain_rows = {}, {}
    numbers: dict[str, Any] = {"from": here, "label": label_of(law.selected)}
    for name, there in points.items():
        log, row = curve.log(there)
        gain_rows[name] = start_rows - row
        half = float(differences(curve, gain_rows[name])[0])
        value = float(start[0] - log[0])
        gains[name] = Interval(value, value - half, value + half)
        numbers[name] = gains[name].numbers()
    largest_data = float(rows["tokens"].max())
    largest_size = float(np.nanmax(rows["params"])) if "params" in here else None
    at = f"From the best run of {label_of(law.selected)} ({number(float(best['loss']), 4)} nats at "
    at += f"{number(here['tokens'])} unique tokens"
    at += f" and {number(here['params'])} parameters)" if "params" in here else ")"
    shown = "; ".join(
        f"{steps[name]} lowers the loss by {_percent(gain).text('%')}"
        for name, gain in gains.items()
    )
    numbers["recommended"] = None
    if len(gains) == 2:
        apart = gain_rows["tokens"] - gain_rows["params"]
        half = float(differences(curve, apart)[0])
        value = gains["tokens"].value - gains["params"].value
        gap = Interval(value, value - half, value + half)
        numbers["data_minus_size"] = gap.numbers()
        if gap.sign and gains["tokens" if gap.sign > 0 else "params"].sign > 0:
            name = "tokens" if gap.sign > 0 else "params"
            numbers["recommended"] = name
            answer = "Get more data before a larger student." if name == "tokens" else (
                "Take a larger student before more data."
            )  # fmt: skip
        elif all(gain.sign > 0 for gain in gains.values()):
            numbers["recommended"] = "both"
            answer = "Grow data and student together: either helps, and their gains do not differ "
            answer += "by more than the noise."
        else:
            answer = "Neither more data nor a larger student is sure to help: measure the next "
            answer += "step up of each, with a second draw, before anything dear."
    elif gains["tokens"].sign > 0:
        numbers["recommended"] = "tokens"
        answer = "More data still helps; whether a larger student would help more was not measured."
    else:
        answer = "More data is not sure to help this student: try a larger one at the same data."
    if numbers["recommended"] in ("tokens", "both") and here["tokens"] >= largest_data / 1.2:
        answer += (
            f" The data ran out at {number(largest_data)} unique tokens: enlarge the pool first."
        )
    if largest_size and numbers["recommended"] in ("params", "both"):
        if here["params"] >= largest_size / 1.01:
            answer += f" No student above {number(largest_size)} parameters was measured: add one."
        else:
            answer += " A larger one than this was measured, at other data: give it the same data."
    evidence = (
        f"{at}, by {law.record['formula']}: {shown}. Twice either is twice the training FLOPs."
    )
    return law_record(ADVICE, law.selected, answer, evidence, numbers)


def _percent(gain: Interval) -> Interval:
    """A fall in log loss as per cent of the loss; both ends are known."""
    value, low, high = (
        100 * (1 - float(np.exp(-(end or 0.0)))) for end in (gain.value, gain.low, gain.high)
    )
    return Interval(value, low, high)


def _surer(rows: pd.DataFrame, laws: Sequence[FittedLaw]) -> dict[str, Any]:
    """Draws, distance or judged rungs: which of them the laws lack."""
    chosen = [law for law in laws if law.best and law.target == "loss"]
    if not chosen:
        return cannot_tell(UNCERTAINTY, None, "no law could be fitted",
                           "one student at 4 or more amounts of data first")  # fmt: skip
    draws, seeds = int(rows["draw"].nunique()), int(rows["seed"].nunique())
    loose = sorted({name for law in chosen for name, c in law.record["coefficients"].items()
                    if not c["identifiable"]})  # fmt: skip
    unjudged = [law for law in chosen if law.record["holdout"] is None]
    losing = [
        law
        for law in chosen
        if (law.record["holdout"] or {}).get("skill_vs_loglinear") is not None
        and law.record["holdout"]["skill_vs_loglinear"] <= 0
    ]
    spread = float(np.median([law.record["state"]["run_sd_log"] for law in chosen]))
    advice = []
    if draws * seeds < 2:
        advice.append(
            "run the smaller amounts of data with a second draw (cheap, no teacher cost): noise "
            "and the curve's shape cannot be told apart now"
        )
    elif draws * seeds == 2:
        advice.append("a third draw at the small end would steady the noise's estimate")
    if {"E", "L0"} & set(loose):
        advice.append("no asymptote shows: only larger students and data can show one, not draws")
    if {"alpha", "beta"} & set(loose):
        names = " and ".join(n for n in ("alpha", "beta") if n in loose)
        advice.append(f"{names}: spread sizes and data farther apart rather than more between")
    if unjudged:
        advice.append(f"{len(unjudged)} laws were never judged: add a dearer rung")
    if losing:
        advice.append(
            f"{len(losing)} laws predicted the dearest rung no better than a straight line: trust "
            "them between the points, not beyond"
        )
    numbers = {
        "draws": draws,
        "seeds": seeds,
        "not_identifiable": loose,
        "unjudged": len(unjudged),
        "no_better_than_a_line": len(losing),
        "run_sd_percent": 100 * spread,
    }
    answer = "; ".join(advice) if advice else (
        "nothing stands out: every law is determined, judged and better than a straight line; the "
        "next rung up is the best test"
    )  # fmt: skip
    evidence = (
        f"{len(chosen)} chosen laws of the loss; single runs scatter about them by "
        f"{number(100 * spread, 2)} % (median); {draws} draws, {seeds} seeds."
    )
    return law_record(UNCERTAINTY, None, f"{answer[0].upper()}{answer[1:]}.", evidence, numbers)


def _missing(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the questions that could not be told need, the most wanted first."""
    wanted: dict[str, list[str]] = {}
    for answer in answers:
        needs = answer["numbers"].get("needs")
        # Claims rest on the same questions.
        if needs and not answer["question"].startswith("Claim"):
            wanted.setdefault(needs, [])
            if answer["question"] not in wanted[needs]:
                wanted[needs].append(answer["question"])
    ranked = sorted(wanted.items(), key=lambda item: -len(item[1]))
    numbers = {"wanted": [{"add": needs, "questions": asked} for needs, asked in ranked]}
    if not ranked:
        return law_record(ADD, None, "Nothing: every question was answered.", "", numbers)
    told = "; ".join(f"{needs} ({len(asked)})" for needs, asked in ranked)
    evidence = "In brackets: the number of questions and claims that wait for it."
    return law_record(ADD, None, f"Add {told}.", evidence, numbers)
