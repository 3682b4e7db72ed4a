"""Students before training."""

from functools import cached_property

from distill.config.models import Student
from distill.config.study import Study
from distill.core.keys import digest
from distill.plan.keys import RESOURCES, Part, Spec, cached, plain, stem
from distill.plan.sources import Sources
from distill.plan.text import Text


class Students(Part):
    """Students before training."""

    def __init__(self, study: Study, sources: Sources, text: Text) -> None:
        super().__init__()
        self.study, self.sources, self.text = study, sources, text

    @cached
    def spec(self, name: str) -> Spec:
        """What a student before training depends on."""
        student = self.study.students[name]
        return {
            "init": student.init,
            "source": self.sources.spec(student.source),
            "layers": student.layers,
            "config": plain(student.config),
            "seed": student.seed,
            **({"params": student.params} if student.params else {}),
            **self._vocabulary(student),
        }

    def _vocabulary(self, student: Student) -> Spec:
        """What a trimmed vocabulary depends on; {} for a full one."""
        if student.vocabulary is None:
            return {}
        text = self.text.spec(student.vocabulary.teacher)
        return {"vocabulary": {"size": student.vocabulary.size, "text": text}}

    def vocabulary_text(self, name: str) -> list[str]:
        """Validation text in which the ids of a trimmed vocabulary are counted."""
        vocabulary = self.study.students[name].vocabulary
        return self.text.held_out(vocabulary.teacher, "validation") if vocabulary else []

    def tokenizer(self, name: str) -> list[str]:
        """A file beside the tokenizer of that text, if it is not that of the student's source."""
        student = self.study.students[name]
        if student.vocabulary is None:
            return []
        return self.text.other_tokenizer(
            student.vocabulary.teacher, self.sources.spec(student.source)
        )

    @cached
    def key(self, name: str) -> str:
        """Folder name of a student before training."""
        student = self.study.students[name]
        return f"{student.init}-{stem(self.sources.key(student.source))}-{digest(self.spec(name))}"

    @cached_property
    def by_key(self) -> dict[str, str]:
        """Student by key."""
        return {self.key(name): name for name in self.study.students}

    def model(self, name: str) -> str:
        """The manifest of the model that a student is built from."""
        return self.sources.manifest(self.study.students[name].source)

    @cached
    def file(self, name: str) -> str:
        """The manifest of a built student, beside its model."""
        return f"{RESOURCES}/students/{self.key(name)}/manifest.json"
