"""The command line of asking a finished study: its options, and the answer to what was given."""

import argparse
import math
from typing import Any

from distill.ask import budget, study, subject, words
from distill.ask.costs import Prices
from distill.contracts.points import GROUP_KEYS
from distill.core.errors import UserError
from distill.core.files import read_json


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    wanted = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    wanted.add_argument("study", help="folder of a finished study, results/<study>")
    questions = wanted.add_subparsers(dest="question", required=True)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print JSON")

    narrowed = argparse.ArgumentParser(add_help=False)
    for name in ("method", "teacher", "cache", "curation", "init", "group"):
        narrowed.add_argument(f"--{name}", help=f"only this {name} (default: all that were run)")
    for name, metavar, text in (
        ("epochs", "E", "tokens seen over unique ones (default: as most runs)"),
        ("price-hour", "X", "money for an hour of this machine"),
        ("price-million-tokens", "X", "money for a million teacher tokens; hours then free"),
    ):  # fmt: skip
        narrowed.add_argument(f"--{name}", type=float, metavar=metavar, help=text)
    beyond = "warn beyond this factor of extrapolation (default %(default)g)"
    narrowed.add_argument("--max-factor", type=float, default=subject.MAX_FACTOR, help=beyond)

    who = argparse.ArgumentParser(add_help=False)
    student = who.add_mutually_exclusive_group(required=True)
    student.add_argument("--student", help="a student of the study")
    student.add_argument("--params", type=float, metavar="N", help="parameters of any student")
    who.add_argument("--non-embedding", action="store_true", help="N counts no embeddings")

    parents = [shared, narrowed, who]
    loss = questions.add_parser("loss", parents=parents, help="expected loss and what it costs")
    data = loss.add_mutually_exclusive_group(required=True)
    data.add_argument("--samples", type=float, metavar="n", help="teacher responses to train on")
    data.add_argument("--tokens", type=float, metavar="D", help="unique training tokens")

    samples = questions.add_parser("samples", parents=parents, help="samples that a loss takes")
    target = samples.add_mutually_exclusive_group(required=True)
    target.add_argument("--loss", type=float, metavar="L", help="nats per token")
    target.add_argument("--perplexity", type=float, metavar="P", help="exp(loss)")

    best = questions.add_parser("best", parents=[shared, narrowed],
                                help="best student and data for a budget")  # fmt: skip
    limit = best.add_mutually_exclusive_group(required=True)
    for unit in ("flops", "hours", "money"):
        limit.add_argument(f"--budget-{unit}", type=float, metavar="X")
    paid = "what FLOPs and hours pay for (default: all, the teacher included)"
    best.add_argument("--count", choices=budget.SCOPES, default="all", help=paid)

    laws = questions.add_parser("laws", parents=[shared], help="which laws there are")
    laws.add_argument("--best", action="store_true", help="only the best of each group")
    return wanted


def answer(given: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The answer as JSON and in words.

    Raises:
        UserError: The question has no answer; the text says why.
    """
    if given.question == "laws":
        document = read_json(f"{given.study}/laws.json")
        if given.best:
            document = {**document, "laws": [law for law in document["laws"] if law["best"]]}
        return document, words.laws_text(document)
    if not (math.isfinite(given.max_factor) and given.max_factor >= 1):
        raise UserError("--max-factor must be at least 1")
    for name in ("price_hour", "price_million_tokens", "epochs", "params"):
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
            for unit in budget.UNITS
            if (value := getattr(given, f"budget_{unit}")) is not None
        ]
        found = budget.ask_best(
            finished, groups, unit, limit, given.count, given.max_factor, prices, given.epochs
        )
        return {"schema": 1, "question": "best", **found}, words.best_text(found)
    return _of_groups(given, finished, groups, prices)


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
                finished, group, given.student, given.params, measure, given.epochs
            )
            if given.question == "loss":
                tokens = study.tokens_of(group, given.samples, given.tokens)
                answers.append(subject.ask_loss(asked, tokens, given.max_factor, prices))
                texts.append(words.loss_text(answers[-1]))
            else:
                target = given.loss
                if target is None:
                    if not given.perplexity > 1:
                        raise UserError("--perplexity must be above 1")
                    target = math.log(given.perplexity)
                answers.append(subject.ask_samples(asked, target, given.max_factor, prices))
                texts.append(words.samples_text(answers[-1]))
        except study.NoLaw as reason:
            refused.append(reason)
    sentences = study.joined(refused)
    if not answers:
        raise UserError("; ".join(sentences))
    document = {"schema": 1, "question": given.question, "answers": answers, "refused": sentences}
    return document, "\n".join([*texts, *sentences])
