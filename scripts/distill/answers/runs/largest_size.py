"""The largest size that was measured."""

from distill.answers.answer import Answer
from distill.answers.measured import Measured

KEY = "largest_size"


def answer(study: Measured) -> list[Answer]:
    """The most samples of any run."""
    return [Answer(KEY, numbers={"largest_samples": int(study.table["samples"].max())})]
