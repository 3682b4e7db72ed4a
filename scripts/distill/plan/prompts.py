"""Prompts of a study: candidates in parts, each filtered against the parts before it."""

import math
from functools import cached_property

from distill.config.row_counts import is_scarce, known_rows
from distill.config.study import Study, raw_part_size
from distill.config.text import Prompts
from distill.contracts.run import MAGPIE
from distill.core.keys import digest, slug
from distill.plan.keys import RESOURCES, Spec, part_name, plain
from distill.plan.pool import Pool
from distill.plan.runs import results_folder
from distill.plan.sources import Sources

SPARE = 1000
"""Rows beyond a scarce part's own that it may take candidates from."""


class PromptPool(Pool):
    """Prompts that teachers answer."""

    asks, corpus, chunk = True, None, None

    def __init__(self, study: Study, prompts: Prompts, sources: Sources) -> None:
        self.study, self.settings, self.sources = study, prompts, sources

    @property
    def magpie(self) -> bool:
        """Whether a teacher generates the prompts; else they come from a data set."""
        return self.settings.source == MAGPIE

    @cached_property
    def scarce(self) -> bool:
        """Whether the data set is too small for a slice of `surplus` times its size per part."""
        prompts = self.settings
        if self.magpie:
            return False
        rows = known_rows(self.study, prompts.source, prompts.max_tokens)
        return rows is not None and is_scarce(prompts, rows)

    @cached_property
    def spec(self) -> Spec:
        """What the prompts depend on: not the pool size, because parts are built in order."""
        prompts = self.settings
        common = ("source", "test", "validation", "part_size", "surplus", "max_tokens")
        spec = {key: getattr(prompts, key) for key in (*common, "near_duplicate", "seed")}
        if self.magpie:
            teacher = self.study.teachers[prompts.teacher or ""]
            spec["temperature"], spec["top_p"] = prompts.temperature, prompts.top_p
            spec["model"] = self.sources.spec(teacher.source or "")
            spec["batch_size"], spec["threads"] = teacher.batch_size, teacher.threads
            spec["precision"] = teacher.precision
            spec["quantisation"], spec["device_map"] = teacher.quantisation, teacher.device_map
            # Magpie prompts are sampled after the system turn; a data set's prompts have none.
            spec["system"] = prompts.system
            if prompts.date:
                spec["date"] = prompts.date
            if teacher.chat_template_kwargs:
                spec["settings"] = plain(teacher.chat_template_kwargs)
        else:
            spec["source"] = self.sources.spec(prompts.source)
        return spec | ({"scarce": True} if self.scarce else {})

    @cached_property
    def key(self) -> str:
        """Folder name of the prompts."""
        name = MAGPIE if self.magpie else slug(self.settings.source)
        return f"{name}-{digest(self.spec)}"

    @property
    def folder(self) -> str:
        """Folder of the prompts."""
        return f"{RESOURCES}/prompts/{self.key}"

    @property
    def files(self) -> list[str]:
        """Rows of the data set that the prompts are taken from; none with Magpie."""
        return [] if self.magpie else [self.sources.rows(self.settings.source)]

    @property
    def near_duplicates(self) -> str:
        """The record of near-duplicates between test and training prompts."""
        return f"{results_folder(self.study)}/near_duplicates.json"

    @property
    def formatting(self) -> Spec:
        """How a prompt becomes a model's input."""
        prompts = self.settings
        spec: Spec = {"template": prompts.template, "system": prompts.system}
        spec |= {"with_context": prompts.with_context} if prompts.with_context else {}
        return spec | ({"date": prompts.date} if prompts.date else {})

    def part(self, split: str, part: int, raw: bool = False) -> str:
        """A part of the prompts, before (raw candidates) or after the filter."""
        return f"{self.folder}/{'raw/' if raw else ''}{part_name(split, part)}"

    @property
    def test_prompts(self) -> list[str]:
        """Files of the held-out prompts."""
        return [self.part("test", part) for part in self.parts("test")]

    def rows(self, split: str, part: int) -> int:
        """Number of rows of a part: training parts have the part size if there are enough rows."""
        prompts = self.settings
        left = {"test": prompts.test, "validation": prompts.validation}
        if self.scarce:
            left["train"] = prompts.pool
        size = prompts.part_size
        return min(size, left[split] - part * size) if split in left else size

    def earlier_parts(self, split: str, part: int) -> list[str]:
        """Filtered parts that a part's prompts must not resemble: held-out and earlier ones."""
        earlier = [("test", number) for number in self.parts("test")]
        earlier += [("validation", number) for number in self.parts("validation")]
        if split == "train":
            earlier += [("train", number) for number in range(part)]
        else:
            earlier = earlier[: earlier.index((split, part))]
        return [self.part(*item) for item in earlier]

    def filter_spec(self, split: str, part: int) -> Spec:
        """What a filtered part depends on beyond its inputs."""
        prompts = self.settings
        return {
            "split": split,
            "part": part,
            "first": part * prompts.part_size,
            "rows": self.rows(split, part),
            "near_duplicate": prompts.near_duplicate,
            "seed": prompts.seed,
        }

    def raw_spec(self, split: str, part: int) -> Spec:
        """What a part of candidates depends on beyond its inputs."""
        prompts, spec = self.settings, {"split": split, "part": part}
        if self.scarce:
            return spec | self._scarce_slice(split, part) | self._sorted_spec
        # Parts of a data set are slices of one order: test first, then validation, then train.
        offset = {"test": 0, "validation": len(self.parts("test"))}
        offset["train"] = offset["validation"] + len(self.parts("validation"))
        spec |= {"slice": offset[split] + part, "candidates": raw_part_size(prompts)}
        if self.magpie:  # as many as asked for; a data set has slices of one size
            spec["candidates"] = math.ceil(self.rows(split, part) * prompts.surplus)
        return spec | self._sorted_spec

    @property
    def _sorted_spec(self) -> Spec:
        return {key: self.spec[key] for key in sorted(self.spec)}

    def _scarce_slice(self, split: str, part: int) -> Spec:
        """First row and number of a part's candidates in the order of a scarce data set.

        Earlier parts hold at least as many rows of the order as they have prompts. Candidates that
        they hold are dropped as their near-duplicates, so slices overlap.
        """
        prompts = self.settings
        before = {"test": 0, "validation": prompts.test}
        before["train"] = prompts.test + prompts.validation
        first = before[split] + part * prompts.part_size
        last = first + self.rows(split, part)
        return {
            "first": first,
            "candidates": max(math.ceil(last * prompts.surplus), last + SPARE) - first,
        }
