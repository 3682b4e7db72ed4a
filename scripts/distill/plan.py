"""From a study's config to its run table, and to the specs and paths of everything made for it.

A spec is a plain dict of what an output depends on beyond its input files; Snakemake compares it,
results store it, and shared work lies under a hash of it. Keys stand in a fixed order.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.config import MAGPIE, Prompts, Student, Study, parts_of, raw_part_size

RAW, NO_CACHE, UNTRAINED = "raw", "none", "none"
RESOURCES = "resources"


@dataclass(frozen=True, order=True)
class Run:
    """One student: one row of the runs table. `samples` 0 is the student before training."""

    student: str
    teacher: str
    method: str
    curation: str
    cache: str
    samples: int
    draw: int
    seed: int

    @property
    def folder(self) -> str:
        """Its directory below `results/<study>/students`."""
        return (
            f"{self.student}/{self.teacher}/{self.method}/{self.curation}/{self.cache}/"
            f"draw{self.draw}-seed{self.seed}/n{self.samples}"
        )


def run_table(study: Study) -> list[Run]:
    """All runs of a study, without duplicates, each student's n = 0 run included."""
    runs = {
        Run(student, teacher, method, RAW, cache, samples, draw, seed)
        for block in study.runs
        for student in block.students
        for teacher in block.teachers
        for method in block.methods
        for cache in (block.caches if study.method_of(method).soft else [NO_CACHE])
        for samples in block.samples
        for draw in block.draws
        for seed in block.seeds
    }
    untrained = {Run(run.student, run.teacher, UNTRAINED, RAW, NO_CACHE, 0, 0, 0) for run in runs}
    return sorted(runs | untrained)


def pool_order(draw: int, draw_pool: int, seed: int) -> list[int]:
    """Rows of the pool in the order of a draw.

    Draw 0 is the pool's own order (and reaches beyond `draw_pool`); another draw permutes the
    first `draw_pool` rows by a hash of the row, so a larger study leaves it as it is.
    """
    if draw == 0:
        return list(range(draw_pool))
    return sorted(
        range(draw_pool), key=lambda row: hashlib.sha256(f"{seed}:{draw}:{row}".encode()).digest()
    )


def digest(spec: Any) -> str:
    """Eight hexadecimal digits that name a spec."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def _stem(key: str) -> str:
    """A source's key without its digest."""
    return re.sub(r"-[0-9a-f]{8}$", "", key)


def _plain(value: Any) -> Any:
    """`value` with the keys of free-form dicts in order, so that re-ordering changes nothing."""
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


class Plan:
    """Paths, specs and inputs of a study. Everything here is a function of the config alone."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @property
    def results(self) -> str:
        """The study's directory."""
        return f"results/{self.study.study}"

    @cached_property
    def runs(self) -> list[Run]:
        """The run table."""
        return run_table(self.study)

    # Sources: models and data.

    def source_spec(self, name: str) -> dict[str, Any]:
        """What a source's files depend on."""
        source = self.study.sources[name]
        return _plain(source.model_dump(exclude_none=True, exclude_defaults=True))

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
        return {self.source_key(name): name for name in used}

    @cached_property
    def data_sources(self) -> dict[str, str]:
        """Source name of each data set, by key."""
        used = [name for name, source in self.study.sources.items() if source.is_data]
        return {self.source_key(name): name for name in used}

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

    # Prompts.

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

    def formatting_spec(self) -> dict[str, Any]:
        """How a prompt becomes a model's input."""
        return {"template": self.study.prompts.template, "system": self.study.prompts.system}

    def text_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's text depends on."""
        entry = self.study.teachers[teacher]
        spec: dict[str, Any] = {"prompts": self.prompts_spec}
        if entry.text is not None:
            spec["text"] = self.source_spec(entry.text)
            if entry.source is not None:  # the text carries the tokens of the model that scores it
                spec["model"] = self.source_spec(entry.source)
                spec["formatting"] = self.formatting_spec()
            return spec
        return spec | {
            "model": self.source_spec(entry.source or ""),
            "formatting": self.formatting_spec(),
            "decoding": entry.model_dump(exclude={"source", "text"}),
        }

    def text_key(self, teacher: str) -> str:
        """Folder name of a teacher's text."""
        entry = self.study.teachers[teacher]
        origin = _slug(entry.text) if entry.text else self.source_key(entry.source or "")
        return f"{_stem(origin)}-{digest(self.text_spec(teacher))}"

    @cached_property
    def text_keys(self) -> dict[str, str]:
        """Teacher of each text, by key."""
        return {self.text_key(name): name for name in self.study.teachers}

    def written_texts(self, written: bool) -> list[str]:
        """Keys of the texts that a model writes, or of those that a data set holds."""
        return [
            key for key, name in self.text_keys.items()
            if self.study.teachers[name].writes == written
        ]  # fmt: skip

    def text_part(self, teacher: str, split: str, part: int) -> str:
        """A part of a teacher's text."""
        return f"{RESOURCES}/text/{self.text_key(teacher)}/{split}-{part:05d}.parquet"

    def held_out_text(self, teacher: str, split: str) -> list[str]:
        """The teacher's held-out text."""
        return [self.text_part(teacher, split, part) for part in self.held_out_parts(split)]

    def has_model(self, teacher: str) -> bool:
        """Whether a teacher is or has a model (rather than ready-made text alone)."""
        return self.study.teachers[teacher].source is not None

    # Soft targets.

    def scorer_spec(self, teacher: str) -> dict[str, Any]:
        """What a teacher's hidden states depend on beyond the text."""
        entry = self.study.teachers[teacher]
        spec = {"model": self.source_spec(entry.source or "")}
        names = ("precision", "quantisation", "device_map", "threads")
        return spec | {name: getattr(entry, name) for name in names}

    def scorer_key(self, teacher: str) -> str:
        """Name of a teacher's model as it is run."""
        origin = self.source_key(self.study.teachers[teacher].source or "")
        return f"{_stem(origin)}-{digest(self.scorer_spec(teacher))}"

    @cached_property
    def scorer_keys(self) -> dict[str, str]:
        """A teacher of each scorer, by key."""
        return {self.scorer_key(name): name for name in self.study.teachers if self.has_model(name)}

    def scorer(self, key: str) -> dict[str, Any]:
        """The spec of a scorer, by its key."""
        return self.scorer_spec(self.scorer_keys[key])

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
        own = text == scorer and tokens == "answer" and self.study.teachers[text].writes
        folder = "own" if own else f"{self.scorer_key(scorer)}-{tokens}"
        return f"{RESOURCES}/states/{self.text_key(text)}/{folder}/{split}-{part:05d}.parquet"

    def test_states(self, teacher: str) -> list[str]:
        """The teacher's final hidden states on its held-out text; none without a model."""
        if not self.has_model(teacher):
            return []
        parts = self.held_out_parts("test")
        return [self.states(teacher, teacher, "answer", "test", part) for part in parts]

    def cache_teachers(self, teacher: str, cache: str) -> dict[str, float]:
        """The teachers whose mixture a cache holds, with weights that sum to 1."""
        given = self.study.caches[cache].teachers or {teacher: 1.0}
        return {name: weight / sum(given.values()) for name, weight in sorted(given.items())}

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

    def cache_spec(self, teacher: str, cache: str) -> dict[str, Any]:
        """What a cache depends on: its distributions and, if it has any, its stored layers."""
        spec = self.targets_spec(teacher, cache)
        if self.study.caches[cache].hidden is not None:
            spec["hidden"] = self.layers_spec(teacher, cache)
        return spec

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
            if self.has_model(teacher)
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

    # Shards.

    def draw_pool(self, run: Run) -> int:
        """How many rows the run's draw orders."""
        prompts: Prompts = self.study.prompts
        return prompts.pool if run.draw == 0 else (prompts.draw_pool or prompts.pool)

    def shard_rows(self, run: Run) -> list[int]:
        """Pool rows of the run's shard, in order."""
        if run.draw == 0:
            return list(range(run.samples))
        return pool_order(run.draw, self.draw_pool(run), self.study.prompts.seed)[: run.samples]

    def shard_parts(self, run: Run) -> list[int]:
        """Parts of the pool that hold the shard's rows."""
        size = self.study.prompts.part_size
        return sorted({row // size for row in self.shard_rows(run)})

    def shard_texts(self, run: Run) -> list[str]:
        """Text parts that hold the shard's rows."""
        return [self.text_part(run.teacher, "train", part) for part in self.shard_parts(run)]

    def shard_targets(self, run: Run) -> list[str]:
        """Soft targets of those parts, in the same order; none without a cache."""
        if run.cache == NO_CACHE:
            return []
        parts = self.shard_parts(run)
        return [self.cache_part(run.teacher, run.cache, "train", part) for part in parts]

    def shard_layers(self, run: Run) -> list[str]:
        """Stored layers of those parts, in the same order, if the cache has any."""
        if run.cache == NO_CACHE or self.study.caches[run.cache].hidden is None:
            return []
        parts = self.shard_parts(run)
        return [self.layers_part(run.teacher, run.cache, "train", part) for part in parts]

    def shard_manifest(self, run: Run) -> list[str]:
        """Manifest of the run's cache, if it reads one."""
        if run.cache == NO_CACHE:
            return []
        return [f"{self.cache_folder(run.teacher, run.cache)}/manifest.json"]

    def shard(self, run: Run) -> str:
        """The run's training data."""
        folder = f"{self.results}/shards/{run.teacher}/{run.curation}/{run.cache}"
        return f"{folder}/draw{run.draw}/n{run.samples}.parquet"

    def shard_spec(self, run: Run) -> dict[str, Any]:
        """What a shard depends on."""
        spec: dict[str, Any] = {
            "text": self.text_spec(run.teacher),
            "curation": run.curation,
            "draw": run.draw,
            "samples": run.samples,
        }
        if run.draw:
            spec["draw_pool"] = self.draw_pool(run)
        if run.cache != NO_CACHE:
            spec["cache"] = self.cache_spec(run.teacher, run.cache)
        return spec

    # Students.

    def student_spec(self, name: str) -> dict[str, Any]:
        """What a student is before training."""
        student: Student = self.study.students[name]
        return {
            "init": student.init,
            "source": self.source_spec(student.source),
            "layers": student.layers,
            "config": _plain(student.config),
            "seed": student.seed,
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
        if spec["train"]["early_stopping"]:
            spec["validation"] = self.text_spec(run.teacher)
        if search := self.study.methods[run.method].search:
            spec["search"] = self.search_spec(search)
        return spec

    def method_spec(self, name: str) -> dict[str, Any]:
        """A method's losses and training settings (before a search changes them)."""
        method = self.study.method_of(name)
        return {
            "method": _plain(method.model_dump(exclude={"train", "search"})),
            "train": _plain(self.study.train_of(name).model_dump()),
        }

    def train_heads(self, run: Run) -> list[str]:
        """Output heads that turn the shard's hidden states into distributions."""
        if run.cache == NO_CACHE or self.study.caches[run.cache].scheme != "final_hidden":
            return []
        return self.cache_heads(run.teacher, run.cache)

    def validation_text(self, run: Run) -> list[str]:
        """Held-out text for early stopping, where the run's method asks for it."""
        if run.samples == 0 or not self.study.train_of(run.method).early_stopping:
            return []
        return self.held_out_text(run.teacher, "validation")

    # Searches.

    def search_run(self, name: str) -> Run:
        """The run whose settings a search varies."""
        search = self.study.searches[name]
        cache = search.cache or NO_CACHE
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

    def search_spec(self, name: str) -> dict[str, Any]:
        """What a search's best settings depend on."""
        search, run = self.study.searches[name], self.search_run(name)
        names = {"space", "trials", "startup_trials", "seed"}
        return {
            "student": self.student_spec(run.student),
            "formatting": self.formatting_spec(),
            "shard": self.shard_spec(run),
            **self.method_spec(run.method),
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
        return {"study": self.study.study, **asdict(run), "init": init}

    # Evaluation.

    def evaluate_spec(self, teacher: str) -> dict[str, Any]:
        """What an evaluation depends on, beyond the model."""
        entry = self.study.evaluate
        skipped = {
            "reference", "latency_tokens", "latency_repeats", "latency_threads",
            "combined_weights", "cost", "prices",
        }  # fmt: skip
        reference = entry.reference.model_dump() | {
            "source": self.source_spec(entry.reference.source)
        }
        spec = {
            "text": self.text_spec(teacher),
            "formatting": self.formatting_spec(),
            "reference": reference,
            **entry.model_dump(exclude=skipped),
        }
        if self.has_model(teacher):
            spec["scorer"] = self.scorer_spec(teacher)
            spec["distribution"] = self.distribution_spec(teacher)
            spec["written"] = self.study.teachers[teacher].writes
        return spec

    def evaluate_run_spec(self, run: Run) -> dict[str, Any]:
        """What a student's metrics depend on: the evaluation, and how the student was made."""
        return self.evaluate_spec(run.teacher) | {"run": self.train_spec(run)}

    def architecture(self, kind: str, name: str) -> dict[str, Any]:
        """What a model's speed depends on: its architecture, not its weights."""
        if kind == "teachers":
            entry = self.study.teachers[name]
            quantised = entry.quantisation != "none"
            return {"source": self.source_spec(entry.source or "")} | (
                {"quantisation": entry.quantisation} if quantised else {}
            )
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
        for run in self.runs:
            for kind, name in (("teachers", run.teacher), ("students", run.student)):
                if kind == "students" or self.has_model(name):
                    used.setdefault(digest(self.architecture(kind, name)), (kind, name))
        return used

    def efficiency(self, kind: str, name: str) -> str:
        """Speed and memory of a model's architecture on this machine."""
        return f"{self.results}/efficiency/{digest(self.architecture(kind, name))}.json"

    def efficiency_spec(self, key: str) -> dict[str, Any]:
        """What a speed measurement depends on."""
        entry = self.study.evaluate
        return {
            "architecture": self.architecture(*self.architectures[key]),
            "new_tokens": entry.latency_tokens,
            "repeats": entry.latency_repeats,
            "precision": entry.precision,
            "threads": entry.latency_threads,
        }

    def model_of(self, kind: str, name: str) -> str:
        """Manifest beside an untrained student's or a teacher's model files."""
        if kind == "students":
            return self.initial_student(name)
        return self.model_manifest(self.study.teachers[name].source or "")

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
        size = self.study.prompts.part_size
        parts = sorted({row // size for run in self.runs for row in self.shard_rows(run)})
        return [self.prompts_part("train", part) for part in parts]

    @cached_property
    def shards(self) -> list[str]:
        """All shards of the study, each once."""
        return list(dict.fromkeys(self.shard(run) for run in self.runs if run.samples))

    @cached_property
    def efficiencies(self) -> list[str]:
        """All speed records of the study, each once."""
        return [f"{self.results}/efficiency/{key}.json" for key in self.architectures]

    def collect_spec(self) -> dict[str, Any]:
        """What the runs table depends on beyond the metrics: its rows and the score's weights."""
        speeds = self.efficiencies
        return {
            "study": self.study.study,
            "task": self.study.task,
            "runs": [list(asdict(run).values()) for run in self.runs],
            "shards": [
                self.shards.index(self.shard(run)) if run.samples else None for run in self.runs
            ],
            "efficiency": [
                speeds.index(self.efficiency("students", run.student)) for run in self.runs
            ],
            "teachers": [
                [name, speeds.index(self.efficiency("teachers", name))]
                for name in self.model_teachers
            ],
            "init": {
                name: self.study.students[name].init
                for name in sorted({run.student for run in self.runs})
            },
            "weights": self.study.evaluate.combined_weights.model_dump(),
            "searches": self.searches,
            "methods": {
                name: _plain(self.study.methods[name].model_dump(exclude_defaults=True))
                for name in sorted({run.method for run in self.runs if run.samples})
            },
        }

    def stored_specs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every result that is named rather than keyed, with the spec that it must hold."""
        for run in self.runs:
            if run.samples:
                yield self.shard(run).removesuffix("parquet") + "json", self.shard_spec(run)
            yield self.student_file(run, "training.json"), self.train_spec(run)
            yield self.student_file(run, "metrics.json"), self.evaluate_run_spec(run)
        for teacher in self.model_teachers:
            yield self.teacher_metrics(teacher), self.evaluate_spec(teacher)
        for name in self.searches:
            yield self.search_file(name), self.search_spec(name)
        for key in self.architectures:
            yield f"{self.results}/efficiency/{key}.json", self.efficiency_spec(key)
