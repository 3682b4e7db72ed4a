"""Evaluation of students and teachers, and the speed of their architectures."""

from functools import cached_property

from distill.config.study import Study
from distill.contracts.run import Run
from distill.core.keys import digest
from distill.plan.keys import Part, Spec, cached, plain
from distill.plan.pool import Pool
from distill.plan.runs import results_folder
from distill.plan.sources import Sources
from distill.plan.students import Students
from distill.plan.targets import Scorers
from distill.plan.teachers import Teachers
from distill.plan.text import Text
from distill.plan.training import Training

OTHER_KEYS = {
    "reference",
    "latency_tokens",
    "latency_repeats",
    "latency_threads",
    "latency_batch",
    "combined_weights",
    "cost",
    "prices",
    "target_loss",
    "benchmarks",
    "pseudo_chunks",
}
"""Keys of `evaluate` that metrics do not depend on, or that their spec has in another form."""
PROMPT_KEYS = {
    "generated_instructions",
    "instructions",
    "instruction_tokens",
    "reference_answers",
    "qualitative",
    "answers",
}
"""Keys of `evaluate` about prompts that models answer."""


class Evaluation(Part):
    """Metrics of students and teachers."""

    def __init__(
        self,
        study: Study,
        pool: Pool,
        sources: Sources,
        teachers: Teachers,
        text: Text,
        scorers: Scorers,
        training: Training,
    ) -> None:
        super().__init__()
        self.study, self.pool, self.sources, self.teachers = study, pool, sources, teachers
        self.text, self.scorers, self.training = text, scorers, training

    @cached
    def spec(self, teacher: str) -> Spec:
        """What an evaluation depends on besides the model."""
        entry, mask, reference = self.study.evaluate, self.study.mask, None
        if entry.reference is not None:
            source = {"source": self.sources.spec(entry.reference.source)}
            reference = entry.reference.model_dump() | source
        skipped = OTHER_KEYS if self.pool.asks else OTHER_KEYS | PROMPT_KEYS
        if entry.answers is None:
            skipped = skipped | {"answers"}
        skipped = skipped | {"generated_instructions" if entry.instructions else "instructions"}
        spec = {
            "text": self.text.spec(teacher),
            "formatting": self.teachers.formatting(teacher),
            "reference": reference,
            **entry.model_dump(exclude=skipped),
        }
        if stop := self.study.teachers[teacher].stop:
            spec["stop"] = stop
        if self.teachers.has_model(teacher):
            spec["scorer"] = self.scorers.spec(teacher)
            spec["distribution"] = self.scorers.distribution(teacher)
            spec["written"] = self.text.origin(teacher).sampled
        if mask is not None:
            spec |= {"mask": mask.model_dump(), "pseudo_chunks": entry.pseudo_chunks}
        return spec

    def run_spec(self, run: Run) -> Spec:
        """What a student's metrics depend on: the evaluation and the training."""
        return self.spec(run.teacher) | {"run": self.training.spec(run)}

    def teacher_file(self, teacher: str, name: str = "metrics.json") -> str:
        """A file of a teacher's results."""
        return f"{results_folder(self.study)}/teachers/{teacher}/{name}"

    @cached
    def inputs(self, teacher: str) -> dict[str, list[str]]:
        """Inputs of every evaluation against a teacher."""
        has_model = self.teachers.has_model(teacher)
        return {
            "texts": self.text.held_out(teacher, "test"),
            "states": self.scorers.test_states(teacher),
            "head": [self.scorers.head(teacher)] if has_model else [],
            "served": self.text.served_test(teacher),
            "reference": self.sources.reference,
            "validation": self.text.answered_validation(teacher),
            "instructions": self._instructions,
            "tokenizer": self._tokenizer(teacher),
        }

    @property
    def _instructions(self) -> list[str]:
        """Files of the study's own instructions: held-out prompts, a data set, or a file."""
        own = self.study.evaluate.instructions
        if own is None or not self.pool.asks:
            return []
        if own.path is not None:
            return [own.path]
        if own.source == self.pool.settings.source:
            return self.pool.test_prompts
        return [self.sources.rows(own.source or "")]

    def _tokenizer(self, teacher: str) -> list[str]:
        """A file beside the tokenizer of a corpus, which a teacher's may differ from.

        Students are saved with it, and text of a teacher has the teacher's tokenizer.
        """
        if self.pool.asks or not self.teachers.has_model(teacher):
            return []
        return self.text.other_tokenizer(teacher, self.teachers.spec(teacher))


class Efficiency(Part):
    """Speed and memory of architectures on this machine."""

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        pool: Pool,
        sources: Sources,
        teachers: Teachers,
        students: Students,
    ) -> None:
        super().__init__()
        self.study, self.runs, self.pool, self.sources = study, runs, pool, sources
        self.teachers, self.students = teachers, students

    @cached
    def architecture(self, kind: str, name: str) -> Spec:
        """What a model's speed depends on: its architecture, not its weights."""
        if kind == "teachers":
            entry = self.study.teachers[name]
            quantised = entry.quantisation != "none"
            if entry.trained is not None:
                model = self.architecture("students", entry.trained.student)
            else:
                model = {"source": self.sources.spec(entry.source or "")}
            return model | ({"quantisation": entry.quantisation} if quantised else {})
        student = self.study.students[name]
        spec: Spec = {"source": self.sources.spec(student.source)}
        if student.init == "cut":
            spec["layers"] = student.layers
        if student.init == "random":
            spec["config"] = plain(student.config)
        if student.vocabulary is not None:
            spec["vocabulary"] = student.vocabulary.size
        return spec

    @cached
    def key(self, kind: str, name: str) -> str:
        """Name of a model's architecture."""
        return digest(self.architecture(kind, name))

    @cached_property
    def by_key(self) -> dict[str, tuple[str, str]]:
        """The first student or teacher of each architecture."""
        models: dict[str, tuple[str, str]] = {}
        for kind, name in dict.fromkeys(
            pair
            for run in self.runs
            for pair in (("teachers", run.teacher), ("students", run.student))
        ):
            if kind == "students" or self.teachers.has_model(name):
                models.setdefault(self.key(kind, name), (kind, name))
        return models

    def file(self, key: str) -> str:
        """Speed and memory of an architecture."""
        return f"{results_folder(self.study)}/efficiency/{key}.json"

    def of(self, kind: str, name: str) -> str:
        """Speed and memory of a model's architecture."""
        return self.file(self.key(kind, name))

    @cached_property
    def files(self) -> list[str]:
        """All speed records of the study, each once."""
        return [self.file(key) for key in self.by_key]

    def spec(self, key: str) -> Spec:
        """What a speed measurement depends on."""
        entry = self.study.evaluate
        spec = {
            "architecture": self.architecture(*self.by_key[key]),
            "new_tokens": entry.latency_tokens,
            "repeats": entry.latency_repeats,
            "precision": entry.precision,
            "threads": entry.latency_threads,
        }
        if self.study.mask is None or self.pool.chunk is None:
            return spec
        del spec["new_tokens"]  # a masked model reads whole chunks instead
        chunk = {"length": self.pool.chunk.read, "scored": self.pool.chunk.scored}
        return spec | {"batch": entry.latency_batch, **chunk}

    def model(self, kind: str, name: str) -> str:
        """A file beside the model to time, an untrained one: weights do not change the speed."""
        if kind == "students":
            return self.students.file(name)
        run = self.teachers.trained_run(name)
        return self.students.file(run.student) if run else self.teachers.file(name)
