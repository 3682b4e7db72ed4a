"""Where a teacher's text comes from: its model, a data set, a server, or the study's corpus."""

from typing import Protocol

from distill.config.models import Teacher
from distill.config.server import Server
from distill.core.keys import digest, slug
from distill.plan.corpus import CorpusPool
from distill.plan.decoding import decoding_of
from distill.plan.keys import Spec, stem
from distill.plan.pool import Pool
from distill.plan.served import Served
from distill.plan.sources import Sources
from distill.plan.teachers import Teachers


class Origin(Protocol):
    """Where a text comes from, and what follows from that."""

    kind: str
    """`model`, `data`, `server` or `corpus`."""
    sampled: bool = False
    """Whether the text is sampled from the teacher's distribution."""
    log_probs: bool = False
    """Whether the text has log-probabilities of the most likely tokens."""
    tokenizer: str | None = None
    """Model source of the text's tokenizer, if it is not that of the teacher's model."""
    counted: bool = True
    """Whether the FLOPs of its generation are known."""
    scorer: Spec | None = None
    """What the log-probabilities depend on if they do not come from a local model."""

    @property
    def spec(self) -> Spec:
        """What the text depends on."""

    @property
    def key(self) -> str:
        """Folder name of the text."""

    @property
    def writes(self) -> bool:
        """Whether the local model generates the text, which also gives its hidden states."""
        return False


class FromModel(Origin):
    """The teacher's local model answers the prompts."""

    kind = "model"

    def __init__(self, name: str, entry: Teacher, pool: Pool, teachers: Teachers) -> None:
        self.name, self.entry, self.pool, self.teachers = name, entry, pool, teachers
        # Without its thinking, an answer is not a draw from q given the prompt.
        self.sampled = entry.thinking != "drop"

    @property
    def writes(self) -> bool:
        """Whether generation gives the hidden states of the text, in the context of the text."""
        return self.sampled

    @property
    def spec(self) -> Spec:
        """What the text depends on: the model and its decoding."""
        return {
            "prompts": self.pool.spec,
            "model": self.teachers.spec(self.name),
            "formatting": self.teachers.formatting(self.name),
            "decoding": decoding_of(self.entry),
        }

    @property
    def key(self) -> str:
        """Folder name of the text, after the model."""
        return f"{self.teachers.stem(self.name)}-{digest(self.spec)}"


class FromData(Origin):
    """A data set has answers to its prompts."""

    kind = "data"

    def __init__(
        self, name: str, text: str, pool: Pool, sources: Sources, teachers: Teachers
    ) -> None:
        self.name, self.text, self.pool = name, text, pool
        self.sources, self.teachers = sources, teachers

    @property
    def spec(self) -> Spec:
        """What the text depends on: the data set, and the model whose tokenizer it uses."""
        spec: Spec = {"prompts": self.pool.spec, "text": self.sources.spec(self.text)}
        if self.teachers.has_model(self.name):
            spec["model"] = self.teachers.spec(self.name)
            spec["formatting"] = self.teachers.formatting(self.name)
        return spec

    @property
    def key(self) -> str:
        """Folder name of the text, after the data set."""
        return f"{stem(slug(self.text))}-{digest(self.spec)}"


class FromServer(Origin):
    """A server answers the prompts."""

    kind, sampled = "server", True

    def __init__(
        self, name: str, server: Server, served: Served, sources: Sources, teachers: Teachers
    ) -> None:
        self.name, self.server, self.served = name, server, served
        self.sources, self.teachers = sources, teachers
        self.log_probs = server.top_logprobs > 0
        self.tokenizer = server.tokenizer or None
        self.counted = server.params is not None
        model = {"model": server.model, "revision": server.revision}
        self.scorer = {"model": model, "quantisation": None}

    @property
    def spec(self) -> Spec:
        """What the text depends on: the answers, their FLOPs, and the tokenizer."""
        spec = self.served.spec(self.name) | {"params": self.server.params}
        spec["formatting"] = self.teachers.formatting(self.name)
        if self.tokenizer:
            spec["tokenizer"] = self.sources.spec(self.tokenizer)
        has_model = self.teachers.has_model(self.name)
        return spec | ({"model": self.teachers.spec(self.name)} if has_model else {})

    @property
    def key(self) -> str:
        """Folder name of the text, after the served model."""
        return f"{stem(slug(self.server.model))}-{digest(self.spec)}"


class FromCorpus(Origin):
    """All teachers read the text of the study's corpus."""

    kind = "corpus"

    def __init__(self, pool: CorpusPool) -> None:
        self.pool = pool
        self.tokenizer = pool.entry.tokenizer

    @property
    def spec(self) -> Spec:
        """What the text depends on: the chunks and their masks."""
        return self.pool.text_spec

    @property
    def key(self) -> str:
        """Folder name of the text, after the corpus."""
        return self.pool.text_key


def origin_of(
    name: str, entry: Teacher, pool: Pool, sources: Sources, teachers: Teachers, served: Served
) -> Origin:
    """Where the text of a teacher comes from."""
    if isinstance(pool, CorpusPool):
        return FromCorpus(pool)
    if entry.server is not None:
        return FromServer(name, entry.server, served, sources, teachers)
    if entry.text is not None:
        return FromData(name, entry.text, pool, sources, teachers)
    return FromModel(name, entry, pool, teachers)
