"""Scores that go with a loss: pass rates, accuracies and the loss on another text."""

from collections.abc import Sequence
from typing import Any

from distill.ask.study import Group, Refusal, Study
from distill.contracts.points import GROUP_KEYS
from distill.core.errors import UserError
from distill.laws.relations import Relation

_BEYOND = 0.5
"""A loss further outside those measured than this share of their range is refused."""


def ask_scores(
    study: Study, groups: Sequence[Group], loss: float, items: float | None = None
) -> dict[str, Any]:
    """The scores that go with a loss, for each group and score.

    Args:
        study: The study.
        groups: Groups of runs to ask.
        loss: Held-out loss, nats per token.
        items: Items of a new run's score; None: as those of the study.

    Returns:
        loss; answers: of, label, value, low, high (of the mean), run_low, run_high (of a new run),
        range of the losses measured, inside, points, holdout; refused: of, label, reason and its
        numbers.

    Raises:
        UserError: The loss or the items are not positive.
        Refusal: No score is related to the loss, or not that far from the losses measured.
    """
    if not loss > 0:
        raise UserError("--loss must be a positive number of nats per token")
    if items is not None and not items >= 1:
        raise UserError("--items must be at least 1")
    answers, refused = list[dict[str, Any]](), list[dict[str, Any]]()
    for group in groups:
        for record in _of(study, group, "refused"):
            refused.append({**record, "label": group.label})
        for record in _of(study, group, "fitted"):
            relation = Relation.of_state(record["state"])
            low, high = relation.range
            about = {"of": record["of"], "by": "loss", "label": group.label}
            if not low - _BEYOND * (high - low) <= loss <= high + _BEYOND * (high - low):
                refused.append({**about, "reason": "too_far", "lowest": low, "highest": high})
                continue
            found = relation.predict(loss, items or record["items"])
            answers.append(
                {
                    **about,
                    **{name: float(values[0]) for name, values in found.items()},
                    "items": items or record["items"],
                    "range": [low, high],
                    "inside": low <= loss <= high,
                    "points": record["points"],
                    "holdout": record["holdout"],
                }
            )
    if not answers and not refused:
        raise Refusal(
            "no run of this study has a pass rate, an accuracy or a loss on a reference text; a "
            "table of your own names them as runs_table.columns.accuracy and reference_loss"
        )
    return {"loss": loss, "answers": answers, "refused": refused}


def _of(study: Study, group: Group, side: str) -> list[dict[str, Any]]:
    """The records of scores against the loss of a group."""
    return [
        record
        for record in study.relations.get(side, [])
        if record["by"] == "loss"
        and all(record["selected"][key] == group.keys[key] for key in GROUP_KEYS)
    ]
