"""The answer to a question to a finished study, as JSON and in words."""

import argparse
import math
from typing import Any

from distill.ask import budget, score, study, subject
from distill.ask.choices import UNITS
from distill.ask.costs import Prices
from distill.ask.words import text_of
from distill.contracts.points import GROUP_KEYS
from distill.core.errors import UserError


def answer(given: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The answer as JSON and in words.

    Args:
        given: The options of `distill ask`.

    Raises:
        Refusal: The study has no answer to the question.
        UserError: An option is wrong, or a file of the study.
    """
    if given.question == "laws":
        document = study.read_document(given.study)
        if given.best:
            document = {**document, "laws": [law for law in document["laws"] if law["best"]]}
        return document, text_of("laws", document)
    if not (math.isfinite(given.max_factor) and given.max_factor >= 1):
        raise UserError("--max-factor must be at least 1")
    for name in ("price_hour", "price_million_tokens", "epochs", "params", "teacher_loss"):
        value = getattr(given, name, None)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"--{name.replace('_', '-')} must be a positive number")
    finished = study.read_study(given.study)
    prices = Prices(given.price_hour, given.price_million_tokens)
    wanted = {key: getattr(given, key) for key in GROUP_KEYS}
    groups = study.pick_groups(finished, wanted, getattr(given, "student", None))
    if given.question == "best":
        (unit, limit), *_ = [
            (unit, value)
            for unit in UNITS
            if (value := getattr(given, f"budget_{unit}")) is not None
        ]
        found = budget.ask_best(
            finished, groups, unit, limit, given.count, given.max_factor, prices, given.epochs
        )
        return {"schema": 1, "question": "best", **found}, text_of("best", found)
    if given.question == "score":
        scores = score.ask_scores(finished, groups, _loss(given), given.items)
        text = text_of("score", scores)
        if not scores["answers"]:
            raise study.Refusal("; ".join(text.splitlines()))
        return {"schema": 1, "question": "score", **scores}, text
    return _of_groups(given, finished, groups, prices)


def _loss(given: argparse.Namespace) -> float:
    """The loss that was asked for, nats per token."""
    if given.loss is not None:
        return float(given.loss)
    if not given.perplexity > 1:
        raise UserError("--perplexity must be above 1")
    return math.log(given.perplexity)


def _of_groups(
    given: argparse.Namespace,
    finished: study.Study,
    groups: list[study.Group],
    prices: Prices,
) -> tuple[dict[str, Any], str]:
    """An answer for each group; refused where none has one."""
    answers: list[dict[str, Any]] = []
    refused: list[study.NoLaw] = []
    texts: list[str] = []
    measure = "params_non_embedding" if given.non_embedding else "params"
    for group in groups:
        try:
            asked = subject.find_subject(
                finished, group, given.student, given.params, measure, given.epochs,
                given.teacher_loss,
            )  # fmt: skip
            if given.question == "loss":
                tokens = study.tokens_of(group, given.samples, given.tokens)
                answers.append(subject.ask_loss(asked, tokens, given.max_factor, prices))
                texts.append(text_of("loss", answers[-1]))
            else:
                answers.append(subject.ask_samples(asked, _loss(given), given.max_factor, prices))
                texts.append(text_of("samples", answers[-1]))
        except study.NoLaw as reason:
            refused.append(reason)
    sentences = study.joined(refused)
    if not answers:
        raise study.Refusal("; ".join(sentences))
    document = {"schema": 1, "question": given.question, "answers": answers, "refused": sentences}
    return document, "\n".join([*texts, *sentences])
