"""Whether the split of FLOPs holds at other scales.

At fixed epochs the teacher's and the student's FLOPs both grow with the tokens alike, so the split
holds for other scales only if epochs vary too.
"""

from typing import Any

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured
from distill.answers.needs import change_method
from distill.answers.runs import flops_split
from distill.table.lines import STEADY

KEY = "flops_split_scales"
FEWEST = 1.5
"""Least ratio of two cells' tokens, or epochs, that counts as a change."""
STILL = 0.05
"""Largest change of the teacher's share that counts as none."""


def answer(study: Measured) -> list[Answer]:
    """How the teacher's share moves with tokens and with epochs, where both were varied."""
    points = [
        point
        for split in study.ask(flops_split.answer)
        if split.status != "not_applicable"
        for point in split.numbers["points"]
        if None not in (point["marginal"], point["epochs"], point["tokens_unique"])
    ]
    by_tokens = _changes(points, "tokens_unique", "epochs")
    by_epochs = _changes(points, "epochs", "tokens_unique")
    numbers: dict[str, Any] = {"by_tokens": by_tokens, "by_epochs": by_epochs}
    needs = []
    if not by_tokens:
        sizes = sorted({point["samples"] for point in points})
        change = {"runs[].samples": [*sizes, 2 * sizes[-1]]} if sizes else {}
        needs.append(Need("unique_tokens", FEWEST, None, change))
    if not by_epochs:
        line, known = study.parts[0], [point["epochs"] for point in points]
        twice = round(2 * max(known)) if known else None
        change = change_method(line.method, study.settings, epochs=twice) if twice else {}
        needs.append(Need("epochs", FEWEST, None, change))
    if needs:
        return [Answer(KEY, {}, "cannot_tell", numbers, tuple(needs))]
    tokens, epochs = (max(x, key=lambda c: c["factor"]) for x in (by_tokens, by_epochs))
    moved = max(abs(change["to_share"] - change["from_share"]) for change in (tokens, epochs))
    numbers |= {"widest": {"tokens": tokens, "epochs": epochs}, "constant": moved <= STILL}
    return [Answer(KEY, numbers=numbers)]


def _changes(points: list[dict[str, Any]], varied: str, fixed: str) -> list[dict[str, Any]]:
    """Return the widest change per student and value of `fixed` over at least FEWEST × `varied`."""
    out = []
    left = sorted(points, key=lambda p: (p["student"], p["cache"], p[fixed]))
    while left:
        first = left[0]
        cell = [
            p
            for p in left
            if (p["student"], p["cache"]) == (first["student"], first["cache"])
            and p[fixed] <= STEADY * first[fixed]
        ]
        left = left[len(cell) :]
        low, high = (pick(cell, key=lambda p: p[varied]) for pick in (min, max))
        if high[varied] >= FEWEST * low[varied]:
            out.append(
                {
                    "label": high["label"],
                    "from": low[varied],
                    "to": high[varied],
                    "factor": high[varied] / low[varied],
                    "at": first[fixed],
                    "from_share": low["marginal"],
                    "to_share": high["marginal"],
                }
            )
    return out
