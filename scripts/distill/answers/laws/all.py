"""Answers to the questions of a study of size from its fitted laws, or why they cannot be told.

Everything is a function of the runs table and laws.json. Intervals are 90 %. Where the conditions
of a claim do not hold the answer is "Cannot tell, because …; needs …", with the numbers there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from distill.answers.laws.advice import advice_answers, reach_answer
from distill.answers.laws.claims import claim_answers
from distill.answers.laws.collapse import REPLICATES, collapse_answers
from distill.answers.laws.compute_optimal import compute_optimal_answers, costs_of
from distill.answers.laws.data_needed import data_answers, scratch_answers
from distill.answers.laws.exponents import exponent_answers, method_differences
from distill.answers.laws.pairs import curation_differences, scratch_differences
from distill.answers.laws.pilot import pilot_answers
from distill.answers.laws.teacher_ratio import teacher_ratio_answers
from distill.answers.record import cannot_tell, law_record
from distill.laws.choice import Settings
from distill.laws.curves import group_of, law_rows
from distill.laws.fitted import FittedLaw
from distill.stats.intervals import number

PREDICTED = "Were the dearest runs predicted before they were trained?"
STARTS = 48
"""Starting points of laws that are fitted again here; laws.json's own fits use more."""


def answer_law_questions(
    runs: pd.DataFrame,
    laws: Sequence[FittedLaw],
    document: Mapping[str, Any],
    references: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    replicates: int = REPLICATES,
) -> list[dict[str, Any]]:
    """Answer what the fitted laws can answer.

    Args:
        runs: The runs table, or a table of laws (`own_table`).
        laws: Of laws.json.
        document: laws.json.
        references: references.json; teachers' params and flops_per_token are read.
        settings: From the config: pretraining_tokens {teacher: D_T}, corpus_methods (methods that
            train without a teacher), target_loss (nats per token or None). All may be missing.
        replicates: Simulated studies of the test of a break in size.

    Returns:
        Records of `distill.answers.record.record`. Where a question cannot be told, `numbers` holds
        cannot_tell and needs; a claim's verdict is numbers["verdict"].
    """
    rows = law_rows(runs, references)
    corpus = list(settings.get("corpus_methods") or [])
    own = set(runs.columns) >= {"tokens", "epochs", "gap"} or bool(
        pd.to_numeric(runs["samples"], errors="coerce").isna().all()
    )
    fitting = Settings(starts=STARTS, shared=not own)
    costs = costs_of(runs, rows, references)
    measured = [
        *teacher_ratio_answers(rows),
        *collapse_answers(rows, laws, fitting, replicates),
        *data_answers(rows, laws, settings.get("target_loss")),
        *scratch_answers(rows, corpus, costs, fitting),
        *compute_optimal_answers(
            rows, laws, costs, settings.get("pretraining_tokens") or {}, corpus
        ),
        *curation_differences(rows, fitting),
    ]
    answers = [
        reach_answer(rows),
        *predicted_answers(laws, document),
        *exponent_answers(laws),
        *method_differences(laws, corpus),
        *scratch_differences(rows, corpus, fitting),
        *measured,
        *pilot_answers(rows, laws, fitting),
        *claim_answers(laws, corpus, measured),
    ]
    advice = advice_answers(rows, laws, answers)
    return [*advice, *answers]


def predicted_answers(
    laws: Sequence[FittedLaw], document: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """How the chosen laws met the rung that they were judged on.

    Laws over size where a group has one, each in the measure of all parameters; else laws over the
    data of one student.
    """
    chosen = [law for law in laws if law.best]
    grids = {(group_of(law), law.target) for law in chosen if law.selected.get("size")}
    answers = []
    for law in chosen:
        size = law.selected.get("size")
        if size == "params" or (size is None and (group_of(law), law.target) not in grids):
            twin = next(
                (
                    one
                    for one in chosen
                    if one.selected.get("size") == "params_non_embedding"
                    and one.name == law.name
                    and (group_of(one), one.target) == (group_of(law), law.target)
                ),
                None,
            )
            answers.append(_predicted(law, twin))
    if answers:
        return answers
    reasons = sorted({str(one["reason"]) for one in document.get("refused", [])})
    evidence = f"Laws refused: {'; '.join(reasons)}." if reasons else ""
    needs = "one student at 4 or more amounts of data, or 3 students at several amounts"
    return [cannot_tell(PREDICTED, None, "no law could be fitted", needs, evidence)]


def _predicted(law: FittedLaw, twin: FittedLaw | None) -> dict[str, Any]:
    held = law.record["holdout"]
    name = {"loss": "the loss", "gap": "the gap to the teacher"}[law.target]
    numbers: dict[str, Any] = {"law": law.name, "target": law.target, "holdout": held}
    if held is None:
        because = f"{law.name} for {name} is not determined without the dearest rung"
        needs = "one more rung: dearer runs, or cheaper ones below"
        return cannot_tell(PREDICTED, law.selected, because, needs, "", numbers)
    skill = held["skill_vs_loglinear"]
    axis = {"tokens": "most data", "params": "largest size", "compute": "most compute"}[
        held["axis"]
    ]
    missed = f"{number(100 * held['mean_relative_error'], 2)} %"
    if held["runs"] == 1:
        missed = f"run with the {axis} by {missed}, "
    else:
        missed = (
            f"{held['runs']} runs with the {axis} by {missed} on average, "
            f"{number(100 * held['max_relative_error'], 2)} % at worst, "
        )
    answer = (
        f"For {name} the law missed the {missed}"
        f"{number(held['compute_factor'], 2)} times beyond the compute that it was fitted to; "
    )
    if skill is None:
        answer += "there is no straight line to compare it with."
    elif skill > 0:
        answer += (
            f"its error is {number(100 * skill, 2)} % below that of a straight line in logs "
            "through the last two sizes."
        )
    else:
        answer += (
            f"no better than a straight line in logs through the last two sizes (its error is "
            f"{number(-100 * skill, 2)} % above that line's): the forecast earns no trust."
        )
    pairs = "; ".join(
        f"{one['student']} at {number(one['tokens'])} tokens: {number(one['predicted'], 4)} "
        f"predicted ({number(one['low'], 4)} to {number(one['high'], 4)}), "
        f"{number(one['measured'], 4)} measured"
        for one in held["predicted"][:6]
    )
    rest = len(held["predicted"]) - 6
    share = held["mean_error_over_gap"] if law.target == "loss" else None
    evidence = f"{law.record['formula']}, {law.record['points']} runs. {pairs}"
    evidence += f"; and {rest} more." if rest > 0 else "."
    evidence += (
        f" {number(100 * held['interval_coverage'], 2)} % of the measured values lie in the 90 % "
        "intervals of a new run."
    )
    if share is not None:
        evidence += f" The error is {number(100 * share, 2)} % of the gap to the teacher."
    if twin is not None and twin.record["holdout"]:
        other = twin.record["holdout"]
        numbers["holdout_non_embedding"] = other
        evidence += (
            f" In parameters without embeddings the mean error is "
            f"{number(100 * other['mean_relative_error'], 2)} %."
        )
    return law_record(PREDICTED, law.selected, answer, evidence, numbers)
