"""Training: settings of methods, hyper-parameter searches, and trained students."""

from dataclasses import asdict
from functools import cached_property

from distill.config.study import Study
from distill.contracts.run import LIVE, NO_CACHE, Run
from distill.core.keys import digest
from distill.plan.corpus import Corpora
from distill.plan.keys import Part, Spec, cached, plain
from distill.plan.pool import Pool
from distill.plan.runs import results_folder, search_run, student_file
from distill.plan.shards import Shards
from distill.plan.students import Students
from distill.plan.targets import Scorers, Targets
from distill.plan.teachers import Teachers
from distill.plan.text import Text


class Methods(Part):
    """Losses and settings of a study's methods."""

    def __init__(self, study: Study, pool: Pool, scorers: Scorers) -> None:
        super().__init__()
        self.study, self.pool, self.scorers = study, pool, scorers

    @cached
    def spec(self, name: str) -> Spec:
        """A method's losses and training settings (before a search changes them)."""
        method = self.study.method_of(name)
        skipped = {"train", "search", "corpus", "corpus_tokens"}  # the corpus belongs to the shard
        skipped |= {"on_policy"} if method.on_policy is None else set()
        skipped |= {"spans"} if not method.spans else set()
        return {
            "method": plain(method.model_dump(exclude=skipped)),
            "train": plain(self.study.train_of(name).model_dump()),
        }

    def live_spec(self, run: Run) -> Spec:
        """The distribution of a live teacher; {} without one."""
        if run.cache != LIVE:
            return {}
        spec = self.scorers.on_text(run.teacher, run.teacher)
        del spec["threads"]  # it runs in the student's job
        return {"teacher": spec}

    def without_teacher(self, name: str) -> bool:
        """Whether a method trains only on text of a corpus."""
        method = self.study.method_of(name)
        return method.corpus is not None or not (self.pool.asks or method.soft)


class Searches(Part):
    """Searches for the best settings of methods."""

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        pool: Pool,
        text: Text,
        students: Students,
        shards: Shards,
        methods: Methods,
    ) -> None:
        super().__init__()
        self.study, self.runs, self.pool, self.text = study, runs, pool, text
        self.students, self.shards, self.methods = students, shards, methods

    @cached
    def run(self, name: str) -> Run:
        """The run whose settings a search varies."""
        return search_run(self.study, name)

    @cached
    def spec(self, name: str) -> Spec:
        """What a search's best settings depend on."""
        search, run = self.study.searches[name], self.run(name)
        names = {"space", "trials", "startup_trials", "seed"}
        return {
            "student": self.students.spec(run.student),
            "formatting": self.text.teachers.formatting(run.teacher),
            "shard": self.shards.spec(run),
            **self.methods.spec(run.method),
            **self.methods.live_spec(run),
            "validation": self.text.spec(run.teacher),
            **plain(search.model_dump(include=names)),
        }

    def file(self, name: str) -> str:
        """The best settings of a search."""
        return f"{results_folder(self.study)}/searches/{name}/best.json"

    @cached_property
    def names(self) -> list[str]:
        """Searches that a run of the run table needs."""
        methods = dict.fromkeys(run.method for run in self.runs if run.samples)
        searches = [self.study.methods[name].search for name in methods]
        return list(dict.fromkeys(name for name in searches if name))


class Training(Part):
    """Trained students."""

    def __init__(
        self,
        study: Study,
        pool: Pool,
        corpora: Corpora,
        teachers: Teachers,
        text: Text,
        targets: Targets,
        students: Students,
        shards: Shards,
        methods: Methods,
        searches: Searches,
    ) -> None:
        super().__init__()
        self.study, self.pool, self.corpora, self.teachers = study, pool, corpora, teachers
        self.text, self.targets, self.students, self.shards = text, targets, students, shards
        self.methods, self.searches = methods, searches

    def spec(self, run: Run) -> Spec:
        """What a trained student depends on."""
        spec: Spec = {
            "student": self.students.spec(run.student),
            "formatting": self.teachers.formatting(run.teacher),
        }
        if self.tokenizer(run):  # it is saved with it
            spec["tokens"] = digest(self.text.tokens(run.teacher))
        if stop := self.study.teachers[run.teacher].stop:
            spec["stop"] = stop
        if run.samples == 0:
            return spec
        spec |= {"shard": self.shards.spec(run), **self.methods.spec(run.method), "seed": run.seed}
        spec |= self.methods.live_spec(run)
        if (gpus := self.gpus(run)) > 1:  # the order of sums changes the weights
            spec["gpus"] = gpus
        if spec["train"]["early_stopping"]:
            spec["validation"] = self.text.spec(run.teacher)
        if search := self.study.methods[run.method].search:
            spec["search"] = self.searches.spec(search)
        return spec

    def file(self, run: Run, name: str) -> str:
        """A file in a run's student directory."""
        return student_file(self.study, run, name)

    def gpus(self, run: Run) -> int:
        """Number of GPUs (without a GPU: processes) that train a run's student: the student's, or
        that of a teacher that the run trains."""
        if run.samples == 0:
            return 1
        teachers = self.study.teachers
        trained = [name for name in teachers if self.teachers.trained_run(name) == run]
        student = self.study.students[run.student]
        return max([student.gpus, *(teachers[name].gpus for name in trained)])

    def heads(self, run: Run) -> list[str]:
        """Output heads that map the shard's hidden states to logits."""
        if run.cached == NO_CACHE or self.study.caches[run.cache].scheme != "final_hidden":
            return []
        return self.targets.heads(run.teacher, run.cache)

    def teacher(self, run: Run) -> list[str]:
        """A file beside the teacher's model, only for spans and live teachers."""
        aligns = run.samples and self.study.method_of(run.method).spans
        return [self.teachers.file(run.teacher)] if aligns or run.cache == LIVE else []

    def tokenizer(self, run: Run) -> list[str]:
        """A file beside the text's tokenizer, if it is not that of the student's source."""
        source = self.study.students[run.student].source
        return self.text.other_tokenizer(run.teacher, self.students.sources.spec(source))

    def validation(self, run: Run) -> list[str]:
        """Validation text, if the run's method uses early stopping; else none."""
        if run.samples == 0 or not self.methods.spec(run.method)["train"]["early_stopping"]:
            return []
        return self.text.held_out(run.teacher, "validation")

    def best_settings(self, run: Run) -> list[str]:
        """The search result that a run reads, if its method names a search."""
        search = self.study.methods[run.method].search if run.samples else None
        return [self.searches.file(search)] if search else []

    def record(self, run: Run) -> Spec:
        """Names and numbers of a run, for its record and model card."""
        init = self.study.students[run.student].init
        record = {"study": self.study.study, **asdict(run), "init": init}
        corpus = self.pool.corpus or self.corpora.of(run)
        return record | ({"corpus": corpus} if corpus else {})
