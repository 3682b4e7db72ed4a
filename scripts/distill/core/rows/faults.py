"""Mistakes in the rows of a data set: all are collected, then told in one sentence."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from distill.core.errors import UserError

_FIRST = 5
"""Places of one kind of mistake that a sentence lists."""
_KINDS = 3
Header = Callable[[Path | str, Sequence[str]], None]
"""Checks that a file whose rows all have the same columns has those that are needed."""


class Place(NamedTuple):
    """Where a row is: `row 3`, `row 3 (line 5)` or `line 5` of a file."""

    file: Path | str
    label: str


class Places:
    """The first of many places, and how many there are."""

    def __init__(self) -> None:
        self.first: list[Place] = []
        self.count = 0

    def add(self, place: Place) -> None:
        """Count a place."""
        self.count += 1
        if len(self.first) < _FIRST:
            self.first.append(place)

    def text(self) -> str:
        """The places in words, with the file in front if it is the same for all."""
        files = {place.file for place in self.first}
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        if len(files) > 1:
            names = ", ".join(f"{place.label} of {place.file}" for place in self.first)
            return names + more
        return f"{files.pop()}, {_labels(self.first)}{more}"


def _labels(places: Sequence[Place]) -> str:
    """`row 3`, or `rows 3, 7`."""
    if len(places) == 1:
        return places[0].label
    noun = places[0].label.partition(" ")[0]
    return f"{noun}s {', '.join(place.label.partition(' ')[2] for place in places)}"


class Faults:
    """Mistakes by kind, in the order of their first places."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, Places]] = {}

    def add(self, place: Place, what: str, kind: str | None = None) -> None:
        """Note a mistake.

        Args:
            place: Where it is.
            what: What is wrong and how to correct it.
            kind: What is common to mistakes whose words differ; the first's words are told.
        """
        self._kinds.setdefault(kind or what, (what, Places()))[1].add(place)

    def check(self) -> None:
        """Tell the mistakes.

        Raises:
            UserError: There is at least one.
        """
        if not self._kinds:
            return
        kinds = list(self._kinds.values())
        texts = [f"{places.text()}: {what}" for what, places in kinds[:_KINDS]]
        texts += [f"and {len(kinds) - _KINDS} more kinds of mistake"] if kinds[_KINDS:] else []
        raise UserError("; ".join(texts))
