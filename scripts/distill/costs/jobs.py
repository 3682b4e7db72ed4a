"""From a study's plan to the jobs that it takes, each with its cost, and what is done already."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.contracts.run import NO_CACHE, Run
from distill.costs import student_prices as student
from distill.costs import teacher_prices as teacher
from distill.costs.pricing import Models, Price, Pricing
from distill.costs.student_prices import TrainingCost, training_cost
from distill.costs.work import Lengths, Machine, student_bytes
from distill.plan.needed import needed_runs, needed_searches
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan

STAGES = (
    "prompts", "text", "soft targets", "students", "searches", "training", "evaluation",
    "latency", "results",
)  # fmt: skip


def _started(pricing: Pricing) -> Price:
    """A job that takes little but its imports, torch's among them."""
    return Price(seconds=pricing.machine.start)


def _light(pricing: Pricing, *_: Any) -> Price:
    """A job that takes little but its imports, without torch."""
    return Price(seconds=pricing.machine.analysis_start)


_RESULTS = {
    "near_duplicates.json": "check_near_duplicates", "runs.parquet": "collect_runs",
    "laws.json": "fit_laws", "answers.json": "answer_questions", "report.html": "write_report",
}  # fmt: skip
"""Results of a study by the rules that write them; figures apart."""
RULES: Mapping[str, tuple[str, Callable[..., Price]]] = {
    "slice_prompts": ("prompts", _light),
    "synthesise_prompts": ("prompts", teacher.prompts),
    "filter_prompts": ("prompts", _light),
    "chunk_corpus": ("prompts", _light),
    "generate_text": ("text", teacher.written_text),
    "ask_server": ("text", _light),
    "take_answers": ("text", teacher.taken_text),
    "take_text": ("text", teacher.taken_text),
    "take_chunks": ("text", teacher.taken_text),
    "score_text": ("soft targets", teacher.states),
    "save_head": ("soft targets", teacher.head),
    "score_loss": ("soft targets", teacher.losses),
    "write_manifest": ("soft targets", _started),
    "cache_targets": ("soft targets", teacher.targets),
    "take_log_probs": ("soft targets", teacher.served_targets),
    "fit_projection": ("soft targets", teacher.projection),
    "score_layers": ("soft targets", teacher.layers),
    "build_student": ("students", student.initial),
    "write_card": ("students", _light),
    "write_corpus_card": ("students", _light),
    "curate_rows": ("students", student.curated),
    "build_shard": ("students", student.shard),
    "build_corpus_shard": ("students", student.corpus_shard),
    "search_settings": ("searches", student.search),
    "train_student": ("training", student.trained),
    "evaluate_student": ("evaluation", student.student_evaluated),
    "evaluate_teacher": ("evaluation", student.teacher_evaluated),
    "measure_efficiency": ("latency", student.timed),
    **dict.fromkeys([*_RESULTS.values(), "plot_figures"], ("results", _light)),
}
"""By rule of the workflow: the stage of its jobs, and the function that prices one of them."""


@dataclass(frozen=True, kw_only=True)
class Job(Price):
    """One job: its price, its rule, and whether what it makes is there already."""

    rule: str
    output: str
    done: bool

    @property
    def stage(self) -> str:
        """Of `STAGES`."""
        return RULES[self.rule][0]


class Forecast:
    """The jobs of a study, each listed once, by their first output.

    Args:
        plan: The study's plan.
        models: Its models.
        lengths: By teacher.
        machine: What this machine takes.
        figures: Names of the study's figures.
        root: Where results and resources lie.
    """

    def __init__(
        self,
        plan: Plan,
        models: Models,
        lengths: Mapping[str, Lengths],
        machine: Machine,
        figures: Sequence[str] = (),
        root: str | Path = ".",
    ) -> None:
        self.plan, self.study, self.models, self.lengths = plan, plan.study, models, lengths
        self.pricing = Pricing(plan, models, lengths, machine, root)
        self.texts, self.runs = self.pricing.texts, needed_runs(plan)
        self.searches = needed_searches(plan)
        self.jobs: dict[str, Job] = {}
        self.rows: list[dict[str, Any]] = []
        self._prompts()
        for text in self.texts:
            self._text(*text)
        for run in self.runs:
            self._data(run)
        for name in self.searches:
            self._data(plan.searches.run(name))
            self._add("search_settings", plan.searches.file(name), name)
        for run in self.runs:
            self._training(run)
        for name in plan.teachers.models:
            self._add("evaluate_teacher", plan.evaluation.teacher_file(name), name)
        for key, model in plan.efficiency.by_key.items():
            self._add("measure_efficiency", plan.efficiency.file(key), *model)
        for name, rule in _RESULTS.items():
            if plan.pool.asks or rule != "check_near_duplicates":
                self._add(rule, f"{plan.results}/{name}")
        for figure in figures:
            self._add("plot_figures", f"{plan.results}/figures/{figure}.svg")

    def _add(self, rule: str, output: str, *of: Any, also: str = "") -> Job:
        """Price a job that is not listed yet; several runs may ask for its output.

        Args:
            rule: Of the workflow.
            output: Its first output.
            of: Arguments of the rule's pricing function.
            also: Another output that must be there for the job to be done.
        """
        if output not in self.jobs:
            price = RULES[rule][1](self.pricing, *of)
            done = all((self.pricing.root / file).exists() for file in (output, also or output))
            self.jobs[output] = Job(**vars(price), rule=rule, output=output, done=done)
        return self.jobs[output]

    def served(self, name: str) -> bool:
        """Whether a server writes a teacher's text."""
        return self.plan.text.origin(name).kind == "server"

    def _prompts(self) -> None:
        """Every held-out part, and train parts up to the last that is read."""
        pool = self.plan.pool
        if not isinstance(pool, PromptPool):  # a corpus is cut once, for all
            self._add("chunk_corpus", pool.near_duplicates)
            return
        rule = "synthesise_prompts" if pool.magpie else "slice_prompts"
        for split, part in self.pricing.prompt_parts:
            self._add(rule, pool.part(split, part, raw=True), split, part)
            self._add("filter_prompts", pool.part(split, part))

    def _text(self, name: str, split: str, part: int) -> None:
        """One part of a teacher's text, and on test text what its evaluation reads."""
        rules = {"model": "generate_text", "data": "take_text", "server": "take_answers",
                 "corpus": "take_chunks"}  # fmt: skip
        if self.served(name):
            self._add("ask_server", self.plan.served.part(name, split, part))
        rule = rules[self.plan.text.origin(name).kind]
        self._add(rule, self.plan.text.part(name, split, part), name, split, part)
        if split == "test" and self.plan.teachers.has_model(name):
            self._states(name, name, "answer", split, part)

    def _states(self, text: str, scorer: str, tokens: str, split: str, part: int) -> None:
        """A scoring pass, unless the states fell out of generation; and the scorer's head."""
        of = (text, scorer, tokens, split, part)
        if "/own/" not in (file := self.plan.scorers.states(*of)):
            self._add("score_text", file, *of)
        self._add("save_head", self.plan.scorers.head(scorer), scorer)

    def _data(self, run: Run) -> None:
        """A student before training, and all that its training reads."""
        plan = self.plan
        self._add("build_student", plan.students.file(run.student), run)
        if not run.samples:
            return
        from_corpus = plan.corpora.of(run) is not None
        if run in plan.listed:  # of others no card is promised
            card = "write_corpus_card" if from_corpus else "write_card"
            self._add(card, plan.shards.card(run))
        if from_corpus:
            self._add("build_corpus_shard", plan.shards.file(run), run)
            return
        if plan.rows.curation(run):
            for part in (0, *plan.rows.parts(run)) if plan.curations.losses(run) else ():
                self._states(run.teacher, run.teacher, "answer", "train", part)
                file = plan.losses.part(run.teacher, "train", part)
                self._add("score_loss", file, run.teacher, part)
            decisions = plan.curations.file(run, "decisions")
            self._add("curate_rows", plan.curations.file(run), run, also=decisions)
        if run.cached != NO_CACHE:
            for part in plan.rows.parts(run):
                self._targets(run.teacher, run.cache, part)
        self._add("build_shard", plan.shards.file(run), run)

    def _targets(self, name: str, cache: str, part: int) -> None:
        """Soft targets of a part of a teacher's text."""
        entry, plan, of = self.study.caches[cache], self.plan, (name, cache, part)
        scored = plan.teachers.has_model(name)
        for scorer in plan.targets.teachers(name, cache) if scored else ():
            self._states(name, scorer, entry.tokens, "train", part)
        self._add("write_manifest", plan.targets.manifest(name, cache))
        file = plan.targets.part(name, cache, "train", part)
        if not scored:
            self._add("take_log_probs", file, *of)
            return
        if entry.scheme != "final_hidden":
            self._add("cache_targets", file, *of)
        if entry.hidden:
            for fitted in plan.layers.projection(name, cache):
                self._add("fit_projection", fitted, name, part)
            self._add("score_layers", plan.layers.part(name, cache, "train", part), *of)

    def _training(self, run: Run) -> None:
        """Training of one run, and evaluation unless it only makes a teacher."""
        file = self.plan.training.file
        cost = training_cost(self.pricing, run, self.plan.training.gpus(run))
        trained = self._add("train_student", file(run, "training.json"), run, cost,
                            also=file(run, "model.safetensors"))  # fmt: skip
        judged = None
        if run in self.plan.listed:
            judged = self._add("evaluate_student", file(run, "metrics.json"), run)
        self.rows.append(self._row(run, cost, trained, judged))

    def _row(
        self, run: Run, cost: TrainingCost, trained: Job, judged: Job | None
    ) -> dict[str, Any]:
        """A line of plan.csv."""
        model, saved = self.models.students[run.student], self.models.saved[run.student]
        shard = self.jobs[self.plan.shards.file(run)].disk if run.samples else 0
        return {
            "student": run.student, "teacher": run.teacher, "method": run.method,
            "curation": run.curation, "cache": run.cache, "samples": run.samples,
            "draw": run.draw, "seed": run.seed, "params": model.params,
            "params_non_embedding": model.body_params,
            "tokens_seen": round(cost.tokens),
            "tokens_basis": "measured" if self.pricing.measured(run) else "limit",
            "updates": cost.updates, "train_flops": round(cost.work.flops),
            "train_seconds": cost.seconds, "train_job_seconds": trained.seconds,
            "evaluate_job_seconds": judged.seconds if judged else 0.0,
            "checkpoint_bytes": cost.checkpoint, "student_bytes": student_bytes(saved),
            "shard_bytes": round(shard), "train_memory_bytes": round(cost.memory),
            "evaluate_memory_bytes": round(judged.memory) if judged else 0,
            "trained": trained.done, "evaluated": judged is not None and judged.done,
            "listed": judged is not None,
        }  # fmt: skip
