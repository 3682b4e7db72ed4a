"""From a study's plan to the jobs that it takes, each with its cost, and what is done already."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.config.training import Train
from distill.contracts.run import AT_ONCE, LIVE, NO_CACHE, Run
from distill.core.parquet import read_table
from distill.costs.row_lengths import shard_lengths
from distill.costs.work import (
    HALF,
    SINGLE,
    Architecture,
    Lengths,
    Machine,
    Probe,
    Rows,
    Work,
    cache_bytes_per_token,
    checkpoint_bytes,
    decoding_memory,
    forward_work,
    generation_work,
    layer_bytes_per_token,
    live_work,
    saving_memory,
    student_bytes,
    training_memory,
    training_work,
    updates_of,
)
from distill.plan.needed import needed_runs, needed_searches, needed_texts
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan

STAGES = (
    "prompts", "text", "soft targets", "students", "searches", "training", "evaluation",
    "latency", "results",
)  # fmt: skip
INSTRUCTIONS = 50
"""Instructions of the first set, answered beside the generated ones."""
CLOSED = 0.5
"""Share of Magpie turns taken to be closed in time where no prompts exist yet."""
TEXT_BYTES = 4.0
"""Bytes per token of text and its ids in Parquet (3.8 in the default study)."""
QUANTISED_BYTES = {"int8": 1.0, "nf4": 0.5625}
"""Bytes per weight of a quantised body: 8 bits, or 4 with a scale of 4 bytes for each 64."""
LOSS_BYTES = 40.0
"""Bytes per row of a teacher's own losses: a short id and four numbers."""


@dataclass(frozen=True)
class Job:
    """One job: its cost, what it leaves on disk and whether that is there already."""

    stage: str
    output: str
    work: Work = field(default_factory=Work)
    seconds: float = 0.0
    threads: int = 1
    disk: float = 0.0
    memory: float = 0.0
    done: bool = False


@dataclass(frozen=True)
class Models:
    """Architectures of the models of a study, by name.

    `students` are as they are trained and timed, `saved` as their files hold them and as they are
    judged; the two differ by a trimmed vocabulary. A teacher that the study trains is a saved one.
    By teacher, `template` counts the tokens that its template puts around a prompt, and `prefix`
    those before the user's words (0 where the template is not the tokenizer's own).
    """

    teachers: Mapping[str, Architecture]
    students: Mapping[str, Architecture]
    saved: Mapping[str, Architecture]
    template: Mapping[str, int]
    prefix: Mapping[str, int]


class Forecast:
    """The jobs of a study.

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
        self.plan, self.study, self.models = plan, plan.study, models
        self.lengths, self.machine, self.root = lengths, machine, Path(root)
        self.jobs: dict[str, Job] = {}
        self.texts, self.runs = needed_texts(plan), needed_runs(plan)
        self.searches = needed_searches(plan)
        self._settings: dict[str, Train] = {}
        self._row_lengths: dict[str, Rows] = {}
        self._parts: dict[tuple[str, str, int], Rows] = {}
        self._cached: dict[tuple[str, str, int], float] = {}
        self.rows: list[dict[str, Any]] = []
        self._prompts()
        for teacher, split, part in self.texts:
            self._text(teacher, split, part)
        for run in self.runs:
            self._student(run)
            self._shard(run)
        for name in self.searches:
            self._search(name)
        for run in self.runs:
            self._run(run)
        self._references()
        self._results(figures)

    def _exists(self, *paths: str) -> bool:
        return all((self.root / path).exists() for path in paths)

    def _add(self, stage: str, output: str, *also: str, **cost: Any) -> Job:
        """Add a job once; its parts may be asked for by several runs."""
        if output not in self.jobs:
            self.jobs[output] = Job(stage, output, done=self._exists(output, *also), **cost)
        return self.jobs[output]

    def _train_of(self, method: str) -> Train:
        """Training settings of a method, read once."""
        if method not in self._settings:
            self._settings[method] = self.study.train_of(method)
        return self._settings[method]

    def _seconds(self, kind: Any, model: Architecture, work: Work, **at: Any) -> float:
        probe = Probe(kind, model.width, model.vocabulary, **at)
        return self.machine.speed(probe).seconds(work)

    def _decoding(
        self, model: Architecture, work: Work, answers: float, prefix: int, **at: Any
    ) -> float:
        """Seconds of generating answers: what all prompts begin with is computed only once."""
        shared = Work(model.flops.body_per_token * prefix * answers)
        return self._seconds("decode", model, work + shared * -1, **at)

    def _of(self, teacher: str) -> dict[str, Any]:
        """Precision and threads of a teacher's jobs."""
        entry = self.study.teachers[teacher]
        return {"precision": self.machine.precision(entry.precision), "threads": entry.threads}

    def _weights(self, teacher: str) -> float:
        """Bytes of a teacher's weights as its jobs hold them."""
        model, precision = self.models.teachers[teacher], self._of(teacher)["precision"]
        size = SINGLE if precision == "fp32" else HALF
        body = QUANTISED_BYTES.get(self.study.teachers[teacher].quantisation, size)
        return body * model.body_params + size * (model.params - model.body_params)

    @property
    def _judged(self) -> dict[str, Any]:
        """Precision and threads of an evaluation."""
        entry = self.study.evaluate
        return {"precision": self.machine.precision(entry.precision), "threads": entry.threads}

    def _prompts(self) -> None:
        """Prompts: every held-out part, and train parts up to the last that is read."""
        self.prompts_measured = True
        pool = self.plan.pool
        if not isinstance(pool, PromptPool):  # a corpus is cut once, for all
            self._add("prompts", pool.near_duplicates, seconds=self.machine.analysis_start)
            return
        prompts, most = pool.settings, max((p for _, s, p in self.texts if s == "train"), default=-1)  # fmt: skip  # noqa: E501
        parts = [("train", part) for part in range(most + 1)]
        parts += [(s, p) for s in ("test", "validation") for p in pool.parts(s)]
        kept = [self.root / pool.part(*part) for part in parts]
        made = [read_table(file, ["prompt_flops"])["prompt_flops"] for file in kept if file.is_file()]  # fmt: skip  # noqa: E501
        measured = [value for column in made for value in column.to_pylist()]
        self.prompts_measured = bool(measured)
        for split, part in parts:
            work, seconds, threads, memory = Work(), self.machine.analysis_start, 1, 0.0
            rows = pool.rows(split, part)
            if pool.magpie:
                name = prompts.teacher or ""
                model, at = self.models.teachers[name], self._of(name)
                entry, threads = self.study.teachers[name], at["threads"]
                prefix = self.models.prefix[name]
                turn = generation_work(model.flops, prefix, prompts.max_tokens)
                # Prompts that exist say how many turns were closed, and how long they were.
                turns = rows * prompts.surplus / CLOSED
                if measured:
                    turns = sum(measured) / len(measured) * rows / turn.flops
                work = turn * turns
                seconds = self.machine.start + self._decoding(
                    model, work, turns, prefix, **at, rows=entry.batch_size
                )
                memory = decoding_memory(
                    model, entry.batch_size, prefix + prompts.max_tokens,
                    at["precision"], self.machine.runtime,
                )  # fmt: skip
            raw = pool.part(split, part, raw=True)
            self._add("prompts", raw, work=work, seconds=seconds, threads=threads, memory=memory)
            self._add("prompts", pool.part(split, part),
                      seconds=self.machine.analysis_start)  # fmt: skip

    def _part_tokens(self, teacher: str, split: str, part: int) -> Rows:
        """How many rows of each (prompt, answer) a part has."""
        key = (teacher, split, part)
        if key not in self._parts:
            pool = self.plan.pool
            first, rows = part * pool.settings.part_size, pool.rows(split, part)
            numbers = range(first, first + rows) if split == "train" else [-1] * rows
            self._parts[key] = self.lengths[teacher].rows(numbers, float("inf"))
        return self._parts[key]

    def _text(self, teacher: str, split: str, part: int) -> None:
        """One part of a teacher's text with its hidden states."""
        each, entry = self._part_tokens(teacher, split, part), self.study.teachers[teacher]
        file = self.plan.text.part(teacher, split, part)
        disk = TEXT_BYTES * _tokens(each)
        if not self.plan.text.origin(teacher).writes:
            seconds = self.machine.analysis_start
            if self.served(teacher):
                self._add("text", self.plan.served.part(teacher, split, part), seconds=seconds)
            self._add("text", file, seconds=seconds, disk=disk)
        else:
            model, at = self.models.teachers[teacher], self._of(teacher)
            work = _sum(each, lambda p, a: generation_work(model.flops, p, a))
            size = min(entry.batch_size, each.total())
            prefix = self.models.prefix[teacher]
            seconds = self._decoding(model, work, each.total(), prefix, **at, rows=entry.batch_size)
            longest = self.lengths[teacher].prompt + entry.max_tokens
            self._add(
                "text", file, work=work, seconds=self.machine.start + seconds,
                threads=at["threads"],
                disk=disk + 2 * model.width * _scored(each, "answer"),
                memory=decoding_memory(model, size, longest, at["precision"], self.machine.runtime),
            )  # fmt: skip
        if split == "test" and self.plan.teachers.has_model(teacher):
            self._states(teacher, teacher, "answer", split, part)
            self._head(teacher)

    def served(self, teacher: str) -> bool:
        """Whether a server writes a teacher's text."""
        return self.plan.text.origin(teacher).kind == "server"

    def _losses(self, teacher: str, part: int) -> None:
        """A teacher's own loss on each answer of a part, from its hidden states."""
        model, at = self.models.teachers[teacher], self._of(teacher)
        each = self._part_tokens(teacher, "train", part)
        tokens = _scored(each, "answer")
        self._states(teacher, teacher, "answer", "train", part)
        self._head(teacher)
        work = Work(0.0, model.flops.head_per_token * tokens)
        self._add("soft targets", self.plan.losses.part(teacher, "train", part), work=work,
                  seconds=self.machine.start + self._seconds("score", model, work, **at),
                  threads=at["threads"], disk=LOSS_BYTES * each.total(),
                  memory=self._cache_memory([teacher], tokens))  # fmt: skip

    def _states(self, text: str, scorer: str, tokens: str, split: str, part: int) -> None:
        """A scoring pass, unless the states fell out of generation."""
        file = self.plan.scorers.states(text, scorer, tokens, split, part)
        if "/own/" in file:
            return
        each, model, at = self._part_tokens(text, split, part), self.models.teachers[scorer], self._of(scorer)  # fmt: skip  # noqa: E501
        kept = _scored(each, tokens)
        # A masked model's head has layers before its matrix, which are run here.
        before = model.flops.head_per_token - 2 * model.width * model.vocabulary
        work = _sum(each, lambda p, a: forward_work(model.flops, p + a, 0)) + Work(before * kept)
        seconds = self.machine.start + self._seconds("score", model, work, **at)
        self._add("soft targets", file, work=work, seconds=seconds, threads=at["threads"],
                  disk=2 * model.width * kept,
                  memory=self.machine.runtime + self._weights(scorer))  # fmt: skip

    def _head(self, teacher: str) -> None:
        model = self.models.teachers[teacher]
        size = SINGLE * model.width * model.vocabulary
        head = self.plan.scorers.head(teacher)
        self._add("soft targets", head, seconds=self.machine.start, disk=size,
                  memory=self.machine.runtime + self._weights(teacher) + size)  # fmt: skip

    def _cache(self, teacher: str, cache: str, part: int) -> float:
        """Soft targets of a part, added once; returns their bytes per token."""
        key = (teacher, cache, part)
        if key not in self._cached:
            self._cached[key] = self._targets(*key)
        return self._cached[key]

    def _targets(self, teacher: str, cache: str, part: int) -> float:
        entry, plan = self.study.caches[cache], self.plan
        if not plan.teachers.has_model(teacher):
            return self._served_cache(teacher, cache, part)
        names = list(plan.targets.teachers(teacher, cache))
        each = self._part_tokens(teacher, "train", part)
        tokens, model = _scored(each, entry.tokens), self.models.teachers[names[0]]
        at = self._of(teacher)
        for name in names:
            self._states(teacher, name, entry.tokens, "train", part)
            self._head(name)
        size = cache_bytes_per_token(entry.model_dump(), model.width, model.vocabulary)
        manifest = plan.targets.manifest(teacher, cache)
        self._add("soft targets", manifest, seconds=self.machine.start)
        if entry.scheme != "final_hidden":
            work = Work(0.0, sum(self.models.teachers[n].flops.head_per_token for n in names) * tokens)  # fmt: skip  # noqa: E501
            spec = entry.model_dump(exclude={"teachers", "hidden", "tokens"})
            seconds = self._seconds("score", model, work, **at)
            seconds += tokens * self.machine.encoding(spec, model.vocabulary, at["threads"])
            self._add("soft targets", plan.targets.part(teacher, cache, "train", part), work=work,
                      seconds=self.machine.start + seconds, threads=at["threads"],
                      disk=size * tokens, memory=self._cache_memory(names, tokens))  # fmt: skip
        if entry.hidden:
            model, layers = self.models.teachers[teacher], entry.hidden.model_dump()
            extra = layer_bytes_per_token(layers, model.width)
            work = _sum(each, lambda p, a: forward_work(model.flops, p + a, 0))
            cost = {
                "work": work, "threads": at["threads"],
                "seconds": self.machine.start + self._seconds("score", model, work, **at),
                "memory": self.machine.runtime + self._weights(teacher),
            }  # fmt: skip
            for file in plan.layers.projection(teacher, cache):
                self._add("soft targets", file, **cost)
            self._add("soft targets", plan.layers.part(teacher, cache, "train", part), **cost,
                      disk=extra * tokens)  # fmt: skip
            size += extra
        return size

    def _served_cache(self, teacher: str, cache: str, part: int) -> float:
        """Soft targets that come with a server's answers; returns their bytes per token."""
        entry, plan, seconds = self.study.caches[cache], self.plan, self.machine.start
        size = cache_bytes_per_token(entry.model_dump(), 0, 2**17)  # ids of 4 bytes
        tokens = _scored(self._part_tokens(teacher, "train", part), entry.tokens)
        manifest = plan.targets.manifest(teacher, cache)
        self._add("soft targets", manifest, seconds=seconds)
        self._add("soft targets", plan.targets.part(teacher, cache, "train", part), seconds=seconds,
                  disk=size * tokens)  # fmt: skip
        return size

    def _cache_memory(self, names: Iterable[str], tokens: float) -> float:
        """Runtime, heads, hidden states, and three copies of a block's logits."""
        models = [self.models.teachers[name] for name in names]
        held = sum(SINGLE * m.width * m.vocabulary + 4 * m.width * tokens for m in models)
        return self.machine.runtime + held + 3 * SINGLE * 512 * models[0].vocabulary

    def _student(self, run: Run) -> None:
        """A student before training."""
        file, model = self.plan.students.file(run.student), self.models.students[run.student]
        student, whole = self.study.students[run.student], list[int]()
        if student.init != "random":  # the model that it comes from is read whole
            whole = [self.models.saved[run.student].params]
            whole += [self.models.teachers[name].params for name, t in self.study.teachers.items()
                      if t.source == student.source and name in self.models.teachers]  # fmt: skip
        self._add("students", file, seconds=self.machine.start, disk=student_bytes(model),
                  memory=self.machine.runtime + SINGLE * max([model.params, *whole]))  # fmt: skip

    def _lengths(self, run: Run, limit: float = float("inf")) -> Rows:
        """How many rows of each (prompt, answer) a run trains on."""
        key = f"{self.plan.shards.file(run)} {limit}"
        if key not in self._row_lengths:
            made = shard_lengths(self.plan, run, self.lengths[run.teacher], limit, self.root)
            self._row_lengths[key] = made
        return self._row_lengths[key]

    def _card(self, run: Run) -> None:
        """The card of a shard's folder, which is promised for runs of the run table."""
        if run in self.plan.listed:
            self._add("students", self.plan.shards.card(run), seconds=self.machine.analysis_start)

    def _shard(self, run: Run) -> None:
        if not run.samples:
            return
        self._card(run)
        each = self._lengths(run)
        if self.plan.corpora.of(run) is not None:
            self._add("students", self.plan.shards.file(run), seconds=self.machine.start,
                      disk=TEXT_BYTES * _tokens(each))  # fmt: skip
            return
        if self.plan.rows.curation(run):
            for part in (0, *self.plan.rows.parts(run)) if self.plan.curations.losses(run) else ():
                self._losses(run.teacher, part)
            curations = self.plan.curations
            self._add("students", curations.file(run), curations.file(run, "decisions"),
                      seconds=self.machine.analysis_start,
                      disk=TEXT_BYTES * _tokens(each))  # fmt: skip
        size, tokens = 0.0, "answer"
        if run.cached != NO_CACHE:
            tokens = self.study.caches[run.cache].tokens
            size = max(self._cache(run.teacher, run.cache, p) for p in self.plan.rows.parts(run))
        disk = TEXT_BYTES * _tokens(each) + size * _scored(each, tokens)
        self._add(
            "students", self.plan.shards.file(run), seconds=self.machine.analysis_start, disk=disk
        )

    def training(self, run: Run, processes: int = 1) -> dict[str, Any]:
        """What training a run takes: updates, tokens, work (a live teacher's apart), seconds and
        peak memory, of so many processes that share it."""
        model, saved = self.models.students[run.student], self.models.saved[run.student]
        if not run.samples:
            memory = self.machine.runtime + 2 * SINGLE * saved.params
            return {"updates": 0, "tokens": 0.0, "work": Work(), "asked": Work(), "seconds": 0.0,
                    "threads": 1, "memory": memory, "checkpoint": 0}  # fmt: skip
        settings, method = self._train_of(run.method), self.study.method_of(run.method)
        train, each = settings.model_dump(), self._lengths(run, settings.max_length)
        heads = [self.models.teachers[run.teacher]] if self.plan.training.heads(run) else []
        head = sum(own.width * own.vocabulary for own in heads)
        losses = method.model_dump() | {"soft": [name for name in method.weights if name != "ce"]}
        work, updates = training_work(model.flops, each, losses, train, head), updates_of(run.samples, train)  # fmt: skip  # noqa: E501
        at = {"precision": self.machine.precision(train["precision"]), "threads": train["threads"]}
        trained = self.machine.optimiser * model.params + self.machine.update
        seconds = self._seconds("train", model, work, **at) + updates * trained
        epochs = updates / -(-run.samples // settings.batch_size)
        tokens, asked = _scored(each, "answer") * epochs, Work()
        base = self.machine.runtime + SINGLE * head
        if run.cache == LIVE:
            teacher, theirs = self.models.teachers[run.teacher], self._of(run.teacher)
            live = live_work(model.flops, teacher.flops, each, losses, train)
            work, asked, tokens = live.training + live.sampling, live.teacher, live.tokens
            each, base = live.rows, base + SINGLE * teacher.params
            seconds = self._seconds("train", model, live.training, **at) + updates * trained
            seconds += self._seconds("decode", model, live.sampling, **at, rows=train["batch_size"])
            seconds += self._seconds("score", teacher, asked, **theirs | {"threads": at["threads"]})
        if stop := settings.early_stopping:
            epoch = -(-run.samples // settings.batch_size)
            looks = updates / (stop.every or epoch)
            seconds += looks * self._validation(run, model, at)
        train["micro_batch_size"] = settings.micro_batch_size or settings.batch_size // processes
        longest = max((sum(pair) for pair in each), default=0.0)
        if not self._measured(run):
            longest = min(longest, settings.max_length)
        return {
            "updates": updates, "work": work, "asked": asked, "seconds": seconds / processes,
            "threads": settings.threads * processes, "tokens": tokens,
            "memory": processes * max(
                training_memory(model, train, longest, max(a for _, a in each),
                                at["precision"], base),
                saving_memory(model, saved, train, base),
            ),
            "checkpoint": checkpoint_bytes(model, train, updates),
        }  # fmt: skip

    def _measured(self, run: Run) -> bool:
        """Whether a run's tokens are those of text that exists, or of chunks of one length."""
        if run.cache == LIVE:
            return False
        return self.plan.corpora.of(run) is not None or self.lengths[run.teacher].measured

    def _validation(self, run: Run, model: Architecture, at: Mapping[str, Any]) -> float:
        """Seconds of one look at the validation text."""
        lengths = self.lengths[run.teacher]
        one = forward_work(model.flops, lengths.prompt + lengths.answer, lengths.answer)
        return self._seconds("score", model, one * self.study.rows.validation, **at)

    def _search(self, name: str) -> None:
        """All trials to their end; pruning makes it cheaper."""
        run, search = self.plan.searches.run(name), self.study.searches[name]
        self._student(run)
        self._shard(run)
        cost, model = self.training(run), self.models.students[run.student]
        at = {"precision": self.machine.precision(self.study.train.precision),
              "threads": cost["threads"]}  # fmt: skip
        looks = self._train_of(run.method).epochs * self._validation(run, model, at)
        work = (cost["work"] + cost["asked"]) * search.trials
        self._add("searches", self.plan.searches.file(name), work=work,
                  seconds=self.machine.start + search.trials * (cost["seconds"] + looks),
                  threads=cost["threads"], memory=cost["memory"])  # fmt: skip

    def _evaluation(self, model: Architecture, teacher: str) -> tuple[Work, float, float]:
        """Work, seconds and peak memory of judging a model."""
        entry, lengths, at = self.study.evaluate, self.lengths[teacher], self._judged
        scored = forward_work(model.flops, lengths.prompt + lengths.answer, lengths.answer)
        scored = scored * self.study.rows.test
        passage = 0
        if entry.reference is not None:
            passage = entry.reference.max_tokens
            scored += forward_work(model.flops, passage, passage) * entry.reference.passages
        chunk = self.plan.pool.chunk
        if self.study.mask is not None and chunk is not None:  # a pass per token of a chunk
            one = forward_work(model.flops, chunk.read, 1)
            scored += one * (entry.pseudo_chunks * chunk.length)
        theirs, memory = Work(), 0.0
        if self.plan.teachers.has_model(teacher):
            own = self.models.teachers[teacher]
            tokens = lengths.answer * self.study.rows.test
            theirs = Work(0.0, own.flops.head_per_token * tokens)
            memory = SINGLE * own.width * own.vocabulary + 4 * own.width * tokens
        seconds = self._seconds("score", model, scored + theirs, **at)
        size = SINGLE if at["precision"] == "fp32" else HALF
        positions = entry.batch_size * max(passage, lengths.answer)
        base = self.machine.runtime + memory
        peak = base + size * (model.params + positions * model.vocabulary)
        if not self.plan.pool.asks:
            return scored + theirs, seconds, peak
        compared = 0
        source = self.study.sources.get(self.study.rows.source)
        if source is not None and "response" in (source.fields or {}):
            compared = min(entry.reference_answers, self.study.rows.test)
        asked = INSTRUCTIONS + entry.generated_instructions + entry.qualitative
        drawn, most = entry.answers, entry.instruction_tokens
        together = drawn.batch_size if drawn else AT_ONCE
        answers = generation_work(model.flops, lengths.prompt, most) * asked
        if drawn:
            if compared and drawn.validation:
                compared += min(entry.reference_answers, self.study.rows.validation)
            most = max(most, drawn.max_tokens)
        tokens = drawn.max_tokens if drawn else most
        answers += generation_work(model.flops, lengths.prompt, tokens) * compared
        asked += compared
        prefix = self.models.prefix.get(teacher, 0)
        seconds += self._decoding(model, answers, asked, prefix, **at, rows=together)
        answering = decoding_memory(
            model, together, lengths.prompt + most, at["precision"], base,
        )  # fmt: skip
        return scored + theirs + answers, seconds, max(peak, answering)

    def _run(self, run: Run) -> None:
        """Training of one run, and evaluation unless it only makes a teacher."""
        model, saved = self.models.students[run.student], self.models.saved[run.student]
        plan, listed = self.plan, run in self.plan.listed
        cost = self.training(run, plan.training.gpus(run))
        trained = self._add(
            "training", plan.training.file(run, "training.json"),
            plan.training.file(run, "model.safetensors"),
            work=cost["work"] + cost["asked"], seconds=self.machine.start + cost["seconds"],
            threads=cost["threads"], disk=student_bytes(saved), memory=cost["memory"],
        )  # fmt: skip
        judged = None
        if listed:
            work, seconds, memory = self._evaluation(saved, run.teacher)
            judged = self._add(
                "evaluation", plan.training.file(run, "metrics.json"), work=work, memory=memory,
                seconds=self.machine.start + seconds, threads=self._judged["threads"],
            )  # fmt: skip
        self.rows.append(
            {
                "student": run.student, "teacher": run.teacher, "method": run.method,
                "curation": run.curation, "cache": run.cache, "samples": run.samples,
                "draw": run.draw, "seed": run.seed, "params": model.params,
                "params_non_embedding": model.body_params,
                "tokens_seen": round(cost["tokens"]),
                "tokens_basis": "measured" if self._measured(run) else "limit",
                "updates": cost["updates"], "train_flops": round(cost["work"].flops),
                "train_seconds": cost["seconds"], "train_job_seconds": trained.seconds,
                "evaluate_job_seconds": judged.seconds if judged else 0.0,
                "checkpoint_bytes": cost["checkpoint"], "student_bytes": student_bytes(saved),
                "shard_bytes": round(self.jobs[plan.shards.file(run)].disk) if run.samples else 0,
                "train_memory_bytes": round(cost["memory"]),
                "evaluate_memory_bytes": round(judged.memory) if judged else 0,
                "trained": trained.done, "evaluated": judged is not None and judged.done,
                "listed": listed,
            }
        )  # fmt: skip

    def _references(self) -> None:
        """Teachers' own metrics, speed of each architecture, and the aggregates."""
        entry, plan = self.study.evaluate, self.plan
        for name in plan.teachers.models:
            work, seconds, memory = self._evaluation(self.models.teachers[name], name)
            self._add("evaluation", plan.evaluation.teacher_file(name), work=work,
                      seconds=self.machine.start + seconds, threads=entry.threads, memory=memory)  # fmt: skip  # noqa: E501
        for key, (kind, name) in plan.efficiency.by_key.items():
            made = plan.teachers.trained_run(name) if kind == "teachers" else None
            if made is not None:  # what is timed is the student before training
                kind, name = "students", made.student
            model = (self.models.teachers if kind == "teachers" else self.models.students)[name]
            work, timed = generation_work(model.flops, 32, entry.latency_tokens), "single"
            chunk = plan.pool.chunk
            if self.study.mask is not None and chunk is not None:
                work = forward_work(model.flops, chunk.read, chunk.read) * entry.latency_batch
                timed = "score"
            work = work * (entry.latency_repeats + 1)
            at = {"precision": self._judged["precision"], "threads": entry.latency_threads}
            seconds = self.machine.start + self._seconds(timed, model, work, **at)
            self._add("latency", plan.efficiency.file(key), work=work,
                      seconds=seconds, threads=entry.latency_threads,
                      memory=self.machine.runtime + SINGLE * model.params)  # fmt: skip

    def _results(self, figures: Sequence[str]) -> None:
        """Table, answers, figures and report: little but their imports."""
        names = ["runs.parquet", "laws.json", "answers.json", "report.html"]
        if self.plan.pool.asks:
            names.insert(0, "near_duplicates.json")
        for name in (*names, *(f"figures/{figure}.svg" for figure in figures)):
            file = f"{self.plan.results}/{name}"
            self._add("results", file, seconds=self.machine.analysis_start)


def _sum(rows: Rows, of: Callable[[float, float], Work]) -> Work:
    """The work of rows, those of equal lengths at once."""
    return sum((of(*pair) * count for pair, count in rows.items()), Work())


def _tokens(rows: Rows) -> float:
    """Tokens of rows, prompts and answers."""
    return sum((p + a) * count for (p, a), count in rows.items())


def _scored(rows: Rows, tokens: str) -> float:
    """Positions whose next token is scored: the answer's, or all but the last."""
    return sum((a if tokens == "answer" else p + a - 1) * count for (p, a), count in rows.items())
