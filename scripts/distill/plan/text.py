"""Text of the teachers, in the parts of the pool."""

from functools import cached_property

from distill.config.study import Study
from distill.plan.keys import RESOURCES, Part, Spec, cached, part_name
from distill.plan.origins import Origin, origin_of
from distill.plan.pool import Pool
from distill.plan.served import Served
from distill.plan.sources import Sources
from distill.plan.teachers import Teachers


class Text(Part):
    """Text for training and evaluation."""

    def __init__(
        self, study: Study, pool: Pool, sources: Sources, teachers: Teachers, served: Served
    ) -> None:
        super().__init__()
        self.study, self.pool, self.sources = study, pool, sources
        self.teachers, self.served = teachers, served

    @cached
    def origin(self, teacher: str) -> Origin:
        """Where a teacher's text comes from."""
        entry = self.study.teachers[teacher]
        return origin_of(teacher, entry, self.pool, self.sources, self.teachers, self.served)

    @cached
    def spec(self, teacher: str) -> Spec:
        """What a teacher's text depends on."""
        return self.origin(teacher).spec

    @cached
    def key(self, teacher: str) -> str:
        """Folder name of a teacher's text."""
        return self.origin(teacher).key

    @cached_property
    def by_key(self) -> dict[str, str]:
        """Teacher of each text."""
        return {self.key(name): name for name in self.study.teachers}

    def keys_from(self, kind: str) -> list[str]:
        """Keys of the texts of one kind of origin."""
        return [key for key, name in self.by_key.items() if self.origin(name).kind == kind]

    def keys_scored(self, by_model: bool) -> list[str]:
        """Keys of the texts whose soft targets come from a local model, or else from a server."""
        return [
            key
            for key, name in self.by_key.items()
            if (self.teachers.has_model(name) if by_model else self.origin(name).log_probs)
        ]

    @cached
    def folder(self, teacher: str) -> str:
        """Folder of a teacher's text."""
        return f"{RESOURCES}/text/{self.key(teacher)}"

    def part(self, teacher: str, split: str, part: int) -> str:
        """A part of a teacher's text."""
        return f"{self.folder(teacher)}/{part_name(split, part)}"

    @cached
    def held_out(self, teacher: str, split: str) -> list[str]:
        """A teacher's text of a held-out split."""
        return [self.part(teacher, split, part) for part in self.pool.parts(split)]

    @cached
    def answered_validation(self, teacher: str) -> list[str]:
        """Answers to the validation prompts, if the study computes BLEU on them; else none."""
        answers = self.study.evaluate.answers
        return self.held_out(teacher, "validation") if answers and answers.validation else []

    def served_test(self, teacher: str) -> list[str]:
        """A server's answers to the test prompts, if they have log-probabilities; else none."""
        if not self.origin(teacher).log_probs:
            return []
        return [self.served.part(teacher, "test", part) for part in self.pool.parts("test")]

    @cached
    def tokens(self, teacher: str) -> Spec | None:
        """What the tokenizer of a teacher's text depends on; None if the text has no tokens."""
        if source := self.origin(teacher).tokenizer:
            return self.sources.spec(source)
        return self.teachers.spec(teacher) if self.teachers.has_model(teacher) else None

    def other_tokenizer(self, teacher: str, model: Spec) -> list[str]:
        """A file beside the tokenizer of a teacher's text, unless it is that of a given model.

        Args:
            teacher: The teacher.
            model: What the model depends on, as of `Sources.spec`.
        """
        return [] if self.tokens(teacher) in (None, model) else self.tokenizer(teacher)

    def tokenizer(self, teacher: str) -> list[str]:
        """A file beside the tokenizer of a teacher's text; none if the text has no tokens."""
        if source := self.origin(teacher).tokenizer:
            return [self.sources.manifest(source)]
        return [self.teachers.file(teacher)] if self.teachers.has_model(teacher) else []
