"""The pool: rows that students learn and are evaluated on, in parts of one seeded order."""

from typing import NamedTuple, Protocol

from distill.config.study import parts_of
from distill.config.text import Prompts
from distill.plan.keys import Spec


class Chunk(NamedTuple):
    """Tokens of a row where all rows have one length."""

    length: int
    """Tokens of its text."""
    read: int
    """Tokens that a model reads, those around the text included."""
    scored: int
    """Tokens that are learned and evaluated: all, or those to be found."""


class Pool(Protocol):
    """Prompts that teachers answer, or chunks of a corpus that all models read."""

    settings: Prompts
    """Sizes, seed and format; a corpus states the same ones."""
    asks: bool
    """Whether models answer prompts; else all teachers have one text, which is there already."""
    corpus: str | None
    """Data source of the text that all models read."""
    chunk: Chunk | None
    """Tokens of a row, if they all have equally many."""

    @property
    def spec(self) -> Spec:
        """What the rows depend on before any teacher; how many are used does not matter."""

    @property
    def key(self) -> str:
        """Name of their folder."""

    @property
    def folder(self) -> str:
        """Their folder."""

    @property
    def near_duplicates(self) -> str:
        """The record of what resembles held-out text."""

    @property
    def formatting(self) -> Spec:
        """How a prompt becomes a model's input."""

    def parts(self, split: str) -> range:
        """Numbers of a held-out split's parts."""
        sizes = {"test": self.settings.test, "validation": self.settings.validation}
        return range(parts_of(sizes[split], self.settings.part_size))

    def rows(self, split: str, part: int) -> int:
        """Rows of a part: the part's size, or what is left."""
