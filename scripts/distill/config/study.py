"""The study's config as typed models: what a key means, what it may hold, what it defaults to.

`distill reference` writes the JSON schema for editors and the table in the docs
from these models.
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
    StudentName,
    TeacherName,
)


class Block(Section):
    """A block of runs: its lists are crossed."""

    students: list[StudentName] = Field(min_length=1, description="Names of students")
    teachers: list[TeacherName] = Field(min_length=1, description="Names of teachers")
    methods: list[MethodName] = Field(min_length=1, description="Names of methods")
    caches: list[CacheName] = Field(
        default_factory=list, description="Soft targets, for the methods that need them"
    )
    curations: list[CurationName] = Field(
        ["raw"], min_length=1, description="Which answers are trained on; raw: all"
    )
    samples: list[Samples] = Field(
        min_length=1, description='Rows, or shares of the pool such as "10%"'
    )
    draws: list[NotNegative] = Field([0], description="0: the pool's order; others permute it")
    seeds: list[NotNegative] = Field([0], description="Optimiser noise: data order and dropout")
    benchmarks: list[BenchmarkName] | None = Field(
        None,
        description="Which of evaluate.benchmarks judge its students, before training too, and its teachers (default: all)",
    )


class Study(Section):
    """One study."""

    study: Name
    task: Literal["instruction", "causal-lm", "masked-lm"] = Field(
        "instruction",
        description="`instruction`: answers to prompts; `causal-lm`, `masked-lm`: the text of a corpus",
    )
    sources: dict[Name, Source]
    prompts: Prompts | None = Field(None, description="What is asked, for instruction")
    corpus: Corpus | None = Field(
        None, description="What is read, for causal-lm and masked-lm: in place of prompts"
    )
    teachers: dict[Name, Teacher] = Field(min_length=1)
    students: dict[Name, Student] = Field(min_length=1)
    curations: dict[Name, Curation] = Field(default_factory=dict)
    caches: dict[Name, Cache] = Field(default_factory=dict)
    methods: dict[Name, Method] = Field(min_length=1)
    searches: dict[Name, Search] = Field(default_factory=dict)
    train: Train = Train()
    evaluate: Evaluate
    runs: list[Block] = Field(min_length=1)

    @checked(mode="before")
    @classmethod
    def _shares(cls, given: Any) -> Any:
        return shares_to_numbers(given) if isinstance(given, Mapping) else given

    @checked(mode="after")
    def _one_pool(self) -> "Study":
        if self.task == "instruction":
            if self.corpus is not None:
                raise ValueError(
                    "corpus goes with task causal-lm or masked-lm; set one, or remove it"
                )
            if self.prompts is None:
                raise ValueError("prompts is missing; it says what the teacher is asked")
            if self.evaluate.reference is None:
                raise ValueError("evaluate.reference is missing; it names a text that judges all")
            return self
        if self.corpus is None:
            raise ValueError(f"corpus is missing; task {self.task} says there what text is learned")
        if self.prompts is not None and self.prompts != self.corpus.rows:
            raise ValueError(f"prompts goes with task instruction; {self.task} has corpus alone")
        if self.task == "causal-lm" and self.corpus.mask is not None:
            raise ValueError("corpus.mask goes with task masked-lm; remove it")
        return self

    @cached_property
    def rows(self) -> Prompts:
        """Settings of the pool of rows: the prompts, or a corpus in their place."""
        rows = self.corpus.rows if self.corpus else self.prompts
        assert rows is not None  # `_one_pool` has refused a study without both
        return rows

    @property
    def mask(self) -> Mask | None:
        """How chunks are masked; None where no masked model is trained."""
        if self.task != "masked-lm" or self.corpus is None:
            return None
        return self.corpus.mask or Mask()

    def method_of(self, name: str) -> Method:
        """A method; of one that a search tunes, the method that the search starts from."""
        method = self.methods[name]
        return self.methods[self.searches[method.search].method] if method.search else method

    def train_of(self, name: str) -> Train:
        """Training settings of a method."""
        return Train.model_validate(self.train.model_dump() | self.method_of(name).train)


def shares_to_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """A study as read, with every share of the pool ("10%") as a number of rows, at least one.

    Whatever else is wrong is left for the models to name.
    """
    rows = given.get("corpus") or given.get("prompts")
    try:
        pool = min(int(rows["pool"]), MOST_SAMPLES)  # type: ignore[index]
    except (TypeError, KeyError, ValueError, OverflowError):
        pool = 1  # what is wrong with it is told for itself

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

    found = dict(given)
    if isinstance(given.get("runs"), list):
        found["runs"] = [counted(block) for block in given["runs"]]
    if isinstance(given.get("searches"), Mapping):
        found["searches"] = {name: counted(own) for name, own in given["searches"].items()}
    if isinstance(given.get("teachers"), Mapping):
        found["teachers"] = {
            name: {**own, "trained": counted(own["trained"])}
            if isinstance(own, Mapping) and "trained" in own
            else own
            for name, own in given["teachers"].items()
        }
    return found


def raw_rows_needed(prompts: Prompts) -> int:
    """Rows of a data set that the held-out parts and the whole pool take, surplus included."""
    return sum(
        parts_of(rows, prompts.part_size) * raw_part_size(prompts)
        for rows in (prompts.test, prompts.validation, prompts.pool)
    )


def parts_of(rows: int, part_size: int) -> int:
    """How many parts hold `rows` rows."""
    return -(-rows // part_size)


def raw_part_size(prompts: Prompts) -> int:
    """Candidates per part: the part's size with its surplus."""
    return math.ceil(prompts.part_size * prompts.surplus)
