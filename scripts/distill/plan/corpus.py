"""Chunks of text that no teacher wrote: the corpus of a whole study, or of single methods."""

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
    """Folder name of what is cut from a data source."""
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
        """Their rows, in that order."""
        return [self.sources.rows(name) for name in self.texts.values()]

    @property
    def tokenizer(self) -> str:
        """The file that is written when the tokenizer's model is in place."""
        return self.sources.manifest(self.entry.tokenizer)

    @cached_property
    def spec(self) -> Spec:
        """What the chunks depend on; how many are used does not matter."""
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
        """Where the chunks lie."""
        return f"{RESOURCES}/corpora/{self.key}"

    @property
    def near_duplicates(self) -> str:
        """The record of the documents behind the chunks, with what resembles held-out ones."""
        return f"{self.folder}/documents.json"

    @property
    def formatting(self) -> Spec:
        """A chunk is read as it stands."""
        return {"template": self.settings.template, "system": None}

    @cached_property
    def text_spec(self) -> Spec:
        """What the rows of text depend on; the pool does not matter, as parts follow each other."""
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
        """Chunks of a part: the part's size, or what is left of the split or the pool."""
        entry = self.entry
        chunks = {"test": entry.test, "validation": entry.validation, "train": entry.pool}[split]
        return min(entry.part_size, chunks - self.first(part))


class Corpora(Part):
    """Chunks that the students of a method learn, in place of a teacher's text."""

    def __init__(self, study: Study, sources: Sources) -> None:
        super().__init__()
        self.study, self.sources = study, sources

    def of(self, run: Run) -> str | None:
        """Data source that a run learns without a teacher, if its method names one."""
        if run.samples == 0 or run.method not in self.study.methods:
            return None
        return self.study.method_of(run.method).corpus

    @cached
    def spec(self, method: str, student: str) -> Spec:
        """What the chunks are: whose text and tokens, without the reference text."""
        entry, reference = self.study.method_of(method), self.study.evaluate.reference
        assert reference is not None
        return {
            "corpus": self.sources.spec(entry.corpus or ""),
            "tokens": entry.corpus_tokens,
            "tokenizer": self.sources.spec(self.study.students[student].source),
            "reference": self.sources.spec(reference.source),
            "passages": reference.passages,
        }

    @cached
    def key(self, method: str, student: str) -> str:
        """Folder name of the chunks."""
        return _key(self.study.method_of(method).corpus or "", self.spec(method, student))

    @cached_property
    def by_key(self) -> dict[str, tuple[str, str]]:
        """A method and a student of each corpus in each student's tokens."""
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

    def inputs(self, key: str) -> dict[str, str]:
        """What a training set is made of: its text, the reference text, the tokenizer."""
        method, student = self.by_key[key]
        return {
            "corpus": self.sources.rows(self.study.method_of(method).corpus or ""),
            "reference": self.sources.reference[0],
            "model": self.sources.manifest(self.study.students[student].source),
        }

    def card(self, key: str) -> Spec:
        """What the data-set card says."""
        method, student = self.by_key[key]
        corpus, tokens = self.study.method_of(method).corpus, self.spec(method, student)["tokens"]
        return {"study": self.study.study, "corpus": corpus, "tokens": tokens}
