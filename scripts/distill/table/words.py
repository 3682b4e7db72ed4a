"""What a study's task is called in a reader's words: the text, a sample, perplexity."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Words:
    """A task's words.

    Attributes:
        text: What students learn.
        more: The same, where there is more of it.
        samples: What a training set is counted in.
        perplexity: What exp(loss) is.
        note: What a reader must know of the numbers; empty for none.
    """

    text: str
    more: str
    samples: str
    perplexity: str
    note: str = ""


INSTRUCTION = Words("the teacher's text", "teacher text", "samples", "perplexity")
_GIVEN = (
    "Held-out text is the corpus's own, which no teacher drew, so a student's loss minus its "
    "teacher's is not the divergence between them, and a student may beat its teacher."
)
WORDS = {
    "causal-lm": Words("the corpus", "of the corpus", "chunks", "perplexity", _GIVEN),
    "masked-lm": Words(
        "the corpus",
        "of the corpus",
        "chunks",
        "masked perplexity",
        f"{_GIVEN} Masked perplexity hides a share of the tokens at once, pseudo-perplexity one at "
        "a time: two numbers, neither to be compared with a causal model's perplexity.",
    ),
}
"""By task; what is not here speaks of teacher text."""


def words_of_task(task: str | None) -> Words:
    """The words of a task; those of teacher text where it is not known."""
    return WORDS.get(task or "", INSTRUCTION)


def words_of(runs: pd.DataFrame) -> Words:
    """The words of a runs table's task."""
    tasks = set(runs["task"].dropna()) if "task" in runs else set()
    return words_of_task(tasks.pop() if len(tasks) == 1 else None)
