"""What a live teacher and a student's own answers will cost, in closed form.

As `distill.on_policy` counts them, but for the lengths of answers that are not written yet: they
are taken to be as long as they may be.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.costing import Rows, Work, forward_work, generation_work, training_work, updates_of
from distill.flops import FlopModel


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
    rows: Rows


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
    own: Rows = Counter()
    for (prompt, _), count in rows.items():
        own[prompt, most] += count
    kinds: list[tuple[float, Rows]] = [(1 - share, rows), (share, own)]
    epochs = updates_of(rows.total(), train) / math.ceil(rows.total() / train["batch_size"])

    def asked(prompt: float, answer: float) -> Work:
        scored = prompt + answer - 1 if method["tokens"] == "all" else answer
        return forward_work(teacher, prompt + answer, scored)

    def over(kind: Rows, of: Callable[[float, float], Work]) -> Work:
        return sum((of(*row) * count for row, count in kind.items()), Work()) * epochs

    def sampled(prompt: float, answer: float) -> Work:
        return generation_work(student, prompt, answer)

    trained = (training_work(student, kind, method, train) * part for part, kind in kinds)
    tokens = (part * answer * count for part, kind in kinds for (_, answer), count in kind.items())
    return LiveWork(
        sum(trained, Work()),
        over(own, sampled) * share,
        sum((over(kind, asked) * part for part, kind in kinds), Work()),
        sum(tokens) * epochs,
        sum((kind for part, kind in kinds if part), Counter()),
    )
