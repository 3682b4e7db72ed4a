"""Inputs and specs of the runs table, the answers and the provenance record; all target files."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property

from distill.plan.keys import Spec, plain
from distill.plan.prompts import PromptPool
from distill.plan.stages import Stages


class Results:
    """What the jobs over all runs read and depend on, and the target files of a study."""

    def __init__(self, stages: Stages) -> None:
        self.stages, self.study, self.runs = stages, stages.study, stages.runs

    @cached_property
    def train_prompts(self) -> list[str]:
        """Parts of the training prompts that the study uses; none without prompts."""
        pool = self.stages.pool
        if not isinstance(pool, PromptPool):
            return []
        runs = (*self.runs, *self.stages.teachers.trained_runs)
        parts = sorted({part for run in runs for part in self.stages.rows.parts(run)})
        return [pool.part("train", part) for part in parts]

    @cached_property
    def test_prompts(self) -> list[str]:
        """Parts of the test prompts; none without prompts."""
        pool = self.stages.pool
        if not isinstance(pool, PromptPool):
            return []
        return [pool.part("test", part) for part in pool.parts("test")]

    def table_inputs(self) -> dict[str, str | list[str]]:
        """Inputs of the runs table."""
        stages, names = self.stages, self.stages.teachers.models
        file, teacher_file = stages.training.file, stages.evaluation.teacher_file
        return {
            "metrics": [file(run, "metrics.json") for run in self.runs],
            "responses": [file(run, "responses.jsonl") for run in self.runs]
            + [teacher_file(name, "responses.jsonl") for name in names],
            "shards": stages.shards.files,
            "decisions": stages.curations.all_decisions,
            "efficiency": stages.efficiency.files,
            "teachers": [teacher_file(name) for name in names],
            "near_duplicates": stages.pool.near_duplicates,
            "searches": [stages.searches.file(name) for name in stages.searches.names],
            "trained": [file(run, "training.json") for _, run in stages.teachers.trained],
            "benchmarks": stages.benchmarks.files,
        }

    def table_spec(self) -> Spec:
        """What the runs table depends on beyond the metrics: its rows and the score's weights."""
        stages, study, runs = self.stages, self.study, self.runs
        speeds, shards, decisions = (
            {path: place for place, path in enumerate(paths)}
            for paths in (
                stages.efficiency.files,
                stages.shards.files,
                stages.curations.all_decisions,
            )
        )
        spec: Spec = {
            "study": study.study,
            "task": study.task,
            "runs": [list(asdict(run).values()) for run in runs],
            "shards": [shards[stages.shards.file(run)] if run.samples else None for run in runs],
            "decisions": [
                decisions[stages.curations.file(run, "decisions")]
                if stages.rows.curation(run)
                else None
                for run in runs
            ],
            "efficiency": [speeds[stages.efficiency.of("students", run.student)] for run in runs],
            "teachers": [
                [name, speeds[stages.efficiency.of("teachers", name)]]
                for name in stages.teachers.models
            ],
            "init": {
                name: study.students[name].init for name in sorted({run.student for run in runs})
            },
            "weights": study.evaluate.combined_weights.model_dump(),
            "searches": stages.searches.names,
            "methods": {
                name: plain(study.methods[name].model_dump(exclude_defaults=True))
                | ({"corpus": corpus} if (corpus := study.method_of(name).corpus) else {})
                for name in sorted({run.method for run in runs if run.samples})
            },
        }
        if trained := [[name, *asdict(run).values()] for name, run in stages.teachers.trained]:
            spec["trained"] = trained
        teachers = sorted({run.teacher for run in runs})
        if uncounted := [name for name in teachers if not stages.text.origin(name).counted]:
            spec["uncounted"] = uncounted
        return spec

    def provenance_spec(self) -> Spec:
        """The validated config with defaults, and all runs."""
        config = self.study.model_dump(exclude={"runs"})
        config["prompts"] = self.stages.pool.settings.model_dump()
        runs = (asdict(run) for run in self.runs)
        return {"config": plain(config), "runs": sorted(runs, key=lambda run: [*run.values()])}

    def answer_spec(self) -> Spec:
        """What the answers depend on beyond the runs table: costs and targets of the config."""
        entry, methods = self.study.evaluate, self.stages.methods
        return {
            "cost": entry.cost,
            "target_loss": entry.target_loss,
            "prices": entry.prices and entry.prices.model_dump(),
            "pretraining_tokens": {
                name: teacher.pretraining_tokens
                for name, teacher in sorted(self.study.teachers.items())
                if teacher.pretraining_tokens is not None
            },
            "corpus_methods": sorted(
                name for name in self.study.methods if methods.without_teacher(name)
            ),
        }

    def stored_specs(self) -> Iterator[tuple[str, Spec]]:
        """Path of every result whose path has no digest, and the spec that it must contain, without
        scores on benchmarks."""
        stages = self.stages
        shards, training, evaluation = stages.shards, stages.training, stages.evaluation
        for run in self.runs:
            if run.samples:
                yield shards.record(run), shards.spec(run)
            yield training.file(run, "training.json"), training.spec(run)
            yield training.file(run, "metrics.json"), evaluation.run_spec(run)
        for run in stages.teachers.trained_runs:
            if run not in stages.listed:
                yield shards.record(run), shards.spec(run)
                yield training.file(run, "training.json"), training.spec(run)
        for teacher in stages.teachers.models:
            yield evaluation.teacher_file(teacher), evaluation.spec(teacher)
        for name in stages.searches.names:
            yield stages.searches.file(name), stages.searches.spec(name)
        for key in stages.efficiency.by_key:
            yield stages.efficiency.file(key), stages.efficiency.spec(key)

    def trained_files(self) -> list[str]:
        """Target files of a study that trains students, besides the report."""
        stages = self.stages
        file, shards = stages.training.file, stages.shards
        files = [f"{stages.results}/samples.json"]
        files += [stages.searches.file(name) for name in stages.searches.names]
        for run in self.runs:
            files += [file(run, name) for name in ("model.safetensors", "metrics.json")]
            files += [shards.file(run), shards.card(run)] if run.samples else []
        return files + [file(run, "model.safetensors") for run in stages.teachers.trained_runs]

    def collected_files(self) -> list[str]:
        """Inputs of the runs table that are in the study's results folder."""
        files: list[str] = []
        for entry in self.table_inputs().values():
            files += [entry] if isinstance(entry, str) else entry
        files += [path.removesuffix("parquet") + "json" for path in self.stages.shards.files]
        files += [self.stages.benchmarks.prepared(task) for task in self.stages.benchmarks.tasks]
        return [path for path in files if path.startswith(f"{self.stages.results}/")]

    def provenance_inputs(self, final: list[str]) -> dict[str, list[str]]:
        """Files in the provenance record: `final`, other target files, inputs of the runs table,
        models and data."""
        sources = self.stages.sources
        return {
            "outputs": sorted({*final, *self.trained_files(), *self.collected_files()}),
            "records": [self.stages.training.file(run, "metrics.json") for run in self.runs],
            "manifests": [sources.manifest(name) for name in sources.models.values()],
            "data": [sources.rows(name) for name in sources.data.values()],
        }
