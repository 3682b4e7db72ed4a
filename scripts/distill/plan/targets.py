"""Soft targets: hidden states of teachers on text, and what caches store of them."""

from functools import cached_property

from distill.config.study import Study
from distill.core.keys import digest, slug
from distill.plan.keys import RESOURCES, Part, Spec, cached, part_name
from distill.plan.pool import Pool
from distill.plan.teachers import Teachers
from distill.plan.text import Text


class Scorers(Part):
    """Models of teachers that score text: heads and final hidden states."""

    def __init__(self, study: Study, pool: Pool, teachers: Teachers, text: Text) -> None:
        super().__init__()
        self.study, self.pool, self.teachers, self.text = study, pool, teachers, text

    @cached
    def spec(self, teacher: str) -> Spec:
        """What a teacher's hidden states depend on besides the text."""
        entry, remote = self.study.teachers[teacher], self.text.origin(teacher).scorer
        if remote is not None and not entry.has_model:
            return remote
        spec = {"model": self.teachers.spec(teacher)}
        names = ("precision", "quantisation", "device_map", "threads")
        return spec | {name: getattr(entry, name) for name in names}

    @cached
    def key(self, teacher: str) -> str:
        """Name of a teacher's model with its precision, quantisation and threads."""
        return f"{self.teachers.stem(teacher)}-{digest(self.spec(teacher))}"

    @cached_property
    def by_key(self) -> dict[str, str]:
        """A teacher of each scorer."""
        names = [name for name in self.study.teachers if self.teachers.has_model(name)]
        return {self.key(name): name for name in names}

    @cached
    def distribution(self, teacher: str) -> Spec:
        """The sampling distribution q of a teacher, given its hidden states."""
        entry = self.study.teachers[teacher]
        return {name: getattr(entry, name) for name in ("temperature", "top_k", "top_p")}

    def on_text(self, text: str, scorer: str) -> Spec:
        """The teacher `scorer` and its q, on the text of the teacher `text`.

        `drawn` is set where tokens of the text were drawn from a q with top_k or top_p.
        """
        spec = self.spec(scorer) | self.distribution(scorer)
        drawn = text == scorer and self.text.origin(text).sampled
        return spec | ({"drawn": True} if drawn and self.study.teachers[scorer].cuts else {})

    @cached
    def head(self, teacher: str) -> str:
        """The teacher's saved output head."""
        return f"{RESOURCES}/heads/{self.key(teacher)}.safetensors"

    def tokenizer(self, text: str, scorer: str) -> list[str]:
        """A file beside the tokenizer of a teacher's text, if it is not that of the scorer."""
        return self.text.other_tokenizer(text, self.teachers.spec(scorer))

    def states(self, text: str, scorer: str, tokens: str, split: str, part: int) -> str:
        """Final hidden states of the teacher `scorer` on a part of the text of the teacher `text`.

        Generation saves the hidden states of a teacher on its own answers, in the folder `own`.
        """
        generated = text == scorer and tokens == "answer" and self.text.origin(text).writes
        folder = "own" if generated else f"{self.key(scorer)}-{tokens}"
        return f"{RESOURCES}/states/{self.text.key(text)}/{folder}/{part_name(split, part)}"

    @cached
    def test_states(self, teacher: str) -> list[str]:
        """The teacher's final hidden states on its test text; none without a model."""
        if not self.teachers.has_model(teacher):
            return []
        parts = self.pool.parts("test")
        return [self.states(teacher, teacher, "answer", "test", part) for part in parts]


class Losses(Part):
    """A teacher's mean loss on each answer of its text, for curations."""

    def __init__(self, study: Study, teachers: Teachers, text: Text, scorers: Scorers) -> None:
        super().__init__()
        self.study, self.teachers, self.text, self.scorers = study, teachers, text, scorers

    @cached
    def spec(self, teacher: str) -> Spec:
        """What the losses depend on."""
        return {
            "text": self.text.spec(teacher),
            "scorer": self.scorers.spec(teacher),
            "temperature": self.study.teachers[teacher].temperature,
        }

    @cached
    def key(self, teacher: str) -> str:
        """Folder name of the losses."""
        return f"loss-{digest(self.spec(teacher))}"

    @cached_property
    def by_key(self) -> dict[tuple[str, str], str]:
        """Teacher by text key and loss key."""
        names = [name for name in self.study.teachers if self.teachers.has_model(name)]
        return {(self.text.key(name), self.key(name)): name for name in names}

    def part(self, teacher: str, split: str, part: int) -> str:
        """The losses on a part of the text."""
        folder = f"{RESOURCES}/losses/{self.text.key(teacher)}/{self.key(teacher)}"
        return f"{folder}/{part_name(split, part)}"


class Layers(Part):
    """Stored hidden states of chosen layers, beside a cache."""

    def __init__(self, study: Study, teachers: Teachers, text: Text, scorers: Scorers) -> None:
        super().__init__()
        self.study, self.teachers, self.text, self.scorers = study, teachers, text, scorers

    @cached
    def spec(self, teacher: str, cache: str) -> Spec:
        """What the stored states depend on."""
        entry = self.study.caches[cache]
        chosen = entry.hidden.model_dump() if entry.hidden else {}
        return {
            "text": self.text.spec(teacher),
            "scorer": self.scorers.spec(teacher),
            "tokens": entry.tokens,
            **chosen,
        }

    @cached
    def key(self, teacher: str, cache: str) -> str:
        """Folder name of the stored states."""
        return f"layers-{digest(self.spec(teacher, cache))}"

    @cached_property
    def by_key(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Teacher and cache by text key and layers key."""
        return {
            (self.text.key(teacher), self.key(teacher, cache)): (teacher, cache)
            for teacher in self.study.teachers
            for cache, entry in self.study.caches.items()
            if self.teachers.has_model(teacher) and entry.hidden
        }

    @cached
    def folder(self, teacher: str, cache: str) -> str:
        """Folder of the stored states."""
        return f"{RESOURCES}/layers/{self.text.key(teacher)}/{self.key(teacher, cache)}"

    def part(self, teacher: str, cache: str, split: str, part: int) -> str:
        """The stored states on a part of the text."""
        return f"{self.folder(teacher, cache)}/{part_name(split, part)}"

    def tokenizer(self, teacher: str) -> list[str]:
        """A file beside the text's tokenizer, if it is not the teacher's."""
        return self.scorers.tokenizer(teacher, teacher)

    def projection(self, teacher: str, cache: str) -> list[str]:
        """The fitted projection of the states, if the cache uses one."""
        entry = self.study.caches[cache].hidden
        if entry is None or entry.projection != "pca":
            return []
        return [f"{self.folder(teacher, cache)}/projection.safetensors"]


class Targets(Part):
    """Soft targets on the teachers' text, as caches store them."""

    def __init__(
        self, study: Study, teachers: Teachers, text: Text, scorers: Scorers, layers: Layers
    ) -> None:
        super().__init__()
        self.study, self.models, self.text = study, teachers, text
        self.scorers, self.layers = scorers, layers

    @cached
    def teachers(self, teacher: str, cache: str) -> dict[str, float]:
        """The teachers whose mixture a cache stores, with weights that sum to 1."""
        weights = self.study.caches[cache].teachers or {teacher: 1.0}
        return {name: weight / sum(weights.values()) for name, weight in sorted(weights.items())}

    @cached
    def spec(self, teacher: str, cache: str) -> Spec:
        """What the distributions in a cache on a teacher's text depend on."""
        entry = self.study.caches[cache]
        spec: Spec = {
            "text": self.text.spec(teacher),
            **entry.model_dump(exclude={"teachers", "hidden"}),
            "scorers": [
                {**self.scorers.on_text(teacher, name), "weight": weight}
                for name, weight in self.teachers(teacher, cache).items()
            ],
        }
        if not entry.systematic:
            del spec["systematic"]
        return spec

    @cached
    def full_spec(self, teacher: str, cache: str) -> Spec:
        """What a cache depends on: its distributions and, if it has any, its stored layers."""
        spec = self.spec(teacher, cache)
        if self.study.caches[cache].hidden is not None:
            spec["hidden"] = self.layers.spec(teacher, cache)
        return spec

    @cached
    def key(self, teacher: str, cache: str) -> str:
        """Folder name of a cache's distributions."""
        return f"{slug(self.study.caches[cache].scheme)}-{digest(self.spec(teacher, cache))}"

    @cached_property
    def by_key(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Teacher and cache by text key and cache key."""
        return {
            (self.text.key(teacher), self.key(teacher, cache)): (teacher, cache)
            for teacher in self.study.teachers
            for cache in self.study.caches
            if self.models.has_model(teacher) or self.text.origin(teacher).log_probs
        }

    @cached
    def folder(self, teacher: str, cache: str) -> str:
        """Folder of a cache."""
        return f"{RESOURCES}/caches/{self.text.key(teacher)}/{self.key(teacher, cache)}"

    @cached
    def manifest(self, teacher: str, cache: str) -> str:
        """The record of a cache's teachers and tokenizer."""
        return f"{self.folder(teacher, cache)}/manifest.json"

    def tokenizers(self, teacher: str, cache: str) -> list[str]:
        """Files beside the tokenizers of a cache's teachers."""
        names = self.teachers(teacher, cache)
        return [file for name in names for file in self.text.tokenizer(name)]

    def states(self, teacher: str, cache: str, split: str, part: int) -> list[str]:
        """Hidden states of each teacher of a cache on a part of the text."""
        tokens = self.study.caches[cache].tokens
        return [
            self.scorers.states(teacher, name, tokens, split, part)
            for name in self.teachers(teacher, cache)
        ]

    def drawn(self, teacher: str, cache: str, split: str, part: int) -> list[str]:
        """The part of the text, where the targets depend on its tokens: see `Scorers.on_text`."""
        scorers = self.spec(teacher, cache)["scorers"]
        drawn = any("drawn" in scorer for scorer in scorers)
        return [self.text.part(teacher, split, part)] if drawn else []

    def heads(self, teacher: str, cache: str) -> list[str]:
        """Output head of each teacher of a cache."""
        return [self.scorers.head(name) for name in self.teachers(teacher, cache)]

    def part(self, teacher: str, cache: str, split: str, part: int) -> str:
        """Soft targets of a part of the text; for final_hidden the hidden states themselves."""
        if self.study.caches[cache].scheme == "final_hidden":
            return self.states(teacher, cache, split, part)[0]
        return f"{self.folder(teacher, cache)}/{part_name(split, part)}"
