"""A row of text as a model reads it: which tokens, and where each of the others is predicted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """One prompt and answer in a model's tokens; the answer has its end token if it ended.

    Of a masked chunk, the prompt is all that the model sees, the answer the true tokens to be found
    and `positions` where in the prompt they stand, ascending.
    """

    prompt: list[int]
    answer: list[int]
    positions: list[int] | None = None

    @property
    def tokens(self) -> list[int]:
        """What the model reads while it is trained or judged."""
        return self.prompt if self.positions is not None else self.prompt + self.answer

    @property
    def predicting(self) -> Sequence[int]:
        """Where in `tokens` each token of the answer is predicted."""
        if self.positions is not None:
            return self.positions
        return range(len(self.prompt) - 1, len(self.tokens) - 1)


def scored_positions(row: Mapping[str, Any], tokens: str = "answer") -> Sequence[int]:
    """Positions of a text row at which a token is predicted: the answer's, or all but the last.

    Of a masked chunk, those of the tokens to be found.
    """
    if "positions" in row:
        return list(row["positions"])
    prompt, answer = len(row["prompt_ids"]), len(row["response_ids"])
    return range(prompt - 1 if tokens == "answer" else 0, prompt + answer - 1)


def read_ids(row: Mapping[str, Any]) -> list[int]:
    """Token ids of a text row that a model reads: prompt and answer, or a masked chunk."""
    ids = list(row["prompt_ids"] or [])
    return ids if "positions" in row else ids + list(row["response_ids"] or [])
