"""What of the generated tokens is the response: texts that end it, and thinking before it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from distill.models.turns import turns_of

Mode = Literal["train", "keep", "drop"]


class StopStrings:
    """Texts that end a response beside the ends of turn; the response is what comes before.

    Args:
        tokenizer: The model's.
        strings: The texts; none end nothing.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self.tokenizer, self.strings = tokenizer, tuple(strings)
        # A token has at least one byte, but control tokens, which are left out, have none.
        self._window = 8 + 2 * max((len(text.encode()) for text in strings), default=0)

    def __bool__(self) -> bool:
        return bool(self.strings)

    def reached(self, ids: Sequence[int]) -> bool:
        """Whether generated tokens hold one of the texts; the last one is new."""
        text = self.tokenizer.decode(list(ids[-self._window :]), skip_special_tokens=True)
        return any(stop in text for stop in self.strings)

    def cut(self, text: str) -> str:
        """A response up to the first of the texts."""
        return text[: min((text.find(stop) for stop in self.strings if stop in text), default=None)]


class Thinking:
    """The thinking of a reasoning model, which ends with a known text.

    Args:
        tokenizer: The model's.
        mode: `train` (part of the response), `keep` (before it, in its prompt) or `drop`.
        end: The text that ends the thinking, such as </think>.
    """

    def __init__(self, tokenizer: Any, mode: Mode | None, end: str) -> None:
        self.tokenizer, self.mode, self.end = tokenizer, mode, end
        self._begin = "<" + end.removeprefix("</") if end.startswith("</") else None

    def length(self, prompt: Sequence[int], ids: Sequence[int], finished: bool) -> int:
        """Tokens of a response that are thinking, with its end and the white space behind it.

        All tokens are thinking if it was begun and `ids` were cut before its end; none if the
        model did not think, or thinking is part of the response.
        """
        if self.mode in (None, "train"):
            return 0
        if self.end not in self._text(ids):
            return 0 if finished or not self._begun(prompt, ids) else len(ids)
        low, high = 0, len(ids)  # the shortest beginning that holds the end
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.end in self._text(ids[:middle]) else (middle, high)
        while high < len(ids) and self._text(ids[high : high + 1]).isspace():
            high += 1
        return high

    def _begun(self, prompt: Sequence[int], ids: Sequence[int]) -> bool:
        """Whether the thinking was begun, by the prompt's end or by the model."""
        return self._begin is None or self._begin in self._text([*prompt[-16:], *ids])

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


class Read(NamedTuple):
    """A response as a row of text has it."""

    prompt: list[int]
    """The prompt, with thinking that is kept before the response."""
    first: int
    """The first of the generated tokens that belongs to the response."""
    text: str


class Responses:
    """Reads responses out of generated tokens, by a teacher's settings.

    Args:
        tokenizer: The model's.
        template: prompts.template of the study.
        decoding: stop, thinking and thinking_end, where they are set.
    """

    def __init__(self, tokenizer: Any, template: str, decoding: Mapping[str, Any]) -> None:
        self.tokenizer, self.turns = tokenizer, turns_of(tokenizer, template)
        self.stops = StopStrings(tokenizer, decoding.get("stop", ()))
        mode, end = decoding.get("thinking"), decoding.get("thinking_end", "")
        self.thinking = Thinking(tokenizer, mode, end)

    @property
    def stopped(self) -> Callable[[Sequence[int]], bool] | None:
        """Whether a text of the settings has been reached; None without any."""
        return self.stops.reached if self.stops else None

    def read(self, prompt: Sequence[int], ids: Sequence[int], reason: str) -> Read:
        """The response in generated tokens.

        Args:
            prompt: Token ids of the prompt.
            ids: Generated tokens, with their end.
            reason: `stop` or `length`.
        """
        first = self.thinking.length(prompt, ids, reason == "stop")
        context = [*prompt, *ids[:first]] if self.thinking.mode == "keep" else list(prompt)
        return Read(context, first, self.text(ids[first:]))

    def text(self, ids: Sequence[int]) -> str:
        """The text of a response's tokens, without its end."""
        text = self.tokenizer.decode(self.turns.body(ids), skip_special_tokens=True)
        return self.stops.cut(text)
