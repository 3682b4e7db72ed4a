"""Specs, paths and parts of a corpus that a study's models read, in place of answers."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from distill.config.checks.corpus import read_length
from distill.config.text import Corpus
from distill.core.keys import chosen, digest, slug

if TYPE_CHECKING:
    from distill.plan.study import Plan


CORPORA = "resources/corpora"


class CorpusPlan:
    """What a study's text is made of. It is the same for all teachers, who only score it."""

    def __init__(self, plan: "Plan", corpus: Corpus) -> None:
        self.plan, self.settings = plan, corpus

    @property
    def sources(self) -> dict[str, str]:
        """Data source of `train`, and of each held-out split that has one of its own."""
        own = self.settings
        given = {"train": own.source, "test": own.test_source, "validation": own.validation_source}
        return {split: name for split, name in given.items() if name is not None}

    @property
    def texts(self) -> list[str]:
        """Their rows, in that order."""
        return [self.plan.data_rows(name) for name in self.sources.values()]

    @property
    def tokenizer(self) -> str:
        """The file that is written when the tokenizer's model is in place."""
        return self.plan.model_manifest(self.settings.tokenizer)

    @cached_property
    def chunks_spec(self) -> dict[str, Any]:
        """What the chunks depend on; how many are used does not matter."""
        own = self.settings
        return {
            "texts": {split: self.plan.source_spec(name) for split, name in self.sources.items()},
            "tokenizer": self.plan.source_spec(own.tokenizer),
            "length": own.length,
            "held_out": own.held_out,
            "splits": ["test", *(["validation"] if own.validation else [])],
            "near_duplicate": own.near_duplicate,
            "seed": own.seed,
        }

    @property
    def key(self) -> str:
        """Folder name of the chunks."""
        return f"{slug(self.settings.source)}-{digest(self.chunks_spec)}"

    @property
    def documents(self) -> str:
        """The record of the documents behind the chunks, with what resembles held-out ones."""
        return f"{CORPORA}/{self.key}/documents.json"

    @cached_property
    def text_spec(self) -> dict[str, Any]:
        """What the rows of text depend on; the pool does not matter, as parts follow each other."""
        own, mask = self.settings, self.plan.study.mask
        return {
            "corpus": self.chunks_spec,
            "test": own.test,
            "validation": own.validation,
            "part_size": own.part_size,
            "mask": mask.model_dump() if mask else None,
        }

    @property
    def text_key(self) -> str:
        """Folder name of the text."""
        return f"{slug(self.settings.source)}-{digest(self.text_spec)}"

    @property
    def read_length(self) -> int:
        """Tokens that a model reads of a chunk, those put around it included."""
        return read_length(self.plan.study, self.settings)

    @property
    def scored(self) -> int:
        """Tokens of a chunk that are learned and judged: all, or those to be found."""
        mask, length = self.plan.study.mask, self.settings.length
        return chosen(length, mask.share) if mask else length

    def first(self, split: str, part: int) -> int:
        """The first chunk of a part, within its split."""
        return part * self.settings.part_size

    def rows(self, split: str, part: int) -> int:
        """Chunks of a part: the part's size, or what is left of the split or the pool."""
        own = self.settings
        whole = {"test": own.test, "validation": own.validation, "train": own.pool}[split]
        return min(own.part_size, whole - self.first(split, part))
