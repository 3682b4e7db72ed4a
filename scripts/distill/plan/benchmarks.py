"""Benchmarks of a study: who is judged on which task, where scores lie, what they depend on."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.contracts.run import Run
from distill.plan.study import Plan, block_runs


class BenchmarkPlan:
    """Paths, specs and inputs of a study's benchmarks; a function of the config alone.

    Each model and task has a file of its own, so that another task costs no more than itself.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.defined = plan.study.evaluate.benchmarks

    @cached_property
    def of_run(self) -> dict[Run, list[str]]:
        """Tasks of each run's student: those of all blocks that hold the run, in the config's
        order."""
        found: dict[Run, set[str]] = {run: set() for run in self.plan.runs}
        for block in self.plan.study.runs if self.defined else ():
            named = self.defined if block.benchmarks is None else block.benchmarks
            for run in block_runs(self.plan.study, block):
                found[run].update(named)
        return {run: [name for name in self.defined if name in found[run]] for run in found}

    @cached_property
    def students(self) -> list[tuple[Run, str]]:
        """Run and task of every student's score."""
        return [(run, task) for run, tasks in self.of_run.items() for task in tasks]

    @cached_property
    def teachers(self) -> list[tuple[str, str]]:
        """Teacher and task of every teacher's score: what one of its students is judged on."""
        pairs = dict.fromkeys((run.teacher, task) for run, task in self.students)
        return [pair for pair in pairs if self.plan.has_model(pair[0])]

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks that some run is judged on, in the config's order."""
        used = {task for _, task in self.students}
        return [name for name in self.defined if name in used]

    def prepared(self, task: str) -> str:
        """The file that is written when a task's data are at hand."""
        return f"{self.plan.results}/benchmarks/{task}.json"

    def student_file(self, run: Run, task: str) -> str:
        """A student's score."""
        return self.plan.student_file(run, f"benchmarks/{task}.json")

    def teacher_file(self, teacher: str, task: str) -> str:
        """A teacher's score."""
        return f"{self.plan.results}/teachers/{teacher}/benchmarks/{task}.json"

    @cached_property
    def files(self) -> list[str]:
        """All scores, students' first, in the order of `students` and `teachers`."""
        files = [self.student_file(*pair) for pair in self.students]
        return files + [self.teacher_file(*pair) for pair in self.teachers]

    def own_files(self, task: str) -> list[str]:
        """Files of the folder that holds a task of one's own."""
        folder = self.defined[task].include
        if folder is None:
            return []
        found = (path for path in Path(folder).rglob("*") if path.is_file())
        return sorted(str(path) for path in found if "__pycache__" not in path.parts)

    def task_spec(self, task: str) -> dict[str, Any]:
        """What a task depends on beyond its files."""
        return {"task": task, **self.defined[task].model_dump()}

    def _model_spec(self, task: str) -> dict[str, Any]:
        entry = self.plan.study.evaluate
        names = ("batch_size", "precision", "threads")
        return self.task_spec(task) | {name: getattr(entry, name) for name in names}

    def student_spec(self, run: Run, task: str) -> dict[str, Any]:
        """What a student's score depends on."""
        return self._model_spec(task) | {"run": self.plan.train_spec(run)}

    def teacher_spec(self, teacher: str, task: str) -> dict[str, Any]:
        """What a teacher's score depends on."""
        return self._model_spec(task) | {"scorer": self.plan.scorer_spec(teacher)}

    def collect_spec(self) -> dict[str, Any]:
        """What the runs table needs to know of `files`; nothing where no benchmark is named."""
        if not self.tasks:
            return {}
        places = {run: place for place, run in enumerate(self.plan.runs)}
        runs = [[places[run], task] for run, task in self.students]
        teachers = [list(pair) for pair in self.teachers]
        return {"benchmarks": {"tasks": self.tasks, "runs": runs, "teachers": teachers}}

    def stored_specs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every record, with the spec that it must hold."""
        for task in self.tasks:
            yield self.prepared(task), self.task_spec(task)
        for run, task in self.students:
            yield self.student_file(run, task), self.student_spec(run, task)
        for teacher, task in self.teachers:
            yield self.teacher_file(teacher, task), self.teacher_spec(teacher, task)
