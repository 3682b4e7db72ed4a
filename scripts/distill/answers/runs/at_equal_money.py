"""Which method is better at equal money.

Money is the price of the text's unique tokens, none for a method that trains on a corpus, and that
of the hours of training and of making soft targets.
"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.total_costs import Total, compare_all, numbers_of
from distill.table.lines import Line

KEY = "at_equal_money"
TOTALS = (
    Total("money", ("tokens_unique", "train_seconds", "target_seconds")),
    Total(
        "money_amortised",
        (
            "tokens_unique",
            "train_seconds",
            "target_seconds_amortised",
            "teacher_flops",
            "teacher_flops_amortised",
        ),
    ),
)
PRICES = ("teacher_million_tokens", "hour")


def answer(study: Measured) -> list[Answer]:
    """Compare every two methods (and caches) of a student at equal money.

    `prices` {teacher_million_tokens, hour} and `corpus_methods` are stated.
    """
    prices = study.settings.get("prices")
    if not prices:
        need = Need("prices", change={f"evaluate.prices.{name}": None for name in PRICES})
        return [Answer(KEY, {}, "cannot_tell", {"prices": None}, (need,))]
    corpus = set(study.settings.get("corpus_methods") or [])
    priced = [_with_money(line, prices, line.method in corpus) for line in study.parts]
    answers = compare_all(KEY, priced, TOTALS, study.part_spread, "money")
    stated = {"prices": dict(prices)}
    return [replace(one, numbers={**one.numbers, **stated}) for one in answers]


def _with_money(line: Line, prices: Mapping[str, float], corpus: bool) -> Line:
    text = numbers_of(line, "tokens_unique") * (
        0.0 if corpus else prices["teacher_million_tokens"] / 1e6
    )
    hourly = prices["hour"] / 3600
    train = numbers_of(line, "train_seconds")
    alone, shared = numbers_of(line, "teacher_flops"), numbers_of(line, "teacher_flops_amortised")
    # Ready-made text costs no FLOPs; its tokens cannot be shared out by them.
    part = (shared / alone.where(alone > 0)) if not corpus else pd.Series(1.0, line.runs.index)
    totals = {
        "money": text + hourly * (train + numbers_of(line, "target_seconds")),
        "money_amortised": text * part
        + hourly * (train + numbers_of(line, "target_seconds_amortised")),
    }
    return replace(line, runs=line.runs.assign(**totals))
