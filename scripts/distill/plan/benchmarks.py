"""Benchmarks of a study: tasks of each model, paths of scores, and what they depend on."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from distill.config.study import Study
from distill.contracts.run import Run
from distill.plan.evaluation import Evaluation
from distill.plan.keys import Part, Spec
from distill.plan.runs import block_runs, results_folder
from distill.plan.targets import Scorers
from distill.plan.teachers import Teachers
from distill.plan.training import Training


class Benchmarks(Part):
    """Scores on tasks of lm-evaluation-harness.

    Each model and task has its own file, so that a new task reruns no other.
    """

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        teacher_models: Teachers,
        scorers: Scorers,
        training: Training,
        evaluation: Evaluation,
    ) -> None:
        super().__init__()
        self.study, self.runs, self.models = study, runs, teacher_models
        self.scorers, self.training, self.evaluation = scorers, training, evaluation
        self.defined = study.evaluate.benchmarks

    @cached_property
    def of_run(self) -> dict[Run, list[str]]:
        """Tasks of each run's student: those of all blocks with the run, in the config's order."""
        tasks: dict[Run, set[str]] = {run: set() for run in self.runs}
        for block in self.study.runs if self.defined else ():
            names = self.defined if block.benchmarks is None else block.benchmarks
            for run in block_runs(self.study, block):
                tasks[run].update(names)
        return {run: [name for name in self.defined if name in tasks[run]] for run in tasks}

    @cached_property
    def students(self) -> list[tuple[Run, str]]:
        """Run and task of each student's score."""
        return [(run, task) for run, tasks in self.of_run.items() for task in tasks]

    @cached_property
    def teachers(self) -> list[tuple[str, str]]:
        """Teacher and task of each teacher's score: the tasks of its students."""
        pairs = dict.fromkeys((run.teacher, task) for run, task in self.students)
        return [pair for pair in pairs if self.models.has_model(pair[0])]

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that some run is evaluated on, in the config's order."""
        used = {task for _, task in self.students}
        return [name for name in self.defined if name in used]

    def prepared(self, task: str) -> str:
        """The record of a prepared task."""
        return f"{results_folder(self.study)}/benchmarks/{task}.json"

    def student_file(self, run: Run, task: str) -> str:
        """A student's score."""
        return self.training.file(run, f"benchmarks/{task}.json")

    def teacher_file(self, teacher: str, task: str) -> str:
        """A teacher's score."""
        return self.evaluation.teacher_file(teacher, f"benchmarks/{task}.json")

    @cached_property
    def files(self) -> list[str]:
        """All scores, students' first, in the order of `students` and `teachers`."""
        files = [self.student_file(*pair) for pair in self.students]
        return files + [self.teacher_file(*pair) for pair in self.teachers]

    def task_files(self, task: str) -> list[str]:
        """Files in the folder of a user's own task."""
        folder = self.defined[task].include
        if folder is None:
            return []
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if "__pycache__" not in path.parts)

    def task_spec(self, task: str) -> Spec:
        """What a task depends on beyond its files."""
        return {"task": task, **self.defined[task].model_dump()}

    def _model_spec(self, task: str) -> Spec:
        entry = self.study.evaluate
        names = ("batch_size", "precision", "threads")
        return self.task_spec(task) | {name: getattr(entry, name) for name in names}

    def student_spec(self, run: Run, task: str) -> Spec:
        """What a student's score depends on."""
        return self._model_spec(task) | {"run": self.training.spec(run)}

    def teacher_spec(self, teacher: str, task: str) -> Spec:
        """What a teacher's score depends on."""
        return self._model_spec(task) | {"scorer": self.scorers.spec(teacher)}

    def table_spec(self) -> Spec:
        """Run or teacher and task of each of `files`, for the runs table; {} without benchmarks."""
        if not self.tasks:
            return {}
        places = {run: place for place, run in enumerate(self.runs)}
        runs = [[places[run], task] for run, task in self.students]
        teachers = [list(pair) for pair in self.teachers]
        return {"benchmarks": {"tasks": self.tasks, "runs": runs, "teachers": teachers}}

    def stored_specs(self) -> Iterator[tuple[str, Spec]]:
        """Path of every record, and the spec that it must contain."""
        for task in self.tasks:
            yield self.prepared(task), self.task_spec(task)
        for run, task in self.students:
            yield self.student_file(run, task), self.student_spec(run, task)
        for teacher, task in self.teachers:
            yield self.teacher_file(teacher, task), self.teacher_spec(teacher, task)
