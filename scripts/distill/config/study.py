"""The study's config as typed models: meaning, type and default of every key.

`distill reference` generates the JSON schema for editors and docs/reference/config.md from them.
"""

import math
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field
from pydantic import model_validator as checked

from distill.config.curation import Curation
from distill.config.evaluation import Evaluate
from distill.config.methods import Cache, Method
from distill.config.models import Student, Teacher
from distill.config.text import Corpus, Mask, Prompts, Source
from distill.config.training import Search, Train
from distill.config.values import (
    MOST_SAMPLES,
    SHARE,
    BenchmarkName,
    CacheName,
    CurationName,
    MethodName,
    Name,
    NotNegative,
    Samples,
    Section,
    Seed,
    StudentName,
    TeacherName,
)


class Block(Section):
    """A block of runs: one run for each combination of its lists."""

    students: list[StudentName] = Field(min_length=1, description="Names of students")
    teachers: list[TeacherName] = Field(min_length=1, description="Names of teachers")
    methods: list[MethodName] = Field(min_length=1, description="Names of methods")
    caches: list[CacheName] = Field(
        default_factory=list, description="Soft targets, for the methods that need them"
    )
    curations: list[CurationName] = Field(
        ["raw"], min_length=1, description="Names of curations; raw: all answers"
    )
    samples: list[Samples] = Field(
        min_length=1, description='Training-set sizes in rows, or shares of the pool such as "10%"'
    )
    draws: list[NotNegative] = Field(
        [0], description="Orders of the pool; 0: its own, any other number permutes it"
    )
    seeds: list[Seed] = Field([0], description="Seeds of training, for data order and dropout")
    benchmarks: list[BenchmarkName] | None = Field(
        None,
        description="Names from evaluate.benchmarks that evaluate the block's students, also before training, and its teachers (default: all)",
    )


class Study(Section):
    """One study."""

    study: Name
    task: Literal["instruction", "causal-lm", "masked-lm"] = Field(
        "instruction",
        description="What models learn: `instruction`: answers to prompts; `causal-lm`, `masked-lm`: the text of a corpus",
    )
    sources: dict[Name, Source]
    prompts: Prompts | None = Field(None, description="The prompts of task instruction")
    corpus: Corpus | None = Field(None, description="The text of tasks causal-lm and masked-lm")
    teachers: dict[Name, Teacher] = Field(min_length=1)
    students: dict[Name, Student] = Field(min_length=1)
    curations: dict[Name, Curation] = Field(default_factory=dict)
    caches: dict[Name, Cache] = Field(default_factory=dict)
    methods: dict[Name, Method] = Field(min_length=1)
    searches: dict[Name, Search] = Field(default_factory=dict)
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    runs: list[Block] = Field(min_length=1)

    @checked(mode="before")
    @classmethod
    def _shares(cls, config: Any) -> Any:
        return shares_to_numbers(config) if isinstance(config, Mapping) else config

    @checked(mode="after")
    def _one_pool(self) -> "Study":
        if self.task == "instruction":
            if self.corpus is not None:
                raise ValueError(
                    "corpus needs task causal-lm or masked-lm; set one of them, or remove corpus"
                )
            if self.prompts is None:
                raise ValueError("prompts is missing; it defines the prompts that teachers answer")
            return self
        if self.corpus is None:
            raise ValueError(f"corpus is missing; it defines the text that task {self.task} learns")
        if self.prompts is not None and self.prompts != self.corpus.rows:
            raise ValueError(f"prompts needs task instruction; remove it, {self.task} has a corpus")
        if self.task == "causal-lm" and self.corpus.mask is not None:
            raise ValueError("corpus.mask needs task masked-lm; remove it")
        return self

    @cached_property
    def rows(self) -> Prompts:
        """Settings of the pool of rows: those of the prompts or of the corpus."""
        rows = self.corpus.rows if self.corpus else self.prompts
        assert rows is not None  # `_one_pool` rejects a study without both
        source = self.sources.get(rows.source)
        if source and source.templates and "near_duplicate" not in rows.model_fields_set:
            return rows.model_copy(
                update={"near_duplicate": 1.0}
            )  # such prompts resemble each other
        return rows

    @property
    def mask(self) -> Mask | None:
        """Mask settings; None unless the task is masked-lm."""
        if self.task != "masked-lm" or self.corpus is None:
            return None
        return self.corpus.mask or Mask()

    def source_spec(self, name: str) -> dict[str, Any]:
        """What a source's files depend on: its settings, and whether every row needs an answer."""
        spec = self.sources[name].model_dump(exclude_none=True, exclude_defaults=True)
        if any(teacher.text == name for teacher in self.teachers.values()):
            spec["answered"] = True
        return spec

    def method_of(self, name: str) -> Method:
        """A method by name; for the result of a search, the method that the search starts from."""
        method = self.methods[name]
        return self.methods[self.searches[method.search].method] if method.search else method

    def train_of(self, name: str) -> Train:
        """Training settings of a method."""
        return Train.model_validate(self.train.model_dump() | self.method_of(name).train)


def shares_to_numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every share of the pool ("10%") by its number of rows, at least one.

    Args:
        config: A study as read from YAML; it is not changed. Other mistakes are left to the
            models' validation.
    """
    rows = config.get("corpus") or config.get("prompts")
    try:
        pool = min(int(rows["pool"]), MOST_SAMPLES)  # type: ignore[index]
    except (TypeError, KeyError, ValueError, OverflowError):
        pool = 1  # validation reports the mistake in it

    def number(value: Any) -> Any:
        if isinstance(value, str) and re.match(SHARE, value.strip()):
            share = float(value.strip().rstrip("%")) / 100
            return max(1, round(pool * share)) if 0 < share <= 100 else value
        return value

    def counted(entry: Any) -> Any:
        if not isinstance(entry, Mapping) or "samples" not in entry:
            return entry
        value = entry["samples"]
        sizes = [number(item) for item in value] if isinstance(value, list) else number(value)
        return {**entry, "samples": sizes}

    study = dict(config)
    if isinstance(config.get("runs"), list):
        study["runs"] = [counted(block) for block in config["runs"]]
    if isinstance(config.get("searches"), Mapping):
        study["searches"] = {name: counted(one) for name, one in config["searches"].items()}
    if isinstance(config.get("teachers"), Mapping):
        study["teachers"] = {
            name: {**teacher, "trained": counted(teacher["trained"])}
            if isinstance(teacher, Mapping) and "trained" in teacher
            else teacher
            for name, teacher in config["teachers"].items()
        }
    return study


def raw_rows_needed(prompts: Prompts) -> int:
    """Rows of a data set that the test, validation and pool parts need, including the surplus."""
    return sum(
        parts_of(rows, prompts.part_size) * raw_part_size(prompts)
        for rows in (prompts.test, prompts.validation, prompts.pool)
    )


def parts_of(rows: int, part_size: int) -> int:
    """Number of parts that hold `rows` rows."""
    return -(-rows // part_size)


def raw_part_size(prompts: Prompts) -> int:
    """Candidate rows per part: part size times surplus, rounded up."""
    return math.ceil(prompts.part_size * prompts.surplus)
