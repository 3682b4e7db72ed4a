"""`distill ask`: questions to a finished study."""

import argparse
from typing import Any

from distill.ask.choices import MAX_FACTOR, SCOPES, UNITS
from distill.cli.command import Command, Outcome, Refused, add_json, epilog
from distill.contracts.points import GROUP_KEYS

_EXAMPLES = {
    "loss": "distill ask results/my_study loss --student NAME --samples 5000 --price-hour 0.4",
    "samples": "distill ask results/my_study samples --student NAME --perplexity 8",
    "best": "distill ask results/my_study best --budget-hours 10",
    "score": "distill ask results/my_study score --loss 2.1 --method kd",
    "laws": "distill ask results/my_study laws --best",
}


def _narrowed() -> argparse.ArgumentParser:
    """Options that name groups of runs, and prices."""
    narrowed = argparse.ArgumentParser(add_help=False)
    for name in GROUP_KEYS:
        narrowed.add_argument(f"--{name}", help=f"only this {name} (default: all that were run)")
    for name, metavar, text in (
        ("epochs", "E", "tokens seen over unique ones (default: as most runs)"),
        ("price-hour", "X", "money for an hour of this machine"),
        ("price-million-tokens", "X", "money for a million teacher tokens; hours then free"),
    ):
        narrowed.add_argument(f"--{name}", type=float, metavar=metavar, help=text)
    beyond = "warn beyond this factor of extrapolation (default %(default)g)"
    narrowed.add_argument("--max-factor", type=float, metavar="X", default=MAX_FACTOR, help=beyond)
    add_json(narrowed)
    return narrowed


def _student() -> argparse.ArgumentParser:
    """Options that name a student."""
    student = argparse.ArgumentParser(add_help=False)
    either = student.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--student", metavar="NAME", help="a student of the study (of your own table: its size)"
    )
    either.add_argument("--params", type=float, metavar="N", help="parameters of any model")
    student.add_argument("--non-embedding", action="store_true", help="N counts no embeddings")
    student.add_argument(
        "--teacher-loss", type=float, metavar="L",
        help="another teacher's loss, nats per token (needs a fitted distillation law)",
    )  # fmt: skip
    return student


def _add_loss(parser: argparse.ArgumentParser) -> None:
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--loss", type=float, metavar="L", help="nats per token")
    target.add_argument("--perplexity", type=float, metavar="P", help="exp(loss)")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", help="folder of a finished study, results/<study>"
    )
    questions = parser.add_subparsers(
        dest="question", required=True, metavar="QUESTION", help=", ".join(_EXAMPLES)
    )
    narrowed = _narrowed()
    both = [_student(), narrowed]

    def question(name: str, text: str, *parents: argparse.ArgumentParser) -> Any:
        return questions.add_parser(
            name,
            parents=parents,
            description=text,
            epilog=epilog([_EXAMPLES[name]]),
            formatter_class=parser.formatter_class,
        )

    loss = question("loss", "The expected loss of a model, and what training it costs.", *both)
    data = loss.add_mutually_exclusive_group(required=True)
    data.add_argument("--samples", type=float, metavar="n", help="teacher responses to train on")
    data.add_argument("--tokens", type=float, metavar="D", help="unique training tokens")

    samples = question("samples", "The number of samples that a loss takes.", *both)
    _add_loss(samples)

    score = question(
        "score", "The pass rate or accuracy, and the reference loss, of a loss.", narrowed
    )
    _add_loss(score)
    score.add_argument("--items", type=float, metavar="K", help="items of a new run's score")

    best = question("best", "The best model and data for a budget.", narrowed)
    limit = best.add_mutually_exclusive_group(required=True)
    for unit in UNITS:
        limit.add_argument(f"--budget-{unit}", type=float, metavar="X")
    paid = "what FLOPs and hours pay for (default: all, the teacher included)"
    best.add_argument("--count", choices=SCOPES, default="all", help=paid)

    laws = question("laws", "The laws that were fitted.")
    laws.add_argument("--best", action="store_true", help="only the best of each group")
    add_json(laws)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.ask.program import answer
    from distill.ask.study import Refusal

    try:
        record, text = answer(options)
    except Refusal as error:
        raise Refused(str(error)) from None
    return Outcome(record, text)


COMMAND = Command(
    summary="ask a finished study",
    details="Ask a finished study for an expected loss, the samples that a loss takes, the best "
    "model for a budget, the task score of a loss, or its laws. Each answer names its law, its "
    "intervals and how far it extrapolates. Options of a question: distill ask STUDY QUESTION "
    "--help.",
    examples=tuple(_EXAMPLES.values()),
    add_options=_add_options,
    run=_run,
)
