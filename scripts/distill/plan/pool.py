"""The pool: rows for training and evaluation, in parts of one seeded order."""

from typing import NamedTuple, Protocol

from distill.config.study import parts_of
from distill.config.text import Prompts
from distill.plan.keys import Spec


class Chunk(NamedTuple):
    """Token counts of a row, if all rows have the same length."""

    length: int
    """Tokens of the text."""
    read: int
    """Tokens that a model reads, including special tokens around the text."""
    scored: int
    """Tokens in the loss: all, or the masked ones."""


class Pool(Protocol):
    """Prompts that teachers answer, or chunks of a corpus that all models read."""

    settings: Prompts
    """Sizes, seed and format."""
    asks: bool
    """Whether models answer prompts; else all teachers share the text of the corpus."""
    corpus: str | None
    """Data source of the text that all models read."""
    chunk: Chunk | None
    """Token counts of a row, if all rows have the same length."""

    @property
    def spec(self) -> Spec:
        """What the rows depend on, without teachers; the number of used rows is not part of it."""

    @property
    def key(self) -> str:
        """Folder name of the rows."""

    @property
    def folder(self) -> str:
        """Folder of the rows."""

    @property
    def files(self) -> list[str]:
        """Rows of the data sets that the pool is taken from."""

    @property
    def near_duplicates(self) -> str:
        """The record of near-duplicates of held-out text."""

    @property
    def formatting(self) -> Spec:
        """How a prompt becomes a model's input."""

    @property
    def test_prompts(self) -> list[str]:
        """Files of the held-out prompts; a corpus has none."""
        return []

    def parts(self, split: str) -> range:
        """Numbers of a held-out split's parts."""
        sizes = {"test": self.settings.test, "validation": self.settings.validation}
        return range(parts_of(sizes[split], self.settings.part_size))

    def rows(self, split: str, part: int) -> int:
        """Number of rows of a part: the part size, or less in the last part."""
