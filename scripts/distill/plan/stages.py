"""The parts of a plan, each composed of the parts below it."""

from distill.config.study import Study
from distill.contracts.run import Run
from distill.plan.benchmarks import Benchmarks
from distill.plan.corpus import Corpora, CorpusPool
from distill.plan.evaluation import Efficiency, Evaluation
from distill.plan.keys import Spec
from distill.plan.pool import Pool
from distill.plan.prompts import PromptPool
from distill.plan.runs import results_folder, run_table
from distill.plan.served import Served
from distill.plan.shards import Curations, Rows, Shards
from distill.plan.sources import Sources
from distill.plan.students import Students
from distill.plan.targets import Layers, Losses, Scorers, Targets
from distill.plan.teachers import Teachers
from distill.plan.text import Text
from distill.plan.training import Methods, Searches, Training


class Stages:
    """The stages of a study; all their outputs are functions of the config only."""

    def __init__(self, study: Study) -> None:
        self.study, self.results = study, results_folder(study)
        self.runs: list[Run] = run_table(study)
        self.listed = frozenset(self.runs)
        self.sources = Sources(study)
        self.pool = self._pool()
        self.teachers = Teachers(study, self.runs, self.sources, self.pool, self._trained_spec)
        self.served = Served(study, self.pool)
        self.text = Text(study, self.pool, self.sources, self.teachers, self.served)
        self.scorers = Scorers(study, self.pool, self.teachers, self.text)
        self.losses = Losses(study, self.teachers, self.text, self.scorers)
        self.layers = Layers(study, self.teachers, self.text, self.scorers)
        self.targets = Targets(study, self.teachers, self.text, self.scorers, self.layers)
        self.corpora = Corpora(study, self.sources)
        self.rows = Rows(study, self.pool, self.corpora)
        self.curations = Curations(study, self.runs, self.text, self.losses, self.rows)
        self.shards = Shards(
            study,
            self.runs,
            self.pool,
            self.corpora,
            self.rows,
            self.curations,
            self.targets,
            self.layers,
        )
        self.students = Students(study, self.sources, self.text)
        self.methods = Methods(study, self.pool, self.scorers)
        self.searches = Searches(
            study, self.runs, self.pool, self.text, self.students, self.shards, self.methods
        )
        self.training = Training(
            study,
            self.pool,
            self.corpora,
            self.teachers,
            self.text,
            self.targets,
            self.students,
            self.shards,
            self.methods,
            self.searches,
        )
        self.evaluation = Evaluation(
            study, self.pool, self.sources, self.teachers, self.text, self.scorers, self.training
        )
        self.efficiency = Efficiency(
            study, self.runs, self.pool, self.sources, self.teachers, self.students
        )
        self.benchmarks = Benchmarks(
            study, self.runs, self.teachers, self.scorers, self.training, self.evaluation
        )

    def _pool(self) -> Pool:
        """The study's prompts or corpus."""
        if self.study.corpus is not None:
            return CorpusPool(self.study, self.study.corpus, self.sources)
        return PromptPool(self.study, self.study.rows, self.sources)

    def _trained_spec(self, run: Run) -> Spec:
        """What the trained student of a run depends on."""
        return self.training.spec(run)
