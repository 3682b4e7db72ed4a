"""What a study lacks for an answer about laws, with the smallest change of the config."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from distill.answers.answer import Need
from distill.contracts.points import GROUP_KEYS
from distill.laws.points import SIZE_RANGE, levels

AMOUNTS, STUDENT_SIZES = 4, 3
"""Amounts of data that determine a law of one student; students for a law over size."""


def need_amounts(rows: pd.DataFrame, needed: int = AMOUNTS) -> Need:
    """Amounts of data for a law over data: further ones are twice the largest.

    Args:
        rows: Points of laws.
        needed: How many.
    """
    return Need("amounts_of_data", needed, _count(rows, "tokens"), _samples(rows, needed))


def need_larger_data(rows: pd.DataFrame) -> Need:
    """One amount of data above the largest."""
    present = _count(rows, "tokens")
    return Need("larger_data", present + 1, present, _samples(rows, present + 1))


def need_students(rows: pd.DataFrame, needed: int = STUDENT_SIZES) -> Need:
    """Sizes of student: further ones are twice the largest."""
    sizes = _values(rows, "params")
    change = {"students[].params": _doubled(sizes, needed)}
    return Need("student_sizes", needed, _count(rows, "params"), change)


def need_size_span(low: float, high: float) -> Need:
    """Students over the factor in size that a claim about the exponent in N takes."""
    change = {"students[].params": [round(low), round(low * SIZE_RANGE)]}
    return Need("size_span", SIZE_RANGE, high / low, change)


def need_draws(rows: pd.DataFrame, needed: int | None = None) -> Need:
    """Draws of the data; one more than there are if `needed` is None.

    A user's own table has no draws: its repeats are seeds.
    """
    own = "samples" not in rows or bool(rows["samples"].isna().all())
    repeats = [int(rows[name].nunique()) for name in (("draw", "seed") if own else ("draw",))]
    present = max(repeats)
    needed = max(needed or present + 1, present + 1)
    return Need("draws", needed, present, {"runs[].draws": list(range(needed))})


def need_epochs(rows: pd.DataFrame) -> Need:
    """Epochs and unique tokens that both vary."""
    epochs = _values(rows, "epochs")
    most = max(epochs, default=1)
    epochs_to_run = sorted({*epochs, 4 * most})
    return Need("epochs", 2, len(epochs), {"methods.*.train.epochs": epochs_to_run})


def need_corpus() -> Need:
    """A method that trains without a teacher on text that the teacher did not write."""
    change = {"methods.scratch": {"ce": 1.0, "corpus": "<a source of independent text>"}}
    return Need("corpus_method", 1, 0, change)


def need_curation(sizes: int, draws: int) -> Need:
    """A curated and a raw group at equal tokens, with sizes and draws."""
    change = {"runs[].curations": ["raw", "<a curation>"], "runs[].draws": list(range(draws))}
    return Need("curated_beside_raw", {"sizes": sizes, "draws": draws}, None, change)


def need_teachers(needed: int, present: int) -> Need:
    """Teachers of different sizes for the same students and data."""
    more = [f"<teacher {place + 1}>" for place in range(needed)]
    return Need("teachers", needed, present, {"runs[].teachers": more})


def need_teacher_size(teacher: str | None) -> Need:
    """The size of a teacher, which a server does not state."""
    return Need(
        "teacher_size",
        teacher or None,
        None,
        {f"teachers.{teacher or '*'}.server.params": "<parameters>"},
    )


def need_pretraining_tokens(teacher: str | None) -> Need:
    """The tokens that a teacher was pre-trained on."""
    return Need(
        "pretraining_tokens",
        teacher or None,
        None,
        {f"teachers.{teacher or '*'}.pretraining_tokens": "<tokens>"},
    )


def _values(rows: pd.DataFrame, name: str) -> list[int]:
    """The levels of a column, as whole numbers, ascending."""
    values = rows[name].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    ranks = levels(values, name)
    return [round(float(np.median(values[ranks == rank]))) for rank in np.unique(ranks)]


def _count(rows: pd.DataFrame, name: str) -> int:
    """The most levels of a column that one group has: laws never mix groups."""
    keys = [key for key in GROUP_KEYS if key in rows]
    if not keys or not len(rows):
        return len(_values(rows, name))
    groups = rows.groupby(keys, dropna=False, sort=False)
    return max(len(_values(group, name)) for _, group in groups)


def _doubled(values: Sequence[int], count: int) -> list[int]:
    """Ascending values, with doubles of the largest until there are enough."""
    out = list(values)
    while out and len(out) < count:
        out.append(2 * out[-1])
    return out


def _samples(rows: pd.DataFrame, count: int) -> dict[str, list[int]]:
    """The samples of a study with so many sizes; nothing where the table counts none."""
    if "samples" not in rows or not rows["samples"].notna().any():
        return {}
    sizes = sorted({int(n) for n in rows["samples"].dropna()})
    return {"runs[].samples": _doubled(sizes, max(count, len(sizes)))}
