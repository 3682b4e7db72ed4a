"""A row of text as a model reads it: its tokens, and the positions that predict the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Example:
    """One prompt and answer in a model's tokens; the answer has its end token if it ended.

    For a masked chunk, the prompt is the model's input, the answer the true tokens at the masked
    positions, and `positions` these positions in the prompt, ascending.
    """

    prompt: list[int]
    answer: list[int]
    positions: list[int] | None = None

    @property
    def tokens(self) -> list[int]:
        """The model's input in training and evaluation."""
        return self.prompt if self.positions is not None else self.prompt + self.answer

    @property
    def predicting(self) -> Sequence[int]:
        """Positions in `tokens` that predict the tokens of the answer."""
        if self.positions is not None:
            return self.positions
        return range(len(self.prompt) - 1, len(self.tokens) - 1)


def scored_positions(row: Mapping[str, Any], tokens: str = "answer") -> Sequence[int]:
    """Positions of a text row that predict a token: those of the answer, or all but the last.

    For a masked chunk: the masked positions.
    """
    if "positions" in row:
        return list(row["positions"])
    prompt, answer = len(row["prompt_ids"]), len(row["response_ids"])
    return range(prompt - 1 if tokens == "answer" else 0, prompt + answer - 1)


def drawn_tokens(row: Mapping[str, Any], tokens: str = "answer") -> list[int]:
    """The token of a text row that follows each of its `scored_positions`; -1 in the prompt."""
    answer = list(row["response_ids"])
    return [-1] * (len(scored_positions(row, tokens)) - len(answer)) + answer


def read_ids(row: Mapping[str, Any]) -> list[int]:
    """A model's input ids of a text row: prompt and answer, or a masked chunk."""
    ids = list(row["prompt_ids"] or [])
    return ids if "positions" in row else ids + list(row["response_ids"] or [])
