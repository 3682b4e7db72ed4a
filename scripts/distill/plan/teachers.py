"""Models of the teachers, and the runs that train those that are students of the study."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from distill.config.checks.lineage import teachers_behind
from distill.config.study import Study
from distill.contracts.run import NO_CACHE, Run
from distill.plan.keys import Part, Spec, cached, plain, stem
from distill.plan.pool import Pool
from distill.plan.runs import student_file, trained_run
from distill.plan.sources import Sources


class Teachers(Part):
    """Models of the teachers.

    Args:
        study: The study.
        runs: Its run table.
        sources: Its sources.
        pool: Its prompts or corpus.
        trained_spec: Returns what a trained student depends on. A teacher may be such a student,
            which in turn depends on teachers.
    """

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        sources: Sources,
        pool: Pool,
        trained_spec: Callable[[Run], Spec],
    ) -> None:
        super().__init__()
        self.study, self.runs, self.sources, self.pool = study, runs, sources, pool
        self._trained_spec = trained_spec

    @cached
    def trained_run(self, teacher: str) -> Run | None:
        """The run that trains a teacher; None for a teacher that the study does not train."""
        return trained_run(self.study, teacher)

    def has_model(self, teacher: str) -> bool:
        """Whether a teacher has a local model."""
        return self.study.teachers[teacher].has_model

    @cached
    def formatting(self, teacher: str) -> Spec:
        """How a prompt becomes the input of a teacher, and of the students that learn its text."""
        entry, spec = self.study.teachers[teacher], self.pool.formatting
        settings = entry.template_settings
        run = self.trained_run(teacher)
        if not settings and run is not None and run.teacher != teacher:
            return self.formatting(run.teacher)  # as it was trained
        return spec | ({"settings": plain(settings)} if settings else {})

    @cached
    def gpus(self, teacher: str) -> int:
        """Number of GPUs of a job that runs a teacher's model."""
        entry = self.study.teachers[teacher]
        return entry.gpus if entry.device_map else 1

    @cached
    def spec(self, teacher: str) -> Spec:
        """What a teacher's weights depend on: its source, or the run that trains it.

        The spec of trained weights includes the study's name, because they are in the study's
        folder: otherwise two studies would overwrite each other's text.
        """
        run = self.trained_run(teacher)
        if run is None:
            return self.sources.spec(self.study.teachers[teacher].source or "")
        return {"study": self.study.study, "trained": self._trained_spec(run)}

    @cached
    def stem(self, teacher: str) -> str:
        """A readable name of a teacher's weights, the same for the same weights."""
        run = self.trained_run(teacher)
        if run is None:
            return stem(self.sources.key(self.study.teachers[teacher].source or ""))
        student = self.study.students[run.student]
        return f"trained-{student.init}-{stem(self.sources.key(student.source))}"

    @cached
    def file(self, teacher: str) -> str:
        """A file beside a teacher's model files."""
        if run := self.trained_run(teacher):
            return student_file(self.study, run, "model.safetensors")
        return self.sources.manifest(self.study.teachers[teacher].source or "")

    def behind(self, run: Run) -> list[str]:
        """Teachers whose text or distribution a run reads before and during training."""
        if run.samples == 0:
            vocabulary = self.study.students[run.student].vocabulary
            # With a corpus, ids are counted in its text, which no teacher generates.
            return [vocabulary.teacher] if vocabulary and self.pool.asks else []
        cache = None if run.cached == NO_CACHE else run.cache
        return self._behind(run.student, run.teacher, run.method, cache, run.curation)

    @cached
    def _behind(self, *names: Any) -> list[str]:
        return teachers_behind(self.study, *names)

    @cached_property
    def trained_runs(self) -> list[Run]:
        """Runs that train the teachers of the run table, directly or indirectly."""
        names = [run.teacher for run in self.runs]
        names += [name for run in self.runs for name in self.behind(run)]
        visited: set[str] = set()
        runs: set[Run] = set()
        while names:
            name = names.pop()
            run = None if name in visited else self.trained_run(name)
            visited.add(name)
            if run is not None:
                runs.add(run)
                names += self.behind(run)
        return sorted(runs)

    @cached_property
    def models(self) -> list[str]:
        """Teachers of the run table with a local model."""
        names = dict.fromkeys(run.teacher for run in self.runs)
        return [name for name in names if self.has_model(name)]

    @property
    def trained(self) -> list[tuple[str, Run]]:
        """Teachers of the run table that the study trains, with the runs that train them."""
        pairs = [(name, self.trained_run(name)) for name in self.models]
        return [(name, run) for name, run in pairs if run is not None]
