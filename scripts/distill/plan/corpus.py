"""Chunks of text without a teacher: the corpus of a study, or of single methods."""

from functools import cached_property

from distill.config.checks.corpus import read_length
from distill.config.study import Study
from distill.config.text import Corpus
from distill.contracts.run import Run
from distill.core.keys import chosen, digest, slug
from distill.plan.keys import RESOURCES, Part, Spec, cached
from distill.plan.pool import Chunk, Pool
from distill.plan.sources import Sources


def _key(source: str, spec: Spec) -> str:
    """Folder name of the chunks of a data source."""
    return f"{slug(source)}-{digest(spec)}"


class CorpusPool(Pool):
    """Chunks that all models of a study read. Teachers only score them."""

    asks = False

    def __init__(self, study: Study, corpus: Corpus, sources: Sources) -> None:
        self.study, self.entry, self.sources = study, corpus, sources
        self.settings, self.corpus = corpus.rows, corpus.source
        mask, length = study.mask, corpus.length
        scored = chosen(length, mask.share) if mask else length
        self.chunk = Chunk(length, read_length(study, corpus), scored)

    @property
    def texts(self) -> dict[str, str]:
        """Data source of `train`, and of each held-out split that has its own."""
        entry = self.entry
        names = {
            "train": entry.source,
            "test": entry.test_source,
            "validation": entry.validation_source,
        }
        return {split: name for split, name in names.items() if name is not None}

    @property
    def files(self) -> list[str]:
        """Rows of the data sources in `texts`, in the same order."""
        return [self.sources.rows(name) for name in self.texts.values()]

    @property
    def tokenizer(self) -> str:
        """The manifest of the tokenizer's model."""
        return self.sources.manifest(self.entry.tokenizer)

    @cached_property
    def spec(self) -> Spec:
        """What the chunks depend on; the number of used chunks is not part of it."""
        entry = self.entry
        return {
            "texts": {split: self.sources.spec(name) for split, name in self.texts.items()},
            "tokenizer": self.sources.spec(entry.tokenizer),
            "length": entry.length,
            "held_out": entry.held_out,
            "splits": ["test", *(["validation"] if entry.validation else [])],
            "near_duplicate": entry.near_duplicate,
            "seed": entry.seed,
        }

    @cached_property
    def key(self) -> str:
        """Folder name of the chunks."""
        return _key(self.entry.source, self.spec)

    @property
    def folder(self) -> str:
        """Folder of the chunks."""
        return f"{RESOURCES}/corpora/{self.key}"

    @property
    def near_duplicates(self) -> str:
        """The record of the documents, with near-duplicates of held-out ones."""
        return f"{self.folder}/documents.json"

    @property
    def formatting(self) -> Spec:
        """Models read a chunk unchanged."""
        return {"template": self.settings.template, "system": None}

    @cached_property
    def text_spec(self) -> Spec:
        """What the rows of text depend on: not the pool size, because parts are built in order."""
        entry, mask = self.entry, self.study.mask
        return {
            "corpus": self.spec,
            "test": entry.test,
            "validation": entry.validation,
            "part_size": entry.part_size,
            "mask": mask.model_dump() if mask else None,
        }

    @cached_property
    def text_key(self) -> str:
        """Folder name of the text."""
        return _key(self.entry.source, self.text_spec)

    def first(self, part: int) -> int:
        """The first chunk of a part, within its split."""
        return part * self.entry.part_size

    def rows(self, split: str, part: int) -> int:
        """Number of chunks of a part: the part size, or less in the last part."""
        entry = self.entry
        chunks = {"test": entry.test, "validation": entry.validation, "train": entry.pool}[split]
        return min(entry.part_size, chunks - self.first(part))


class Corpora(Part):
    """Chunks that methods with `corpus` train on, in place of a teacher's text."""

    def __init__(self, study: Study, sources: Sources) -> None:
        super().__init__()
        self.study, self.sources = study, sources

    def of(self, run: Run) -> str | None:
        """Data source of a run's method with `corpus`; None for other methods."""
        if run.samples == 0 or run.method not in self.study.methods:
            return None
        return self.study.method_of(run.method).corpus

    @cached
    def spec(self, method: str, student: str) -> Spec:
        """What the chunks depend on: text, tokenizer, and the excluded reference text."""
        entry, reference = self.study.method_of(method), self.study.evaluate.reference
        return {
            "corpus": self.sources.spec(entry.corpus or ""),
            "tokens": entry.corpus_tokens,
            "tokenizer": self.sources.spec(self.study.students[student].source),
            "reference": self.sources.spec(reference.source) if reference else None,
            "passages": reference.passages if reference else 0,
        }

    @cached
    def key(self, method: str, student: str) -> str:
        """Folder name of the chunks."""
        return _key(self.study.method_of(method).corpus or "", self.spec(method, student))

    @cached_property
    def by_key(self) -> dict[str, tuple[str, str]]:
        """A method and a student for each combination of corpus and tokenizer."""
        return {
            self.key(method, student): (method, student)
            for method in self.study.methods
            for student in self.study.students
            if self.study.method_of(method).corpus is not None
        }

    def shard_spec(self, key: str, draw: int, samples: int) -> Spec:
        """What a training set of chunks depends on."""
        spec: Spec = {"corpus": self.spec(*self.by_key[key]), "draw": draw}
        if draw:
            spec["order_seed"] = self.study.rows.seed
        return spec | {"samples": samples}

    def inputs(self, key: str) -> dict[str, str | list[str]]:
        """Inputs of a training set: its text, the reference text (if any), the tokenizer."""
        method, student = self.by_key[key]
        reference = self.sources.reference
        return {
            "corpus": self.sources.rows(self.study.method_of(method).corpus or ""),
            "reference": reference[0] if reference else [],
            "model": self.sources.manifest(self.study.students[student].source),
        }

    def card(self, key: str) -> Spec:
        """Facts for the data-set card."""
        method, student = self.by_key[key]
        corpus, tokens = self.study.method_of(method).corpus, self.spec(method, student)["tokens"]
        return {"study": self.study.study, "corpus": corpus, "tokens": tokens}
