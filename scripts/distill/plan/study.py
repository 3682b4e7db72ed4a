"""From a study's config to its run table, and to the specs and paths of everything made for it.

A spec is a plain dict of what an output depends on beyond its input files; Snakemake compares it,
results store it, and shared work lies under a hash of it. Keys stand in a fixed order.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from distill.config.checks.lineage import teachers_behind
from distill.config.curation import Curation
from distill.config.models import Student
from distill.config.study import Block, Study, parts_of, raw_part_size
from distill.config.text import Prompts
from distill.contracts.run import LIVE, MAGPIE, NO_CACHE, RAW, UNTRAINED, Run
from distill.core.keys import digest, pool_order
from distill.core.keys import slug as _slug
from distill.plan.corpus import CorpusPlan

RESOURCES = "resources"
ASKED = {
    "generated_instructions", "instruction_tokens", "reference_answers", "qualitative", "answers",
}  # fmt: skip
"""Settings of an evaluation that asks the models something."""
_NOT_DECODING = {"source", "text", "trained", "server", "pretraining_tokens", "gpus"}


def targets_of(study: Study, method: str, caches: list[str]) -> list[str]:
    """Where a method's soft targets come from: each cache, a live teacher, or nowhere."""
    own = study.method_of(method)
    if own.on_policy is not None:
        return [LIVE]
    return caches if own.soft else [NO_CACHE]


def block_runs(study: Study, block: Block) -> set[Run]:
    """The runs of a block, each student's n = 0 run included."""
    runs = {
        Run(student, teacher, method, curation, cache, samples, draw, seed)
        for student in block.students
        for teacher in block.teachers
        for method in block.methods
        for cache in targets_of(study, method, block.caches)
        for curation in ([RAW] if study.method_of(method).corpus else block.curations)
        for samples in block.samples
        for draw in block.draws
        for seed in block.seeds
    }
    untrained = {Run(run.student, run.teacher, UNTRAINED, RAW, NO_CACHE, 0, 0, 0) for run in runs}
    return runs | untrained


def run_table(study: Study) -> list[Run]:
    """All runs of a study, without duplicates."""
    return sorted(set().union(*(block_runs(study, block) for block in study.runs)))


def _stem(key: str) -> str:
    """A source's key without its digest."""
    return re.sub(r"-[0-9a-f]{8}$", "", key)


def _plain(value: Any) -> Any:
    """`value` with the keys of free-form dicts in order, so that re-ordering changes nothing."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (isinstance(key, str), key))  # layers: 1, 2, last
        return {key: _plain(value[key]) for key in keys}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


Names = ParamSpec("Names")
Found = TypeVar("Found")


def kept(
    method: Callable[Concatenate["Plan", Names], Found],
) -> Callable[Concatenate["Plan", Names], Found]:
    """Work out what a method returns once for the same arguments: thousands of runs share it.

    Who calls gets a dict or list of its own to add to; what these hold must not be changed.
    """

    @wraps(method)
    def remembered(self: "Plan", *names: Names.args, **more: Names.kwargs) -> Found:
        key = (method, names, *more.items())
        if key not in self._kept:
            self._kept[key] = method(self, *names, **more)
        found: Found = self._kept[key]
        return copy(found) if isinstance(found, (dict, list)) else found

    return remembered


class Plan:
    """Paths, specs and inputs of a study. Everything here is a function of the config alone."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._kept: dict[Any, Any] = {}  # what thousands of runs share, by method and arguments
        self._orders: dict[int, list[int]] = {}  # of the pool's rows, by draw

    @property
    def results(self) -> str:
        """The study's directory."""
        return f"results/{self.study.study}"

    @cached_property
    def runs(self) -> list[Run]:
        """The run table."""
        return run_table(self.study)

    @cached_property
    def listed(self) -> frozenset[Run]:
        """The same, to look a run up in."""
        return frozenset(self.runs)

    # Sources: models and data.

    @kept
    def source_spec(self, name: str) -> dict[str, Any]:
        """What a source's files depend on."""
        source = self.study.sources[name]
        return _plain(source.model_dump(exclude_none=True, exclude_defaults=True))

    @kept
    def source_key(self, name: str) -> str:
        """Folder name of a source's files: readable, and unique to its spec."""
        source = self.study.sources[name]
        origin = source.wheel or source.hub or Path(source.path or "").name
        return f"{_slug(origin)}-{digest(self.source_spec(name))}"

    @cached_property
    def model_sources(self) -> dict[str, str]:
        """Source name of each model, by key."""
        used = [teacher.source for teacher in self.study.teachers.values() if teacher.source]
        used += [student.source for student in self.study.students.values()]
        servers = [teacher.server for teacher in self.study.teachers.values() if teacher.server]
        used += [server.tokenizer for server in servers if server.tokenizer]
        used += [self.study.corpus.tokenizer] if self.study.corpus else []
        return {self.source_key(name): name for name in used}

    @cached_property
    def data_sources(self) -> dict[str, str]:
        """Source name of each data set, by key."""
        used = [name for name, source in self.study.sources.items() if source.is_data]
        return {self.source_key(name): name for name in used}

    @kept
    def trained_run(self, teacher: str) -> Run | None:
        """The run whose student a teacher is; None for one that is given."""
        entry = self.study.teachers[teacher].trained
        if entry is None:
            return None
        return Run(
            entry.student,
            entry.teacher or teacher,
            entry.method,
            entry.curation,
            targets_of(self.study, entry.method, [entry.cache or NO_CACHE])[0],
            entry.samples,
            entry.draw,
            entry.seed,
        )

    def gpus(self, run: Run) -> int:
        """GPUs, or processes where there are none, that train a run's student together: its own, or
        those of a teacher that the run makes."""
        if run.samples == 0:
            return 1
        made = [name for name in self.study.teachers if self.trained_run(name) == run]
        own = self.study.students[run.student].gpus
        return max([own, *(self.study.teachers[name].gpus for name in made)])

    @kept
    def teacher_gpus(self, teacher: str) -> int:
        """GPUs that a job of a teacher's model runs on."""
        entry = self.study.teachers[teacher]
        return entry.gpus if entry.device_map else 1

    def teachers_behind(self, run: Run) -> list[str]:
        """Teachers whose text or distribution a run reads until it is trained."""
        if run.samples == 0:
            if self.study.corpus is not None:  # ids are counted in text that no teacher wrote
                return []
            vocabulary = self.study.students[run.student].vocabulary
            return [vocabulary.teacher] if vocabulary else []
        cache = None if run.cached == NO_CACHE else run.cache
        return self._behind(run.student, run.teacher, run.method, cache, run.curation)

    @kept
    def _behind(self, *given: Any) -> list[str]:
        return teachers_behind(self.study, *given)

    @cached_property
    def trained_runs(self) -> list[Run]:
        """Runs that make the teachers of the run table, and the teachers of those in turn."""
        todo = [run.teacher for run in self.runs]
        todo += [name for run in self.runs for name in self.teachers_behind(run)]
        done: dict[str, None] = {}
        found: dict[Run, None] = {}
        while todo:
            name = todo.pop()
            run = None if name in done else self.trained_run(name)
            done[name] = None
            if run is not None:
                found[run] = None
                todo += self.teachers_behind(run)
        return sorted(found)

    @kept
    def model_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's weights depend on: its source, or all that trains it.

        Weights that a study trains lie in its own folder, so its name belongs to them: two studies
        would else make each other's text again, in turns.
        """
        run = self.trained_run(teacher)
        if run is None:
            return self.source_spec(self.study.teachers[teacher].source or "")
        return {"study": self.study.study, "trained": self.train_spec(run)}

    @kept
    def model_stem(self, teacher: str) -> str:
        """A readable name of a teacher's weights, the same for the same weights."""
        run = self.trained_run(teacher)
        if run is None:
            return _stem(self.source_key(self.study.teachers[teacher].source or ""))
        return f"trained-{_stem(self.student_key(run.student))}"

    def model_manifest(self, source: str) -> str:
        """The file that is written when a model is in place; the model lies beside it."""
        return f"{RESOURCES}/models/{self.source_key(source)}/manifest.json"

    def data_rows(self, source: str) -> str:
        """A data set's rows."""
        return f"{RESOURCES}/data/{self.source_key(source)}/rows.parquet"

    def local_files(self, source: str) -> list[str]:
        """Local files that a source reads, so that a changed file is seen."""
        path = self.study.sources[source].path
        if path is None:
            return []
        if self.study.sources[source].is_data:
            return [path]
        wanted = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
        return sorted(str(file) for pattern in wanted for file in Path(path).glob(pattern))

    # Prompts, or a corpus in their place.

    @cached_property
    def corpus(self) -> CorpusPlan:
        """The corpus that the study's models read; only for a study that has one."""
        assert self.study.corpus is not None
        return CorpusPlan(self, self.study.corpus)

    @property
    def near_duplicates(self) -> str:
        """What was found to resemble between held-out and training text."""
        if self.study.corpus is not None:
            return self.corpus.documents
        return f"{self.results}/near_duplicates.json"

    @cached_property
    def prompts_spec(self) -> dict[str, Any]:
        """What the prompts depend on: pool sizes do not matter, as parts are made in order."""
        prompts = self.study.prompts
        common = ("source", "test", "validation", "part_size", "surplus", "max_tokens")
        spec = {key: getattr(prompts, key) for key in (*common, "near_duplicate", "seed")}
        if prompts.source == MAGPIE:
            teacher = self.study.teachers[prompts.teacher or ""]
            spec["temperature"], spec["top_p"] = prompts.temperature, prompts.top_p
            spec["model"] = self.source_spec(teacher.source or "")
            spec["batch_size"], spec["threads"] = teacher.batch_size, teacher.threads
            spec["precision"] = teacher.precision
            spec["quantisation"], spec["device_map"] = teacher.quantisation, teacher.device_map
            # A data set's prompts have no system turn; Magpie's are written after it.
            spec["system"] = prompts.system
        else:
            spec["source"] = self.source_spec(prompts.source)
        return spec

    @cached_property
    def prompts_key(self) -> str:
        """Folder name of the prompts."""
        prompts = self.study.prompts
        name = MAGPIE if prompts.source == MAGPIE else _slug(prompts.source)
        return f"{name}-{digest(self.prompts_spec)}"

    def prompts_part(self, split: str, part: int, raw: bool = False) -> str:
        """A part of the prompts, raw (candidates) or kept."""
        folder = f"{RESOURCES}/prompts/{self.prompts_key}"
        return f"{folder}/{'raw/' if raw else ''}{split}-{part:05d}.parquet"

    def rows_of(self, split: str) -> int | None:
        """Rows of a held-out split; None for train, whose parts go on as far as asked."""
        sizes = {"test": self.study.prompts.test, "validation": self.study.prompts.validation}
        return sizes.get(split)

    def part_rows(self, split: str, part: int) -> int:
        """Rows kept in a part: the part size, or what is left of a held-out split."""
        if self.study.corpus is not None:
            return self.corpus.rows(split, part)
        size, rows = self.study.prompts.part_size, self.rows_of(split)
        return size if rows is None else min(size, rows - part * size)

    def held_out_parts(self, split: str) -> range:
        """Numbers of a held-out split's parts."""
        return range(parts_of(self.rows_of(split) or 0, self.study.prompts.part_size))

    def earlier_parts(self, split: str, part: int) -> list[str]:
        """Kept parts that a part's prompts must not resemble: all held-out and earlier ones."""
        earlier = [("test", number) for number in self.held_out_parts("test")]
        earlier += [("validation", number) for number in self.held_out_parts("validation")]
        if split == "train":
            earlier += [("train", number) for number in range(part)]
        else:
            earlier = earlier[: earlier.index((split, part))]
        return [self.prompts_part(*item) for item in earlier]

    def filter_spec(self, split: str, part: int) -> dict[str, Any]:
        """What a kept part depends on beyond its inputs."""
        prompts = self.study.prompts
        return {
            "split": split,
            "part": part,
            "first": part * prompts.part_size,
            "rows": self.part_rows(split, part),
            "near_duplicate": prompts.near_duplicate,
            "seed": prompts.seed,
        }

    def raw_spec(self, split: str, part: int) -> dict[str, Any]:
        """What a raw part depends on beyond its inputs."""
        prompts = self.study.prompts
        # Parts of a data set are slices of one order: test first, then validation, then train.
        offset = {"test": 0, "validation": len(self.held_out_parts("test"))}
        offset["train"] = offset["validation"] + len(self.held_out_parts("validation"))
        spec = {
            "split": split,
            "part": part,
            "slice": offset[split] + part,
            "candidates": raw_part_size(prompts),
        }
        if prompts.source == MAGPIE:  # as many as asked for; a data set has slices of one size
            spec["candidates"] = math.ceil(self.part_rows(split, part) * prompts.surplus)
        return spec | {key: self.prompts_spec[key] for key in sorted(self.prompts_spec)}

    # Teacher text.

    @kept
    def formatting_spec(self) -> dict[str, Any]:
        """How a prompt becomes a model's input."""
        prompts = self.study.prompts
        spec = {"template": prompts.template, "system": prompts.system}
        return spec | ({"with_context": prompts.with_context} if prompts.with_context else {})

    @kept
    def text_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's text depends on."""
        if self.study.corpus is not None:
            return self.corpus.text_spec
        entry = self.study.teachers[teacher]
        spec: dict[str, Any] = {"prompts": self.prompts_spec}
        if entry.server is not None:
            spec = self.served_spec(teacher) | {"params": entry.server.params}
            if entry.server.tokenizer:
                spec["tokenizer"] = self.source_spec(entry.server.tokenizer)
            return spec | ({"model": self.model_spec(teacher)} if entry.has_model else {})
        if entry.text is not None:
            spec["text"] = self.source_spec(entry.text)
            if entry.has_model:  # the text carries the tokens of the model that scores it
                spec["model"] = self.model_spec(teacher)
                spec["formatting"] = self.formatting_spec()
            return spec
        return spec | {
            "model": self.model_spec(teacher),
            "formatting": self.formatting_spec(),
            "decoding": entry.model_dump(exclude=_NOT_DECODING),
        }

    @kept
    def served_spec(self, teacher: str) -> dict[str, Any]:
        """What a server's answers depend on: what it is asked for, not where or how fast."""
        entry = self.study.teachers[teacher]
        asked = ("model", "revision", "software", "top_logprobs", "extra")
        drawn = ("temperature", "top_k", "top_p", "max_tokens", "seed")
        return {
            "prompts": self.prompts_spec,
            "server": {name: _plain(getattr(entry.server, name)) for name in asked},
            "formatting": self.formatting_spec(),
            "decoding": {name: getattr(entry, name) for name in drawn},
        }

    @kept
    def served_key(self, teacher: str) -> str:
        """Folder name of a server's answers."""
        server = self.study.teachers[teacher].server
        return f"{_slug(server.model if server else '')}-{digest(self.served_spec(teacher))}"

    @cached_property
    def served_keys(self) -> dict[str, str]:
        """Teacher of each server's answers, by key."""
        names = [name for name, teacher in self.study.teachers.items() if teacher.server]
        return {self.served_key(name): name for name in names}

    def connection(self, key: str) -> dict[str, Any]:
        """Where a server's answers are asked for, and how: nothing that they depend on."""
        teacher = self.served_keys[key]
        names = {"url", "key_variable", "concurrency", "timeout", "retries"}
        server = self.study.teachers[teacher].server
        return {"teacher": teacher, **(server.model_dump(include=names) if server else {})}

    def served_part(self, teacher: str, split: str, part: int) -> str:
        """A part of a server's answers, with what it said of them."""
        return f"{RESOURCES}/served/{self.served_key(teacher)}/{split}-{part:05d}.parquet"

    def served_test(self, teacher: str) -> list[str]:
        """A server's answers to the held-out prompts, where they tell the teacher's own loss."""
        if not self._gives_log_probs(teacher):
            return []
        return [self.served_part(teacher, "test", part) for part in self.held_out_parts("test")]

    @kept
    def text_key(self, teacher: str) -> str:
        """Folder name of a teacher's text."""
        if self.study.corpus is not None:
            return self.corpus.text_key
        entry = self.study.teachers[teacher]
        named = entry.server.model if entry.server else entry.text
        origin = _stem(_slug(named)) if named else self.model_stem(teacher)
        return f"{origin}-{digest(self.text_spec(teacher))}"

    @cached_property
    def text_keys(self) -> dict[str, str]:
        """Teacher of each text, by key."""
        return {self.text_key(name): name for name in self.study.teachers}

    def texts_from(self, origin: str) -> list[str]:
        """Keys of the texts that a model writes, a data set holds or a server writes."""
        if self.study.corpus is not None:
            return []
        return [
            key for key, name in self.text_keys.items()
            if self.study.teachers[name].origin == origin
        ]  # fmt: skip

    def texts_scored(self, by_model: bool) -> list[str]:
        """Keys of the texts whose soft targets are a model's, or those that a server gave."""
        return [
            key for key, name in self.text_keys.items()
            if (self.has_model(name) if by_model else self._gives_log_probs(name))
        ]  # fmt: skip

    def text_part(self, teacher: str, split: str, part: int) -> str:
        """A part of a teacher's text."""
        return f"{RESOURCES}/text/{self.text_key(teacher)}/{split}-{part:05d}.parquet"

    @kept
    def held_out_text(self, teacher: str, split: str) -> list[str]:
        """The teacher's held-out text."""
        return [self.text_part(teacher, split, part) for part in self.held_out_parts(split)]

    def has_model(self, teacher: str) -> bool:
        """Whether a teacher is or has a model (rather than ready-made text alone)."""
        return self.study.teachers[teacher].has_model

    def _gives_log_probs(self, teacher: str) -> bool:
        """Whether log-probabilities of the likeliest tokens come with a teacher's text."""
        server = self.study.teachers[teacher].server
        return server is not None and server.top_logprobs > 0

    def words_of(self, teacher: str) -> list[str]:
        """A file beside the tokenizer of a teacher's text; none where the text has no tokens."""
        server = self.study.teachers[teacher].server
        if server is not None and server.tokenizer:
            return [self.model_manifest(server.tokenizer)]
        return [self.model_of("teachers", teacher)] if self.has_model(teacher) else []

    def writes(self, teacher: str) -> bool:
        """Whether a teacher writes its text; a corpus is there already."""
        return self.study.corpus is None and self.study.teachers[teacher].writes

    # Soft targets.

    @kept
    def scorer_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's hidden states depend on beyond the text."""
        entry = self.study.teachers[teacher]
        if not entry.has_model and entry.server is not None:
            model = {"model": entry.server.model, "revision": entry.server.revision}
            return {"model": model, "quantisation": None}
        spec = {"model": self.model_spec(teacher)}
        names = ("precision", "quantisation", "device_map", "threads")
        return spec | {name: getattr(entry, name) for name in names}

    @kept
    def scorer_key(self, teacher: str) -> str:
        """Name of a teacher's model as it is run."""
        return f"{self.model_stem(teacher)}-{digest(self.scorer_spec(teacher))}"

    @cached_property
    def scorer_keys(self) -> dict[str, str]:
        """A teacher of each scorer, by key."""
        return {self.scorer_key(name): name for name in self.study.teachers if self.has_model(name)}

    def scorer(self, key: str) -> dict[str, Any]:
        """The spec of a scorer, by its key."""
        return self.scorer_spec(self.scorer_keys[key])

    @kept
    def distribution_spec(self, teacher: str) -> dict[str, Any]:
        """The sampling distribution q of a teacher, given its hidden states."""
        entry = self.study.teachers[teacher]
        return {name: getattr(entry, name) for name in ("temperature", "top_k", "top_p")}

    def head(self, teacher: str) -> str:
        """The teacher's saved output head."""
        return f"{RESOURCES}/heads/{self.scorer_key(teacher)}.safetensors"

    def states(self, text: str, scorer: str, tokens: str, split: str, part: int) -> str:
        """Final hidden states of the teacher `scorer` on a part of the text of the teacher `text`.

        A teacher's own text comes with them: they are what it was drawn from.
        """
        own = text == scorer and tokens == "answer" and self.writes(text)
        folder = "own" if own else f"{self.scorer_key(scorer)}-{tokens}"
        return f"{RESOURCES}/states/{self.text_key(text)}/{folder}/{split}-{part:05d}.parquet"

    @kept
    def test_states(self, teacher: str) -> list[str]:
        """The teacher's final hidden states on its held-out text; none without a model."""
        if not self.has_model(teacher):
            return []
        parts = self.held_out_parts("test")
        return [self.states(teacher, teacher, "answer", "test", part) for part in parts]

    @kept
    def cache_teachers(self, teacher: str, cache: str) -> dict[str, float]:
        """The teachers whose mixture a cache holds, with weights that sum to 1."""
        given = self.study.caches[cache].teachers or {teacher: 1.0}
        return {name: weight / sum(given.values()) for name, weight in sorted(given.items())}

    @kept
    def targets_spec(self, teacher: str, cache: str) -> dict[str, Any]:
        """What the distributions in a cache on a teacher's text depend on."""
        entry = self.study.caches[cache]
        spec: dict[str, Any] = {
            "text": self.text_spec(teacher),
            **entry.model_dump(exclude={"teachers", "hidden"}),
            "scorers": [
                {**self.scorer_spec(name), **self.distribution_spec(name), "weight": weight}
                for name, weight in self.cache_teachers(teacher, cache).items()
            ],
        }
        if not entry.systematic:
            del spec["systematic"]
        return spec

    @kept
    def cache_spec(self, teacher: str, cache: str) -> dict[str, Any]:
        """What a cache depends on: its distributions and, if it has any, its stored layers."""
        spec = self.targets_spec(teacher, cache)
        if self.study.caches[cache].hidden is not None:
            spec["hidden"] = self.layers_spec(teacher, cache)
        return spec

    @kept
    def cache_key(self, teacher: str, cache: str) -> str:
        """Folder name of a cache's distributions."""
        digits = digest(self.targets_spec(teacher, cache))
        return f"{_slug(self.study.caches[cache].scheme)}-{digits}"

    @cached_property
    def cache_keys(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Teacher and cache by text key and cache key."""
        return {
            (self.text_key(teacher), self.cache_key(teacher, cache)): (teacher, cache)
            for teacher in self.study.teachers
            for cache in self.study.caches
            if self.has_model(teacher) or self._gives_log_probs(teacher)
        }

    def cache_states(self, teacher: str, cache: str, split: str, part: int) -> list[str]:
        """Hidden states of each teacher of a cache on a part of the text."""
        tokens = self.study.caches[cache].tokens
        return [
            self.states(teacher, name, tokens, split, part)
            for name in self.cache_teachers(teacher, cache)
        ]

    def cache_heads(self, teacher: str, cache: str) -> list[str]:
        """Output head of each teacher of a cache."""
        return [self.head(name) for name in self.cache_teachers(teacher, cache)]

    def cache_folder(self, teacher: str, cache: str) -> str:
        """Where a cache lies, its manifest included."""
        return f"{RESOURCES}/caches/{self.text_key(teacher)}/{self.cache_key(teacher, cache)}"

    def cache_part(self, teacher: str, cache: str, split: str, part: int) -> str:
        """Soft targets of a part of the text; for final_hidden the hidden states themselves."""
        if self.study.caches[cache].scheme == "final_hidden":
            return self.cache_states(teacher, cache, split, part)[0]
        return f"{self.cache_folder(teacher, cache)}/{split}-{part:05d}.parquet"

    @kept
    def layers_spec(self, teacher: str, cache: str) -> dict[str, Any]:
        """What the stored hidden states of layers depend on."""
        entry = self.study.caches[cache]
        chosen = entry.hidden.model_dump() if entry.hidden else {}
        return {
            "text": self.text_spec(teacher),
            "scorer": self.scorer_spec(teacher),
            "tokens": entry.tokens,
            **chosen,
        }

    @kept
    def layers_key(self, teacher: str, cache: str) -> str:
        """Folder name of stored layers."""
        return f"layers-{digest(self.layers_spec(teacher, cache))}"

    @cached_property
    def layers_keys(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Teacher and cache by text key and layers key."""
        return {
            (self.text_key(teacher), self.layers_key(teacher, cache)): (teacher, cache)
            for teacher in self.study.teachers
            for cache, entry in self.study.caches.items()
            if self.has_model(teacher) and entry.hidden
        }

    def layers_part(self, teacher: str, cache: str, split: str, part: int) -> str:
        """Stored hidden states of layers on a part of the text."""
        folder = f"{RESOURCES}/layers/{self.text_key(teacher)}/{self.layers_key(teacher, cache)}"
        return f"{folder}/{split}-{part:05d}.parquet"

    def layers_projection(self, teacher: str, cache: str) -> list[str]:
        """The fitted projection of stored layers, if there is one."""
        entry = self.study.caches[cache].hidden
        if entry is None or entry.projection != "pca":
            return []
        folder = f"{RESOURCES}/layers/{self.text_key(teacher)}/{self.layers_key(teacher, cache)}"
        return [f"{folder}/projection.safetensors"]

    # Curation.

    def curation(self, run: Run) -> Curation | None:
        """How the run's rows are chosen; None for `raw`."""
        return self.study.curations.get(run.curation)

    @kept
    def curation_spec(self, name: str) -> Any:
        """Settings of a curation that its rows depend on; the name alone for `raw`."""
        if name == RAW:
            return RAW
        dump = self.study.curations[name].model_dump(exclude={"surplus"}, exclude_none=True)
        return _plain(dump)

    def candidate_texts(self, run: Run) -> list[str]:
        """Text parts that the run's rows are chosen from."""
        return [self.text_part(run.teacher, "train", part) for part in self.shard_parts(run)]

    def donor_text(self, run: Run) -> list[str]:
        """The first part of the text, where a corruption takes answers from it."""
        curation = self.curation(run)
        replaced = curation and curation.corrupt and curation.corrupt.kind == "replace_response"
        return [self.text_part(run.teacher, "train", 0)] if replaced else []

    @kept
    def loss_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's own loss on its text depends on."""
        return {
            "text": self.text_spec(teacher),
            "scorer": self.scorer_spec(teacher),
            "temperature": self.study.teachers[teacher].temperature,
        }

    @kept
    def loss_key(self, teacher: str) -> str:
        """Folder name of a teacher's own losses."""
        return f"loss-{digest(self.loss_spec(teacher))}"

    @cached_property
    def loss_keys(self) -> dict[tuple[str, str], str]:
        """Teacher by text key and loss key."""
        names = [name for name in self.study.teachers if self.has_model(name)]
        return {(self.text_key(name), self.loss_key(name)): name for name in names}

    def loss_part(self, teacher: str, split: str, part: int) -> str:
        """The teacher's own loss on each answer of a part of its text."""
        folder = f"{RESOURCES}/losses/{self.text_key(teacher)}/{self.loss_key(teacher)}"
        return f"{folder}/{split}-{part:05d}.parquet"

    def curation_losses(self, run: Run) -> list[str]:
        """Losses that the run's rows are chosen by, the first part's first; none if not by loss."""
        curation = self.curation(run)
        if curation is None or curation.teacher_loss is None:
            return []
        parts = sorted({0, *self.shard_parts(run)})
        return [self.loss_part(run.teacher, "train", part) for part in parts]

    def curated(self, run: Run, kind: str = "text") -> str:
        """The rows that a curation kept (`text`), or every row that it read (`decisions`)."""
        folder = f"{self.results}/curated/{run.teacher}/{run.curation}/draw{run.draw}"
        return f"{folder}/n{run.samples}.{kind}.parquet"

    def decisions(self, run: Run) -> list[str]:
        """What a curation decided on each row for the run; none for `raw`."""
        return [self.curated(run, "decisions")] if self.curation(run) else []

    @cached_property
    def all_decisions(self) -> list[str]:
        """Decisions of all curations of the study, each once."""
        found = (path for run in self.runs if run.samples for path in self.decisions(run))
        return list(dict.fromkeys(found))

    @cached_property
    def all_curated(self) -> list[str]:
        """Rows that the study's curations kept, each file once."""
        found = (self.curated(run) for run in self.runs if run.samples and self.curation(run))
        return list(dict.fromkeys(found))

    def card_records(self, teacher: str, curation: str, cache: str) -> list[str]:
        """Records of the shards of a folder, where its card tells what a curation kept."""
        shards = (
            self.shard(run)
            for run in self.runs
            if run.samples
            and self.curation(run)
            and (run.teacher, run.curation, run.cached) == (teacher, curation, cache)
        )
        return [path.removesuffix("parquet") + "json" for path in dict.fromkeys(shards)]

    # Shards.

    def draw_pool(self, run: Run) -> int:
        """How many rows the run's draw orders."""
        prompts: Prompts = self.study.prompts
        return prompts.pool if run.draw == 0 else (prompts.draw_pool or prompts.pool)

    def shard_rows(self, run: Run) -> Sequence[int]:
        """Pool rows that the run's shard is chosen from, in order: without a curation, its own;
        none where a corpus takes their place."""
        if self.corpus_of(run) is not None:
            return []
        curation = self.curation(run)
        rows = curation.candidates(run.samples) if curation else run.samples
        if run.draw == 0:
            return range(rows)  # as many as there may be, unlisted
        if run.draw not in self._orders:  # a hash of each row of the pool: once, not for each run
            seed = self.study.prompts.seed
            self._orders[run.draw] = pool_order(run.draw, self.draw_pool(run), seed)
        return self._orders[run.draw][:rows]

    def shard_parts(self, run: Run) -> list[int]:
        """Parts of the pool that hold those rows."""
        return self._parts_of(run.draw, self.shard_rows(run))

    def _parts_of(self, draw: int, rows: Sequence[int]) -> list[int]:
        size, key = self.study.prompts.part_size, ("parts", draw, len(rows))
        if key not in self._kept:
            whole = range(-(-len(rows) // size))
            self._kept[key] = sorted({row // size for row in rows}) if draw else list(whole)
        found: list[int] = self._kept[key]
        return found

    def shard_texts(self, run: Run) -> list[str]:
        """Text that holds the shard's rows."""
        return [self.curated(run)] if self.curation(run) else self.candidate_texts(run)

    def shard_targets(self, run: Run) -> list[str]:
        """Soft targets of those parts, in the same order; none without a cache."""
        if run.cached == NO_CACHE:
            return []
        parts = self.shard_parts(run)
        return [self.cache_part(run.teacher, run.cache, "train", part) for part in parts]

    def shard_layers(self, run: Run) -> list[str]:
        """Stored layers of those parts, in the same order, if the cache has any."""
        if run.cached == NO_CACHE or self.study.caches[run.cache].hidden is None:
            return []
        parts = self.shard_parts(run)
        return [self.layers_part(run.teacher, run.cache, "train", part) for part in parts]

    def shard_manifest(self, run: Run) -> list[str]:
        """Manifest of the run's cache, if it reads one."""
        if run.cached == NO_CACHE:
            return []
        return [f"{self.cache_folder(run.teacher, run.cache)}/manifest.json"]

    def shard(self, run: Run) -> str:
        """The run's training data."""
        if self.corpus_of(run) is not None:
            key = self.corpus_key(run.method, run.student)
            return f"{self.results}/shards/corpus/{key}/draw{run.draw}/n{run.samples}.parquet"
        folder = f"{self.results}/shards/{run.teacher}/{run.curation}/{run.cached}"
        return f"{folder}/draw{run.draw}/n{run.samples}.parquet"

    def rows_spec(self, run: Run) -> dict[str, Any]:
        """What the rows of a shard depend on."""
        spec: dict[str, Any] = {
            "text": self.text_spec(run.teacher),
            "curation": self.curation_spec(run.curation),
            "draw": run.draw,
            "samples": run.samples,
        }
        if run.draw:
            spec["draw_pool"] = self.draw_pool(run)
        return spec

    def shard_spec(self, run: Run) -> dict[str, Any]:
        """What a shard depends on."""
        if self.corpus_of(run) is not None:
            key = self.corpus_key(run.method, run.student)
            return self.corpus_shard_spec(key, run.draw, run.samples)
        spec = self.rows_spec(run)
        if run.cached != NO_CACHE:
            spec["cache"] = self.cache_spec(run.teacher, run.cache)
        return spec

    # Shards of a corpus.

    def corpus_of(self, run: Run) -> str | None:
        """Data source that a run learns without a teacher, if its method names one."""
        if run.samples == 0 or run.method not in self.study.methods:
            return None
        return self.study.method_of(run.method).corpus

    def without_teacher(self, method: str) -> bool:
        """Whether students learn by a method from text that no teacher wrote, and nothing else."""
        own = self.study.method_of(method)
        return own.corpus is not None or (self.study.corpus is not None and not own.soft)

    @kept
    def corpus_spec(self, method: str, student: str) -> dict[str, Any]:
        """What the chunks of a corpus are: whose text and tokens, without the reference text."""
        entry, reference = self.study.method_of(method), self.study.evaluate.reference
        assert reference is not None
        return {
            "corpus": self.source_spec(entry.corpus or ""),
            "tokens": entry.corpus_tokens,
            "tokenizer": self.source_spec(self.study.students[student].source),
            "reference": self.source_spec(reference.source),
            "passages": reference.passages,
        }

    @kept
    def corpus_key(self, method: str, student: str) -> str:
        """Folder name of the chunks of a corpus."""
        name = _slug(self.study.method_of(method).corpus or "")
        return f"{name}-{digest(self.corpus_spec(method, student))}"

    @cached_property
    def corpus_keys(self) -> dict[str, tuple[str, str]]:
        """A method and a student of each corpus in each student's tokens, by key."""
        return {
            self.corpus_key(method, student): (method, student)
            for method in self.study.methods
            for student in self.study.students
            if self.study.method_of(method).corpus is not None
        }

    def corpus_shard_spec(self, key: str, draw: int, samples: int) -> dict[str, Any]:
        """What a shard of a corpus depends on."""
        spec = {"corpus": self.corpus_spec(*self.corpus_keys[key]), "draw": draw}
        if draw:
            spec["order_seed"] = self.study.prompts.seed
        return spec | {"samples": samples}

    def corpus_files(self, key: str) -> dict[str, str]:
        """What a shard of a corpus is made of: its text, the reference text, the tokenizer."""
        method, student = self.corpus_keys[key]
        return {
            "corpus": self.data_rows(self.study.method_of(method).corpus or ""),
            "reference": self.reference_rows[0],
            "model": self.model_manifest(self.study.students[student].source),
        }

    def corpus_card(self, key: str) -> dict[str, Any]:
        """What the data-set card of a corpus says."""
        corpus = self.study.method_of(self.corpus_keys[key][0]).corpus
        spec = self.corpus_spec(*self.corpus_keys[key])
        return {"study": self.study.study, "corpus": corpus, "tokens": spec["tokens"]}

    # Students.

    @kept
    def student_spec(self, name: str) -> dict[str, Any]:
        """What a student is before training."""
        student: Student = self.study.students[name]
        return {
            "init": student.init,
            "source": self.source_spec(student.source),
            "layers": student.layers,
            "config": _plain(student.config),
            "seed": student.seed,
            **({"params": student.params} if student.params else {}),
            **self._vocabulary_spec(student),
        }

    def _vocabulary_spec(self, student: Student) -> dict[str, Any]:
        """What a trimmed vocabulary depends on; nothing for a whole one."""
        if student.vocabulary is None:
            return {}
        text = self.text_spec(student.vocabulary.teacher)
        return {"vocabulary": {"size": student.vocabulary.size, "text": text}}

    def vocabulary_text(self, name: str) -> list[str]:
        """Held-out text in which a trimmed vocabulary is counted."""
        vocabulary = self.study.students[name].vocabulary
        return self.held_out_text(vocabulary.teacher, "validation") if vocabulary else []

    @kept
    def student_key(self, name: str) -> str:
        """Folder name of a student before training."""
        student = self.study.students[name]
        origin = _stem(self.source_key(student.source))
        return f"{student.init}-{origin}-{digest(self.student_spec(name))}"

    @cached_property
    def student_keys(self) -> dict[str, str]:
        """Student by key."""
        return {self.student_key(name): name for name in self.study.students}

    def initial_student(self, name: str) -> str:
        """The file that is written when a student is built; the model lies beside it."""
        return f"{RESOURCES}/students/{self.student_key(name)}/manifest.json"

    def student_file(self, run: Run, name: str) -> str:
        """A file in a run's student directory."""
        return f"{self.results}/students/{run.folder}/{name}"

    def train_spec(self, run: Run) -> dict[str, Any]:
        """What a trained student depends on."""
        spec: dict[str, Any] = {
            "student": self.student_spec(run.student),
            "formatting": self.formatting_spec(),
        }
        if run.samples == 0:
            return spec
        spec |= {"shard": self.shard_spec(run), **self.method_spec(run.method), "seed": run.seed}
        spec |= self._live_spec(run)
        if (gpus := self.gpus(run)) > 1:  # sums are in another order
            spec["gpus"] = gpus
        if spec["train"]["early_stopping"]:
            spec["validation"] = self.text_spec(run.teacher)
        if search := self.study.methods[run.method].search:
            spec["search"] = self.search_spec(search)
        return spec

    @kept
    def method_spec(self, name: str) -> dict[str, Any]:
        """A method's losses and training settings (before a search changes them)."""
        method = self.study.method_of(name)
        skipped = {"train", "search", "corpus", "corpus_tokens"}  # the corpus belongs to the shard
        skipped |= {"on_policy"} if method.on_policy is None else set()
        skipped |= {"spans"} if not method.spans else set()
        return {
            "method": _plain(method.model_dump(exclude=skipped)),
            "train": _plain(self.study.train_of(name).model_dump()),
        }

    def train_heads(self, run: Run) -> list[str]:
        """Output heads that turn the shard's hidden states into distributions."""
        if run.cached == NO_CACHE or self.study.caches[run.cache].scheme != "final_hidden":
            return []
        return self.cache_heads(run.teacher, run.cache)

    def train_teacher(self, run: Run) -> list[str]:
        """A file beside the teacher's model, for spans or a live teacher alone."""
        aligns = run.samples and self.study.method_of(run.method).spans
        return [self.model_of("teachers", run.teacher)] if aligns or run.cache == LIVE else []

    def _live_spec(self, run: Run) -> dict[str, Any]:
        """The distribution of a live teacher; nothing without one."""
        if run.cache != LIVE:
            return {}
        spec = self.scorer_spec(run.teacher) | self.distribution_spec(run.teacher)
        del spec["threads"]  # it runs in the student's job
        return {"teacher": spec}

    def validation_text(self, run: Run) -> list[str]:
        """Held-out text for early stopping, where the run's method asks for it."""
        if run.samples == 0 or not self.method_spec(run.method)["train"]["early_stopping"]:
            return []
        return self.held_out_text(run.teacher, "validation")

    # Searches.

    def search_run(self, name: str) -> Run:
        """The run whose settings a search varies."""
        search = self.study.searches[name]
        cache = targets_of(self.study, search.method, [search.cache or NO_CACHE])[0]
        return Run(
            search.student,
            search.teacher,
            search.method,
            RAW,
            cache,
            search.samples,
            search.draw,
            0,
        )

    @kept
    def search_spec(self, name: str) -> dict[str, Any]:
        """What a search's best settings depend on."""
        search, run = self.study.searches[name], self.search_run(name)
        names = {"space", "trials", "startup_trials", "seed"}
        return {
            "student": self.student_spec(run.student),
            "formatting": self.formatting_spec(),
            "shard": self.shard_spec(run),
            **self.method_spec(run.method),
            **self._live_spec(run),
            "validation": self.text_spec(run.teacher),
            **_plain(search.model_dump(include=names)),
        }

    def search_file(self, name: str) -> str:
        """The best settings that a search found."""
        return f"{self.results}/searches/{name}/best.json"

    @cached_property
    def searches(self) -> list[str]:
        """Searches that a run of the study needs."""
        methods = dict.fromkeys(run.method for run in self.runs if run.samples)
        found = [self.study.methods[name].search for name in methods]
        return list(dict.fromkeys(name for name in found if name))

    def best_settings(self, run: Run) -> list[str]:
        """The search result that a run reads, if its method names a search."""
        search = self.study.methods[run.method].search if run.samples else None
        return [self.search_file(search)] if search else []

    def run_record(self, run: Run) -> dict[str, Any]:
        """Names and numbers of a run, for its record and model card."""
        init = self.study.students[run.student].init
        record = {"study": self.study.study, **asdict(run), "init": init}
        corpus = self.study.corpus.source if self.study.corpus else self.corpus_of(run)
        return record | ({"corpus": corpus} if corpus else {})

    # Evaluation.

    @property
    def reference_rows(self) -> list[str]:
        """Rows of the reference text's data set; none without one."""
        entry = self.study.evaluate.reference
        return [self.data_rows(entry.source)] if entry else []

    @kept
    def evaluate_spec(self, teacher: str) -> dict[str, Any]:
        """What an evaluation depends on, beyond the model."""
        entry = self.study.evaluate
        skipped = {
            "reference", "latency_tokens", "latency_repeats", "latency_threads", "latency_batch",
            "combined_weights", "cost", "prices", "target_loss", "benchmarks", "pseudo_chunks",
        }  # fmt: skip
        reference, mask = None, self.study.mask
        if entry.reference is not None:
            source = {"source": self.source_spec(entry.reference.source)}
            reference = entry.reference.model_dump() | source
        if self.study.corpus is not None:  # nothing is asked there
            skipped |= ASKED
        if entry.answers is None:
            skipped.add("answers")
        spec = {
            "text": self.text_spec(teacher),
            "formatting": self.formatting_spec(),
            "reference": reference,
            **entry.model_dump(exclude=skipped),
        }
        if self.has_model(teacher):
            spec["scorer"] = self.scorer_spec(teacher)
            spec["distribution"] = self.distribution_spec(teacher)
            written = self.study.teachers[teacher].origin != "data"
            spec["written"] = written and self.study.corpus is None
        if mask is not None:
            spec |= {"mask": mask.model_dump(), "pseudo_chunks": entry.pseudo_chunks}
        return spec

    def answered_validation(self, teacher: str) -> list[str]:
        """A teacher's text for the validation prompts, where these are answered for BLEU too."""
        answers = self.study.evaluate.answers
        return self.held_out_text(teacher, "validation") if answers and answers.validation else []

    def evaluate_run_spec(self, run: Run) -> dict[str, Any]:
        """What a student's metrics depend on: the evaluation, and how the student was made."""
        return self.evaluate_spec(run.teacher) | {"run": self.train_spec(run)}

    @kept
    def architecture(self, kind: str, name: str) -> dict[str, Any]:
        """What a model's speed depends on: its architecture, not its weights."""
        if kind == "teachers":
            entry = self.study.teachers[name]
            quantised = entry.quantisation != "none"
            if entry.trained is not None:
                own = self.architecture("students", entry.trained.student)
            else:
                own = {"source": self.source_spec(entry.source or "")}
            return own | ({"quantisation": entry.quantisation} if quantised else {})
        student = self.study.students[name]
        spec: dict[str, Any] = {"source": self.source_spec(student.source)}
        if student.init == "cut":
            spec["layers"] = student.layers
        if student.init == "random":
            spec["config"] = _plain(student.config)
        if student.vocabulary is not None:
            spec["vocabulary"] = student.vocabulary.size
        return spec

    @cached_property
    def architectures(self) -> dict[str, tuple[str, str]]:
        """The first student or teacher of each architecture, by the architecture's key."""
        used: dict[str, tuple[str, str]] = {}
        for kind, name in dict.fromkeys(
            pair
            for run in self.runs
            for pair in (("teachers", run.teacher), ("students", run.student))
        ):
            if kind == "students" or self.has_model(name):
                used.setdefault(digest(self.architecture(kind, name)), (kind, name))
        return used

    @kept
    def efficiency(self, kind: str, name: str) -> str:
        """Speed and memory of a model's architecture on this machine."""
        return f"{self.results}/efficiency/{digest(self.architecture(kind, name))}.json"

    def efficiency_spec(self, key: str) -> dict[str, Any]:
        """What a speed measurement depends on."""
        entry = self.study.evaluate
        spec = {
            "architecture": self.architecture(*self.architectures[key]),
            "new_tokens": entry.latency_tokens,
            "repeats": entry.latency_repeats,
            "precision": entry.precision,
            "threads": entry.latency_threads,
        }
        if self.study.mask is None:
            return spec
        del spec["new_tokens"]  # a masked model reads whole chunks instead
        chunk = {"length": self.corpus.read_length, "scored": self.corpus.scored}
        return spec | {"batch": entry.latency_batch, **chunk}

    def model_of(self, kind: str, name: str) -> str:
        """A file beside an untrained student's or a teacher's model files."""
        if kind == "students":
            return self.initial_student(name)
        if run := self.trained_run(name):
            return self.student_file(run, "model.safetensors")
        return self.model_manifest(self.study.teachers[name].source or "")

    def timed_model(self, kind: str, name: str) -> str:
        """A file beside the model that is timed: speed does not depend on what was learned."""
        run = self.trained_run(name) if kind == "teachers" else None
        return self.initial_student(run.student) if run else self.model_of(kind, name)

    def teacher_metrics(self, teacher: str) -> str:
        """A teacher's metrics."""
        return f"{self.results}/teachers/{teacher}/metrics.json"

    @property
    def model_teachers(self) -> list[str]:
        """Teachers of the run table that are models."""
        names = dict.fromkeys(run.teacher for run in self.runs)
        return [name for name in names if self.has_model(name)]

    @cached_property
    def train_prompts(self) -> list[str]:
        """Parts of the training prompts that the study uses."""
        runs = (*self.runs, *self.trained_runs)
        parts = sorted({part for run in runs for part in self.shard_parts(run)})
        return [self.prompts_part("train", part) for part in parts]

    @cached_property
    def shards(self) -> list[str]:
        """All shards of the run table, each once."""
        return list(dict.fromkeys(self.shard(run) for run in self.runs if run.samples))

    @property
    def trained_teachers(self) -> list[tuple[str, Run]]:
        """Teachers of the run table that the study trains, with the runs that make them."""
        found = [(name, self.trained_run(name)) for name in self.model_teachers]
        return [(name, run) for name, run in found if run is not None]

    @cached_property
    def efficiencies(self) -> list[str]:
        """All speed records of the study, each once."""
        return [f"{self.results}/efficiency/{key}.json" for key in self.architectures]

    def collect_spec(self) -> dict[str, Any]:
        """What the runs table depends on beyond the metrics: its rows and the score's weights."""
        speeds, shards, decisions = (
            {path: place for place, path in enumerate(paths)}
            for paths in (self.efficiencies, self.shards, self.all_decisions)
        )
        spec = {
            "study": self.study.study,
            "task": self.study.task,
            "runs": [list(asdict(run).values()) for run in self.runs],
            "shards": [shards[self.shard(run)] if run.samples else None for run in self.runs],
            "decisions": [
                decisions[self.curated(run, "decisions")] if self.curation(run) else None
                for run in self.runs
            ],
            "efficiency": [speeds[self.efficiency("students", run.student)] for run in self.runs],
            "teachers": [
                [name, speeds[self.efficiency("teachers", name)]] for name in self.model_teachers
            ],
            "init": {
                name: self.study.students[name].init
                for name in sorted({run.student for run in self.runs})
            },
            "weights": self.study.evaluate.combined_weights.model_dump(),
            "searches": self.searches,
            "methods": {
                name: _plain(self.study.methods[name].model_dump(exclude_defaults=True))
                | ({"corpus": corpus} if (corpus := self.study.method_of(name).corpus) else {})
                for name in sorted({run.method for run in self.runs if run.samples})
            },
        }
        if trained := [[name, *asdict(run).values()] for name, run in self.trained_teachers]:
            spec["trained"] = trained
        if uncounted := sorted({run.teacher for run in self.runs if self._uncounted(run.teacher)}):
            spec["uncounted"] = uncounted
        return spec

    def _uncounted(self, teacher: str) -> bool:
        """Whether FLOPs were spent on a teacher's text that nothing counts."""
        server = self.study.teachers[teacher].server
        return server is not None and server.params is None

    def provenance_spec(self) -> dict[str, Any]:
        """The study as it was checked, defaults filled in, and its runs one by one."""
        return {
            "config": _plain(self.study.model_dump(exclude={"runs"})),
            "runs": sorted((asdict(run) for run in self.runs), key=lambda run: [*run.values()]),
        }

    def answer_spec(self) -> dict[str, Any]:
        """What the answers depend on beyond the runs table: what the user states."""
        return {
            "cost": self.study.evaluate.cost,
            "target_loss": self.study.evaluate.target_loss,
            "prices": self.study.evaluate.prices and self.study.evaluate.prices.model_dump(),
            "pretraining_tokens": {
                name: teacher.pretraining_tokens
                for name, teacher in sorted(self.study.teachers.items())
                if teacher.pretraining_tokens is not None
            },
            "corpus_methods": sorted(
                name for name in self.study.methods if self.without_teacher(name)
            ),
        }

    def stored_specs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every result that is named rather than keyed, with the spec that it must hold."""
        for run in self.runs:
            if run.samples:
                yield self.shard(run).removesuffix("parquet") + "json", self.shard_spec(run)
            yield self.student_file(run, "training.json"), self.train_spec(run)
            yield self.student_file(run, "metrics.json"), self.evaluate_run_spec(run)
        for run in self.trained_runs:
            if run not in self.listed:
                yield self.shard(run).removesuffix("parquet") + "json", self.shard_spec(run)
                yield self.student_file(run, "training.json"), self.train_spec(run)
        for teacher in self.model_teachers:
            yield self.teacher_metrics(teacher), self.evaluate_spec(teacher)
        for name in self.searches:
            yield self.search_file(name), self.search_spec(name)
        for key in self.architectures:
            yield f"{self.results}/efficiency/{key}.json", self.efficiency_spec(key)
