"""What a live teacher and a student's own answers will cost, in closed form.

As `distill.on_policy` counts them, but for the lengths of answers that are not written yet: they
are taken to be as long as they may be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.costing import Work, forward_work, generation_work, training_work, updates_of
from distill.flops import FlopModel

Rows = Sequence[tuple[float, float]]
"""(prompt, answer) tokens of each row."""


@dataclass(frozen=True)
class LiveWork:
    """FLOPs of a run with a live teacher.

    Attributes:
        training: forward and backward passes of the student.
        sampling: its own answers.
        teacher: the teacher's forward passes with its head.
        tokens: answer tokens trained on.
        rows: of both kinds of updates, for what the longest needs.
    """

    training: Work
    sampling: Work
    teacher: Work
    tokens: float
    rows: list[tuple[float, float]]


def live_work(
    student: FlopModel,
    teacher: FlopModel,
    rows: Rows,
    method: Mapping[str, Any],
    train: Mapping[str, Any],
) -> LiveWork:
    """Work of a run with a live teacher; the share of updates is taken to be exact.

    Args:
        student: The student's constants.
        teacher: The teacher's.
        rows: Of the text, after the cut.
        method: on_policy, and what `training_work` asks for.
        train: As for `training_work`.
    """
    share, most = method["on_policy"]["share"], float(method["on_policy"]["max_tokens"])
    own = [(prompt, most) for prompt, _ in rows]
    kinds: list[tuple[float, Rows]] = [(1 - share, rows), (share, own)]
    epochs = updates_of(len(rows), train) / math.ceil(len(rows) / train["batch_size"])

    def asked(prompt: float, answer: float) -> Work:
        scored = prompt + answer - 1 if method["tokens"] == "all" else answer
        return forward_work(teacher, prompt + answer, scored)

    trained = (training_work(student, kind, method, train) * part for part, kind in kinds)
    scored = (asked(*row) * (part * epochs) for part, kind in kinds for row in kind)
    return LiveWork(
        sum(trained, Work()),
        sum((generation_work(student, *row) * (share * epochs) for row in own), Work()),
        sum(scored, Work()),
        sum(answer * part * epochs for part, kind in kinds for _, answer in kind),
        [row for part, kind in kinds if part for row in kind],
    )
